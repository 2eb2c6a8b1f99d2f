"""The C++ kernels of horizontal_pyramid_pooling: every instruction set, any layout, any number of threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sgela_fast.benchmarks.tolerances import deviation, relative_bound
from sgela_fast.ops.horizontal_pyramid_pooling import BACKWARD, FORWARD
from sgela_fast.reference.horizontal_pyramid_pooling import horizontal_pyramid_pooling as reference

_C = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built", exc_type=ImportError)

ISAS: list[str] = _C.build_info()["isas"]
pytestmark = pytest.mark.usefixtures("poisoned_memory")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Shape and bins: of the model; blocks below, at and above vectors of every instruction set; bins that do not nest, that
# leave out the blocks they have in common, that are equal; single pixels, rows, columns and channels; several panels.
CASES = [
    ((2, 37, 16, 11), (1, 2, 4, 8, 16)),
    ((1, 4, 12, 40), (1, 3, 4)),
    ((2, 3, 30, 7), (2, 3, 5)),
    ((1, 5, 4, 300), (2, 1, 2)),
    ((4, 9, 2, 3), (2, 2, 1)),
    ((3, 33, 1, 1), (1,)),
    ((1, 1, 6, 1), (3, 1, 2)),
    ((70, 1, 1, 16), (1,)),
]


def columns_first(features: Tensor) -> Tensor:
    return features.mT.contiguous().mT


def cropped(features: Tensor) -> Tensor:
    return torch.nn.functional.pad(features, (1, 2))[..., 1:-2]


def channels_last(features: Tensor) -> Tensor:
    return features.contiguous(memory_format=torch.channels_last)


def every_other(features: Tensor) -> Tensor:
    return features.repeat_interleave(2, 1)[:, ::2]


LAYOUTS: list[Callable[[Tensor], Tensor]] = [torch.clone, channels_last, columns_first, cropped, every_other]


def differentiated(features: Tensor, bins: tuple[int, ...], strips_first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Upstream gradient, strips and the gradient of the map, from the two ops."""
    strips, positions = FORWARD.overload(features, bins, strips_first, True)
    upstream = torch.randn(strips.shape, dtype=torch.float64).to(strips.dtype)
    last = features.is_contiguous(memory_format=torch.channels_last)
    return upstream, strips, BACKWARD.overload(upstream, positions, *features.shape[-2:], bins, last)


def expected(features: Tensor, bins: tuple[int, ...], upstream: Tensor) -> tuple[Tensor, Tensor]:
    leaf = features.detach().double().requires_grad_()
    strips = reference(leaf, bins)
    return strips.detach(), torch.autograd.grad(strips, leaf, upstream.double())[0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "bins"), CASES)
def test_values_and_gradients_are_those_of_the_reference(
    isa: str,
    dtype: torch.dtype,
    layout: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    bins: tuple[int, ...],
) -> None:
    _C.force_isa(isa)
    features = layout(torch.randn(shape, dtype=torch.float64).to(dtype))
    for strips_first in (False, True):
        upstream, strips, gradient = differentiated(features, bins, strips_first)
        exact, exact_gradient = expected(features, bins, upstream)
        # A mean of m numbers is off by about sqrt(m) roundings; a pixel's gradient by one for each bin.
        magnitude = (shape[-1] * shape[-2]) ** 0.5
        assert deviation(strips, exact) <= relative_bound(dtype, magnitude)
        assert deviation(gradient, exact_gradient) <= relative_bound(dtype, len(bins))
        assert strips.permute(2, 0, 1).is_contiguous() if strips_first else strips.is_contiguous()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", [torch.clone, channels_last, columns_first])
@pytest.mark.parametrize(("shape", "bins"), CASES[:4])
def test_ties_and_nan_have_the_references_positions(
    isa: str, layout: Callable[[Tensor], Tensor], shape: tuple[int, ...], bins: tuple[int, ...]
) -> None:
    _C.force_isa(isa)
    features = torch.randint(-2, 2, shape).float()  # maxima are never alone
    for special in (torch.nan, torch.inf, -torch.inf):
        features[torch.rand(shape) < 0.02] = special
    features = layout(features)
    strips, positions = FORWARD.overload(features, bins, False, True)
    torch.testing.assert_close(strips, reference(features, bins), equal_nan=True)
    images, channels, height, width = shape
    at = 0
    for count in bins:
        rows = features.reshape(images, channels, count, height // count * width)
        found = rows.max(-1).indices + height // count * width * torch.arange(count)
        assert torch.equal(positions[..., at : at + count].long(), found)
        at += count


@pytest.mark.parametrize("layout", [torch.clone, channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(layout: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    features = layout(torch.randn(40, 50, 16, 11).to(dtype))
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        results.append(differentiated(features, (1, 2, 4, 8, 16), True))
    for other in results[1:]:
        assert all(torch.equal(one, result) for one, result in zip(results[0], other, strict=True))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", [16, 11])
@pytest.mark.parametrize("layout", [torch.clone, channels_last])
def test_gradients_too_large_for_the_caches_are_the_same(
    isa: str, width: int, layout: Callable[[Tensor], Tensor]
) -> None:
    _C.force_isa(isa)
    images = 2**24 // (64 * 16 * width * 4) + 1  # a little above the 16 MB from which they are written past the caches
    features = layout(torch.randn(1, 64, 16, width)).expand(images, -1, -1, -1)
    _, positions = FORWARD.overload(features, (1, 4), False, True)
    upstream = torch.randn(1, 64, 5).expand(images, -1, -1)
    last = layout is channels_last
    large = BACKWARD.overload(upstream, positions, 16, width, (1, 4), last)
    small = BACKWARD.overload(upstream[:1], positions[:1], 16, width, (1, 4), last)
    assert torch.equal(large, small.expand_as(large))


def test_half_precision_is_rounded_once() -> None:
    features = torch.randn(2, 5, 16, 11).bfloat16()
    rounded, widened = (FORWARD.overload(one, (1, 2, 4), False, False)[0] for one in (features, features.float()))
    assert torch.equal(rounded, widened.bfloat16())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(3, 16, 11)}, "features must have four dimensions"),
        ({"features": torch.zeros(1, 3, 16, 11, dtype=torch.long)}, "the dtype must be float32"),
        ({"bins": []}, "there must be one bin or more"),
        ({"bins": [0]}, "each bin must divide the height"),
        ({"bins": [3]}, "each bin must divide the height"),
        ({"features": torch.zeros(1, 3, 0, 11)}, "maps must have from 1 to 2147483647 pixels"),
    ],
)
def test_what_would_be_read_out_of_bounds_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {"features": torch.zeros(1, 3, 16, 11), "bins": [1, 2], **change}
    with pytest.raises(RuntimeError, match=message):
        FORWARD.overload(arguments["features"], arguments["bins"], False, True)


def test_positions_out_of_the_map_are_refused() -> None:
    upstream = torch.ones(1, 3, 3)
    for position in (-1, 16 * 11):
        positions = torch.zeros(1, 3, 3, dtype=torch.int32)
        positions[0, 2, 1] = position
        with pytest.raises(RuntimeError, match="a position lies outside of its map"):
            BACKWARD.overload(upstream, positions, 16, 11, [1, 2], False)
    with pytest.raises(RuntimeError, match="another shape or dtype than the bins say"):
        BACKWARD.overload(upstream, torch.zeros(1, 3, 3), 16, 11, [1, 2], False)
    with pytest.raises(RuntimeError, match="another shape or dtype than the bins say"):
        BACKWARD.overload(upstream, positions, 16, 11, [1, 2, 4], False)
