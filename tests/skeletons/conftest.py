"""Builders of small recordings and files, shared by the tests of the skeleton floor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording

# The order of joints in a KGBD file, as its documentation lists them.
KGBD_FILE_ORDER = [
    "Head",
    "Shoulder-Center",
    "Shoulder-Right",
    "Shoulder-Left",
    "Elbow-Right",
    "Elbow-Left",
    "Wrist-Right",
    "Wrist-Left",
    "Hand-Right",
    "Hand-Left",
    "Spine",
    "Hip-centro",
    "Hip-Right",
    "Hip-Left",
    "Knee-Right",
    "Knee-Left",
    "Ankle-Right",
    "Ankle-Left",
    "Foot-Right",
    "Foot-Left",
]


@pytest.fixture
def make_recording() -> Callable[..., Recording]:
    """Builds a recording of random joints: ``make_recording(name, frames=30, layout="kinect-v1", ...)``."""

    def make(name: str, frames: int = 30, layout: str = "kinect-v1", seed: int = 0, **fields: Any) -> Recording:
        generator = np.random.default_rng([seed, *name.encode()])
        joints = generator.normal(size=(frames, len(get_layout(layout)), 3)).astype(np.float32)
        return Recording(name=name, joints=joints, layout=layout, **fields)

    return make


@pytest.fixture
def write_kgbd() -> Callable[..., np.ndarray]:
    """Writes a KGBD file and returns its values ``(frames, 20, 3)`` in the file's own order."""

    def write(path: Path, frames: int = 4, seed: int = 0) -> np.ndarray:
        values = np.random.default_rng([seed, frames]).normal(size=(frames, 20, 3)).round(5)
        lines = [
            f"{name};{x};{y};{z}\r\n"
            for frame in values
            for name, (x, y, z) in zip(KGBD_FILE_ORDER, frame.tolist(), strict=True)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), newline="")
        return values

    return write


@pytest.fixture
def write_npz() -> Callable[..., Path]:
    """Writes a packed data set: ``write_npz(folder, {"a": (30, "p1", "train"), ...}, joints=20)``."""

    def write(folder: Path, recordings: dict[str, tuple[int, str, str]], joints: int = 20) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(5)
        arrays: dict[str, Any] = {
            name: generator.normal(size=(frames, joints, 3)).astype(np.float32)
            for name, (frames, _, _) in recordings.items()
        }
        np.savez(folder / "walks.npz", **arrays)
        rows = [f"{name},{person},{frames},30,{split}\n" for name, (frames, person, split) in recordings.items()]
        (folder / "manifest.csv").write_text("recording,person,frames,fps,split\n" + "".join(rows))
        return folder

    return write
