"""The compilations of the Triton kernels of gated_temporal_pooling at SelfGait's sizes, without a GPU.

    TRITON_INTERPRET=0 python -m benchmarks.triton_compile_pooling [--archs 80 90] [--all] [--json]

prints what the compiler made of each: registers of a thread, bytes spilled, shared memory, matrix instructions. How it
is measured stands in ``triton_compiled.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sgela_fast.benchmarks import triton_compiled as compiled
from sgela_fast.kernels import gated_temporal_pooling as pooling
from sgela_fast.kernels.launch import Launch

# Each architecture and each dtype once; with --all every pair.
PAIRS = ((80, torch.bfloat16), (90, torch.float32))
ALL_PAIRS = (*PAIRS, (80, torch.float32), (90, torch.bfloat16))
# Strips, sequences, frames, channels, hidden channels.
STRIPS, COUNT, FRAMES, CHANNELS, HIDDEN = 31, 128, 30, 128, 32


def launches(dtype: torch.dtype) -> Iterator[Launch]:
    """All launches of both passes, of tensors without memory, with sequences of different lengths."""

    def tensor(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=of, device="meta")

    weights = []
    for size in (1, 3):
        weights += [tensor(STRIPS, HIDDEN, CHANNELS, 3), tensor(STRIPS, HIDDEN)]
        weights += [tensor(STRIPS, CHANNELS, HIDDEN, size), tensor(STRIPS, CHANNELS)]
    features, lengths = tensor(STRIPS, COUNT, FRAMES, CHANNELS), tensor(COUNT, of=torch.int64)
    problem = pooling.Problem(features, weights, lengths, [3, 5], 0.01)
    hidden = tensor(STRIPS, COUNT, FRAMES, 2 * HIDDEN, of=torch.float32)
    chosen, gates = (
        tensor(STRIPS, COUNT, CHANNELS, of=torch.int32),
        tensor(2, STRIPS, COUNT, CHANNELS, of=torch.float32),
    )
    saved, output = pooling.Saved(hidden, chosen, gates), tensor(STRIPS, COUNT, CHANNELS)
    yield from pooling.plan_forward(problem, output, saved)
    tops = tensor(2, STRIPS, COUNT, CHANNELS, of=torch.int32)
    gradients = pooling.Gradients(features, weights, hidden, gates, tops)
    yield from pooling.plan_backward(problem, output, saved, gradients)


def compile_launch(launch: Launch, dtype: torch.dtype, arch: int) -> dict[str, Any]:
    """What the compiler made of a launch."""
    named = {"kernel": launch.kernel.fn.__name__, "dtype": str(dtype).removeprefix("torch."), "arch": arch}
    return {**named, **compiled.measures_of(launch, arch)}


def main() -> None:
    """Compile and print."""
    parser = compiled.argument_parser(__doc__)
    parser.add_argument("--all", action="store_true", help="every dtype for every architecture")
    arguments = parser.parse_args()
    for arch, dtype in ALL_PAIRS if arguments.all else PAIRS:
        for launch in launches(dtype) if arch in arguments.archs else ():
            compiled.print_row(compile_launch(launch, dtype, arch), arguments.json)


if __name__ == "__main__":
    main()
