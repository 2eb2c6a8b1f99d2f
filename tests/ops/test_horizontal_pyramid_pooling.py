"""What horizontal_pyramid_pooling computes, as claims, on the fused kernels."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.benchmarks.tolerances import deviation, relative_bound
from sgela_fast.ops import horizontal_pyramid_pooling as op
from sgela_fast.reference.horizontal_pyramid_pooling import horizontal_pyramid_pooling as reference

fused = functools.partial(op.horizontal_pyramid_pooling, backend="fused")
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def draw(*shape: int, device: str, dtype: torch.dtype = torch.float32, **options: Any) -> Tensor:
    return torch.randn(*shape, device=device, dtype=dtype, **options)


def close(result: Tensor, exact: Tensor, magnitude: float = 10.0) -> bool:
    return deviation(result.detach().cpu(), exact.detach().cpu()) <= relative_bound(result.dtype, magnitude)


def test_the_compiled_kernels_are_there() -> None:
    assert op.why_not_fused("cpu", torch.float32) is None
    assert op._use_fused(torch.zeros(1, 1, 1), "auto")


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("strips_first", [False, True])
def test_any_leading_dimensions_are_pooled_as_the_reference_does(
    device: str, leading: tuple[int, ...], strips_first: bool
) -> None:
    features = draw(*leading, 5, 12, 7, device=device)
    pooled = fused(features, (1, 3, 4), strips_first=strips_first)
    exact = reference(features.double(), (1, 3, 4), strips_first=strips_first)
    assert pooled.shape == ((8, *leading, 5) if strips_first else (*leading, 5, 8))
    assert pooled.is_contiguous()
    assert close(pooled, exact)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("strips_first", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_gradients_are_the_references(device: str, layout: Any, strips_first: bool, dtype: torch.dtype) -> None:
    features = draw(2, 7, 16, 11, device=device, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    exact_features = features.detach().double().requires_grad_()
    pooled, exact = fused(features, strips_first=strips_first), reference(exact_features, strips_first=strips_first)
    upstream = draw(*pooled.shape, device=device, dtype=dtype)
    gradient = torch.autograd.grad(pooled, features, upstream)[0]
    assert close(gradient, torch.autograd.grad(exact, exact_features, upstream.double())[0])
    assert gradient.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_is_that_of_finite_differences(layout: Any) -> None:
    features = draw(1, 2, 6, 5, device="cpu", dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    for strips_first in (False, True):
        assert torch.autograd.gradcheck(functools.partial(fused, bins=(1, 2, 3), strips_first=strips_first), features)


def test_a_map_of_one_value_gives_twice_that_value(device: str) -> None:
    assert torch.equal(fused(torch.full((2, 3, 16, 11), 0.75, device=device)).cpu(), torch.full((2, 3, 31), 1.5))


def test_a_strip_sees_its_rows_and_no_others(device: str) -> None:
    features = draw(2, 3, 16, 11, device=device)
    changed = features.clone()
    changed[:, :, 5] += 1
    differ = (fused(features) != fused(changed)).all(dim=0).all(dim=0).nonzero().flatten().tolist()
    # Row 5 lies in the whole, the upper half, the second quarter, the third eighth, and is itself the sixth sixteenth.
    assert differ == [0, 1, 4, 9, 20]
    assert torch.equal(fused(features)[..., 21:], fused(changed)[..., 21:])


def test_the_order_of_the_bins_is_that_of_the_result(device: str) -> None:
    features = draw(2, 3, 16, 11, device=device)
    one, other = fused(features, (1, 4, 2)), fused(features, (4, 2, 1))
    assert torch.equal(one, torch.cat([other[..., 6:], other[..., :6]], dim=-1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_of_several_maxima_takes_the_gradient(device: str, layout: Any) -> None:
    features = torch.zeros(1, 3, 4, 3, device=device)
    features[0, :, 1, 2] = features[0, :, 2, 0] = features[0, :, 3, 1] = 7
    features = features.contiguous(memory_format=layout).requires_grad_()
    gradient = torch.autograd.grad(fused(features, (1, 2)).sum(), features)[0].cpu()
    expected = torch.full((4, 3), 1 / 12 + 1 / 6)
    expected[1, 2] += 2  # of the whole map, and of its upper half
    expected[2, 0] += 1
    torch.testing.assert_close(gradient, expected.expand(1, 3, 4, 3))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_nan_is_the_value_of_its_strips_and_takes_their_gradient(device: str, layout: Any) -> None:
    features = draw(1, 9, 16, 11, device=device)
    features[0, 4, 6, 3] = features[0, 4, 6, 9] = torch.nan
    features = features.contiguous(memory_format=layout).requires_grad_()
    pooled = fused(features)
    assert pooled.isnan().nonzero().tolist() == [[0, 4, strip] for strip in (0, 1, 4, 10, 21)]
    gradient, exact = (torch.autograd.grad(result.sum(), features)[0].cpu() for result in (pooled, reference(features)))
    torch.testing.assert_close(gradient, exact)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (0, 0, 4, 4), (2, 0, 3, 4, 4)])
def test_nothing_gives_nothing(device: str, shape: tuple[int, ...]) -> None:
    features = draw(*shape, device=device, requires_grad=True)
    assert fused(features, (1, 2)).shape == (*shape[:-2], 3)
    pooled = fused(features, (1, 2), strips_first=True)
    assert pooled.shape == (3, *shape[:-2])
    assert torch.autograd.grad(pooled.sum(), features)[0].shape == shape


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (5, 1), (1, 64)])
def test_single_rows_and_columns_are_maps_too(device: str, height: int, width: int) -> None:
    features = draw(3, 2, height, width, device=device)
    assert close(fused(features, (1, height)), reference(features.double(), (1, height)))


def test_the_backward_pass_keeps_positions_and_not_the_map(device: str) -> None:
    features = draw(2, 3, 16, 11, device=device, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        fused(features)
    assert [(tensor.dtype, tensor.shape) for tensor in kept] == [(torch.int32, (2, 3, 31))]


def test_upstream_gradients_may_have_any_strides(device: str) -> None:
    features = draw(4, 5, 16, 11, device=device, requires_grad=True)
    for strips_first in (False, True):
        pooled = fused(features, strips_first=strips_first)
        for upstream in (
            torch.ones((), device=device).expand_as(pooled),
            draw(*pooled.shape[::-1], device=device).permute(2, 1, 0),
            draw(*pooled.shape, 2, device=device)[..., 0],
        ):
            gradient = torch.autograd.grad(pooled, features, upstream, retain_graph=True)[0]
            dense = torch.autograd.grad(pooled, features, upstream.contiguous(), retain_graph=True)[0]
            assert torch.equal(gradient, dense)
