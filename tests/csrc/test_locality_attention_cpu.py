"""The C++ kernels of locality_attention: both regimes, every instruction set, any layout, any number of threads."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

import pytest
import torch
from torch import Tensor

from sgela_fast.benchmarks.tolerances import relative_bound, score_magnitude
from sgela_fast.ops.locality_attention import BACKWARD, FORWARD
from sgela_fast.reference.locality_attention import Centers, Mode, expected_positions
from sgela_fast.reference.locality_attention import locality_attention as reference

_C = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built", exc_type=ImportError)

ISAS: list[str] = _C.build_info()["isas"]
pytestmark = pytest.mark.usefixtures("poisoned_memory")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
MODES: list[Mode] = ["bas", "mbas", "las"]
DIRECTIONS: dict[Centers, int] = {"reverse": -1, "identity": 1}
# Query rows and keys: below, at and above vectors and blocks of rows; then either side of a tile of 128 keys and of 192
# query rows; one decoding step.
SHORT = [(1, 1), (6, 6), (5, 9), (7, 17), (13, 3), (1, 33)]
LONG = [(97, 128), (200, 129), (130, 257), (3, 300), (400, 40)]


class Call(NamedTuple):
    """Arguments of the op."""

    query: Tensor
    key: Tensor
    value: Tensor | None
    centers: Tensor | Centers
    padding: Tensor | None
    first_step: int
    sigma: float
    window: float | None
    scale: float
    mode: Mode
    detach_target: bool


def drawn(
    queries: int,
    keys: int,
    features: int = 20,
    width: int | None = None,
    dtype: torch.dtype = torch.float32,
    batch: tuple[int, int] = (2, 3),
    *,
    centers: Literal[Centers, "tensor"] = "reverse",
    padding: float = 0.0,
    size: float = 1.0,
    **options: Any,
) -> Call:
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    query = size * features**-0.25 * torch.randn(*batch, queries, features, dtype=exact)
    key = features**-0.25 * torch.randn(*batch, keys, features, dtype=exact)
    value = None if width is None else torch.randn(*batch, keys, width, dtype=exact).to(dtype)
    # Never on a window's edge, where a rounding decides.
    positions = (keys + 2) * torch.rand(*batch, queries, dtype=exact) - 1.01
    taken = torch.rand(*batch, keys) < padding if padding else None
    settings: dict[str, Any] = {"first_step": 0, "sigma": 2.0, "window": None, "scale": 0.9, "mode": "las"}
    settings |= {"detach_target": False, **options}
    return Call(query.to(dtype), key.to(dtype), value, positions if centers == "tensor" else centers, taken, **settings)


def fused(call: Call, grad_context: Tensor, grad_loss: Tensor | None) -> tuple[Tensor, ...]:
    """Context, loss, log_sum, moment, and the four gradients."""
    centers = call.centers if isinstance(call.centers, Tensor) else None
    direction = 0 if centers is not None else DIRECTIONS[cast(Centers, call.centers)]
    inputs = (call.query, call.key, call.value, centers, call.padding)
    mask = (call.first_step, direction, call.sigma, call.window)
    settings = (*mask, call.scale, MODES.index(call.mode), call.detach_target)
    context, loss, log_sum, moment = FORWARD.overload(*inputs, *settings)
    gradients = BACKWARD.overload(grad_context, grad_loss, *inputs, context, log_sum, moment, *settings)
    return (context, loss, log_sum, moment, *gradients)


def exact(call: Call, grad_context: Tensor, grad_loss: Tensor | None) -> tuple[Tensor, ...]:
    """Context, loss and the four gradients of the reference in float64; empty where the op's are."""
    query, key = (tensor.double().detach().requires_grad_() for tensor in (call.query, call.key))
    value = None if call.value is None else call.value.double().requires_grad_()
    centers = call.centers
    if isinstance(centers, Tensor):
        centers = centers.double().requires_grad_()
    context, loss, _ = reference(
        query,
        key,
        value,
        centers=centers,
        sigma=call.sigma,
        window=call.window,
        scale=call.scale,
        key_padding_mask=call.padding,
        first_step=call.first_step,
        mode=call.mode,
        detach_target=call.detach_target,
    )
    total = (context * grad_context).sum()
    if grad_loss is not None:
        total = total + (loss * grad_loss).sum()
    leaves = [leaf for leaf in (query, key, value, centers) if isinstance(leaf, Tensor)]
    found = iter(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))
    gradients = [next(found), next(found)]
    gradients += [query.new_empty(0) if value is None else next(found)]
    gradients += [next(found) if isinstance(centers, Tensor) else query.new_empty(0)]
    return (context.detach(), loss.detach(), *gradients)


