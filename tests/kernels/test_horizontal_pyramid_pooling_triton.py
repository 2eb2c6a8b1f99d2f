"""The Triton kernels of `horizontal_pyramid_pooling` against the reference: interpreted, and on a GPU if one is there.

The interpreter runs programs one after another and says nothing about races; that the kernels compile for GPUs is seen
from what ``benchmarks/triton_compile_pyramid.py`` writes.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sgela_fast.benchmarks.tolerances import deviation, relative_bound
from sgela_fast.reference.horizontal_pyramid_pooling import horizontal_pyramid_pooling as reference
from tests.kernels.compiled import rows_of

triton = pytest.importorskip("triton")

from sgela_fast.kernels import horizontal_pyramid_pooling as kernels  # noqa: E402

pytestmark = pytest.mark.usefixtures("poisoned_outputs")
# Of the model; bins that do not nest, and leave out the blocks they have in common; more blocks than are combined in
# registers, in one bin and in two; a single pixel a map, a single row.
CASES = [
    ((1, 3, 16, 11), (1, 2, 4, 8, 16)),
    ((1, 3, 12, 7), (3, 4)),
    ((1, 2, 70, 3), (2, 70)),
    ((1, 2, 70, 1), (70,)),
    ((2, 3, 1, 1), (1,)),
    ((2, 1, 1, 70), (1,)),
]


def laid_out(features: Tensor, layout: str) -> Tensor:
    if layout == "channels last":
        return features.contiguous(memory_format=torch.channels_last)
    return features.mT.contiguous().mT if layout == "columns first" else features


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (torch.float32, "contiguous"),
        (torch.float32, "channels last"),
        (torch.float32, "columns first"),
        (torch.bfloat16, "contiguous"),
        (torch.float64, "channels last"),
    ],
)
@pytest.mark.parametrize(("shape", "bins"), CASES)
def test_values_and_gradients_are_those_of_the_reference(
    device: torch.device, dtype: torch.dtype, layout: str, shape: tuple[int, ...], bins: tuple[int, ...]
) -> None:
    features = laid_out(torch.randn(shape, device=device, dtype=torch.float64).to(dtype), layout)
    strips_first = layout == "channels last"
    strips, positions = kernels.forward(features, bins, strips_first, True)
    leaf = features.double().requires_grad_()
    exact = reference(leaf, bins)
    upstream = torch.randn_like(strips)
    gradient = kernels.backward(upstream, positions, *shape[-2:], bins, strips_first)
    exact_gradient = torch.autograd.grad(exact, leaf, upstream.double())[0]
    # The interpreter cuts off digits where a device rounds.
    room = 2 if device.type == "cpu" else 1
    assert deviation(strips, exact.detach()) <= room * relative_bound(dtype, (shape[-1] * shape[-2]) ** 0.5)
    assert deviation(gradient, exact_gradient) <= room * relative_bound(dtype, len(bins))
    assert torch.equal(kernels.forward(features, bins, strips_first, False)[0], strips)
    assert strips.permute(2, 0, 1).is_contiguous() if strips_first else strips.is_contiguous()
    assert gradient.permute(0, 2, 3, 1).is_contiguous() if strips_first else gradient.is_contiguous()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's numpy, about inf - inf
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize(("shape", "bins"), CASES[:3])
def test_ties_and_nan_have_the_references_positions(
    device: torch.device, layout: str, shape: tuple[int, ...], bins: tuple[int, ...]
) -> None:
    features = torch.randint(-2, 2, shape, device=device).float()
    for special in (torch.nan, torch.inf, -torch.inf):
        features[torch.rand(shape, device=device) < 0.02] = special
    features = laid_out(features, layout).requires_grad_()
    exact = reference(features, bins)
    strips, positions = kernels.forward(features.detach(), bins, False, True)
    torch.testing.assert_close(strips, exact.detach(), equal_nan=True)
    upstream = torch.randn_like(strips)
    gradient = kernels.backward(upstream, positions, *shape[-2:], bins, layout == "channels last")
    torch.testing.assert_close(gradient, torch.autograd.grad(exact, features, upstream)[0])


def test_nothing_launches_nothing(device: torch.device) -> None:
    strips, positions = kernels.forward(torch.empty(0, 3, 4, 4, device=device), (1, 2), True, True)
    assert strips.shape == positions.shape == (0, 3, 3)
    assert kernels.backward(strips, positions, 4, 4, (1, 2), False).shape == (0, 3, 4, 4)


@pytest.mark.slow
def test_every_kernel_compiles_for_both_architectures_within_its_budget() -> None:
    rows = rows_of("triton_compile_pyramid")
    assert {(row["kernel"], row["arch"]) for row in rows} == {
        (passes, arch) for passes in ("forward", "backward") for arch in (80, 90)
    }
    assert not [row for row in rows if row["spilled"] > 0 or row["registers"] > 255]
    assert max(row["shared"] for row in rows) <= 48 * 1024
