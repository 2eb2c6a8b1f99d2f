"""A tiny archive of walks, and settings small enough to train in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.models.config import SGELAConfig
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording
from sgela_fast.training.config import TrainingConfig

LAYOUT = "kinect-v1"


def walk(seed: int, frames: int) -> np.ndarray:
    """A skeleton whose joints swing: ``(frames, J, 3)``, nothing at the origin but by the centring."""
    generator = np.random.default_rng(seed)
    joints = len(get_layout(LAYOUT))
    rest, swing, phase = (generator.normal(size=(joints, 3)) for _ in range(3))
    time = np.arange(frames)[:, None, None]
    return (rest + 0.3 * swing * np.sin(0.4 * time + phase) + 3.0).astype(np.float32)


@pytest.fixture(scope="session")
def make_archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Archive]:
    """Write an archive of ``count`` training walks and one test walk; ``spoil`` may change the joints of each."""

    def make(
        count: int = 6, frames: int = 24, first_seed: int = 0, spoil: Callable[[int, np.ndarray], None] | None = None
    ) -> Archive:
        writer = ArchiveWriter(tmp_path_factory.mktemp("archive") / "walks.sga", get_layout(LAYOUT), {"by": "tests"})
        for index in range(count + 1):
            joints = walk(first_seed + index, frames)
            if spoil is not None:
                spoil(index, joints)
            split = "train" if index < count else "test"
            writer.add(Recording(f"walk{index}", joints, LAYOUT, person=f"p{index % 3}", extra={"split": split}))
        return writer.finish()

    return make


@pytest.fixture(scope="session")
def archive(make_archive: Callable[..., Archive]) -> Archive:
    """Six training walks of 24 frames and one test walk; 7 windows each."""
    return make_archive()


@pytest.fixture
def settings() -> Callable[..., dict[str, Any]]:
    """Keyword arguments of ``train``: K = 8, batches of 8, no TensorBoard unless asked for."""

    def make(
        preset: Any = "official", model: dict[str, Any] | None = None, trim: int = 0, **training: Any
    ) -> dict[str, Any]:
        small: dict[str, Any] = {
            "preset": preset,
            "batch": 8,
            "max_steps": 12,
            "threads": 1,
            "log_every": 3,
            "checkpoint_every": 4,
            "tensorboard": False,
            "validation": 0.2,
            "device": "cpu",
        }
        return {
            "model": SGELAConfig(variant=preset, **{"hidden": 8, **(model or {})}),
            "window": WindowConfig(trim=trim),
            "training": TrainingConfig(**{**small, **training}),
        }

    return make


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run folder that does not exist yet."""
    return tmp_path / "run"
