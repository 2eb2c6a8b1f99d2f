"""The compilations of the Triton kernels of batched_lstm: every configuration that can be chosen, without a GPU.

    TRITON_INTERPRET=0 python -m benchmarks.triton_compile_lstm [--archs 80 90] [--json]

prints what the compiler made of each: registers of a thread, bytes spilled, shared memory, matrix instructions, widest
accesses. How it is measured stands in ``triton_compile_report.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from sgela_fast.benchmarks import triton_compile_report as report
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


def cases(archs: tuple[int, ...] = report.ARCHS) -> Iterator[Case]:
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
    launch = launch_of(case)
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, "enable_fp_fusion": True}
    start = time.perf_counter()
    target = GPUTarget("cuda", configuration.capability, 32)
    compiled = triton.compile(report.source_of(launch), target=target, options=options)
    seconds = time.perf_counter() - start
    usage, code = report.resources(compiled.asm["cubin"]), compiled.asm["ptx"]
    return {
        "kernel": configuration.side,
        "arithmetic": configuration.arithmetic,
        "arch": configuration.capability,
        "inputs": case.sizes.inputs,
        "hidden": case.sizes.hidden,
        "options": case.options,
        "tiles": configuration.tiles._asdict(),
        "registers": usage["REG"],
        "spilled": usage["STACK"] + usage["LOCAL"],
        "shared": compiled.metadata.shared,
        "load_bits": max(report.widest(code, "ld"), 128 if "cp.async.cg" in code else 0),
        "store_bits": report.widest(code, "st"),
        "matrix": "wgmma" if "wgmma.mma_async" in code else "mma" if "mma.sync" in code else "",
        "seconds": round(seconds, 2),
    }


def beyond(row: Mapping[str, Any]) -> list[str]:
    """What a row takes more of than it may: registers, spilled, shared."""
    tiles = row["tiles"]
    allowed = SPILLS.get((row["kernel"], row["arithmetic"], row["options"], tiles["block_m"], tiles["block_h"]))
    limits = {
        "registers": report.REGISTER_LIMIT,
        "spilled": 0 if allowed is None else allowed.bytes,
        "shared": report.SHARED_LIMIT[row["arch"]],
    }
    return [name for name, limit in limits.items() if row[name] > limit]


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, nargs="+", default=list(report.ARCHS))
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for case in cases(tuple(arguments.archs)):
        row = compile_case(case)
        if arguments.json:
            print(json.dumps(row), flush=True)
            continue
        sizes = " ".join(f"{name} {size}" for name, size in row["tiles"].items())
        facts = " ".join(f"{name} {value}" for name, value in row.items() if name != "tiles")
        print(f"{facts} | {sizes} | beyond: {beyond(row)}", flush=True)


if __name__ == "__main__":
    main()
