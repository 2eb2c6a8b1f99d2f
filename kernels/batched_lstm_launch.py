"""From the arguments of `batched_lstm` to the launches of its phases: grids, arguments, tiles. Launches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from sgela_fast.kernels.batched_lstm_backward import phase_backward
from sgela_fast.kernels.batched_lstm_forward import phase_forward
from sgela_fast.kernels.batched_lstm_tuning import BLOCK_I, HOPPER, Arithmetic, Side, Tiles, choose_tiles
from sgela_fast.kernels.launch import INTERPRETED, Launch, Precision, default_precision

TAPE_ROWS = 6  # i, f, g, o after sigmoid and tanh, c, h
LOWER_STEPS = 2  # steps of h that layers below the top one keep: the last, and the one being written


class Weights(NamedTuple):
    """Weights of the lowest layer, and those of all others stacked; without others the lowest layer's again."""

    ih: Tensor  # (G, 4K, I)
    hh: Tensor  # (G, 4K, K)
    bias: Tensor  # (G, 4K)
    upper_ih: Tensor  # (L - 1, G, 4K, K)
    upper_hh: Tensor  # (L - 1, G, 4K, K)
    upper_bias: Tensor  # (L - 1, G, 4K)


class Problem(NamedTuple):
    """What forward and backward share."""

    input: Tensor  # (G, B, T, I)
    weights: Weights
    layers: int
    h0: Tensor | None  # (L, G, B, K), contiguous, storage dtype
    c0: Tensor | None  # (L, G, B, K), contiguous, float32
    lengths: Tensor | None  # (B,) or (G, B)
    precision: Precision | None

    @property
    def groups(self) -> int:
        """G."""
        return self.input.shape[0]

    @property
    def batch(self) -> int:
        """B."""
        return self.input.shape[1]

    @property
    def steps(self) -> int:
        """T."""
        return self.input.shape[2]

    @property
    def hidden(self) -> int:
        """K."""
        return self.weights.hh.shape[-1]

    @property
    def arithmetic(self) -> Arithmetic:
        """How products are computed."""
        return (self.precision or default_precision()) if self.input.dtype == torch.float32 else "half"

    @property
    def phases(self) -> int:
        """Launches of one direction: T + L - 1."""
        return self.steps + self.layers - 1

    def tiles(self, side: Side) -> Tiles:
        """Tiles of the phases of one direction."""
        capability = capability_of(self.input.device)
        return choose_tiles(side, self.arithmetic, self.groups, self.batch, self.hidden, capability)

    def arguments(self, tiles: Tiles) -> dict[str, Any]:
        """The arguments that both kernels have in common, but for the phase."""
        lengths = self.lengths
        return {
            "p_weight_hh": self.weights.hh,
            "p_upper_hh": self.weights.upper_hh,
            "p_upper_ih": self.weights.upper_ih,
            "p_c0": self.c0,
            "p_lengths": lengths,
            "groups": self.groups,
            "batch": self.batch,
            "steps": self.steps,
            "layers": self.layers,
            "hidden": self.hidden,
            "length_group": lengths.stride(0) if lengths is not None and lengths.dim() == 2 else 0,
            "length_row": 0 if lengths is None else lengths.stride(-1),
            "PRECISION": "ieee" if self.arithmetic == "half" else self.arithmetic,
            "EXACT": self.arithmetic != "half",
            "UPCAST": INTERPRETED,
            "BLOCK_M": tiles.block_m,
            "BLOCK_H": tiles.block_h,
            "BLOCK_D": tiles.block_d,
        }

    def programs(self, tiles: Tiles, layers: int) -> int:
        """Programs of a phase with so many layers at work."""
        return layers * self.groups * triton.cdiv(self.batch, tiles.block_m) * triton.cdiv(self.hidden, tiles.block_h)


class States(NamedTuple):
    """What the forward writes."""

    output: Tensor  # (G, B, T, K)
    h_n: Tensor  # (L, G, B, K)
    cells: Tensor  # (L, G, B, K) float32
    lower: Tensor  # (L - 1, G, B, 2, K); the output without lower layers
    tape: Tensor | None  # (L, G, B, T, 6, K) float32


class Gradients(NamedTuple):
    """What the backward reads and writes beside the problem."""

    tape: Tensor  # (L, G, B, T, 6, K) float32
    grad_output: Tensor | None  # (G, B, T, K), any strides
    grad_h_n: Tensor | None  # (L, G, B, K), contiguous
    grad_c_n: Tensor | None  # (L, G, B, K), contiguous
    grad_gates: Tensor  # (L, G, B, T, 4K), storage dtype
    grad_cells: Tensor  # (L, G, B, K) float32


