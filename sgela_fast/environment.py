"""What this machine and installation offer."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from typing import NamedTuple

import torch

from sgela_fast._version import __version__
from sgela_fast.models.sgela import choose_backend

OPTIONAL = {
    "tensorboard": ("training curves and attention heat maps", "train"),
    "sklearn": ("ROC areas of `evaluate`", "eval"),
    "scipy": ("confidence intervals of `evaluate`", "eval"),
    "matplotlib": ("plots of `evaluate`", "eval"),
}


class Entry(NamedTuple):
    """One line of ``sgela-fast info``."""

    name: str
    value: str
    remark: str


def describe() -> list[Entry]:
    """Versions, devices, backends and optional libraries, each with a remark where one is due."""
    backend = choose_backend("auto")
    cuda = torch.cuda.is_available()
    entries = [
        Entry("sgela_fast", __version__, ""),
        Entry("Python", platform.python_version(), platform.platform()),
        Entry("torch", torch.__version__, f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"),
        Entry("CPU features", torch.backends.cpu.get_cpu_capability(), ""),
        Entry("CUDA device", torch.cuda.get_device_name() if cuda else "none", "" if cuda else _why_no_cuda()),
        Entry("backend", backend.name, backend.reason),
    ]
    for name, (purpose, extra) in OPTIONAL.items():
        found = importlib.util.find_spec(name) is not None
        version = metadata.version({"sklearn": "scikit-learn"}.get(name, name)) if found else "absent"
        entries.append(Entry(name, version, purpose if found else f"{purpose}; install sgela_fast[{extra}]"))
    return entries


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this torch is a CPU build"
    return f"torch was built for CUDA {torch.version.cuda} but sees no device"
