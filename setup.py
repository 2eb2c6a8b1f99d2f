"""Build hooks for the optional C++/CUDA extension ``sgela_fast._C``. All metadata stands in pyproject.toml.

What was built or not, and why, is written to ``sgela_fast/_build_report.json`` and shown by ``sgela-fast info``. The
environment variables are described in docs/installation.md. Nothing here uses the network or looks for a GPU.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCES = Path("csrc")
TORCH_FLOOR = (2, 11)
# One build serves every torch from the floor on: the ops use nothing newer of its stable ABI.
STABLE_ABI = f"0x{TORCH_FLOOR[0]:02x}{TORCH_FLOOR[1]:02x}000000000000"
OPTIMISED = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
SANITIZE = os.environ.get("SGELA_SANITIZE") == "1"
SANITIZED = [*SANITIZERS, "-O1", "-g", "-fno-omit-frame-pointer"]
CXX_FLAGS = ["-std=c++20", "-fvisibility=hidden", "-Wall", "-Wextra"]
# torch's build hides the operators of __half and __nv_bfloat16 from CUDA files; ours use them.
HIDDEN = ("HALF_OPERATORS", "HALF_CONVERSIONS", "BFLOAT16_CONVERSIONS", "HALF2_OPERATORS")
NVCC_FLAGS = ["-std=c++20", "-O3", "-Xcompiler=-Wall,-fvisibility=hidden", *(f"-U__CUDA_NO_{it}__" for it in HIDDEN)]
# Files with these endings get flags of their own; all others are compiled for the baseline and TORCH_CUDA_ARCH_LIST.
SPECIAL = {
    "_avx2.cpp": ["-mavx2", "-mfma", "-mf16c"],
    "_avx512.cpp": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"],
    "_sm90a.cu": ["-gencode=arch=compute_90a,code=sm_90a"],
}
# Modules of benchmarks/ that look at the repository itself and stay out of wheels.
DEVELOPMENT = {
    "archive_at_scale",
    "cuda_compile_report",
    "engine_overhead",
    "golden_comparison",
    "golden_report",
    "precision_accuracy",
    "selfgait_low_label",
    "triton_compile_decoder",
    "triton_compile_lstm",
    "triton_compile_pooling",
    "triton_compile_pyramid",
    "triton_compile_report",
    "triton_compiled",
    "walker_difficulty",
}
INSTALL_TOOLS = "install torch, ninja and pybind11 first, then use pip install --no-build-isolation"


class Found(NamedTuple):
    """What there is to build with; ``None`` or empty where there is nothing."""

    torch: str | None  # version
    torch_cuda: str | None  # release that torch was built for
    tools: frozenset[str]  # of ninja and pybind11
    compiler: str  # the command that CXX names
    compiler_exists: bool
    nvcc: str | None  # release


class Plan(NamedTuple):
    """What will be built, and why."""

    extension: bool
    reason: str
    cuda: str | None
    cuda_reason: str
    required: bool = False


def plan_build(settings: Mapping[str, str], found: Found) -> Plan:
    """Decide from the environment variables and from what was found, and from nothing else.

    Raises:
        SystemExit: with one sentence, if a setting is unknown or something that is required cannot be built.
    """
    wanted, cuda_wanted = (settings.get(name, "auto") for name in ("SGELA_EXTENSION", "SGELA_CUDA"))
    for name, value in (("SGELA_EXTENSION", wanted), ("SGELA_CUDA", cuda_wanted)):
        if value not in ("auto", "1", "0"):
            raise SystemExit(f"sgela_fast: {name}={value!r} is unknown; give auto, 1 or 0")
    missing = "SGELA_EXTENSION=0 was set at build time" if wanted == "0" else _missing(found)
    no_cuda = "SGELA_CUDA=0 was set at build time" if cuda_wanted == "0" else _missing_for_cuda(found)
    required = wanted == "1" or cuda_wanted == "1"
    if required and missing:
        raise SystemExit(f"sgela_fast: the required extension cannot be built: {missing}")
    if cuda_wanted == "1" and no_cuda:
        raise SystemExit(f"sgela_fast: SGELA_CUDA=1, but {no_cuda}")
    return Plan(
        extension=missing is None,
        reason=missing or f"built with torch {found.torch}",
        cuda=None if missing or no_cuda else found.nvcc,
        cuda_reason=no_cuda or f"nvcc {found.nvcc}, torch for CUDA {found.torch_cuda}",
        required=required,
    )


def _missing(found: Found) -> str | None:
    if found.torch is None:
        return f"there is no torch at build time; {INSTALL_TOOLS}"
    if tuple(int(part) for part in re.findall(r"\d+", found.torch)[:2]) < TORCH_FLOOR:
        return f"torch {found.torch} is older than {'.'.join(map(str, TORCH_FLOOR))}; install a newer one"
    if absent := {"ninja", "pybind11"} - found.tools:
        return f"there is no {' and no '.join(sorted(absent))} at build time; {INSTALL_TOOLS}"
    if not found.compiler_exists:
        return f"the C++ compiler {found.compiler!r} is not there; install one, or name one in CXX"
    return None


def _missing_for_cuda(found: Found) -> str | None:
    if found.torch_cuda is None:
        return f"torch {found.torch} is not a CUDA build"
    if found.nvcc is None:
        return "nvcc is neither in CUDA_HOME nor on the PATH"
    if found.nvcc.split(".")[0] != found.torch_cuda.split(".")[0]:
        return f"nvcc {found.nvcc} does not fit a torch for CUDA {found.torch_cuda}"
    return None


def look_around() -> Found:
    """What this machine has, found without importing torch. Sets PATH and CUDA_HOME to where it was found."""
    version: dict[str, Any] = {}
    if (torch := importlib.util.find_spec("torch")) and torch.origin:
        version = runpy.run_path(str(Path(torch.origin).with_name("version.py")))
    if importlib.util.find_spec("ninja"):  # pip does not put the environment's own programs on the PATH
        import ninja

        os.environ["PATH"] = f"{ninja.BIN_DIR}{os.pathsep}{os.environ.get('PATH', '')}"
    tools = {"ninja"} if shutil.which("ninja") else set()
    tools |= {"pybind11"} if importlib.util.find_spec("pybind11") else set()
    compiler = os.environ.get("CXX") or "c++"
    there = shutil.which(shlex.split(compiler)[0]) is not None
    return Found(version.get("__version__"), version.get("cuda"), frozenset(tools), compiler, there, _nvcc_release())


def _nvcc_release() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which(f"{home}/bin/nvcc" if home else "nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        return None
    # nvcc may be a script that starts the real one elsewhere; only the real one knows where its headers are.
    settings = subprocess.run([nvcc, "--dryrun", "-c", "none.cu"], capture_output=True, text=True).stderr
    if top := re.search(r"TOP=(.+)", settings):
        os.environ["CUDA_HOME"] = str(Path(top[1].strip()).resolve())
    release = re.search(r"release (\d+\.\d+)", subprocess.check_output([nvcc, "--version"], text=True))
    return release and release[1]


def sources_of(plan: Plan, machine: str) -> dict[str, list[str]]:
    """Files to compile, by the ending that gives them flags of their own; without one under an empty string."""
    groups: dict[str, list[str]] = {"": [], **{ending: [] for ending in SPECIAL}}
    for path in sorted([*SOURCES.rglob("*.cpp"), *SOURCES.rglob("*.cu")]):
        ending = next((ending for ending in SPECIAL if path.name.endswith(ending)), "")
        for_cuda = path.suffix == ".cu" or path.stem.endswith("_cuda")
        if (plan.cuda or not for_cuda) and (machine == "x86_64" or "_avx" not in ending):
            groups[ending].append(str(path))
    return groups


def extension(plan: Plan, sources: list[str], sanitize: bool) -> Any:
    import pybind11
    import torch
    from torch.utils.cpp_extension import CppExtension, CUDAExtension, include_paths

    quiet = [part for path in include_paths() for part in ("-isystem", path)]  # no warnings from torch's headers
    cuda = [("SGELA_WITH_CUDA", f'"{plan.cuda}"'), ("USE_CUDA", None)] if plan.cuda else []
    return (CUDAExtension if plan.cuda else CppExtension)(
        "sgela_fast._C",
        sources,
        include_dirs=[str(SOURCES.resolve()), pybind11.get_include()],
        define_macros=[
            ("TORCH_TARGET_VERSION", STABLE_ABI),
            ("SGELA_BUILT_WITH_TORCH", f'"{torch.__version__}"'),
            *cuda,
        ],
        extra_compile_args={"cxx": [*CXX_FLAGS, *quiet, *(SANITIZED if sanitize else OPTIMISED)], "nvcc": NVCC_FLAGS},
        extra_link_args=SANITIZERS if sanitize else ["-Wl,-s"],
    )


def settle(package: Path, plan: Plan) -> None:
    """Leave the truth in the package's folder: the report, and no extension of an earlier build if none was built."""
    package.mkdir(parents=True, exist_ok=True)
    if not plan.extension:
        for stale in package.glob("_C.*.so"):
            stale.unlink()
    report = {"extension": plan.extension, "reason": plan.reason, "cuda": plan.cuda, "cuda_reason": plan.cuda_reason}
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (package / "_build_report.json").write_text(text + "\n", encoding="utf-8")