def stack_weights(weights: list[Tensor]) -> Weights:
    """The op's weights, three a layer, as the kernels take them: with more than two layers the upper ones are copied.

    Args:
        weights: per layer ``weight_ih (G, 4K, I)`` or ``(G, 4K, K)``, ``weight_hh (G, 4K, K)``, ``bias (G, 4K)``.
    """
    lowest = [tensor.contiguous() for tensor in weights[:3]]
    kinds = [weights[kind + 3 :: 3] for kind in range(3)]
    if not kinds[0]:
        return Weights(*lowest, *lowest)
    upper = [kind[0].contiguous()[None] if len(kind) == 1 else torch.stack(kind) for kind in kinds]
    return Weights(*lowest, *upper)


def arranged(problem: Problem) -> Problem:
    """The problem with weights as the backward reads them best.

    Matrix units take 16-bit operands in either order, but float32 ones only with the summed dimension contiguous. For
    these the matrices are copied to ``(..., K, 4K)`` in memory, and seen as before.
    """
    if problem.arithmetic not in ("tf32", "tf32x3"):
        return problem
    weights = problem.weights
    copies = {name: getattr(weights, name).mT.contiguous().mT for name in ("hh", "upper_ih", "upper_hh")}
    return problem._replace(weights=weights._replace(**copies))


def plan_forward(problem: Problem, states: States) -> Iterator[Launch]:
    """The launches of the forward, phase by phase."""
    tiles = problem.tiles("forward" if states.tape is None else "taped")
    weights, x, hidden, top = problem.weights, problem.input, problem.hidden, problem.layers - 1
    arguments = problem.arguments(tiles) | {
        "p_input": x,
        "p_weight_ih": weights.ih,
        "p_bias": weights.bias,
        "p_upper_bias": weights.upper_bias,
        "p_h0": problem.h0,
        "p_lower": states.lower,
        "p_output": states.output,
        "p_h_n": states.h_n,
        "p_cells": states.cells,
        "p_tape": states.tape,
        "features": x.shape[3],
        "input_gate": hidden * x.shape[3],
        "hidden_gate": hidden * hidden,
        "input_group": x.stride(0),
        "input_row": x.stride(1),
        "input_step": x.stride(2),
        "lower_row": LOWER_STEPS * hidden,
        "output_row": problem.steps * hidden,
        "BLOCK_I": BLOCK_I,
    }
    for phase in range(problem.phases):
        highest, lowest = min(top, phase), max(0, phase - problem.steps + 1)
        programs = problem.programs(tiles, highest - lowest + 1)
        here = {**arguments, "phase": phase, "top_layer": highest}
        yield Launch(phase_forward, programs, here, tiles.num_warps, tiles.num_stages)


def plan_backward(problem: Problem, gradients: Gradients) -> Iterator[Launch]:
    """The launches of the backward, phase by phase from the end; large products are not among them."""
    tiles = problem.tiles("backward")
    hidden, top = problem.hidden, problem.layers - 1
    grad_output = gradients.grad_output
    strides = (0, 0, 0, 0) if grad_output is None else grad_output.stride()
    arguments = problem.arguments(tiles) | {
        "p_tape": gradients.tape,
        "p_grad_output": grad_output,
        "p_grad_h_n": gradients.grad_h_n,
        "p_grad_c_n": gradients.grad_c_n,
        "p_grad_gates": gradients.grad_gates,
        "p_grad_cells": gradients.grad_cells,
        "weight_gate": problem.weights.hh.stride(1),
        "weight_unit": problem.weights.hh.stride(2),
        "gates_row": problem.steps * 4 * hidden,
        "gates_step": 4 * hidden,
        "tape_row": problem.steps * TAPE_ROWS * hidden,
        "tape_step": TAPE_ROWS * hidden,
        **dict(zip(("output_group", "output_row", "output_step", "output_unit"), strides, strict=True)),
    }
    for phase in range(problem.phases):
        highest, lowest = min(top, problem.phases - 1 - phase), max(0, top - phase)
        programs = problem.programs(tiles, highest - lowest + 1)
        here = {**arguments, "phase": phase, "top_layer": highest}
        yield Launch(phase_backward, programs, here, tiles.num_warps, tiles.num_stages)


def capability_of(device: torch.device) -> int:
    """Compute capability of a device, times ten; without a device the largest that tiles are chosen for."""
    if device.type != "cuda":
        return HOPPER
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
