"""The Triton kernels of `locality_attention` against the float64 reference: interpreted, and on a GPU if one is there.

Cases are small, because the interpreter runs programs one after another; it says nothing about races or about the
precision of matrix units, which is why the same tests run on a device where there is one.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch import Tensor

from sgela_fast.reference import locality_attention as reference

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from sgela_fast.kernels import locality_attention as kernels  # noqa: E402
from sgela_fast.kernels.locality_attention_launch import Regime  # noqa: E402
from sgela_fast.kernels.locality_mask import one_minus_exp  # noqa: E402

pytestmark = pytest.mark.usefixtures("poisoned_outputs")

REGIMES: tuple[Regime, ...] = ("rows", "tiles")
MODES = ("bas", "mbas", "las", "las detached")
# Root mean square of the error over that of the values. Half types round the inputs of products and the results, so a
# few units in the last place; float32 loses some digits to cancellation in dS.
TOLERANCE = {torch.float32: 3e-6, torch.float16: 3e-3, torch.bfloat16: 2.4e-2}


class Problem(NamedTuple):
    """Inputs of the op in the order of its schema, and gradients of its results."""

    query: Tensor
    key: Tensor
    value: Tensor | None
    centers: Tensor | None
    padding: Tensor | None
    grad_context: Tensor
    grad_loss: Tensor | None
    first_step: int = 0
    direction: Literal[-1, 0, 1] = -1
    sigma: float = 1.7
    window: float | None = None
    scale: float = 1.0
    mode: str = "las"

    @property
    def settings(self) -> tuple[Any, ...]:
        number = {"bas": 0, "mbas": 1, "las": 2}[self.mode.split()[0]]
        return (*self[7:12], number, self.mode == "las detached")


def problem(
    device: torch.device,
    queries: int = 3,
    keys: int = 5,
    features: int = 20,
    values: int | None = None,
    *,
    batch: tuple[int, int] = (2, 1),
    dtype: torch.dtype = torch.float32,
    padded: bool = False,
    amplitude: float = 1.0,
    **settings: Any,
) -> Problem:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape).to(device, dtype)

    width = features if values is None else values
    padding = None
    if padded:
        padding = torch.rand(*batch, keys) < 0.3
        padding[..., 0] = False
    return Problem(
        amplitude * draw(*batch, queries, features),
        draw(*batch, keys, features),
        None if values is None else draw(*batch, keys, values),
        (torch.rand(*batch, queries) * keys).to(device) if settings.get("direction") == 0 else None,
        None if padding is None else padding.to(device),
        draw(*batch, queries, width),
        torch.randn(batch).to(device),
        **settings,
    )


def run(p: Problem, regime: Regime | None) -> dict[str, Tensor]:
    """Everything the kernels give for a problem, without the tensors that stand for nothing."""
    context, loss, log_sum, moment = kernels.forward(*p[:5], *p.settings, regime=regime)
    gradients = kernels.backward(
        p.grad_context, p.grad_loss, *p[:5], context, log_sum, moment, *p.settings, regime=regime
    )
    names = ("grad_query", "grad_key", "grad_value", "grad_centers")
    asked = (True, True, p.value is not None, p.centers is not None)
    found = {name: gradient for name, gradient, want in zip(names, gradients, asked, strict=True) if want}
    return {"context": context, "loss": loss, "log_sum": log_sum, "moment": moment, **found}


def expected(p: Problem) -> dict[str, Tensor]:
    """The same by the reference and autograd in float64."""
    exact = {
        name: tensor.detach().double().requires_grad_()
        for name, tensor in (("query", p.query), ("key", p.key), ("value", p.value), ("centers", p.centers))
        if tensor is not None
    }
    centers: Any = exact.get("centers", "identity" if p.direction == 1 else "reverse")
    options: dict[str, Any] = {"centers": centers, "sigma": p.sigma, "window": p.window, "scale": p.scale}
    options |= {"key_padding_mask": p.padding, "first_step": p.first_step}
    options |= {"mode": p.mode.split()[0], "detach_target": p.mode == "las detached"}
    context, loss, _ = reference.locality_attention(exact["query"], exact["key"], exact.get("value"), **options)
    total = (context * p.grad_context.double()).sum()
    if p.grad_loss is not None:
        total = total + (loss * p.grad_loss.double()).sum()
    gradients = torch.autograd.grad(total, list(exact.values()), allow_unused=True, materialize_grads=True)
    return {
        "context": context,
        "loss": loss,
        **{f"grad_{name}": gradient for name, gradient in zip(exact, gradients, strict=True)},
    }


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor], dtype: torch.dtype, factor: float = 1.0) -> None:
    for name, value in wanted.items():
        # What is float32 whatever the inputs keeps its digits.
        exact = name == "loss" and found[name].dtype == torch.float32
        tolerance = factor * TOLERANCE[torch.float32 if exact else dtype]
        error = (found[name].double() - value.double()).detach()
        assert not error.isnan().any(), name
        rms, size = error.square().mean().sqrt(), value.detach().double().square().mean().sqrt()
        assert rms <= tolerance * size + factor * 1e-7, f"{name}: {float(rms):.2e} of {float(size):.2e}"
        assert error.abs().max() <= 8 * tolerance * value.detach().abs().max() + factor * 1e-6, name


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "settings",
    [
        {"values": None, "direction": -1, "scale": 0.7},
        {"values": 33, "direction": 1, "padded": True, "window": 2.5},
        {"values": 11, "direction": 0, "features": 21},
        {"values": None, "direction": 0, "padded": True, "window": 3.25, "batch": (1, 3), "keys": 7},
    ],
    ids=["reverse", "identity, padding, window", "centers", "all"],
)
def test_results_and_gradients_equal_the_reference(
    device: torch.device, regime: Regime, mode: str, settings: dict[str, Any]
) -> None:
    p = problem(device, mode=mode, **settings)
    assert_equal(run(p, regime), expected(p), torch.float32)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("values", [None, 24])
def test_half_types_lose_only_the_digits_of_the_type(
    device: torch.device, regime: Regime, dtype: torch.dtype, values: int | None
) -> None:
    p = problem(device, values=values, dtype=dtype, padded=True)
    found = run(p, regime)
    assert found["context"].dtype == found["grad_query"].dtype == dtype
    assert found["loss"].dtype == found["log_sum"].dtype == found["moment"].dtype == torch.float32
    assert_equal(found, expected(p), dtype)


@pytest.mark.parametrize(
    ("dtype", "features", "values", "mode"),
    [
        (torch.float32, 40, 70, "las"),
        (torch.float32, 70, None, "mbas"),
        (torch.bfloat16, 70, None, "las detached"),
        (torch.bfloat16, 20, 140, "las"),
    ],
)
def test_sequences_longer_than_a_tile_equal_the_reference(
    device: torch.device, dtype: torch.dtype, features: int, values: int | None, mode: str
) -> None:
    p = problem(device, 70, 83, features, values, batch=(1, 1), dtype=dtype, mode=mode, padded=True, direction=0)
    p = p._replace(sigma=20.0, scale=0.3)
    assert_equal(run(p, None), expected(p), dtype, factor=2)


@pytest.mark.parametrize("mode", MODES)
def test_the_two_regimes_agree(device: torch.device, mode: str) -> None:
    p = problem(device, 4, 6, 18, mode=mode, padded=True, direction=0)
    assert_equal(run(p, "rows"), run(p, "tiles"), torch.float32)


@pytest.mark.parametrize("regime", REGIMES)
def test_any_strides_of_the_leading_dimensions_are_read_in_place(device: torch.device, regime: Regime) -> None:
    p = problem(device, 2, 5, 12, 9, batch=(2, 2), padded=True, direction=0)
    heads: dict[str, Any] = {
        "query": p.query.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3),  # (B, T, H, K) seen as (B, H, T, K)
        "key": p.key[:1, :1].expand(2, 2, 5, 12),
        "value": torch.cat([p.value, p.value], -1)[..., 3:12],  # type: ignore[list-item]
        "centers": p.centers[:, :, :1].expand(2, 2, 2),  # type: ignore[index]
        "padding": p.padding[:1].expand(2, 2, 5),  # type: ignore[index]
        "grad_context": torch.ones((), device=device).expand(2, 2, 2, 9),
        "grad_loss": torch.ones((), device=device).expand(2, 2),
    }
    strided = p._replace(**heads)
    compact = p._replace(**{name: tensor.contiguous() for name, tensor in heads.items()})
    found, wanted = run(strided, regime), run(compact, regime)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(tensor.is_contiguous() for tensor in found.values())
    assert_equal(found, expected(strided), torch.float32)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("direction", [-1, 1])
def test_one_row_at_a_time_equals_all_rows(device: torch.device, regime: Regime, direction: Literal[-1, 1]) -> None:
    p = problem(device, 2, 5, direction=direction)
    whole = run(p, regime)
    loss = torch.zeros_like(whole["loss"])
    for t in range(2):
        row = p._replace(
            query=p.query[:, :, t : t + 1], grad_context=p.grad_context[:, :, t : t + 1], first_step=t
        )  # (N0, N1, 1, K)
        step = run(row, regime)
        torch.testing.assert_close(step["context"], whole["context"][:, :, t : t + 1])
        torch.testing.assert_close(step["grad_query"], whole["grad_query"][:, :, t : t + 1])
        loss += step["loss"]
    torch.testing.assert_close(loss, whole["loss"])


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("mode", ["mbas", "las"])
def test_scores_of_thousands_stay_finite_and_right(device: torch.device, regime: Regime, mode: str) -> None:
    p = problem(device, 2, 6, 16, amplitude=500.0, mode=mode)
    # Scores of 5000 are rounded to 2^-11, which the exponential turns into as much of a weight.
    assert_equal(run(p, regime), expected(p), torch.float32, factor=500)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("mode", MODES)
def test_a_sequence_of_padding_alone_is_zero_and_takes_no_gradient(
    device: torch.device, regime: Regime, mode: str
) -> None:
    p = problem(device, 3, 5, 8, 6, mode=mode, padded=True, direction=0)
    assert p.padding is not None
    p.padding[0] = True
    found = run(p, regime)
    assert torch.all(found["log_sum"][0] == torch.inf)
    assert all(torch.all(value[0] == 0) for name, value in found.items() if name != "log_sum")
    assert_equal(found, expected(p), torch.float32)


@pytest.mark.parametrize("regime", REGIMES)
def test_log_sum_and_moment_are_what_the_contract_says(device: torch.device, regime: Regime) -> None:
    p = problem(device, scale=0.6, direction=1)
    scores = 0.6 * p.query.double() @ p.key.double().mT
    weights = scores.softmax(-1)
    positions = torch.arange(3, dtype=torch.float64, device=device).expand(2, 1, 3)
    complement = -torch.expm1(reference.mask_exponent(positions, 5, p.sigma))
    found, detached = run(p, regime), run(p._replace(mode="las detached"), regime)
    wanted = {"log_sum": scores.logsumexp(-1), "moment": (weights * complement).square().sum(-1)}
    assert_equal(found, wanted, torch.float32)
    assert_equal(detached, {**wanted, "moment": (weights.square() * complement).sum(-1)}, torch.float32)
    assert torch.equal(found["loss"], detached["loss"])


@pytest.mark.parametrize("regime", REGIMES)
def test_a_wide_mask_keeps_the_losss_digits(device: torch.device, regime: Regime) -> None:
    # 1 - l is about 1e-10 here: subtracting l from 1 in float32 would leave nothing of it.
    p = problem(device)._replace(sigma=1e5, grad_loss=None)
    loss = run(p, regime)["loss"].double()
    torch.testing.assert_close(loss, expected(p)["loss"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("sigma", [1e-200, 1e100])
def test_masks_of_a_single_position_and_of_all_are_finite(device: torch.device, regime: Regime, sigma: float) -> None:
    p = problem(device, mode="mbas", direction=1)._replace(sigma=sigma)
    found = run(p, regime)
    assert all(value.isfinite().all() for value in found.values())
    wide = expected(p._replace(sigma=1e30 if sigma > 1 else 1e-3))
    assert_equal(found, {"context": wide["context"]}, torch.float32)


@pytest.mark.parametrize("regime", REGIMES)
def test_no_gradient_of_the_loss_means_zeros(device: torch.device, regime: Regime) -> None:
    p = problem(device)
    without = run(p._replace(grad_loss=None), regime)
    zeros = run(p._replace(grad_loss=torch.zeros(2, 1, device=device)), regime)
    assert all(torch.equal(without[name], zeros[name]) for name in zeros)


@pytest.mark.parametrize("regime", REGIMES)
def test_results_are_equal_bit_for_bit_on_repeat(device: torch.device, regime: Regime) -> None:
    p = problem(device, padded=True, direction=0, batch=(2, 1))
    first, second = run(p, regime), run(p, regime)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("batch", [(1, 1), (1, 5), (2, 3)])
def test_batches_that_do_not_fill_a_block_are_whole(device: torch.device, batch: tuple[int, int]) -> None:
    p = problem(device, 2, 3, 8, batch=batch)
    assert_equal(run(p, "rows"), expected(p), torch.float32)


@pytest.mark.parametrize(
    "sizes",
    [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (2, 3, 4, 0), (2, 3, 0, 0)],
    ids=["Tq", "Tk", "K", "Kv", "K, Kv"],
)
@pytest.mark.parametrize("regime", REGIMES)
def test_sizes_of_zero_give_zeros_of_the_right_shape(
    device: torch.device, regime: Regime, sizes: tuple[int, int, int, int]
) -> None:
    p = problem(device, *sizes)
    found = run(p, regime)
    for name, value in expected(p).items():
        assert found[name].shape == value.shape
        torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)


def test_no_sequences_give_empty_results(device: torch.device) -> None:
    found = run(problem(device, batch=(0, 3)), None)
    assert found["context"].shape == (0, 3, 3, 20)
    assert found["loss"].shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": torch.zeros(3, 1, 5, 20)}, "has shape"),
        ({"query": torch.zeros(2, 1, 20, 3).mT}, "query has stride 3"),
        ({"query": torch.zeros(2, 1, 3, 20, dtype=torch.float64)}, "query is torch.float64"),
        ({"direction": 0}, "needs centers"),
        ({"padding": torch.zeros(2, 1, 5)}, "key_padding_mask is torch.float32"),
    ],
)
def test_what_would_read_out_of_bounds_is_refused(change: dict[str, Any], message: str) -> None:
    p = problem(torch.device("cpu"))._replace(**change)
    with pytest.raises(ValueError, match=message):
        kernels.forward(*p[:5], *p.settings)


def test_sequences_too_large_for_registers_are_refused_as_rows(device: torch.device) -> None:
    p = problem(device, keys=17)
    with pytest.raises(ValueError, match="do not hold 3 rows of 17 keys"):
        kernels.forward(*p[:5], *p.settings, regime="rows")


@triton.jit  # type: ignore[untyped-decorator]
def _apply_one_minus_exp(p_x, p_out, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def, name-defined]
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(p_out + offsets, one_minus_exp(tl.load(p_x + offsets, mask=offsets < size)), mask=offsets < size)


def test_one_minus_exp_is_exact_to_four_in_ten_million(device: torch.device) -> None:
    x = -torch.logspace(-30, 2, 4001, base=10, dtype=torch.float64).float().to(device)
    x = torch.cat([x, torch.tensor([0.0, -0.5, -0.49999997, -0.5000001], device=device)])
    found = torch.empty_like(x)
    _apply_one_minus_exp[(triton.cdiv(len(x), 1024),)](x, found, len(x), BLOCK=1024)
    torch.testing.assert_close(found.double(), -torch.expm1(x.double()), rtol=4e-7, atol=0)