def upstream_of(call: Call) -> tuple[Tensor, Tensor]:
    width = call.key.shape[-1] if call.value is None else call.value.shape[-1]
    accumulation = torch.float64 if call.query.dtype == torch.float64 else torch.float32
    leading = call.query.shape[:-1]
    return torch.randn(*leading, width).to(call.query.dtype), torch.randn(leading[:2], dtype=accumulation)


def assert_exact(call: Call) -> None:
    grad_context, grad_loss = upstream_of(call)
    result = fused(call, grad_context, grad_loss)
    truth = exact(call, grad_context.double(), grad_loss.double())
    bound = relative_bound(call.query.dtype, score_magnitude(call.query, call.key, call.scale))
    for name, value, expected in zip(
        ("context", "loss", "grad_query", "grad_key", "grad_value", "grad_centers"),
        (*result[:2], *result[4:]),
        truth,
        strict=True,
    ):
        assert value.shape == expected.shape, name
        assert value.is_contiguous(), name
        if expected.numel() == 0:
            continue
        # Gradients are sums of terms of size 1 that may cancel.
        largest = float(expected.abs().max())
        largest = max(largest, 1.0) if name.startswith("grad") else largest
        error = float((value.double() - expected).abs().max())
        assert error <= 2 * bound * largest, f"{name}: {error:.1e} beyond {2 * bound * largest:.1e}"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("queries", "keys"), [*SHORT, *LONG])
def test_equals_the_reference_in_both_regimes(isa: str, dtype: torch.dtype, queries: int, keys: int) -> None:
    _C.force_isa(isa)
    for features, width in ((33, None), (16, 37), (3, 1)):
        assert_exact(drawn(queries, keys, features, width, dtype))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("centers", ["reverse", "identity", "tensor"])
@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (140, 150)])
def test_every_mask_equals_the_reference(isa: str, mode: Mode, centers: Any, queries: int, keys: int) -> None:
    _C.force_isa(isa)
    for window, first_step, detach in ((None, 0, False), (2.5, 3, True), (0.0, 1, False)):
        options: dict[str, Any] = {"window": window, "first_step": first_step, "detach_target": detach}
        assert_exact(drawn(queries, keys, 9, 21, centers=centers, mode=mode, **options))
        assert_exact(drawn(queries, keys, 9, None, centers=centers, mode=mode, padding=0.4, **options))


@pytest.mark.parametrize("centers", ["reverse", "identity", "tensor"])
def test_a_step_is_the_row_of_the_whole(centers: Any) -> None:
    call = drawn(6, 6, 24, centers=centers)
    grad_context, grad_loss = upstream_of(call)
    whole = fused(call, grad_context, grad_loss)
    for step in range(6):
        row = slice(step, step + 1)
        one = call._replace(query=call.query[:, :, row], first_step=step)
        if isinstance(call.centers, Tensor):
            one = one._replace(centers=call.centers[:, :, row], first_step=0)
        result = fused(one, grad_context[:, :, row], grad_loss)
        torch.testing.assert_close(result[0], whole[0][:, :, row])
        torch.testing.assert_close(result[4], whole[4][:, :, row])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (150, 140)])
def test_strides_change_no_bit(dtype: torch.dtype, queries: int, keys: int) -> None:
    call = drawn(queries, keys, 20, 12, dtype, centers="tensor", padding=0.3)
    assert isinstance(call.centers, Tensor)
    assert call.value is not None
    assert call.padding is not None
    grad_context, grad_loss = upstream_of(call)

    def heads_first(dense: Tensor) -> Tensor:
        wide = dense.new_full((*dense.shape[:-1], dense.shape[-1] + 5), float("nan"))
        wide = wide.transpose(1, 2).contiguous().transpose(1, 2)
        wide[..., 2:-3] = dense
        return wide[..., 2:-3]

    def every_other(dense: Tensor) -> Tensor:
        return dense.repeat_interleave(2, dim=-1)[..., ::2]

    strided = call._replace(
        query=heads_first(call.query),
        key=heads_first(call.key),
        value=heads_first(call.value),
        centers=every_other(call.centers),
        padding=every_other(call.padding),
    )
    first = fused(call, grad_context, grad_loss)
    second = fused(strided, heads_first(grad_context), every_other(grad_loss))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (150, 140)])
def test_expanded_inputs_are_read_where_they_lie(queries: int, keys: int) -> None:
    call = drawn(queries, keys, 24, 8, padding=0.3)
    assert call.value is not None
    assert call.padding is not None
    shape = call.key.shape
    shared = call._replace(
        key=call.key[:1, :1].expand(shape), value=call.value[:, :1].expand_as(call.value), padding=call.padding[:1]
    )
    shared = shared._replace(padding=call.padding[:1, :1].expand_as(call.padding))
    dense = shared._replace(**{name: getattr(shared, name).contiguous() for name in ("key", "value", "padding")})
    _, grad_loss = upstream_of(call)
    grad_context = torch.randn(()).expand(*call.query.shape[:-1], 8)
    for one, other in zip(
        fused(shared, grad_context, grad_loss), fused(dense, grad_context.contiguous(), grad_loss), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (330, 40), (150, 400)])
