"""Run folders of SelfGait; the format is that of :mod:`sgela_fast.checkpoints.run_folder`, ``system`` says whose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sgela_fast.checkpoints.run_folder import (
    WEIGHTS,
    load_weights,
    read_info,
    read_settings,
    read_weights,
    require_system,
    weights_hash,
)
from sgela_fast.models.config import Backend
from sgela_fast.models.selfgait import SelfGait, build_selfgait
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.silhouettes.config import ClipConfig


@dataclass(frozen=True)
class SelfGaitRun:
    """A loaded run folder; ``model`` is in evaluation mode."""

    path: Path
    model: SelfGait
    model_config: SelfGaitConfig
    clips: ClipConfig
    model_hash: str
    info: dict[str, Any]


def load_selfgait(path: str | Path, backend: Backend = "auto", device: torch.device | str = "cpu") -> SelfGaitRun:
    """Load a run folder of SelfGait, whatever backend it was trained with.

    Args:
        path: the folder.
        backend: ``auto``, ``reference`` or ``fused``.
        device: where the model computes.

    Raises:
        CheckpointError: a file is missing, damaged or belongs to another model, or the run is one of SGE-LA.
        ConfigError: the backend cannot run on the device.
    """
    folder = Path(path)
    info = read_info(folder)
    require_system(folder, info, "selfgait")
    config = read_settings(folder, info, "model", SelfGaitConfig)
    clips = read_settings(folder, info, "window", ClipConfig)
    model = build_selfgait(config, backend, device=device)
    load_weights(model, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    return SelfGaitRun(folder, model.eval(), config, clips, weights_hash(folder), info)
