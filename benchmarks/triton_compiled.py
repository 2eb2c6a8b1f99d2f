"""What Triton's compiler makes of a launch, without a GPU: the facts in the reports of every op's kernels.

Registers, spills and shared memory are facts of the compiled code; speed is not, and nothing here is a measurement on a
device.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sgela_fast.kernels.launch import Launch

ARCHS = (80, 90)
# Shared memory that one program may ask for.
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}
REGISTER_LIMIT = 255
MEASURES = ("registers", "spilled", "shared", "load_bits", "store_bits", "matrix", "seconds")
_POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.uint8: "*u8"}
_POINTERS |= {torch.int64: "*i64", torch.int32: "*i32", torch.float64: "*fp64"}


def measures_of(launch: Launch, arch: int) -> dict[str, Any]:
    """Compile a launch for ``sm_<arch>``.

    Returns:
        By the names of :data:`MEASURES`: registers of a thread; bytes of local memory that it takes and of shared
        memory that a program takes; bits of the widest load and store; ``wgmma``, ``mma`` or no matrix instruction;
        seconds of compiling, near 0 where the compiler's cache has it.
    """
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, "enable_fp_fusion": True}
    start = time.perf_counter()
    compiled = triton.compile(_source_of(launch), target=GPUTarget("cuda", arch, 32), options=options)
    seconds = time.perf_counter() - start
    usage, code = _resources(compiled.asm["cubin"]), compiled.asm["ptx"]
    return {
        "registers": usage["REG"],
        "spilled": usage["STACK"] + usage["LOCAL"],
        "shared": compiled.metadata.shared,
        "load_bits": max(_widest(code, "ld"), 128 if "cp.async.cg" in code else 0),
        "store_bits": _widest(code, "st"),
        "matrix": "wgmma" if "wgmma.mma_async" in code else "mma" if "mma.sync" in code else "",
        "seconds": round(seconds, 2),
    }


def beyond(row: Mapping[str, Any], spilled: int = 0) -> list[str]:
    """What a row takes more of than it may: registers, shared memory, and local memory if not ``spilled`` bytes."""
    limits = {"registers": REGISTER_LIMIT, "spilled": spilled, "shared": SHARED_LIMIT[row["arch"]]}
    return [name for name, limit in limits.items() if row[name] > limit]


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of a report, with what all of them take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, nargs="+", default=list(ARCHS))
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def print_row(row: Mapping[str, Any], as_json: bool, **further: Any) -> None:
    """Print a row on a line of its own; ``further`` facts not as JSON."""
    facts = " ".join(f"{name} {fact}" for name, fact in {**row, **further}.items())
    print(json.dumps(row) if as_json else facts, flush=True)


def table_of(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Lines of Markdown: the rows' ``columns`` and all measures."""
    names = (*columns, *MEASURES)
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        tiles = ", ".join(f"{name} {int(size)}" for name, size in row["tiles"].items())
        lines.append("| " + " | ".join(tiles if name == "tiles" else str(row[name]) for name in names) + " |")
    return lines


def write_report(folder: Path, name: str, rows: list[dict[str, Any]], markdown: list[str]) -> None:
    """Write rows as ``NAME.json`` and ``NAME.md`` under ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"triton": triton.__version__, "torch": torch.__version__, "rows": rows}
    (folder / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
    (folder / f"{name}.md").write_text("\n".join(markdown) + "\n")


def _source_of(launch: Launch) -> ASTSource:
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


def _resources(cubin: bytes) -> dict[str, int]:
    """Registers (REG) and local memory (STACK, LOCAL) that the binary declares."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", shown)}


def _widest(code: str, instruction: str) -> int:
    """Bits of the widest global access in PTX that starts with ``instruction``."""
    found = re.findall(rf"\b{instruction}\.global[\w.:]*?(?:\.v(\d))?\.[bf](\d+)\b", code)
    return max((int(count or 1) * int(bits) for count, bits in found), default=0)
