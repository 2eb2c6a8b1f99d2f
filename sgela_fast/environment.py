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
from typing import Any, NamedTuple, get_args

import torch

from sgela_fast import ops
from sgela_fast._version import __version__
from sgela_fast.errors import ConfigError
from sgela_fast.models.backend import choose_backend
from sgela_fast.models.config import Precision
from sgela_fast.ops import _library

OPTIONAL = {
    "triton": ("kernels on CUDA devices", "triton"),
    "tensorboard": ("training curves and attention heat maps", "train"),
    "sklearn": ("ROC areas of `evaluate`", "eval"),
    "scipy": ("confidence intervals of `evaluate`", "eval"),
    "matplotlib": ("plots of `evaluate`", "eval"),
    "jinja2": ("the page of `report`", "report"),
    "faiss": ("approximate indexes of `index`", "search"),
    "onnxscript": ("ONNX files of `export`", "export"),
    "PIL": ("silhouettes from images", "silhouettes"),
    "ray": ("`encode --engine ray`", "ray"),
}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "jinja2": "Jinja2", "faiss": "faiss-cpu", "PIL": "pillow"}
# Written by the build beside this file.
REPORT = Path(__file__).with_name("_build_report.json")


class Entry(NamedTuple):
    """One line of ``sgela-fast info``."""

    name: str
    value: str
    remark: str


def describe() -> list[Entry]:
    """Versions, devices, compiled kernels, backends and optional libraries, each with a remark where one is due."""
    cuda = torch.cuda.is_available()
    return [
        Entry("sgela_fast", __version__, ""),
        Entry("Python", platform.python_version(), platform.platform()),
        Entry("torch", torch.__version__, f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"),
        Entry("CPU features", torch.backends.cpu.get_cpu_capability(), ""),
        Entry("CUDA device", torch.cuda.get_device_name() if cuda else "none", "" if cuda else _why_no_cuda()),
        *extension(),
        *backends(),
        *precisions(),
        *fused_ops(),
        *(_optional(name, *purpose) for name, purpose in OPTIONAL.items()),
    ]


def backends() -> list[Entry]:
    """What ``backend="auto"`` makes of the model on each device that is there, and why."""
    entries = []
    for device in _devices():
        try:
            choice = choose_backend("auto", device)
        except ConfigError as error:
            entries.append(Entry(f"backend on {device}", "none", str(error)))
        else:
            entries.append(Entry(f"backend on {device}", choice.name, choice.reason))
    return entries


def precisions() -> list[Entry]:
    """Which precisions the model has on each device that is there, and why not the others."""
    entries = []
    for device in _devices():
        offered, reasons = [], []
        for precision in get_args(Precision):
            try:
                choose_backend("auto", device, precision)
            except ConfigError as error:
                reasons.append(str(error))
            else:
                offered.append(f"{precision} (encoding alone)" if precision == "int8" else precision)
        entries.append(Entry(f"precisions on {device}", ", ".join(offered), "; ".join(reasons)))
    return entries


def _devices() -> tuple[str, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


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
        used = Entry("instruction set", "none", str(error))
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
    try:
        version = metadata.version(DISTRIBUTIONS.get(name, name))
    except metadata.PackageNotFoundError:  # of another distribution, such as faiss-gpu
        version = "there"
    return Entry(name, version, purpose)


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this torch is a CPU build"
    return f"torch was built for CUDA {torch.version.cuda} but sees no device"
