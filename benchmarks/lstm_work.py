"""What batched LSTMs and the attention decoder cannot do without: operations and bytes, and inputs of any number.

Inputs of more than :data:`DISTINCT` windows repeat the first ones. Nothing that is measured depends on values, and
the float64 answer of a large case then costs no more than that of :data:`DISTINCT` windows, though every window is
compared.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sgela_fast.benchmarks.harness.suite import Case, Cost

DISTINCT = 512
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
# Largest deviation relative to the largest entry. Full precision: the arithmetic's own errors through twelve layers and
# steps; reduced: weights (and for int8 states too) are rounded to 8 or 7 bits, and the errors add up over the steps.
TOLERANCE = {"float32": 2e-5, "bfloat16": 1e-2, "int8": 6e-2}
TF32_TOLERANCE = 2e-2
BATCHES = (1, 8, 32, 128, 512, 2048, 8192)
CUDA_BATCHES = (*BATCHES, 65536)


class Shape(NamedTuple):
    """G LSTMs of L layers and K hidden units that read T frames of I inputs."""

    groups: int
    inputs: int
    hidden: int
    layers: int
    frames: int


ENCODER = Shape(groups=3, inputs=20, hidden=256, layers=2, frames=6)
TINY = Shape(groups=2, inputs=5, hidden=24, layers=2, frames=3)


def distinct(batch: int) -> int:
    """How many of ``batch`` windows are drawn: all of few, else the first ones, which are repeated."""
    return batch if batch <= DISTINCT or batch % DISTINCT else DISTINCT


def repeated(tensor: Tensor, batch: int, dim: int) -> Tensor:
    """``tensor`` with its windows along ``dim`` repeated up to ``batch``."""
    times = [1] * tensor.ndim
    times[dim] = batch // tensor.shape[dim]
    return tensor.repeat(times) if times[dim] > 1 else tensor


def tolerance_of(precision: str, case: Case) -> float:
    """The bound for ``precision`` at ``case``."""
    if precision == "float32" and case.settings.get("precision") == "tf32":
        return TF32_TOLERANCE
    return TOLERANCE[precision]


def lstm_flop(shape: Shape, batch: int) -> float:
    """Products of the forward pass; the state before the first step is 0 and needs none."""
    groups, inputs, hidden, layers, frames = shape
    rows = 2.0 * 4 * hidden
    reading = inputs + (layers - 1) * hidden
    return groups * batch * rows * (frames * reading + (frames - 1) * layers * hidden)


def lstm_weights(shape: Shape) -> int:
    """Numbers in all weight matrices and biases."""
    groups, inputs, hidden, layers, _ = shape
    return groups * 4 * hidden * (inputs + (layers - 1) * hidden + layers * hidden + layers)


def lstm_cost(shape: Shape, batch: int, precision: str, *, backward: bool) -> Cost:
    """Forward reads input and weights and writes outputs and final states.

    Backward reads input, weights and the output's gradient and writes gradients of input and weights, with two products
    for each of the forward pass.
    """
    groups, inputs, hidden, layers, frames = shape
    given = 4.0 * groups * batch * frames * inputs
    written = 4.0 * groups * batch * hidden * (frames + 2 * layers)
    weights = float(WEIGHT_BYTES[precision] * lstm_weights(shape))
    forward = Cost(lstm_flop(shape, batch), given + written + weights)
    if not backward:
        return forward
    back = 2 * given + 4.0 * groups * batch * frames * hidden + 2 * weights
    return Cost(3 * forward.flop, forward.bytes + back)


def uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    """Drawn on the CPU in float32, so that every device and dtype starts from the same numbers."""
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
