"""Compile the CUDA files for every GPU that is supported, and print what each kernel takes, as Markdown.

    python -m benchmarks.cuda_compile_report [FOLDER]

FOLDER is ``csrc`` unless said otherwise. No GPU is needed, only nvcc (``make check-cuda`` installs it where there is
none). Ends with status 1 if a kernel is beyond its budget or a file does not compile.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("-std=c++20", "-O3", "--expt-relaxed-constexpr", "-Xcompiler=-Wall,-Wextra", "-Werror=all-warnings")
GPUS = ("80", "90")
HOPPER_ALONE = "_sm90a.cu"  # files with this ending use instructions that only sm_90a has


class Budget(NamedTuple):
    """What a kernel may take: registers a thread, bytes of local memory a thread, bytes of shared memory a block."""

    registers: int = 255
    stack: int = 0
    spills: int = 0
    shared: int = 48 * 1024


# Kernels that may take more, by their name without namespace, template arguments and parameters.
EXCEPTIONS: dict[str, Budget] = {}


class Kernel(NamedTuple):
    """What ptxas says of one kernel on one GPU."""

    name: str
    gpu: str
    registers: int
    stack: int
    spills: int
    shared: int


class CompileError(Exception):
    """A file does not compile; the message is the compiler's."""


def find_nvcc() -> str | None:
    """The nvcc of CUDA_HOME, of the PATH, or of the folder that ``make check-cuda`` fills, in this order."""
    home = os.environ.get("CUDA_HOME")
    places = [f"{home}/bin/nvcc"] if home else ["nvcc", "/usr/local/cuda/bin/nvcc"]
    places.append(f"{sys.prefix}/cuda-toolkit/nvidia/cu13/bin/nvcc")
    return next((found for place in places if (found := shutil.which(place))), None)


def gpus_of(path: Path) -> tuple[str, ...]:
    """Compute capabilities that a file is compiled for."""
    return ("90a",) if path.name.endswith(HOPPER_ALONE) else GPUS


def compile_file(nvcc: str, path: Path, include: Path = ROOT / "csrc") -> list[Kernel]:
    """Compile one file for all its GPUs, host code included.

    Raises:
        CompileError: it does not compile, or not without a warning.
    """
    targets = [f"-gencode=arch=compute_{gpu},code=sm_{gpu}" for gpu in gpus_of(path)]
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, *FLAGS, *targets, "-Xptxas=-v", f"-I{include}", "-c", str(path), "-o", f"{folder}/object.o"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stderr.strip() or done.stdout.strip())
    return list(parse(done.stderr + done.stdout))


def parse(output: str) -> Iterator[Kernel]:
    """Read what ``ptxas -v`` printed. Spills of a function that was not inlined count for the kernel that calls it."""
    parts = re.split(r"Compiling entry function '([^']+)' for 'sm_(\w+)'", output)
    names = demangled(parts[1::3])
    for name, gpu, text in zip(names, parts[2::3], parts[3::3], strict=True):
        frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text)
        registers = re.search(r"Used (\d+) registers", text)
        shared = re.search(r"(\d+)(?:\+\d+)? bytes smem", text)
        if not frames or registers is None:
            raise ValueError(f"cannot read what ptxas says of {name}:{text}")
        yield Kernel(
            name=name,
            gpu=gpu,
            registers=int(registers[1]),
            stack=max(int(stack) for stack, _, _ in frames),
            spills=sum(int(stores) + int(loads) for _, stores, loads in frames),
            shared=int(shared[1]) if shared else 0,
        )


def demangled(names: Sequence[str]) -> list[str]:
    """Names as they stand in the source, without parameters; unchanged where there is no c++filt."""
    if not names or shutil.which("c++filt") is None:
        return list(names)
    lines = subprocess.run(["c++filt", "-p", *names], capture_output=True, text=True, check=True).stdout.splitlines()
    return [re.sub(r"^void ", "", line) for line in lines]


def beyond(kernel: Kernel, exceptions: Mapping[str, Budget] | None = None) -> list[str]:
    """The fields of :class:`Budget` in which a kernel takes more than it may."""
    own = re.sub(r"<.*", "", kernel.name).rpartition("::")[2]
    budget = (EXCEPTIONS if exceptions is None else exceptions).get(own, Budget())
    return [field for field in Budget._fields if getattr(kernel, field) > getattr(budget, field)]


def table(kernels: Iterable[tuple[Path, Kernel]]) -> str:
    """One row a kernel and GPU; figures beyond the budget are bold."""
    head = ["file", "kernel", "GPU", "registers", "stack B", "spills B", "shared B"]
    rows = [head, ["---"] * len(head)]
    for path, kernel in kernels:
        over = beyond(kernel)
        values = [(field, getattr(kernel, field)) for field in Budget._fields]
        figures = [f"**{value}**" if field in over else str(value) for field, value in values]
        rows.append([path.name, f"`{kernel.name}`", f"sm_{kernel.gpu}", *figures])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "csrc", help="folder of the CUDA files")
    folder = parser.parse_args(arguments).folder
    files = sorted(folder.rglob("*.cu"))
    if not files:
        print(f"no CUDA files in {folder.name}")
        return 0
    nvcc = find_nvcc()
    if nvcc is None:
        parser.error("nvcc is not here; `make check-cuda` installs it")
    kernels: list[tuple[Path, Kernel]] = []
    failed = 0
    for path in files:
        try:
            kernels += [(path, kernel) for kernel in compile_file(nvcc, path, folder)]
        except CompileError as error:
            print(f"{path.name} does not compile:\n{error}", file=sys.stderr)
            failed += 1
    print(table(kernels))
    over = sum(bool(beyond(kernel)) for _, kernel in kernels)
    print(f"\n{len(kernels)} kernels in {len(files)} files: {over} beyond their budget, {failed} files did not compile")
    return 1 if over or failed else 0


if __name__ == "__main__":
    sys.exit(main())
