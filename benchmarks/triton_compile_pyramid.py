"""The compilations of the Triton kernels of horizontal_pyramid_pooling, without a GPU.

    TRITON_INTERPRET=0 python -m benchmarks.triton_compile_pyramid [--archs 80 90] [--json]

prints what the compiler made of each: registers of a thread, bytes spilled, shared memory, widest accesses. How it is
measured stands in ``triton_compiled.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgela_fast.benchmarks import triton_compiled as compiled
from sgela_fast.kernels import horizontal_pyramid_pooling as kernels
from sgela_fast.kernels.launch import Launch

GAIT = kernels.Problem(128, 128, 16, 11, (1, 2, 4, 8, 16), torch.float32)
# As many blocks as are combined in registers, from bins that do not nest.
MANY = kernels.Problem(8, 64, 60, 44, (3, 4, 5), torch.float32)


class Case(NamedTuple):
    """One compilation, of either pass; forward with the positions of the maxima or without."""

    passes: str
    problem: kernels.Problem
    channels_last: bool
    strips_first: bool
    positions: bool
    arch: int


def cases(archs: tuple[int, ...] = compiled.ARCHS) -> Iterator[Case]:
    """Both passes, layouts and orders; many blocks, bfloat16, float64 and no positions, where they cost most."""
    for arch in archs:
        for passes, channels_last in product(("forward", "backward"), (False, True)):
            yield Case(passes, GAIT, channels_last, channels_last, True, arch)
        yield Case("forward", MANY, False, False, True, arch)
        yield Case("forward", GAIT._replace(dtype=torch.bfloat16), True, False, False, arch)
        yield Case("backward", GAIT._replace(dtype=torch.bfloat16), False, True, True, arch)
        yield Case("forward", GAIT._replace(dtype=torch.float64), True, True, True, arch)


def launch_of(case: Case) -> Launch:
    """The launch that compiles to the case, of tensors without memory."""
    problem = case.problem
    images, channels, height, width = problem[:4]
    count = sum(problem.bins)

    def maps() -> Tensor:
        features = torch.empty(images, channels, height, width, dtype=problem.dtype, device="meta")
        return features.contiguous(memory_format=torch.channels_last) if case.channels_last else features

    def strips(dtype: torch.dtype) -> Tensor:
        if case.strips_first:
            return torch.empty(count, images, channels, dtype=dtype, device="meta").permute(1, 2, 0)
        return torch.empty(images, channels, count, dtype=dtype, device="meta")

    positions = strips(torch.int32) if case.positions else None
    if case.passes == "forward":
        results = strips(problem.dtype)
        return kernels.plan_forward(problem, maps(), results, positions, channels_last=case.channels_last)[0]
    assert positions is not None
    return kernels.plan_backward(problem, strips(problem.dtype), positions, maps())


def compile_case(case: Case) -> dict[str, Any]:
    """What the compiler made of a case."""
    return {
        "kernel": case.passes,
        "dtype": str(case.problem.dtype).removeprefix("torch."),
        "blocks": case.problem.blocks,
        "channels_last": case.channels_last,
        "positions": case.positions,
        "arch": case.arch,
        **compiled.measures_of(launch_of(case), case.arch),
    }


def main() -> None:
    """Compile and print."""
    arguments = compiled.argument_parser(__doc__).parse_args()
    for case in cases(tuple(arguments.archs)):
        compiled.print_row(compile_case(case), arguments.json)


if __name__ == "__main__":
    main()