def warn(plan: Plan) -> None:
    print(f"\nWARNING: sgela_fast is built WITHOUT its compiled kernels: {plan.reason}\n", file=sys.stderr)


@contextlib.contextmanager
def heard(lines: list[str]) -> Iterator[None]:
    """Collect in ``lines`` what the block's child processes print, beside printing it."""
    reading, writing = os.pipe()
    saved = os.dup(1), os.dup(2)

    def pass_on() -> None:
        with open(reading, errors="replace") as pipe, open(saved[0], "w", closefd=False) as screen:  # noqa: PTH123
            for line in pipe:
                lines.append(line)
                print(line, end="", file=screen, flush=True)

    listener = threading.Thread(target=pass_on)
    listener.start()
    try:
        for number in (1, 2):
            os.dup2(writing, number)
        yield
    finally:
        sys.stdout.flush()
        for number, copy in enumerate(saved, start=1):
            os.dup2(copy, number)
        os.close(writing)
        listener.join()
        for copy in saved:
            os.close(copy)


def first_error(lines: list[str], error: BaseException) -> str:
    """The compiler's first error, or else the first line of the exception."""
    errors = (line for line in lines if re.search(r"\b(error|undefined reference)\b.*: ?", line))
    found = next(errors, str(error))
    return found.strip().partition("\n")[0].replace(f"{Path.cwd()}/", "")


