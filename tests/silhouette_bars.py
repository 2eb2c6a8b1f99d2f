"""Small sets of silhouettes made in memory: bars of a person's own shape that sway."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.packed import PackWriter
from sgela_fast.silhouettes.sequences import Sequences

CONDITIONS = ("nm-01", "nm-02", "nm-03", "nm-04", "nm-05", "cl-01")


class Bars:
    """A source of sequences: each person is a pile of bars of widths of their own."""

    def __init__(self, persons: int, views: tuple[str, ...], frames: int, spread: int) -> None:
        rows = [
            (f"{person + 1:03d}", condition, view, frames + (index + person) % (spread + 1))
            for person in range(persons)
            for index, condition in enumerate(CONDITIONS)
            for view in views
        ]
        self.sequences = Sequences.of(rows)

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Frames of sequence ``index``, ``(T, 64, 64)``."""
        own = np.random.default_rng(int(self.sequences.subject[index]))
        widths = np.repeat(own.integers(4, 20, 8), 8)  # of the 64 rows
        swings, pace = np.repeat(own.integers(0, 8, 8), 8), own.uniform(0.3, 0.9)
        count = int(self.sequences.frames[index])
        middle = 32 + swings * np.sin(pace * np.arange(count)[:, None] + index)  # (T, 64)
        columns = np.arange(64)
        return (255 * (np.abs(columns - middle[..., None]) < widths[:, None])).astype(np.uint8)


def bars(persons: int = 4, views: tuple[str, ...] = ("000", "090"), frames: int = 7, spread: int = 0) -> SilhouetteSet:
    """A set of ``persons`` with six walks under each of ``views``.

    Args:
        persons: how many.
        views: angles.
        frames: of the shortest sequence.
        spread: by how many frames sequences differ.
    """
    return SilhouetteSet(Bars(persons, views, frames, spread), "bars")


def pack(silhouettes: SilhouetteSet, path: Path) -> Path:
    """Write a set as a packed one."""
    writer = PackWriter(path, {"by": "tests"}, frames_per_shard=100)
    table = silhouettes.sequences
    for index in range(len(silhouettes)):
        writer.add(
            str(table.subject[index]), str(table.condition[index]), str(table.view[index]), silhouettes.load(index)
        )
    writer.finish()
    return path
