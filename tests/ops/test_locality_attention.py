"""What locality_attention computes, as claims, on the fused kernels."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.benchmarks.tolerances import deviation, relative_bound, score_magnitude
from sgela_fast.ops import locality_attention as op
from sgela_fast.ops._attention_arguments import one_or_two_leading, unit_stride
from sgela_fast.reference.locality_attention import LocalityAttention
from sgela_fast.reference.locality_attention import locality_attention as reference

fused = functools.partial(op.locality_attention, backend="fused")
# A handful of rows, and more keys than the kernels for short sequences take.
LENGTHS = [6, 75]


def draw(*shape: int, device: str, dtype: torch.dtype = torch.float32, **options: Any) -> Tensor:
    return torch.randn(*shape, device=device, dtype=dtype, **options)


def close(result: Tensor, exact: Tensor, magnitude: float = 10.0) -> bool:
    return deviation(result.detach().cpu(), exact.detach().cpu()) <= relative_bound(result.dtype, magnitude)


def test_the_compiled_kernels_are_there() -> None:
    assert op.why_not_fused("cpu", torch.float32) is None


def test_auto_takes_the_kernels_on_the_cpu() -> None:
    query = torch.zeros(1, 6, 8, dtype=torch.bfloat16)
    kernels = op.locality_attention(query, query, sigma=1.0)
    assert op._use_fused(query, 1.0, 1.0, "auto")
    assert kernels.loss.dtype == torch.float32


@pytest.mark.parametrize("keys", LENGTHS)
@pytest.mark.parametrize("mode", ["bas", "las"])
def test_rows_sum_to_one(kernels: str, keys: int, mode: Any) -> None:
    query, key = draw(3, 5, 16, device=kernels), draw(3, keys, 16, device=kernels)
    ones = torch.ones(3, keys, 1, device=kernels)
    context = fused(query, key, ones, sigma=2.0, mode=mode).context
    assert close(context, torch.ones_like(context))


@pytest.mark.parametrize("keys", LENGTHS)
def test_context_of_the_identity_is_the_alignment(kernels: str, keys: int) -> None:
    query, key = draw(2, 4, 16, device=kernels), draw(2, keys, 16, device=kernels)
    identity = torch.eye(keys, device=kernels).expand(2, keys, keys)
    result = fused(query, key, identity, sigma=2.0, mode="mbas", return_alignment=True)
    assert result.alignment is not None
    assert close(result.context, result.alignment)


@pytest.mark.parametrize("keys", LENGTHS)
def test_loss_is_zero_when_the_mask_is_one(kernels: str, keys: int) -> None:
    query, key = draw(3, 6, 16, device=kernels), draw(3, keys, 16, device=kernels)
    assert not fused(query, key, sigma=1e30, mode="las").loss.any()


@pytest.mark.parametrize("mode", ["bas", "mbas"])
def test_only_las_has_a_loss(kernels: str, mode: Any) -> None:
    query, key = draw(3, 6, 16, device=kernels), draw(3, 6, 16, device=kernels)
    assert not fused(query, key, sigma=1.0, mode=mode).loss.any()


def test_loss_is_zero_for_an_alignment_on_the_expected_positions(kernels: str) -> None:
    key = 100 * torch.eye(6, device=kernels)
    assert not fused(key.flip(0), key, sigma=1.0, centers="reverse").loss.any()
    assert not fused(key, key, sigma=1.0, centers="identity").loss.any()


@pytest.mark.parametrize("keys", LENGTHS)
def test_scores_may_be_shifted(kernels: str, keys: int) -> None:
    query, key = draw(3, 6, 16, device=kernels), draw(3, keys, 16, device=kernels)
    # A feature that is constant over the keys adds a constant to each row of scores.
    constant = torch.full((3, keys, 1), 7.0, device=kernels)
    extended = fused(
        torch.cat([query, draw(3, 6, 1, device=kernels)], -1), torch.cat([key, constant], -1), key, sigma=1.5
    )
    plain = fused(query, key, key, sigma=1.5)
    assert close(extended.context, plain.context, 60)
    assert close(extended.loss, plain.loss, 60)


@pytest.mark.parametrize("keys", LENGTHS)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_equals_plain_attention_when_sigma_is_infinite(kernels: str, keys: int, scale: float) -> None:
    query, key, value = (draw(2, 3, rows, 16, device=kernels) for rows in (6, keys, keys))
    plain = torch.nn.functional.scaled_dot_product_attention(query.double(), key.double(), value.double(), scale=scale)
    for mode in ("bas", "mbas", "las"):
        result = fused(query, key, value, sigma=float("inf"), scale=scale, mode=mode)
        assert close(result.context, plain)


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("mode", ["las", "mbas"])
def test_reverse_centres_equal_identity_centres_on_the_flipped_keys(kernels: str, steps: int, mode: Any) -> None:
    query, key, value = (draw(3, steps, 16, device=kernels) for _ in range(3))
    reverse = fused(query, key, value, sigma=1.5, window=4, centers="reverse", mode=mode)
    identity = fused(query, key.flip(-2), value.flip(-2), sigma=1.5, window=4, centers="identity", mode=mode)
    assert close(reverse.context, identity.context)
    assert close(reverse.loss, identity.loss)


@pytest.mark.parametrize("centers", ["reverse", "identity"])
def test_named_centres_equal_the_same_positions_as_a_tensor(kernels: str, centers: Any) -> None:
    query, key = draw(3, 5, 16, device=kernels), draw(3, 7, 16, device=kernels)
    steps = torch.arange(2, 7, device=kernels)
    positions = (steps if centers == "identity" else 6 - steps).expand(3, 5)
    named = fused(query, key, sigma=1.5, centers=centers, first_step=2)
    given = fused(query, key, sigma=1.5, centers=positions, first_step=2)
    assert torch.equal(named.context, given.context)
    assert close(named.loss, given.loss)


@pytest.mark.parametrize("mode", ["las", "mbas"])
@pytest.mark.parametrize("keys", LENGTHS)
def test_one_row_calls_stacked_equal_the_all_rows_call(kernels: str, mode: Any, keys: int) -> None:
    query, key = draw(3, 6, 16, device=kernels), draw(3, keys, 16, device=kernels)
    whole = fused(query, key, sigma=1.5, mode=mode)
    rows = [fused(query[:, t : t + 1], key, sigma=1.5, mode=mode, first_step=t) for t in range(6)]
    assert close(torch.cat([row.context for row in rows], 1), whole.context)
    assert close(torch.stack([row.loss for row in rows]).sum(0), whole.loss)


@pytest.mark.parametrize("keys", LENGTHS)
def test_mbas_equals_bas_times_the_mask(kernels: str, keys: int) -> None:
    query, key = draw(2, 6, 16, device=kernels), draw(2, keys, 16, device=kernels)
    identity = torch.eye(keys, device=kernels).expand(2, keys, keys)
    bas = fused(query, key, identity, sigma=1.5, mode="bas").context
    mbas = fused(query, key, identity, sigma=1.5, mode="mbas").context
    offset = torch.arange(keys, device=kernels) - (keys - 1 - torch.arange(6, device=kernels))[:, None]
    assert close(mbas, bas * torch.exp(-(offset**2) / (2 * 1.5**2)))


def test_a_window_cuts_the_mask(kernels: str) -> None:
    query, key = draw(2, 6, 16, device=kernels), draw(2, 6, 16, device=kernels)
    identity = torch.eye(6, device=kernels).expand(2, 6, 6)
    weights = fused(query, key, identity, sigma=3.0, window=1, mode="mbas", centers="identity").context
    outside = (torch.arange(6)[:, None] - torch.arange(6)).abs() > 1
    assert not weights[:, outside.to(kernels)].any()
    assert bool((weights[:, ~outside.to(kernels)] > 0).all())


@pytest.mark.parametrize("keys", LENGTHS)
def test_padding_equals_a_shorter_sequence(kernels: str, keys: int) -> None:
    query, key = draw(2, 6, 16, device=kernels), draw(2, keys, 16, device=kernels)
    padding = (torch.arange(keys, device=kernels) >= keys - 2).expand(2, keys)
    padded = fused(query, key, sigma=1.5, centers="identity", key_padding_mask=padding)
    shorter = fused(query, key[:, :-2], sigma=1.5, centers="identity")
    assert close(padded.context, shorter.context)
    assert close(padded.loss, shorter.loss)


@pytest.mark.parametrize("keys", LENGTHS)
def test_fully_padded_sequences_give_zeros_and_leave_the_others_alone(kernels: str, keys: int) -> None:
    query, key = draw(3, 6, 16, device=kernels), draw(3, keys, 16, device=kernels)
    query.requires_grad_(), key.requires_grad_()
    padding = torch.zeros(3, keys, dtype=torch.bool, device=kernels)
    padding[1] = True
    result = fused(query, key, sigma=1.5, key_padding_mask=padding)
    assert not result.context[1].any()
    assert not result.loss[1].any()
    gradients = torch.autograd.grad(result.context.square().sum() + result.loss.sum(), (query, key))
    assert all(not gradient[1].any() and gradient[0].any() and gradient.isfinite().all() for gradient in gradients)
    alone = fused(query[::2], key[::2], sigma=1.5)
    assert close(result.context[::2], alone.context)


@pytest.mark.parametrize("keys", LENGTHS)
@pytest.mark.parametrize("size", [1e3, 1e18])
def test_extreme_scores_stay_finite(kernels: str, keys: int, size: float) -> None:
    query, key = draw(2, 6, 16, device=kernels), draw(2, keys, 16, device=kernels)
    result = fused(size * query, key, sigma=1.5)
    exact = reference(size * query.double(), key.double(), sigma=1.5)
    assert bool(result.context.isfinite().all())
    assert bool(result.loss.isfinite().all())
    # With scores this far apart one key takes all the weight.
    assert close(result.context, exact.context, 1e3)


def test_very_negative_scores_of_all_keys_are_not_taken_for_padding(kernels: str) -> None:
    query, key = torch.full((1, 1, 4), -5e18, device=kernels), torch.full((1, 6, 4), 1e19, device=kernels)
    context = fused(query, key, torch.ones(1, 6, 1, device=kernels), sigma=1.5, scale=0.1).context
    assert close(context, torch.ones_like(context))


def test_leading_dimensions_are_broadcast(kernels: str) -> None:
    query, key = draw(2, 3, 4, 6, 16, device=kernels), draw(4, 7, 16, device=kernels)
    centers = torch.rand(3, 1, 6, device=kernels) * 7
    mask = torch.rand(2, 1, 1, 7, device=kernels) < 0.3
    result = fused(query, key, sigma=1.5, centers=centers, key_padding_mask=mask)
    exact = reference(query.double(), key.double(), sigma=1.5, centers=centers.double(), key_padding_mask=mask)
    assert result.context.shape == (2, 3, 4, 6, 16)
    assert result.loss.shape == (2, 3, 4)
    assert close(result.context, exact.context)
    assert close(result.loss, exact.loss)


def test_transposed_heads_are_read_where_they_lie(kernels: str) -> None:
    query, key = (draw(2, 9, 3, 16, device=kernels).transpose(1, 2) for _ in range(2))
    viewed = one_or_two_leading(unit_stride(query), 2)
    assert viewed.data_ptr() == query.data_ptr()
    strided, dense = fused(query, key, sigma=1.5), fused(query.contiguous(), key.contiguous(), sigma=1.5)
    assert torch.equal(strided.context, dense.context)
    assert torch.equal(strided.loss, dense.loss)


@pytest.mark.parametrize("keys", LENGTHS)
def test_value_none_means_the_key_in_values_and_gradients(kernels: str, keys: int) -> None:
    def run(separate: bool) -> tuple[LocalityAttention, Tensor]:
        leaf = key.clone().requires_grad_()
        result = fused(query, leaf, leaf * 1 if separate else None, sigma=1.5)
        return result, torch.autograd.grad((result.context * weight).sum() + result.loss.sum(), leaf)[0]

    query, key, weight = (draw(3, rows, 16, device=kernels) for rows in (6, keys, 6))
    (one, gradient_one), (two, gradient_two) = run(False), run(True)
    assert close(one.context, two.context)
    assert close(gradient_one, gradient_two)


def test_detached_target_changes_the_gradient_and_not_the_loss(kernels: str) -> None:
    query, key = draw(3, 6, 16, device=kernels, requires_grad=True), draw(3, 6, 16, device=kernels)
    losses = [fused(query, key, sigma=1.5, detach_target=detach).loss for detach in (False, True)]
    assert torch.equal(*losses)
    gradients = [torch.autograd.grad(loss.sum(), query)[0] for loss in losses]
    assert not torch.allclose(*gradients)


def test_a_detached_target_keeps_the_digits_of_a_wide_mask() -> None:
    query, key = torch.randn(2, 6, 16), torch.randn(2, 6, 16)
    exact = reference(query.double(), key.double(), sigma=1000.0, detach_target=True).loss
    for backend in ("fused", "reference"):
        loss = op.locality_attention(query, key, sigma=1000.0, detach_target=True, backend=backend).loss  # type: ignore[arg-type]
        torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("mode", ["mbas", "las"])
def test_a_learned_width_and_scale_get_their_gradients_or_are_refused(mode: Any) -> None:
    query, key = (torch.randn(2, 4, 3, dtype=torch.float64) for _ in range(2))
    sigma, scale = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.5, 0.5))

    def results(sigma: Tensor, scale: Tensor, backend: Any = "auto") -> tuple[Tensor, Tensor]:
        return op.locality_attention(query, key, sigma=sigma, scale=scale, mode=mode, backend=backend)[:2]

    assert torch.autograd.gradcheck(results, (sigma, scale))
    for name, arguments in {"sigma": (sigma, scale.detach()), "scale": (sigma.detach(), scale)}.items():
        with pytest.raises(RuntimeError, match=f"no gradient of {name}; give a number, or use backend='reference'"):
            results(*arguments, backend="fused")
    with torch.no_grad():
        learned = results(sigma, scale, "fused")
        assert all(map(torch.equal, learned, fused(query, key, sigma=1.5, scale=0.5, mode=mode)[:2]))


def test_no_gradient_reaches_what_the_loss_does_not_depend_on(kernels: str) -> None:
    query, key, value = (draw(3, 6, 16, device=kernels, requires_grad=True) for _ in range(3))
    loss = fused(query, key, value, sigma=1.5).loss.sum()
    assert not torch.autograd.grad(loss, value)[0].any()


@pytest.mark.parametrize("keys", LENGTHS)
def test_repeats_are_equal_bit_for_bit(kernels: str, keys: int) -> None:
    def run() -> tuple[Tensor, ...]:
        result = fused(query, key, centers=centers, sigma=1.5)
        gradients = torch.autograd.grad(result.context.square().sum() + result.loss.sum(), (query, key, centers))
        return result.context, result.loss, *gradients

    query = draw(4, 6, 33, device=kernels, requires_grad=True)
    key = draw(4, keys, 33, device=kernels, requires_grad=True)
    centers = (keys * torch.rand(4, 6, device=kernels)).requires_grad_()
    assert all(torch.equal(first, second) for first, second in zip(run(), run(), strict=True))


@pytest.mark.parametrize("keys", LENGTHS)
def test_one_and_two_threads_agree_bit_for_bit(keys: int) -> None:
    def run(threads: int) -> tuple[Tensor, ...]:
        torch.set_num_threads(threads)
        result = fused(query, key, sigma=1.5)
        return result.context, result.loss, *torch.autograd.grad(result.loss.sum() + result.context.sum(), (query, key))

    query, key = (draw(40, rows, 33, device="cpu", requires_grad=True) for rows in (keys, keys))
    threads = torch.get_num_threads()
    try:
        assert all(torch.equal(one, two) for one, two in zip(run(1), run(2), strict=True))
    finally:
        torch.set_num_threads(threads)


def test_sequences_do_not_see_each_other(kernels: str) -> None:
    query, key = draw(5, 6, 16, device=kernels), draw(5, 6, 16, device=kernels)
    order = torch.tensor([3, 1, 4, 0, 2], device=kernels)
    straight, permuted = fused(query, key, sigma=1.5), fused(query[order], key[order], sigma=1.5)
    assert torch.equal(straight.context[order], permuted.context)
    assert torch.equal(straight.loss[order], permuted.loss)


@pytest.mark.parametrize("keys", LENGTHS)
def test_a_centre_that_is_not_a_number_stays_in_its_sequence(kernels: str, keys: int) -> None:
    query, key = draw(4, 6, 16, device=kernels), draw(4, keys, 16, device=kernels)
    inputs = [query, key, torch.arange(6.0, device=kernels).repeat(4, 1)]

    def gradients() -> tuple[Tensor, ...]:
        query, key, centers = (tensor.clone().requires_grad_() for tensor in inputs)
        context = fused(query, key, sigma=1.5, centers=centers, mode="mbas").context
        return torch.autograd.grad(context.square().sum(), (query, key, centers))

    clean = gradients()
    inputs[2][1, 2] = torch.nan
    others = [0, 2, 3]
    for gradient, expected in zip(gradients(), clean, strict=True):
        assert torch.equal(gradient[others], expected[others])


@pytest.mark.parametrize("mode", ["bas", "mbas", "las"])
def test_alignment_is_differentiable(mode: Any) -> None:
    query, key = (torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def weights(query: Tensor, key: Tensor) -> Tensor:
        alignment = fused(query, key, sigma=1.5, mode=mode, return_alignment=True).alignment
        assert alignment is not None
        return alignment

    assert torch.autograd.gradcheck(weights, (query, key))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_results_have_the_promised_dtypes(kernels: str, dtype: torch.dtype) -> None:
    query = draw(2, 6, 16, device=kernels, dtype=dtype, requires_grad=True)
    for backend in ("fused", "reference"):
        result = op.locality_attention(query, query, sigma=1.5, return_alignment=True, backend=backend)  # type: ignore[arg-type]
        assert result.alignment is not None
        assert (result.context.dtype, result.alignment.dtype, result.loss.dtype) == (dtype, dtype, torch.float32)
        assert torch.autograd.grad(result.loss.sum(), query)[0].dtype == dtype


def test_the_released_recipe_of_one_step_at_a_time_is_exact(kernels: str) -> None:
    """Projected keys, raw values, one query row a call: the way the released decoder uses its attention."""
    memory, projection = draw(4, 6, 32, device=kernels), draw(32, 32, device=kernels)
    query = draw(4, 6, 32, device=kernels)
    keys = memory @ projection
    exact = reference(query.double(), keys.double(), memory.double(), sigma=3.0)
    steps = [fused(query[:, t : t + 1], keys, memory, sigma=3.0, first_step=t) for t in range(6)]
    magnitude = score_magnitude(query, keys)
    assert close(torch.cat([step.context for step in steps], 1), exact.context, magnitude)
    assert close(torch.stack([step.loss for step in steps]).sum(0), exact.loss, magnitude)
