"""Compile every configuration of locality_attention's Triton kernels, without a GPU, and report what came of it.

    python -m benchmarks.triton_compile_report [--archs 80 90] [--processes 2] [--output benchmarks/results] [--cached]

writes ``triton_compile_report.json`` and ``.md``: registers of a thread, bytes spilled to local memory, bytes of shared
memory, widest load and store, matrix instructions, seconds to compile. How it is measured stands in
``triton_compiled.py``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from sgela_fast.benchmarks import triton_compiled as compiled
from sgela_fast.kernels import locality_attention_launch as launches
from sgela_fast.kernels import locality_attention_tuning as tuning
from sgela_fast.kernels.launch import Launch
from sgela_fast.kernels.locality_attention_tuning import Configuration


class Case(NamedTuple):
    """One compilation: a configuration with a dtype for an architecture."""

    configuration: Configuration
    dtype: torch.dtype
    arch: int


def cases(archs: Iterable[int] = compiled.ARCHS) -> Iterator[Case]:
    """Every configuration, float32 or bfloat16 as its arithmetic says, for every architecture."""
    for arch, configuration in product(archs, tuning.all_configurations()):
        yield Case(configuration, torch.bfloat16 if configuration.arithmetic == "half" else torch.float32, arch)


def launch_of(case: Case) -> Launch:
    """The launch that compiles to the case: tensors without memory, and every option that costs registers."""
    configuration, tiles = case.configuration, case.configuration.tiles
    rows = isinstance(tiles, tuning.RowsTiles)
    keys = tiles.keys if isinstance(tiles, tuning.RowsTiles) else 256
    queries = 6 if rows else 256
    width = configuration.width

    def tensor(*shape: int, dtype: torch.dtype = case.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def exact(*shape: int) -> Tensor:
        return tensor(*shape, dtype=torch.float32)

    batch = (4, 1024)
    query, key = tensor(*batch, queries, width), tensor(*batch, keys, width)
    value = tensor(*batch, keys, width) if configuration.separate_values else None
    centers, padding = exact(*batch, queries), tensor(*batch, keys, dtype=torch.bool)
    problem = launches.Problem(query, key, value, centers, padding, 0, 0, 3.0, None, 1.0, launches.LAS, False)
    loss, statistic = exact(*batch), exact(*batch, queries)
    gradients = launches.Gradients(query, loss, query, statistic, statistic)
    match configuration.kernel:
        case "rows_forward":
            return launches.plan_rows_forward(problem, tiles, query, loss, statistic, statistic)  # type: ignore[arg-type]
        case "rows_backward":
            return launches.plan_rows_backward(problem, gradients, tiles, query, key, key, statistic)  # type: ignore[arg-type]
    precision: Any = None if configuration.arithmetic == "half" else configuration.arithmetic
    if configuration.kernel == "tiles_forward":
        return launches.plan_tiles_forward(problem, precision, query, None, statistic, statistic)
    outputs = (statistic, query, key, key, statistic)
    side = 1 if configuration.kernel == "tiles_backward_query" else 2
    return launches.plan_tiles_backward(problem, gradients, precision, *outputs)[side]


def compile_case(case: Case) -> dict[str, Any]:
    """One row of the report."""
    configuration = case.configuration
    return {
        "kernel": configuration.kernel,
        "dtype": str(case.dtype).removeprefix("torch."),
        "precision": "" if configuration.arithmetic == "half" else configuration.arithmetic,
        "values": "separate" if configuration.separate_values else "keys",
        "tiles": configuration.tiles._asdict(),
        "arch": case.arch,
        **compiled.measures_of(launch_of(case), case.arch),
    }


def report(chosen: Sequence[Case], processes: int) -> list[dict[str, Any]]:
    """Compile the cases, in processes of their own."""
    if processes <= 1:
        return [compile_case(case) for case in chosen]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(compile_case, chosen, chunksize=4))


def as_markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The report as lines of Markdown."""
    return [
        f"# Triton kernels, compiled ahead of time (triton {triton.__version__}, torch {torch.__version__})",
        "",
        "Made by `python -m benchmarks.triton_compile_report`; no GPU is involved. Registers are of a thread, spilled",
        "and shared are bytes, loads and stores the widest of the kernel in bits.",
        "",
        *compiled.table_of(rows, ("kernel", "dtype", "precision", "values", "tiles", "arch")),
    ]


def main() -> None:
    """Compile, and write both files of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, nargs="+", default=list(compiled.ARCHS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--cached", action="store_true", help="take from Triton's cache, at the cost of the seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        if not arguments.cached:
            os.environ["TRITON_CACHE_DIR"] = fresh
        rows = report(list(cases(arguments.archs)), arguments.processes)
    compiled.write_report(arguments.output, "triton_compile_report", rows, as_markdown(rows))
    worst = max(rows, key=lambda row: row["spilled"])
    registers = max(row["registers"] for row in rows)
    print(f"{len(rows)} compiled; most registers {registers}, most spilled {worst['spilled']} B")


if __name__ == "__main__":
    main()
