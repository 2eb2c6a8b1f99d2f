"""Where the frames of a set come from: packed shards, a folder of images, or walks drawn when they are asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import DataError
from sgela_fast.silhouettes.body import Capsules, dress
from sgela_fast.silhouettes.config import SIZE, RenderConfig
from sgela_fast.silhouettes.images import Frame, normalise, read_image
from sgela_fast.silhouettes.layouts import Found
from sgela_fast.silhouettes.renderer import render
from sgela_fast.silhouettes.sequences import Sequences
from sgela_fast.silhouettes.walks import Walk, Walks

MIB = 1 << 20


class Source(Protocol):
    """What a set reads from: the table of all sequences, and the frames of each."""

    sequences: Sequences

    def frames(self, index: int) -> Frame:
        """Frames of sequence ``index``, ``(T, 64, 64)``."""


def read_sequence(root: Path, found: Found, min_mass: int, fault: Callable[[str, str, str], None]) -> NDArray[np.uint8]:
    """The usable frames of a sequence of images.

    Args:
        root: the set's folder.
        found: the sequence.
        min_mass: as in :func:`~sgela_fast.silhouettes.images.normalise`.
        fault: called with the key, the file and the reason for each frame that is left out.

    Returns:
        ``(T, 64, 64)``; T may be 0.
    """
    frames = []
    for name in found.files:
        place = f"{found.folder}/{name}"
        try:
            frame = normalise(read_image(root / place), min_mass)
        except DataError as error:
            fault(found.key, place, str(error))
            continue
        if frame is None:
            fault(found.key, place, EMPTY)
        else:
            frames.append(frame)
    return np.stack(frames) if frames else np.empty((0, SIZE, SIZE), np.uint8)


EMPTY = "empty frame"


class ImageFolder:
    """Sequences of a folder of images, read when they are asked for."""

    def __init__(self, root: Path, found: list[Found], min_mass: int) -> None:
        self.root, self.found, self.min_mass = root, found, min_mass
        self.sequences = Sequences.of((item.subject, item.condition, item.view, len(item.files)) for item in found)

    def frames(self, index: int) -> Frame:
        """As :class:`Source`.

        Raises:
            DataError: no frame is usable; says why the last one is not.
        """
        faults: list[str] = []
        frames = read_sequence(
            self.root, self.found[index], self.min_mass, lambda key, place, reason: faults.append(f"{place}: {reason}")
        )
        if not len(frames):
            raise DataError(
                f"no frame of sequence {self.found[index].key} of {self.root} is usable ({faults[-1]}); pack the "
                "folder with `sgela-fast silhouettes pack`, which leaves such sequences out"
            )
        return frames


class Rendered:
    """Walks drawn when they are asked for; the walk behind the last view is kept, as the other views follow."""

    def __init__(self, walks: Walks, config: RenderConfig) -> None:
        self.config, self._walks = config, walks
        drawn = [(walk, view) for walk in walks.walks for view in config.views]
        self._drawn = drawn
        self._kept: tuple[Walk, Capsules] | None = None
        self.sequences = Sequences.of((walk.subject, walk.condition, view, walk.frames) for walk, view in drawn)

    def frames(self, index: int) -> Frame:
        """As :class:`Source`."""
        walk, view = self._drawn[index]
        kept = self._kept
        if kept is None or kept[0] != walk:
            kept = walk, dress(self._walks.joints(walk), self._walks.build(walk), walk.condition[:2])
            self._kept = kept
        return render(kept[1], float(view), distance=self.config.distance, camera_height=self.config.camera_height)


class Cached:
    """Another source with the sequences that were used last held in memory.

    Args:
        source: what is slow.
        cache_mb: of frames held, MiB.
    """

    def __init__(self, source: Source, cache_mb: float) -> None:
        self.source, self.sequences = source, source.sequences
        self._limit = int(cache_mb * MIB)
        self._held: OrderedDict[int, Frame] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def frames(self, index: int) -> Frame:
        """As :class:`Source`."""
        with self._lock:
            if index in self._held:
                self._held.move_to_end(index)
                return self._held[index]
        frames = self.source.frames(index)
        frames.flags.writeable = False
        with self._lock:
            if index not in self._held and frames.nbytes <= self._limit:
                self._held[index] = frames
                self._bytes += frames.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return frames
