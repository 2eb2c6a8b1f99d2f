"""Whether a folder holds the reproduction that is asked for, and what it says of itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sgela_fast._version import __version__
from sgela_fast.checkpoints.run_folder import INDEX, read_info
from sgela_fast.errors import OutputError
from sgela_fast.models.device import choose_device
from sgela_fast.reproduction import published
from sgela_fast.reproduction.config import ReproductionConfig
from sgela_fast.reproduction.datasets import DataSet
from sgela_fast.reproduction.encoders import Encoders
from sgela_fast.training.claim import MAY_CHANGE

# Settings that change neither what a cell means nor its figures, but for rounding.
_ASIDE = {"device", "backend", "threads", "memory_gb", "tile_mb", "batch_windows"}
_PLANNED = ("tables", "splits", "seeds", "protocols", "selections", "frames", "ranges")  # they add cells
_LIBRARIES = ("torch", "numpy", "scikit-learn", "scipy")


def binding(config: ReproductionConfig) -> dict[str, Any]:
    """Settings that all cells of a folder share, flat."""
    nested = {name: value for name, value in asdict(config).items() if name not in _PLANNED}
    flat = {
        name: value
        for name, value in _flat(nested)
        if name.rpartition(".")[2] not in _ASIDE and not (name.startswith("training.") and name[9:] in MAY_CHANGE)
    }
    # JSON has no tuples.
    found: dict[str, Any] = json.loads(json.dumps(flat))
    return found


def check_same(out: Path, before: dict[str, Any], config: ReproductionConfig, data: Sequence[DataSet]) -> None:
    """The reproduction in ``out`` may be gone on with.

    Args:
        out: the folder.
        before: its ``reproduction.json``.
        config: what is asked for now.
        data: the data sets of now; further ones may come along.

    Raises:
        OutputError: other settings, steps or data.
    """
    mend = "use the same or choose another --out"
    found = before["binding"]
    for name, value in binding(config).items():
        if name in found and found[name] != value:
            raise OutputError(f"{out} was made with {name} = {found[name]!r}, not {value!r}; {mend}")
    steps = config.training.max_steps
    if steps and steps != before["steps"]:
        theirs = f"{before['steps']:,} steps" if before["steps"] else "whole epochs"
        raise OutputError(f"the encoders of {out} are trained for {theirs}, not {steps:,} steps; {mend}")
    prints = {item["name"]: item["fingerprint"] for item in before["datasets"]}
    for item in data:
        if prints.get(item.name, item.archive.fingerprint) != item.archive.fingerprint:
            raise OutputError(
                f"{out} was made with other recordings called {item.name!r} than {item.archive.path}; {mend}"
            )


def describe_run(
    config: ReproductionConfig, data: Sequence[DataSet], encoders: Encoders, created: str | None
) -> dict[str, Any]:
    """Content of ``reproduction.json``."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "created": created or now,
        "updated": now,
        "settings": json.loads(json.dumps(asdict(config))),
        "binding": binding(config),
        "steps": encoders.steps,
        "datasets": [item.describe() for item in data],
        "encoders": _describe_encoders(encoders.folder),
        "environment": {
            "sgela_fast": __version__,
            "commit": _commit(),
            **{name: metadata.version(name) for name in _LIBRARIES},
            "device": str(choose_device(config.training.device, "training.device")),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
        "published": published.as_json(),
    }


def _flat(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in nested.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


def _describe_encoders(folder: Path) -> list[dict[str, Any]]:
    found = []
    for index in sorted(folder.glob(f"*/{INDEX}")):
        info = read_info(index.parent)
        entry = {"encoder": index.parent.name, "state": info.get("state"), "steps": info.get("step")}
        found.append({**entry, **({"adopted_from": info["adopted_from"]} if "adopted_from" in info else {})})
    return found


def _commit() -> str | None:
    """Of a working copy; ``None`` where the package is installed otherwise."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=source, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return asked.stdout.strip() or None
