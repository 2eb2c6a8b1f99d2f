"""Who may train into a run folder, and with which settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sgela_fast.atomic import make_folder, write_text
from sgela_fast.checkpoints.run_folder import INDEX, WEIGHTS, read_info, write_info
from sgela_fast.errors import CheckpointError, ConfigError, OutputError
from sgela_fast.locking import exclusive
from sgela_fast.models.config import SGELAConfig
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training.checkpoint import list_checkpoints
from sgela_fast.training.config import TrainingConfig

LOCK = ".lock"
# What may differ in a resumed run: it changes neither the order of the batches nor the weights, but for rounding.
# Training longer than first planned is what resuming is for.
MAY_CHANGE = (
    "epochs",
    "max_steps",
    "budget_minutes",
    "device",
    "backend",
    "threads",
    "memory_gb",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "tensorboard",
)


def fit_model(model: SGELAConfig, joints: int, frames: int, layout: str) -> SGELAConfig:
    """``model`` with the archive's joints and the windows' frames.

    Raises:
        ConfigError: the model's settings say something else than archive and windows.
    """
    if model.axes != 3:
        raise ConfigError(f"model.axes is {model.axes} but skeletons have 3 axes; leave it at 3")
    if model.joints not in (joints, SGELAConfig.joints):
        raise ConfigError(
            f"model.joints is {model.joints} but the archive's layout {layout!r} has {joints}; leave it out"
        )
    if model.frames not in (frames, SGELAConfig.frames):
        raise ConfigError(f"model.frames is {model.frames} but window.frames is {frames}; set window.frames alone")
    return SGELAConfig(**{**asdict(model), "joints": joints, "frames": frames})


def check_free(out: Path) -> None:
    """A fresh run may be made in ``out``.

    Raises:
        OutputError: there is a run, or what is left of one.
    """
    if (out / INDEX).exists():
        raise OutputError(f"{out} already holds a run; choose another --out or go on with --resume")
    if (out / WEIGHTS).exists() or list_checkpoints(out):
        raise OutputError(
            f"{out} holds weights of a run whose {INDEX} is gone; choose another --out or remove the folder"
        )


def check_same(out: Path, settings: dict[str, Any]) -> None:
    """The run in ``out`` may be gone on with under ``settings``.

    Raises:
        CheckpointError: there is no run, or it was made on another archive or with other settings.
    """
    found = read_info(out)
    if "training" not in found or "archive" not in found:
        raise CheckpointError(f"{out} was not made by `train`, so it cannot be resumed; train into another --out")
    if found["archive"].get("fingerprint") != settings["archive"]["fingerprint"]:
        raise CheckpointError(
            f"{out} was trained on another archive than {settings['archive']['path']}; resume with the same archive"
        )
    for section, defaults in (("model", SGELAConfig), ("window", WindowConfig), ("training", TrainingConfig)):
        for name, value in settings[section].items():
            # A setting that the run's release did not have yet was what is now its default.
            before = found[section].get(name, getattr(defaults, name))
            if before != value and not (section == "training" and name in MAY_CHANGE):
                raise CheckpointError(
                    f"{out} was made with {section}.{name} = {before!r}, not {value!r}; resume with the settings in "
                    "its config.yaml"
                )


@contextmanager
def claimed(out: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Make or take over the run folder and keep other processes from training into it.

    Raises:
        OutputError: it cannot be written, or another process is training into it.
    """
    make_folder(out)
    with exclusive(out / LOCK, f"another process is training into {out}; wait for it or choose another --out"):
        named = {name: settings[name] for name in ("model", "window", "training")}
        write_text(out / "config.yaml", yaml.safe_dump(named, sort_keys=False))
        write_info(out, {**settings, "state": "training"})
        yield
