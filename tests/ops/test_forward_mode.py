"""Forward-mode derivatives of the ops whose kernels have none: left to the reference, never dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from sgela_fast.ops.batched_lstm import batched_lstm
from sgela_fast.ops.gated_temporal_pooling import gated_temporal_pooling
from sgela_fast.ops.horizontal_pyramid_pooling import horizontal_pyramid_pooling
from sgela_fast.ops.locality_attention import locality_attention
from sgela_fast.reference.batched_lstm import LSTMLayer
from sgela_fast.reference.gated_temporal_pooling import GateWeights

Op = Callable[[Tensor, Any], Tensor]


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def attention() -> tuple[Op, Tensor]:
    key = draw(2, 5, 3)
    return lambda query, backend: locality_attention(query, key, sigma=1.5, backend=backend).context, draw(2, 4, 3)


def lstm() -> tuple[Op, Tensor]:
    # Frozen: nothing but the tangent wants a derivative.
    weights = [LSTMLayer(draw(2, 12, 4), draw(2, 12, 3), draw(2, 12))]
    return lambda input, backend: batched_lstm(input, weights, backend=backend).output, draw(2, 3, 4, 4)


def pyramid() -> tuple[Op, Tensor]:
    return lambda maps, backend: horizontal_pyramid_pooling(maps, (1, 2), backend=backend), draw(2, 3, 4, 3)


def temporal() -> tuple[Op, Tensor]:
    gate = GateWeights(draw(2, 2, 4, 3), draw(2, 2), draw(2, 4, 2, 1), draw(2, 4))
    return lambda frames, backend: gated_temporal_pooling(frames, [gate], windows=(3,), backend=backend), draw(
        2, 3, 5, 4
    )


@pytest.mark.parametrize("case", [attention, lstm, pyramid, temporal])
def test_dual_tensors_are_left_to_the_reference(case: Callable[[], tuple[Op, Tensor]]) -> None:
    op, primal = case()
    tangent = torch.randn_like(primal)

    def derivative(backend: str) -> Tensor:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(op(forward_ad.make_dual(primal, tangent), backend)).tangent

    assert torch.equal(derivative("auto"), derivative("reference"))
    step = 1e-6
    numerical = (op(primal + step * tangent, "reference") - op(primal - step * tangent, "reference")) / (2 * step)
    torch.testing.assert_close(derivative("auto"), numerical, rtol=1e-5, atol=1e-7)
    with pytest.raises(RuntimeError, match=r"forward-mode derivatives .* do not reach it, or use backend='reference'"):
        derivative("fused")
