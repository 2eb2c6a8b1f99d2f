"""Horizontal pyramid pooling against loops over strips, and the gradient of its maxima."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sgela_fast.reference.horizontal_pyramid_pooling import horizontal_pyramid_pooling


def naive(features: Tensor, bins: tuple[int, ...]) -> Tensor:
    """One map ``(H, W)``, strip by strip."""
    values = []
    for count in bins:
        rows = features.shape[0] // count
        for strip in range(count):
            pixels = [float(pixel) for row in features[strip * rows : (strip + 1) * rows] for pixel in row]
            values.append(sum(pixels) / len(pixels) + max(pixels))
    return torch.tensor(values, dtype=features.dtype)


@pytest.mark.parametrize(("height", "width", "bins"), [(16, 11, (1, 2, 4, 8, 16)), (6, 1, (3, 1, 2)), (1, 5, (1,))])
def test_equals_loops_over_strips(height: int, width: int, bins: tuple[int, ...]) -> None:
    features = torch.randn(3, 4, height, width, dtype=torch.float64)
    pooled = horizontal_pyramid_pooling(features, bins)
    assert pooled.shape == (3, 4, sum(bins))
    for i in range(3):
        for channel in range(4):
            torch.testing.assert_close(pooled[i, channel], naive(features[i, channel], bins))


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_strips_first_is_the_same_in_another_order(leading: tuple[int, ...]) -> None:
    features = torch.randn(*leading, 4, 6, 5, dtype=torch.float64)
    pooled = horizontal_pyramid_pooling(features, (1, 3))
    first = horizontal_pyramid_pooling(features, (1, 3), strips_first=True)
    assert first.shape == (4, *leading, 4)
    assert first.is_contiguous()
    assert torch.equal(first, pooled.movedim(-1, 0))


def test_the_first_of_several_maxima_takes_the_gradient() -> None:
    features = torch.zeros(1, 4, 3, dtype=torch.float64)
    features[0, 1, 2] = features[0, 2, 0] = features[0, 3, 1] = 7
    features.requires_grad_()
    gradient = torch.autograd.grad(horizontal_pyramid_pooling(features, (1, 2)).sum(), features)[0][0]
    expected = torch.full((4, 3), 1 / 12 + 1 / 6, dtype=torch.float64)
    expected[1, 2] += 2  # of the whole map, and of its upper half
    expected[2, 0] += 1
    torch.testing.assert_close(gradient, expected)


def test_the_gradient_is_that_of_finite_differences() -> None:
    features = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: horizontal_pyramid_pooling(x, (1, 2, 3)), features)
