"""Folders of silhouettes to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Folder = Callable[..., Path]


def figure(height: int = 120, rows: int = 240, columns: int = 320, left: int = 100) -> np.ndarray:
    """A camera's frame with a bright block that is a quarter as wide as high."""
    pixels = np.zeros((rows, columns), np.uint8)
    pixels[60 : 60 + height, left : left + height // 4] = 255
    return pixels


@pytest.fixture
def images(tmp_path: Path) -> Folder:
    """Writes ``frames`` images of each of some folders below ``tmp_path/name``."""

    def write(name: str, folders: list[str], frames: int = 3) -> Path:
        for number, folder in enumerate(folders):
            (tmp_path / name / folder).mkdir(parents=True)
            for frame in range(frames):
                picture = Image.fromarray(figure(left=40 + 10 * number + 5 * frame))
                picture.save(tmp_path / name / folder / f"{frame + 1:03d}.png")
        return tmp_path / name

    return write
