"""What this machine and installation offer."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pkgutil
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sgela_fast import ops
from sgela_fast._version import __version__
from sgela_fast.models.sgela import choose_backend
from sgela_fast.ops import _library

OPTIONAL = {
    "triton": ("kernels on CUDA devices", "triton"),
    "tensorboard": ("training curves and attention heat maps", "train"),
    "sklearn": ("ROC areas of `evaluate`", "eval"),
    "scipy": ("confidence intervals of `evaluate`", "eval"),
    "matplotlib": ("plots of `evaluate`", "eval"),
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
# Written by the build beside this file.
REPORT = Path(__file__).with_name("_build_report.json")


class Entry(NamedTuple):
    """One line of ``sgela-fast info``."""

    name: str
    value: str
    remark: str


def describe() -> list[Entry]:
    """Versions, devices, compiled kernels, backends and optional libraries, each with a remark where one is due."""
    backend = choose_backend("auto")
    cuda = torch.cuda.is_available()
    return [
        Entry("sgela_fast", __version__, ""),
        Entry("Python", platform.python_version(), platform.platform()),
        Entry("torch", torch.__version__, f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"),
        Entry("CPU features", torch.backends.cpu.get_cpu_capability(), ""),
        Entry("CUDA device", torch.cuda.get_device_name() if cuda else "none", "" if cuda else _why_no_cuda()),
        *extension(),
        Entry("backend", backend.name, backend.reason),
        *fused_ops(),
        *(_optional(name, *purpose) for name, purpose in OPTIONAL.items()),
    ]


def extension() -> list[Entry]:
    """The compiled extension: how it was built and which instruction set it uses, or why it is not there."""
    report = build_report()
    if _library.WHY_NO_EXTENSION is not None:
        if importlib.util.find_spec("sgela_fast._C") is not None:
            return [Entry("extension", "broken", f"built, but cannot be loaded: {_library.WHY_NO_EXTENSION}")]
        why = report.get("reason", "it was never built; see docs/installation.md")
        if report.get("extension"):
            why = "it was built, but for another Python, or its file was removed; install again"
        return [Entry("extension", "absent", why)]
    compiled = importlib.import_module("sgela_fast._C")
    info = compiled.build_info()
    cuda = f"CUDA {info['cuda']}" if info["cuda"] else f"no CUDA: {report.get('cuda_reason', 'not recorded')}"
    sanitized = ", with sanitizers (slow)" if info["sanitized"] else ""
    usable = f"of {', '.join(info['isas'])}"
    try:
        used = Entry("instruction set", compiled.isa(), f"{usable}; SGELA_FAST_ISA chooses another")
    except ValueError as error:
        used = Entry("instruction set", "none", f"SGELA_FAST_ISA: {error}")
    return [Entry("extension", "built", f"{info['compiler']}, torch {info['torch']}, {cuda}{sanitized}"), used]


def build_report() -> dict[str, Any]:
    """What the build wrote about itself; empty if there is no readable report."""
    try:
        report = json.loads(REPORT.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def fused_ops() -> list[Entry]:
    """For every op, what ``backend="auto"`` runs for float32 tensors on each device, and why not the kernels."""
    entries = []
    for module in pkgutil.iter_modules(ops.__path__):
        if module.name.startswith("_"):
            continue
        op = importlib.import_module(f"{ops.__name__}.{module.name}")
        if hasattr(op, "why_not_fused"):
            entries.append(_describe_op(module.name, op))
    return entries


def _describe_op(name: str, op: Any) -> Entry:
    choices, reasons = [], []
    for device in ("cpu", "cuda"):
        missing = op.why_not_fused(device, torch.float32)
        if missing is None and device not in getattr(op, "_PROVEN", (device,)):
            missing = "the kernels run only when asked for by backend='fused'"
        choices.append(f"{device} {'reference' if missing else 'fused'}")
        if missing:
            reasons.append(f"{device}: {missing}")
    return Entry(name, ", ".join(choices), "; ".join(reasons))


def _optional(name: str, purpose: str, extra: str) -> Entry:
    if importlib.util.find_spec(name) is None:
        return Entry(name, "absent", f"{purpose}; install sgela_fast[{extra}]")
    return Entry(name, metadata.version(DISTRIBUTIONS.get(name, name)), purpose)


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this torch is a CPU build"
    return f"torch was built for CUDA {torch.version.cuda} but sees no device"
