"""The compilations of the Triton kernels of batched_lstm: every configuration that can be chosen, without a GPU.

    TRITON_INTERPRET=0 python -m benchmarks.triton_compile_lstm [--archs 80 90] [--json]

prints what the compiler made of each: registers of a thread, bytes spilled, shared memory, matrix instructions, widest
accesses. How it is measured stands in ``triton_compiled.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from sgela_fast.benchmarks import triton_compiled as compiled
from sgela_fast.kernels import batched_lstm_launch as launches
from sgela_fast.kernels.batched_lstm_tuning import HOPPER, Configuration, all_configurations
from sgela_fast.kernels.launch import Launch


class Sizes(NamedTuple):
    """Of a problem. Of these a compilation depends on I and K: whether they are 1, and whether multiples of 16."""

    groups: int
    batch: int
    steps: int
    inputs: int
    hidden: int
    layers: int


ENCODER = Sizes(3, 128, 6, 20, 256, 2)
ODD = Sizes(2, 70, 3, 3, 33, 3)
ONES = Sizes(1, 1, 1, 1, 1, 1)


class Case(NamedTuple):
    """One compilation; with every option that costs registers, or with none."""

    configuration: Configuration
    sizes: Sizes = ENCODER
    options: bool = True


class Spill(NamedTuple):
    """Bytes of local memory that a configuration may take although the others take none."""

    bytes: int
    reason: str


# By kernel, arithmetic, whether there are options, windows and units of a program.
SPILLS: Mapping[tuple[str, str, bool, int, int], Spill] = {
    ("forward", "half", True, 128, 64): Spill(
        64,
        "none without options; lengths and an initial state are one address too many beside four accumulators, which "
        "take 128 of 255 registers. Smaller tiles read more from L2",
    ),
}


def cases(archs: tuple[int, ...] = compiled.ARCHS) -> Iterator[Case]:
    """Every configuration for every architecture; the largest tiles also without options, and sizes of 1."""
    for arch in archs:
        for configuration in all_configurations(arch):
            yield Case(configuration, ENCODER if configuration.aligned else ODD)
            if configuration.side == "forward":
                yield Case(configuration, options=False)
            if configuration.arithmetic == "half" and not configuration.aligned and arch == HOPPER:
                yield Case(configuration, ONES, options=False)


def launch_of(case: Case) -> Launch:
    """The launch that compiles to the case, of tensors without memory."""
    configuration, sizes = case.configuration, case.sizes
    arithmetic = configuration.arithmetic
    dtype = torch.bfloat16 if arithmetic == "half" else torch.float32

    def tensor(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def exact(*shape: int) -> Tensor:
        return tensor(*shape, dtype=torch.float32)

    groups, batch, steps, inputs, hidden, layers = sizes
    weights = []
    for width in (inputs, *[hidden] * (layers - 1)):
        weights += [tensor(groups, 4 * hidden, width), tensor(groups, 4 * hidden, hidden), tensor(groups, 4 * hidden)]
    states, sequence = (layers, groups, batch, hidden), (layers, groups, batch, steps)
    h0, c0 = (tensor(*states), exact(*states)) if case.options else (None, None)
    lengths = tensor(batch, dtype=torch.int64) if case.options else None
    x, output = tensor(groups, batch, steps, inputs), tensor(groups, batch, steps, hidden)
    precision: Any = None if arithmetic == "half" else arithmetic
    problem = launches.Problem(x, launches.stack_weights(weights), layers, h0, c0, lengths, precision)
    tape = None if configuration.side == "forward" else exact(*sequence, launches.TAPE_ROWS, hidden)
    with patch.object(launches, "choose_tiles", lambda *_: configuration.tiles):
        if configuration.side == "backward":
            assert tape is not None
            last = tensor(*states) if case.options else None
            gradients = launches.Gradients(tape, output, last, last, tensor(*sequence, 4 * hidden), exact(*states))
            return next(launches.plan_backward(launches.arranged(problem), gradients))
        lower = tensor(max(layers - 1, 1), groups, batch, launches.LOWER_STEPS, hidden)
        written = launches.States(output, tensor(*states), exact(*states), lower, tape)
        return next(launches.plan_forward(problem, written))


def compile_case(case: Case) -> dict[str, Any]:
    """What the compiler made of a case."""
    configuration = case.configuration
    return {
        "kernel": configuration.side,
        "arithmetic": configuration.arithmetic,
        "arch": configuration.capability,
        "inputs": case.sizes.inputs,
        "hidden": case.sizes.hidden,
        "options": case.options,
        "tiles": configuration.tiles._asdict(),
        **compiled.measures_of(launch_of(case), configuration.capability),
    }


def beyond(row: Mapping[str, Any]) -> list[str]:
    """What a row takes more of than it may: registers, spilled, shared."""
    tiles = row["tiles"]
    allowed = SPILLS.get((row["kernel"], row["arithmetic"], row["options"], tiles["block_m"], tiles["block_h"]))
    return compiled.beyond(row, 0 if allowed is None else allowed.bytes)


def main() -> None:
    """Compile and print."""
    arguments = compiled.argument_parser(__doc__).parse_args()
    for case in cases(tuple(arguments.archs)):
        row = compile_case(case)
        compiled.print_row(row, arguments.json, beyond=beyond(row))


if __name__ == "__main__":
    main()
