"""Locality-aware attention against loops written from the paper's equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sgela_fast.reference.locality_attention import Mode, locality_attention, mask_exponent

MODES: tuple[Mode, ...] = ("las", "mbas", "bas")


def queries_and_keys(
    batch: int = 2, queries: int = 6, keys: int = 6, width: int = 5, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    return (
        scale * torch.randn(batch, queries, width, dtype=torch.float64),
        torch.randn(batch, keys, width, dtype=torch.float64),
    )


def naive(
    query: Tensor, key: Tensor, value: Tensor, centers: list[float], sigma: float, mode: str
) -> tuple[Tensor, float, Tensor]:
    """Eq. 4 to 8 for one sequence, number by number."""
    rows, columns = len(query), len(key)
    alignment = torch.zeros(rows, columns, dtype=torch.float64)
    loss = 0.0
    for t in range(rows):
        weights = [math.exp(sum(float(q * k) for q, k in zip(query[t], key[j], strict=True))) for j in range(columns)]
        for j in range(columns):
            basic = weights[j] / sum(weights)  # Eq. 4
            masked = math.exp(-((j - centers[t]) ** 2) / (2 * sigma**2)) * basic  # Eq. 5 and 6
            if mode == "las":
                loss += (basic - masked) ** 2  # Eq. 7
            alignment[t, j] = masked if mode == "mbas" else basic
    context = torch.zeros(rows, value.shape[1], dtype=torch.float64)
    for t in range(rows):
        for j in range(columns):
            context[t] += alignment[t, j] * value[j]  # Eq. 8
    return context, loss, alignment


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (4, 7), (1, 1), (3, 2)])
@pytest.mark.parametrize("centers", ["reverse", "identity"])
def test_equals_a_loop_over_the_equations(mode: Mode, queries: int, keys: int, centers: str) -> None:
    query, key = queries_and_keys(2, queries, keys)
    value = torch.randn(2, keys, 3, dtype=torch.float64)
    found = locality_attention(query, key, value, centers=centers, sigma=1.5, mode=mode, return_alignment=True)
    expected = [float(t if centers == "identity" else keys - 1 - t) for t in range(queries)]
    for b in range(2):
        context, loss, alignment = naive(query[b], key[b], value[b], expected, 1.5, mode)
        torch.testing.assert_close(found.context[b], context, rtol=0, atol=1e-13)
        assert float(found.loss[b]) == pytest.approx(loss, abs=1e-13)
        assert found.alignment is not None
        torch.testing.assert_close(found.alignment[b], alignment, rtol=0, atol=1e-13)


def test_mask_of_six_frames_has_the_released_codes_values() -> None:
    mask = mask_exponent(torch.tensor([5.0, 0.0], dtype=torch.float64), 6, 3.0).exp()
    values = torch.tensor([1, 0.9460, 0.8007, 0.6065, 0.4111, 0.2494], dtype=torch.float64)
    torch.testing.assert_close(mask[1], values, rtol=0, atol=5e-5)
    torch.testing.assert_close(mask[0], values.flip(0), rtol=0, atol=5e-5)


@pytest.mark.parametrize("mode", ["las", "bas"])
def test_rows_sum_to_one(mode: Mode) -> None:
    alignment = locality_attention(*queries_and_keys(scale=9), sigma=3.0, mode=mode, return_alignment=True).alignment
    assert alignment is not None
    torch.testing.assert_close(alignment.sum(-1), torch.ones(2, 6, dtype=torch.float64), rtol=0, atol=1e-14)


def test_masked_alignment_is_not_renormalised() -> None:
    query, key = queries_and_keys()
    plain = locality_attention(query, key, sigma=3.0, mode="bas", return_alignment=True).alignment
    masked = locality_attention(query, key, sigma=3.0, mode="mbas", return_alignment=True).alignment
    assert plain is not None
    assert masked is not None
    mask = mask_exponent(torch.arange(5, -1, -1, dtype=torch.float64), 6, 3.0).exp()
    assert torch.equal(masked, plain * mask)
    assert torch.all(masked.sum(-1) < 1)


def test_only_las_has_a_loss() -> None:
    query, key = queries_and_keys()
    losses = {mode: locality_attention(query, key, sigma=3.0, mode=mode).loss for mode in MODES}
    assert torch.all(losses["las"] > 0)
    assert torch.all(losses["bas"] == 0)
    assert torch.all(losses["mbas"] == 0)


def test_las_and_bas_share_the_context() -> None:
    query, key = queries_and_keys()
    assert torch.equal(
        locality_attention(query, key, sigma=3.0, mode="las").context,
        locality_attention(query, key, sigma=3.0, mode="bas").context,
    )


def test_a_mask_of_ones_costs_nothing() -> None:
    assert torch.all(locality_attention(*queries_and_keys(), sigma=1e100).loss == 0)


def test_a_wide_mask_keeps_the_losss_digits() -> None:
    # 1 - l is about d^2 / (2 sigma^2) = 1e-16 d^2 here: subtracting l from 1 would leave nothing of it.
    query, key = torch.zeros(1, 1, 2, dtype=torch.float64), torch.zeros(1, 3, 2, dtype=torch.float64)
    loss = float(locality_attention(query, key, centers="identity", sigma=math.sqrt(0.5e16)).loss)
    assert loss == pytest.approx((1e-16 / 3) ** 2 + (4e-16 / 3) ** 2, rel=1e-12, abs=0)


def test_adding_a_constant_to_all_scores_of_a_row_changes_nothing() -> None:
    query, key = queries_and_keys()
    # One more coordinate, 1 in every key: its factor in the query is added to every score of the row.
    longer = torch.cat([key, torch.ones(2, 6, 1, dtype=torch.float64)], -1)
    zero = torch.cat([query, torch.zeros(2, 6, 1, dtype=torch.float64)], -1)
    shifted = torch.cat([query, 7 * torch.ones(2, 6, 1, dtype=torch.float64)], -1)
    before, after = (locality_attention(q, longer, key, sigma=3.0) for q in (zero, shifted))
    torch.testing.assert_close(before.context, after.context, rtol=0, atol=1e-13)
    torch.testing.assert_close(before.loss, after.loss, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("centers", ["reverse", "identity"])
def test_one_row_at_a_time_equals_all_rows(mode: Mode, centers: str) -> None:
    query, key = queries_and_keys()
    whole = locality_attention(query, key, centers=centers, sigma=2.0, mode=mode)
    steps = [
        locality_attention(query[:, t : t + 1], key, centers=centers, sigma=2.0, mode=mode, first_step=t)
        for t in range(6)
    ]
    torch.testing.assert_close(torch.cat([step.context for step in steps], 1), whole.context, rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.stack([step.loss for step in steps]).sum(0), whole.loss, rtol=0, atol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_padding_equals_a_shorter_sequence(mode: Mode) -> None:
    query, key = queries_and_keys(1)
    padding = torch.tensor([[False, False, False, False, True, True]])
    padded = locality_attention(
        query, key, centers="identity", sigma=3.0, mode=mode, key_padding_mask=padding, return_alignment=True
    )
    shorter = locality_attention(query, key[:, :4], centers="identity", sigma=3.0, mode=mode)
    torch.testing.assert_close(padded.context, shorter.context, rtol=0, atol=1e-14)
    torch.testing.assert_close(padded.loss, shorter.loss, rtol=0, atol=1e-14)
    assert padded.alignment is not None
    assert torch.all(padded.alignment[..., 4:] == 0)


def test_a_sequence_of_padding_alone_gives_zeros_and_no_gradient() -> None:
    query, key = (tensor.requires_grad_() for tensor in queries_and_keys())
    padding = torch.tensor([[False] * 6, [True] * 6])
    found = locality_attention(query, key, sigma=3.0, key_padding_mask=padding)
    assert torch.all(found.context[1] == 0)
    assert found.loss[1] == 0
    (found.context.sum() + found.loss.sum()).backward()
    for tensor in (query, key):
        assert tensor.grad is not None
        assert torch.all(tensor.grad[1] == 0)
        assert torch.isfinite(tensor.grad).all()


def test_outside_the_window_the_mask_is_zero() -> None:
    mask = mask_exponent(torch.tensor([2.0]), 6, 1.0, window=1.0).exp()
    assert torch.equal(mask > 0, torch.tensor([[False, True, True, True, False, False]]))
    query, key = queries_and_keys()
    alignment = locality_attention(query, key, sigma=1.0, window=1.0, mode="mbas", return_alignment=True).alignment
    assert alignment is not None
    assert torch.all(alignment[:, 0, :4] == 0)


def test_outside_the_window_the_loss_counts_the_whole_weight_and_stays_differentiable() -> None:
    query, key = (tensor.requires_grad_() for tensor in queries_and_keys())
    found = locality_attention(query, key, sigma=1e6, window=0.5, return_alignment=True)
    assert found.alignment is not None
    away = ~torch.eye(6, dtype=torch.bool).flip(0)
    torch.testing.assert_close(found.loss, (found.alignment * away).square().sum((-2, -1)), rtol=0, atol=1e-12)
    found.loss.sum().backward()
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


def test_centres_may_be_given_as_numbers() -> None:
    query, key = queries_and_keys()
    named = locality_attention(query, key, centers="reverse", sigma=3.0)
    given = locality_attention(query, key, centers=torch.tensor([5, 4, 3, 2, 1, 0]), sigma=3.0)
    assert torch.equal(named.loss, given.loss)
    own = torch.tensor([[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]])
    per_sequence = locality_attention(query, key, centers=own, sigma=3.0).loss
    assert torch.equal(per_sequence[0], named.loss[0])
    assert torch.equal(per_sequence[1], locality_attention(query, key, centers="identity", sigma=3.0).loss[1])


def test_no_centre_means_reverse() -> None:
    query, key = queries_and_keys()
    assert torch.equal(
        locality_attention(query, key, centers=None, sigma=3.0).loss, locality_attention(query, key, sigma=3.0).loss
    )


def test_scale_multiplies_the_scores() -> None:
    query, key = queries_and_keys()
    torch.testing.assert_close(
        locality_attention(query, key, sigma=3.0, scale=0.25).context,
        locality_attention(query * 0.25, key, sigma=3.0).context,
    )


def test_a_detached_target_keeps_the_value_and_changes_the_gradient() -> None:
    query, key = queries_and_keys()
    gradients = {}
    losses = {}
    for detach in (False, True):
        leaf = query.clone().requires_grad_()
        losses[detach] = locality_attention(leaf, key, sigma=3.0, detach_target=detach).loss.sum()
        gradients[detach] = torch.autograd.grad(losses[detach], leaf)[0]
    torch.testing.assert_close(losses[True], losses[False], rtol=0, atol=1e-14)
    assert (gradients[True] - gradients[False]).abs().max() > 1e-4

    # By hand: with the target held constant the gradient is that of sum (a - constant)^2.
    leaf = query.clone().requires_grad_()
    alignment = (leaf @ key.mT).softmax(-1)
    mask = mask_exponent(torch.arange(5, -1, -1, dtype=torch.float64), 6, 3.0).exp()
    by_hand = (alignment - (alignment * mask).detach()).square().sum()
    torch.testing.assert_close(gradients[True], torch.autograd.grad(by_hand, leaf)[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_of_sixty_and_far_more_stay_finite(mode: Mode, dtype: torch.dtype) -> None:
    for size in (60.0, 3000.0):
        query = (size * torch.tensor([[[1.0], [-1.0]]], dtype=dtype)).requires_grad_()
        key = torch.tensor([[[1.0], [0.0], [-1.0]]], dtype=dtype).requires_grad_()
        found = locality_attention(query, key, sigma=1.5, mode=mode)
        (found.context.sum() + found.loss.sum()).backward()
        for tensor in (found.context, found.loss, query.grad, key.grad):
            assert tensor is not None
            assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padded", [False, True])
def test_gradcheck(mode: Mode, padded: bool) -> None:
    query = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    key = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    value = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    padding = torch.tensor([[False] * 4, [False, False, True, True]]) if padded else None

    def run(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        found = locality_attention(query, key, value, sigma=1.0, window=2.5, mode=mode, key_padding_mask=padding)
        return (found.context, found.loss) if mode == "las" else (found.context, found.context)

    assert torch.autograd.gradcheck(run, (query, key, value))


def test_leading_dimensions_are_free() -> None:
    query, key = torch.randn(2, 3, 4, 6, 5), torch.randn(2, 3, 4, 6, 5)
    found = locality_attention(query, key, sigma=3.0)
    assert found.context.shape == (2, 3, 4, 6, 5)
    assert found.loss.shape == (2, 3, 4)
    assert found.alignment is None
    assert locality_attention(query[0, 0, 0], key[0, 0, 0], sigma=3.0).loss.shape == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "soft"}, "mode is 'soft'; choose las, mbas or bas"),
        ({"centers": "middle"}, "centers is 'middle'; give reverse, identity or a tensor of positions"),
        ({"sigma": 0.0}, "sigma is 0.0; it must be positive"),
        ({"sigma": math.nan}, "sigma is nan; it must be positive"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"sigma": 3.0, **wrong}
    with pytest.raises(ValueError, match=f"^{message}$"):
        locality_attention(*queries_and_keys(), **arguments)
