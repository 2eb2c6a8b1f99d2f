"""Who may train into a run folder, and with which settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sgela_fast.atomic import make_folder, write_text
from sgela_fast.checkpoints.run_folder import INDEX, WEIGHTS, read_info, require_system, system_of, write_info
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


class Section(NamedTuple):
    """A section of settings: what the command line calls it, and the class that holds its defaults."""

    name: str
    defaults: type[Any]


SECTIONS = {
    "model": Section("model", SGELAConfig),
    "window": Section("window", WindowConfig),
    "training": Section("training", TrainingConfig),
}


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


def check_same(out: Path, settings: dict[str, Any], sections: Mapping[str, Section] = SECTIONS) -> None:
    """The run in ``out`` may be gone on with under ``settings``.

    Args:
        out: the run folder.
        settings: what ``run.json`` is to say.
        sections: of ``settings``, those that must be the same.

    Raises:
        CheckpointError: there is no run, or it was made on another archive or with other settings.
    """
    found = read_info(out)
    require_system(out, found, system_of(settings))
    if "training" not in found or "archive" not in found:
        raise CheckpointError(f"{out} was not made by `train`, so it cannot be resumed; train into another --out")
    if found["archive"].get("fingerprint") != settings["archive"]["fingerprint"]:
        raise CheckpointError(
            f"{out} was trained on another archive than {settings['archive']['path']}; resume with the same archive"
        )
    for key, (section, defaults) in sections.items():
        for name, value in settings[key].items():
            # A setting that the run's release did not have yet was what is now its default.
            before = found[key].get(name, getattr(defaults, name))
            now = list(value) if isinstance(value, tuple) else value  # as JSON has it
            if before != now and not (key == "training" and name in MAY_CHANGE):
                raise CheckpointError(
                    f"{out} was made with {section}.{name} = {before!r}, not {now!r}; resume with the settings in "
                    "its config.yaml"
                )


@contextmanager
def claimed(
    out: Path,
    settings: dict[str, Any],
    sections: Mapping[str, Section] = SECTIONS,
    further: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Make or take over the run folder and keep other processes from training into it.

    Args:
        out: the run folder.
        settings: what ``run.json`` is to say.
        sections: of ``settings``, with their names in ``config.yaml``.
        further: entries at the head of ``config.yaml``.

    Raises:
        OutputError: it cannot be written, or another process is training into it.
    """
    make_folder(out)
    with exclusive(out / LOCK, f"another process is training into {out}; wait for it or choose another --out"):
        named = {section: json.loads(json.dumps(settings[key])) for key, (section, _) in sections.items()}
        write_text(out / "config.yaml", yaml.safe_dump({**(further or {}), **named}, sort_keys=False))
        write_info(out, {**settings, "state": "training"})
        yield
