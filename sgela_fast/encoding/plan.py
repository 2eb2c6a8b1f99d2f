"""The plan of an encoding: which windows go into which part, fixed before the first one is encoded.

It follows from the archive's tables and the settings alone, so every process that encodes a unit, whenever and however
often, writes the same bytes under the same name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Piece:
    """Windows ``start`` to ``stop`` of the recording at position ``recording`` of the archive."""

    recording: int
    start: int
    stop: int


@dataclass(frozen=True)
class Unit:
    """What becomes one part of the store.

    Attributes:
        part: number of the part.
        first: recording and window with which it begins.
        end: recording and window before which it ends.
        window: number of its first window among all that are planned.
        windows: how many are planned; fewer come out where recordings are quarantined or windows left out.
    """

    part: int
    first: tuple[int, int]
    end: tuple[int, int]
    window: int
    windows: int

    @property
    def recordings(self) -> range:
        """Recordings that begin in this unit."""
        return range(self.first[0] + (self.first[1] > 0), self.end[0] + (self.end[1] > 0))

    def recordings_within(self, windows: int, counts: NDArray[np.int64]) -> int:
        """How many of :attr:`recordings` its first ``windows`` windows hold whole.

        Args:
            windows: of the unit.
            counts: windows of every recording of the archive.
        """
        ends = np.cumsum(counts[self.recordings.start : self.recordings.stop])
        return int(np.searchsorted(ends, windows, side="right"))

    def pieces(self, counts: NDArray[np.int64]) -> Iterator[Piece]:
        """Its windows recording by recording; ``counts`` are the windows of every recording of the archive."""
        last = self.end[0] + (self.end[1] > 0)
        for recording in range(self.first[0], last):
            start = self.first[1] if recording == self.first[0] else 0
            stop = self.end[1] if recording == self.end[0] else int(counts[recording])
            yield Piece(recording, start, stop)


def plan_units(counts: NDArray[np.int64], size: int) -> list[Unit]:
    """Cut an archive into units of about ``size`` windows.

    A unit holds whole recordings, as many as fit; a recording of more than ``size`` windows is cut into units of its
    own.

    Args:
        counts: windows of each recording, ``(recordings,)``.
        size: most windows of a unit, at least 1.
    """
    before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])  # (recordings + 1,)
    total, place = int(before[-1]), (0, 0)
    units: list[Unit] = []
    while int(before[place[0]]) + place[1] < total:
        recording, start = place
        at = int(before[recording]) + start
        fitting = int(np.searchsorted(before, at + size, side="right")) - 1
        if start == 0 and fitting > recording:
            end = (fitting, 0)
        else:
            stop = min(start + size, int(counts[recording]))
            end = (recording + 1, 0) if stop == counts[recording] else (recording, stop)
        windows = int(before[end[0]]) + end[1] - at
        units.append(Unit(len(units), place, end, at, windows))
        place = end
    if units and place[0] < len(counts):
        # Recordings without a window behind the last one that has some: they are listed, so they belong to a unit.
        last = units.pop()
        units.append(Unit(last.part, last.first, (len(counts), 0), last.window, last.windows))
    return units


def plan_hash(settings: Mapping[str, Any], counts: NDArray[np.int64], size: int) -> str:
    """Names the plan and everything that its values depend on."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(counts, "<i8").data)
    digest.update(str(size).encode())
    return digest.hexdigest()
