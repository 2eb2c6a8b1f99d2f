"""On what, with what and in which mode a run was made."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sgela_fast._version import __version__

_HERE = Path(__file__).resolve()
# The repository that this file is run from; None for an installed package, whatever repository that may lie in.
REPOSITORY = _HERE.parents[2] if (_HERE.parents[2] / "pyproject.toml").exists() else None
LIBRARIES = ("triton", "onnxruntime", "openvino", "onnx")
# Instruction sets that change which kernels run.
ISA_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CPUINFO = Path("/proc/cpuinfo")


def set_up(device: str, precision: str, threads: int) -> None:
    """Fix what the figures depend on: threads, the cores they run on, and the arithmetic of float32 products.

    Args:
        device: ``cpu`` or ``cuda``.
        precision: ``ieee``, or ``tf32`` on CUDA.
        threads: of the CPU. Where the CPU computes, the process is pinned to as many cores, the last that it may use;
            where a GPU computes, compilers may use them all.
    """
    torch.set_num_threads(threads)
    if device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    if device == "cuda":
        torch.backends.cuda.matmul.fp32_precision = precision
        torch.backends.cudnn.rnn.fp32_precision = precision  # type: ignore[attr-defined]
        torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]


def describe(device: str, precision: str) -> dict[str, Any]:
    """The environment as it stands in every results file."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_model(),
        "precision": precision,
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "kernel_isa": _kernel_isa(),
        "cores": os.cpu_count(),
        "pinned_to": _pinned_to(),
        "threads": torch.get_num_threads(),
        "governor": _GOVERNOR.read_text().strip() if _GOVERNOR.exists() else None,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sgela_fast": __version__,
        **{name: _version(name) for name in LIBRARIES},
        "cuda": torch.version.cuda if device == "cuda" else None,
        **_commit(),
    }


def machine_name(device: str) -> str:
    """A short name of the device for file names, such as ``amd_epyc`` or ``nvidia_h200``."""
    name = torch.cuda.get_device_name() if device == "cuda" else cpu_model()
    words = re.sub(r"\(.*?\)|@.*|\b(CPU|Processor|with)\b", " ", name)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def cpu_model() -> str:
    """The processor's name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Those of :data:`ISA_FLAGS` that the processor has."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [flag for flag in ISA_FLAGS if flag in flags]


def _pinned_to() -> list[int] | None:
    """The cores, if there is one for each thread and no more."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores if len(cores) == torch.get_num_threads() else None


def _cpuinfo(field: str) -> str:
    if not _CPUINFO.exists():
        return ""
    found = re.search(rf"^{field}\s*:\s*(.*)$", _CPUINFO.read_text(), re.MULTILINE)
    return found[1].strip() if found else ""


def _kernel_isa() -> str | None:
    """The instruction set that this package's own CPU kernels use; ``None`` if they were not built."""
    try:
        return str(importlib.import_module("sgela_fast._C").isa())
    except ImportError:
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any]:
    commit = _git("rev-parse", "HEAD")
    # Results are written by the runs themselves: they do not make the source another one.
    changes = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    if REPOSITORY is None:
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
