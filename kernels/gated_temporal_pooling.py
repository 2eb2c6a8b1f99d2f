"""Launchers of `gated_temporal_pooling`'s Triton kernels: two launches forward, four backward, for one or two gates.

Tiles are one choice for all devices, not tuned: no GPU has run them yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from sgela_fast.kernels import gated_temporal_pooling_backward as backward_kernels
from sgela_fast.kernels import gated_temporal_pooling_forward as forward_kernels
from sgela_fast.kernels.launch import INTERPRETED as INTERPRETED
from sgela_fast.kernels.launch import Launch, default_precision

MOST_GATES = 2
_WARPS, _STAGES = 8, 2
_BLOCKS = {"BLOCK_M": 64, "BLOCK_T": 32, "BLOCK_C": 64, "BLOCK_H": 32}
_SMALLEST = 16  # what the matrix units take
_IEEE_DEPTH = 16  # without matrix units the factors of a product lie in registers


class Problem(NamedTuple):
    """What all launches share: the op's arguments."""

    features: Tensor  # (S, N, T, C), unit stride last
    weights: list[Tensor]  # four a gate, contiguous
    lengths: Tensor | None  # (N,)
    windows: list[int]
    negative_slope: float

    @property
    def gates(self) -> int:
        """One or two."""
        return len(self.windows)

    @property
    def hidden(self) -> list[int]:
        """Hidden channels of each gate."""
        return [weight.shape[1] for weight in self.weights[::4]]

    def of_gates(self, name: str, values: list[Any]) -> dict[str, Any]:
        """An argument for each gate; where there is one gate, it is given twice."""
        return {f"{name}_{gate}": values[gate if gate < len(values) else 0] for gate in range(MOST_GATES)}

    def shared(self, second: bool) -> dict[str, Any]:
        """All that kernels take of the problem itself, with the taps of the first or the second convolutions."""
        strips, count, frames, channels = self.features.shape
        taps = [weight.shape[3] for weight in self.given(2 * second)]
        return {
            "p_features": self.features,
            "p_lengths": self.lengths,
            **{"strips": strips, "count": count, "frames": frames, "channels": channels},
            **dict(zip(("stride_strip", "stride_sequence", "stride_frame"), self.features.stride()[:3], strict=True)),
            **{"slope": self.negative_slope, "gates": self.gates, "GATES": self.gates, "PRECISION": self.precision()},
            **self.of_gates("hidden", self.hidden),
            **self.of_gates("taps", taps),
            **self.of_gates("window", self.windows),
        }

    def blocks(self, *names: str, depth: str = "") -> dict[str, int]:
        """Block sizes: powers of two, no larger than what there is, but for the smallest; ``depth`` is summed over."""
        _, count, frames, channels = self.features.shape
        extents = {"BLOCK_M": count * frames, "BLOCK_T": frames, "BLOCK_C": channels, "BLOCK_H": max(self.hidden)}
        most = _BLOCKS | ({depth: _IEEE_DEPTH} if self.precision() == "ieee" else {})
        return {name: max(_SMALLEST, min(most[name], triton.next_power_of_2(extents[name]))) for name in names}

    def precision(self) -> str:
        """Of the products: half types are exact in TF32, and what they are multiplied with is rounded to it."""
        return default_precision() if self.features.dtype == torch.float32 else "tf32"

    def given(self, first: int) -> list[Tensor]:
        """One kind of weight of all gates."""
        return self.weights[first::4]