@pytest.mark.parametrize("width", [None, 24])
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype, queries: int, keys: int, width: int | None) -> None:
    call = drawn(queries, keys, 40, width, dtype, batch=(1, 1 if keys > 6 else 200), centers="tensor", padding=0.2)
    upstream = upstream_of(call)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(fused(call, *upstream))
    for other in results[1:]:
        for one, result in zip(results[0], other, strict=True):
            assert torch.equal(one, result)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (150, 140)])
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_scores_are_neither_infinite_nor_nan(isa: str, queries: int, keys: int, sign: int) -> None:
    _C.force_isa(isa)
    call = drawn(queries, keys, 16, 16, size=sign * 1e4, scale=1.0)
    results = fused(call, *upstream_of(call))
    assert all(bool(torch.isfinite(result).all()) for result in results)
    # One key takes all the weight, unless two are equal to within the rounding of such scores.
    assert call.value is not None
    best = (call.query.double() @ call.key.double().mT).argmax(dim=-1)
    nearest = call.value.gather(2, best[..., None].expand(*best.shape, 16))
    assert ((results[0] - nearest).abs().amax(dim=-1) < 1e-3).double().mean() > 0.9


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (150, 300)])
def test_rows_without_keys_are_zero(isa: str, queries: int, keys: int) -> None:
    _C.force_isa(isa)
    call = drawn(queries, keys, 10, 7, padding=0.5, centers="tensor")
    assert call.padding is not None
    call.padding[0, 1] = True
    call.padding[1, 2] = True
    call.padding[1, 2, -1] = False
    assert_exact(call)
    results = fused(call, *upstream_of(call))
    assert bool((results[2][0, 1] == torch.inf).all())
    for i, result in enumerate(results):
        if i != 2:
            assert not bool(result[0, 1].any())


@pytest.mark.parametrize(
    "sizes", [(0, 5, 4, 3), (5, 0, 4, 3), (0, 0, 4, 3), (5, 6, 0, 3), (5, 6, 4, 0), (90, 200, 0, 0)]
)
@pytest.mark.parametrize("batch", [(2, 3), (0, 3), (2, 0)])
def test_sizes_of_zero_give_zeros(sizes: tuple[int, int, int, int], batch: tuple[int, int]) -> None:
    queries, keys, features, width = sizes
    call = Call(
        torch.randn(*batch, queries, features),
        torch.randn(*batch, keys, features),
        torch.randn(*batch, keys, width),
        torch.rand(*batch, queries),
        None,
        *(0, 1.0, None, 1.0, "las", False),
    )
    results = fused(call, *upstream_of(call))
    assert not any(bool(torch.isnan(result).any()) for result in results)
    if keys == 0:
        assert not bool(results[0].any())
        assert not bool(results[1].any())


def test_nan_is_not_hidden() -> None:
    for queries, keys in ((6, 6), (150, 140)):
        call = drawn(queries, keys)
        call.query[0, 0, 2] = float("nan")
        results = fused(call, *upstream_of(call))
        assert bool(results[0][0, 0, 2].isnan().all())
        assert bool(results[1][0, 0].isnan())
        assert not bool(results[0][1].isnan().any())


def test_the_op_refuses_what_it_would_read_out_of_bounds() -> None:
    call = drawn(6, 6)
    upstream = upstream_of(call)
    wrong: list[dict[str, Any]] = [
        {"key": call.key[:1]},
        {"value": call.key[:, :, :3]},
        {"padding": torch.zeros(2, 3, 5, dtype=torch.bool)},
        {"centers": torch.zeros(2, 3, 5)},
        {"key": call.key.double()},
        {"key": call.key.mT.contiguous().mT},
    ]
    for change in wrong:
        with pytest.raises(RuntimeError, match="locality_attention: "):
            fused(call._replace(**change), *upstream)
    with pytest.raises(RuntimeError, match="grad_context"):
        fused(call, upstream[0][..., :3], upstream[1])


def test_positions_are_those_of_the_reference() -> None:
    for centers in DIRECTIONS:
        call = drawn(5, 9, centers=centers, first_step=2, mode="mbas")
        upstream = upstream_of(call)
        positions = expected_positions(centers, 5, 9, 2, call.query).expand(2, 3, 5)
        named, given = fused(call, *upstream), fused(call._replace(centers=positions), *upstream)
        torch.testing.assert_close(named[0], given[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(named[4], given[4], rtol=1e-5, atol=1e-6)
