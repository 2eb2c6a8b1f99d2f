"""Many gradients in one call of torch.autograd.grad: equal to a loop, or refused with the mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sgela_fast.nn import BatchedLSTM, GatedTemporalPooling, HorizontalPyramidPooling
from sgela_fast.ops.locality_attention import locality_attention


class Attention(nn.Module):
    backend: Any = "auto"

    def forward(self, rows: Tensor) -> Tensor:
        return locality_attention(rows, rows, sigma=1.5, backend=self.backend).context


def batched_and_looped(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x.requires_grad_()
    result = module(x)
    result = result if isinstance(result, Tensor) else result[0]
    gradients = torch.randn(3, *result.shape)
    (batched,) = torch.autograd.grad(result, x, gradients, retain_graph=True, is_grads_batched=True)
    looped = [torch.autograd.grad(result, x, gradient, retain_graph=True)[0] for gradient in gradients]
    return batched, torch.stack(looped)


@pytest.mark.parametrize(
    ("module", "shape"), [(Attention(), (2, 4, 3)), (HorizontalPyramidPooling((1, 2)), (2, 3, 4, 3))]
)
def test_they_equal_a_loop(module: nn.Module, shape: tuple[int, ...]) -> None:
    torch.testing.assert_close(*batched_and_looped(module, torch.randn(shape)))


@pytest.mark.parametrize(
    ("module", "shape"), [(BatchedLSTM(2, 3, 4), (2, 3, 4, 3)), (GatedTemporalPooling(2, 4), (2, 3, 5, 4))]
)
def test_ops_that_cannot_say_so_and_the_reference_can(module: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="is_grads_batched needs backend='reference', or a loop"):
        batched_and_looped(module, torch.randn(shape))
    module.backend = "reference"
    torch.testing.assert_close(*batched_and_looped(module, torch.randn(shape)))