class Saved(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    hidden: Tensor  # (S, N, T, H of all gates) float32
    chosen: Tensor  # (S, N, C) int32
    gates: Tensor  # (gates, S, N, C) float32


class Gradients(NamedTuple):
    """What the backward pass writes."""

    features: Tensor
    weights: list[Tensor]
    hidden: Tensor  # as the hidden channels
    logits: Tensor  # (gates, S, N, C) float32
    tops: Tensor  # (gates, S, N, C) int32


def _launch(
    kernel: Any, programs: int, problem: Problem, second: bool, blocks: dict[str, int], own: dict[str, Any]
) -> Launch:
    """A launch with the kernel's ``own`` arguments and what it takes of those that all share."""
    arguments = {**problem.shared(second), **blocks, **own}
    return Launch(kernel, programs, {name: arguments[name] for name in kernel.arg_names}, _WARPS, _STAGES)


def plan_forward(problem: Problem, output: Tensor, saved: Saved) -> Iterator[Launch]:
    """The two launches."""
    strips, count, frames, channels = problem.features.shape
    blocks = problem.blocks("BLOCK_M", "BLOCK_C", "BLOCK_H", depth="BLOCK_C")
    tiles = triton.cdiv(count * frames, blocks["BLOCK_M"]) * triton.cdiv(max(problem.hidden), blocks["BLOCK_H"])
    hiding = {
        **problem.of_gates("p_weight", problem.given(0)),
        **problem.of_gates("p_bias", problem.given(1)),
        "p_hidden": saved.hidden,
    }
    yield _launch(forward_kernels.hide_frames, strips * problem.gates * tiles, problem, False, blocks, hiding)
    blocks = problem.blocks("BLOCK_T", "BLOCK_C", "BLOCK_H", depth="BLOCK_H")
    programs = strips * count * triton.cdiv(channels, blocks["BLOCK_C"])
    pooling = {
        "p_hidden": saved.hidden,
        **problem.of_gates("p_weight", problem.given(2)),
        **problem.of_gates("p_bias", problem.given(3)),
        **{"p_output": output, "p_chosen": saved.chosen, "p_gates": saved.gates},
    }
    yield _launch(forward_kernels.pool_frames, programs, problem, True, blocks, pooling)


def plan_backward(problem: Problem, grad_output: Tensor, saved: Saved, gradients: Gradients) -> Iterator[Launch]:
    """The four launches."""
    strips, count, frames, channels = problem.features.shape
    made = {
        "p_grad_output": grad_output,
        **{"p_hidden": saved.hidden, "p_chosen": saved.chosen, "p_gates": saved.gates},
        **{"p_grad_hidden": gradients.hidden, "p_grad_logits": gradients.logits, "p_tops": gradients.tops},
        "p_grad_features": gradients.features,
    }
    blocks = problem.blocks("BLOCK_T", "BLOCK_C", "BLOCK_H", depth="BLOCK_C")
    parts = triton.cdiv(max(problem.hidden), blocks["BLOCK_H"])
    programs = strips * count * problem.gates * parts * triton.cdiv(frames, blocks["BLOCK_T"])
    weights = problem.of_gates("p_weight", problem.given(2))
    yield _launch(backward_kernels.grad_hidden, programs, problem, True, blocks, made | weights)
    blocks = problem.blocks("BLOCK_M", "BLOCK_C", "BLOCK_H", depth="BLOCK_H")
    columns = triton.cdiv(channels, blocks["BLOCK_C"])
    programs = strips * triton.cdiv(count * frames, blocks["BLOCK_M"]) * columns
    weights = problem.of_gates("p_weight", problem.given(0))
    yield _launch(backward_kernels.grad_features, programs, problem, False, blocks, made | weights)
    for second, kernel, blocks in (
        (False, backward_kernels.grad_conv1, problem.blocks("BLOCK_M", "BLOCK_C", "BLOCK_H", depth="BLOCK_M")),
        (True, backward_kernels.grad_conv2, problem.blocks("BLOCK_C", "BLOCK_H")),
    ):
        taps = max(weight.shape[3] for weight in problem.given(2 * second))
        programs = strips * problem.gates * taps * triton.cdiv(max(problem.hidden), blocks["BLOCK_H"]) * columns
        written = {
            **problem.of_gates("p_grad_weight", gradients.weights[2 * second :: 4]),
            **problem.of_gates("p_grad_bias", gradients.weights[2 * second + 1 :: 4]),
        }
        yield _launch(kernel, programs, problem, second, blocks, made | written)


def _problem(
    features: Tensor, weights: list[Tensor], lengths: Tensor | None, windows: list[int], negative_slope: float
) -> Problem:
    rows = features if features.stride(3) == 1 or features.shape[3] == 1 else features.contiguous()
    return Problem(rows, [weight.contiguous() for weight in weights], lengths, list(windows), negative_slope)


def _empty_saved(problem: Problem) -> Saved:
    features = problem.features
    strips, count, frames, channels = features.shape
    return Saved(
        features.new_empty((strips, count, frames, sum(problem.hidden)), dtype=torch.float32),
        features.new_empty((strips, count, channels), dtype=torch.int32),
        features.new_empty((problem.gates, strips, count, channels), dtype=torch.float32),
    )


def forward(
    features: Tensor,
    weights: list[Tensor],
    lengths: Tensor | None,
    windows: list[int],
    negative_slope: float,
    maximum: bool,
    save_hidden: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The forward op with its arguments, all on one device; ``maximum`` must be set."""
    assert maximum
    problem = _problem(features, weights, lengths, windows, negative_slope)
    strips, count, _, channels = features.shape
    output = features.new_empty((strips, count, channels))
    saved = _empty_saved(problem)
    if output.numel() > 0:
        for launch in plan_forward(problem, output, saved):
            launch.run()
    kept = saved.hidden if save_hidden else saved.hidden.new_empty(0)
    return output, kept, saved.chosen, saved.gates


def backward(
    grad_output: Tensor,
    features: Tensor,
    weights: list[Tensor],
    lengths: Tensor | None,
    hidden: Tensor,
    chosen: Tensor,
    gates: Tensor,
    windows: list[int],
    negative_slope: float,
    maximum: bool,
) -> tuple[Tensor, list[Tensor]]:
    """The backward op with its arguments, all on one device; ``maximum`` must be set."""
    assert maximum
    problem = _problem(features, weights, lengths, windows, negative_slope)
    gradients = Gradients(
        features.new_empty(features.shape),
        [weight.new_empty(weight.shape) for weight in weights],
        features.new_empty((*features.shape[:3], sum(problem.hidden)), dtype=torch.float32),
        torch.empty_like(gates),
        torch.empty_like(gates, dtype=torch.int32),
    )
    if grad_output.numel() == 0:
        return gradients.features, [weight.zero_() for weight in gradients.weights]
    saved = Saved(hidden, chosen, gates)
    if hidden.numel() == 0:  # not kept
        saved = saved._replace(hidden=_empty_saved(problem).hidden)
        next(plan_forward(problem, grad_output, saved)).run()
    for launch in plan_backward(problem, grad_output.contiguous(), saved, gradients):
        launch.run()
    return gradients.features, gradients.weights