def commands(plan: Plan, special: dict[str, list[str]]) -> dict[str, type]:
    """The two build commands that know of ``plan``."""
    base = build_ext
    if plan.extension:
        from torch.utils.cpp_extension import BuildExtension as base

    class BuildPython(build_py):
        def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
            found = super().find_package_modules(package, package_dir)
            # The sanitized copy of `make sanitize` is tested, so it holds what only development uses, too.
            if package != "sgela_fast.benchmarks" or SANITIZE:
                return found
            return [entry for entry in found if entry[1] not in DEVELOPMENT]

        def run(self) -> None:
            super().run()
            settle(Path("sgela_fast") if self.editable_mode else Path(self.build_lib, "sgela_fast"), plan)

    class BuildExtension(base):
        def run(self) -> None:
            if self.editable_mode:  # pip gives a temporary folder; a lasting one makes the next build incremental
                self.build_temp = f"build/temp.{self.plat_name}-{sys.implementation.cache_tag}"
            package = Path("sgela_fast") if self.inplace else Path(self.build_lib, "sgela_fast")
            printed: list[str] = []
            try:
                with heard(printed):
                    super().run()
            except Exception as error:
                way_out = "SGELA_CUDA=0" if plan.cuda else "SGELA_EXTENSION=0"
                failed = f"compiling failed: {first_error(printed, error)}; mend it, or set {way_out}"
                outcome = plan._replace(extension=False, reason=failed, cuda=None)
                settle(package, outcome)
                if plan.required:
                    raise SystemExit(f"sgela_fast: the required extension cannot be built: {failed}") from None
                self.extensions = []
                warn(outcome)
            else:
                settle(package, plan)

        def build_extension(self, ext: Any) -> None:
            for ending, sources in special.items():
                if sources:
                    flags = {language: [*given, *SPECIAL[ending]] for language, given in ext.extra_compile_args.items()}
                    ext.extra_objects += self.compiler.compile(
                        sources, self.build_temp, ext.define_macros, ext.include_dirs, extra_postargs=flags
                    )
            super().build_extension(ext)

    return {"build_py": BuildPython, "build_ext": BuildExtension}


def build_arguments() -> dict[str, Any]:
    plan = plan_build(os.environ, look_around())
    if not plan.extension:
        if os.environ.get("SGELA_EXTENSION") != "0":
            warn(plan)
        return {"cmdclass": commands(plan, {})}
    # Without this, torch would compile for the GPU that it sees.
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    sources = sources_of(plan, platform.machine())
    built = extension(plan, sources.pop(""), sanitize=SANITIZE)
    return {"ext_modules": [built], "cmdclass": commands(plan, sources)}


if __name__ == "__main__":
    setup(**build_arguments())
