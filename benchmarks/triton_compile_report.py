"""Compile every configuration of the Triton kernels ahead of time, without a GPU, and report what the compiler made.

    python -m benchmarks.triton_compile_report [--archs 80 90] [--processes 2] [--output benchmarks/results] [--cached]

writes ``triton_compile_report.json`` and ``.md``: registers of a thread, bytes spilled to local memory, bytes of shared
memory, widest load and store, matrix instructions, seconds to compile. Spills, registers and shared memory are facts of
the compiled code; speed is not, and nothing here is a measurement on a device.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sgela_fast.kernels import locality_attention_launch as launches
from sgela_fast.kernels import locality_attention_tuning as tuning
from sgela_fast.kernels.launch import Launch
from sgela_fast.kernels.locality_attention_tuning import Configuration

MIB = 1024**2
ARCHS = (80, 90)
# Shared memory that one program may ask for.
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}
REGISTER_LIMIT = 255
_POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.uint8: "*u8"}
_POINTERS |= {torch.int64: "*i64", torch.int32: "*i32", torch.float64: "*fp64"}
_COLUMNS = ("kernel", "dtype", "precision", "values", "tiles", "arch")
_MEASURES = ("registers", "spilled", "shared", "load_bits", "store_bits", "matrix", "seconds")


class Case(NamedTuple):
    """One compilation: a configuration with a dtype for an architecture."""

    configuration: Configuration
    dtype: torch.dtype
    arch: int


def cases(archs: Iterable[int] = ARCHS) -> Iterator[Case]:
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


def source_of(launch: Launch) -> ASTSource:
    """What the just-in-time compiler would make of the launch's arguments: types, constants, divisibility by 16."""
    types: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for place, parameter in enumerate(launch.kernel.params):
        argument = launch.arguments[parameter.name]
        special = not parameter.do_not_specialize
        if parameter.is_constexpr or argument is None or (special and type(argument) is int and argument == 1):
            types[parameter.name] = "constexpr"
            constants[parameter.name] = argument
            continue
        if isinstance(argument, Tensor):
            types[parameter.name] = _POINTERS[argument.dtype]
        else:
            types[parameter.name] = "fp32" if isinstance(argument, float) else "i32"
        if parameter.do_not_specialize_on_alignment:
            continue
        if isinstance(argument, Tensor) or (special and isinstance(argument, int) and argument % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    return ASTSource(launch.kernel, types, constants, attributes)


def compile_case(case: Case) -> dict[str, Any]:
    """One row of the report."""
    configuration = case.configuration
    launch = launch_of(case)
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, "enable_fp_fusion": True}
    start = time.perf_counter()
    compiled = triton.compile(source_of(launch), target=GPUTarget("cuda", case.arch, 32), options=options)
    seconds = time.perf_counter() - start
    usage, code = resources(compiled.asm["cubin"]), compiled.asm["ptx"]
    return {
        "kernel": configuration.kernel,
        "dtype": str(case.dtype).removeprefix("torch."),
        "precision": "" if configuration.arithmetic == "half" else configuration.arithmetic,
        "values": "separate" if configuration.separate_values else "keys",
        "tiles": configuration.tiles._asdict(),
        "arch": case.arch,
        "registers": usage["REG"],
        "spilled": usage["STACK"] + usage["LOCAL"],
        "shared": compiled.metadata.shared,
        "load_bits": max(widest(code, "ld"), 128 if "cp.async" in code else 0),
        "store_bits": widest(code, "st"),
        "matrix": "wgmma" if "wgmma.mma" in code else "mma" if "mma.sync" in code else "",
        "seconds": round(seconds, 2),
    }


def resources(cubin: bytes) -> dict[str, int]:
    """Registers (REG) and local memory (STACK, LOCAL) that the binary declares."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", shown)}


def widest(code: str, instruction: str) -> int:
    """Bits of the widest global access in PTX that starts with ``instruction``."""
    found = re.findall(rf"\b{instruction}\.global[\w.:]*?(?:\.v(\d))?\.[bf](\d+)\b", code)
    return max((int(count or 1) * int(bits) for count, bits in found), default=0)


def report(chosen: Sequence[Case], processes: int) -> list[dict[str, Any]]:
    """Compile the cases, in processes of their own."""
    if processes <= 1:
        return [compile_case(case) for case in chosen]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(compile_case, chosen, chunksize=4))


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The report as a table."""
    lines = [
        f"# Triton kernels, compiled ahead of time (triton {triton.__version__}, torch {torch.__version__})",
        "",
        "Made by `python -m benchmarks.triton_compile_report`; no GPU is involved. Registers are of a thread, spilled",
        "and shared are bytes, loads and stores the widest of the kernel in bits.",
        "",
        "| " + " | ".join((*_COLUMNS, *_MEASURES)) + " |",
        "|" + " --- |" * (len(_COLUMNS) + len(_MEASURES)),
    ]
    for row in rows:
        tiles = ", ".join(f"{name} {int(size)}" for name, size in row["tiles"].items())
        lines.append(
            "| " + " | ".join(str(row[name]) if name != "tiles" else tiles for name in (*_COLUMNS, *_MEASURES)) + " |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compile, and write both files of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, nargs="+", default=list(ARCHS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--cached", action="store_true", help="take from Triton's cache, at the cost of the seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        if not arguments.cached:
            os.environ["TRITON_CACHE_DIR"] = fresh
        rows = report(list(cases(arguments.archs)), arguments.processes)
    arguments.output.mkdir(parents=True, exist_ok=True)
    about = {"triton": triton.__version__, "torch": torch.__version__, "rows": rows}
    (arguments.output / "triton_compile_report.json").write_text(json.dumps(about, indent=1) + "\n")
    (arguments.output / "triton_compile_report.md").write_text(as_markdown(rows))
    worst = max(rows, key=lambda row: row["spilled"])
    registers = max(row["registers"] for row in rows)
    print(f"{len(rows)} compiled; most registers {registers}, most spilled {worst['spilled']} B")


if __name__ == "__main__":
    main()
