"""What is in a set of silhouettes, and what of it cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.silhouettes.claiming import PLAN
from sgela_fast.silhouettes.config import PackConfig
from sgela_fast.silhouettes.layouts import find_sequences
from sgela_fast.silhouettes.packed import Packed, is_packed
from sgela_fast.silhouettes.sequences import Sequences
from sgela_fast.silhouettes.sources import EMPTY, read_sequence


@dataclass(frozen=True)
class Fault:
    """A frame, or with an empty ``file`` a whole sequence, that cannot be used."""

    sequence: str
    file: str
    reason: str


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        path: the folder.
        layout: of its files.
        sequences: the table; ``frames`` are those that can be used.
        faults: images that cannot be read, sequences that are too short, a damaged shard.
        empty: frames without a figure.
    """

    path: Path
    layout: str
    sequences: Sequences
    faults: tuple[Fault, ...]
    empty: int

    def summary(self) -> dict[str, Any]:
        """Totals."""
        table = self.sequences
        frames = table.frames
        walks = {(subject, condition) for subject, condition in zip(table.subject, table.condition, strict=True)}
        views = sorted(set(table.view.tolist()))
        return {
            "path": str(self.path),
            "layout": self.layout,
            "subjects": len(table.subjects),
            "sequences": len(table),
            "frames": int(frames.sum()),
            "frames_of_a_sequence": [int(value) for value in np.quantile(frames, [0, 0.5, 1])],
            "views": dict(Counter(table.view.tolist())),
            "conditions": dict(sorted(Counter(table.condition.tolist()).items())),
            "missing_views": len(walks) * len(views) - len(table),
            "empty_frames": self.empty,
            "faults": len(self.faults),
        }

    def as_json(self) -> dict[str, Any]:
        """Summary and faults."""
        return {**self.summary(), "faults": [asdict(fault) for fault in self.faults]}


def inspect(path: str | Path, *, advance: Callable[[int], object] = lambda sequences: None) -> Inspection:
    """Read all of a packed set or of a folder of images, one sequence in memory at a time.

    Args:
        path: the folder.
        advance: called with the number of sequences that were dealt with.

    Raises:
        DataError: there is no such folder, it is unfinished, or no layout fits.
        MissingDependencyError: images are to be read and Pillow is not installed.
    """
    path = Path(path)
    if is_packed(path):
        return _inspect_packed(path, advance)
    if (path / PLAN).exists():
        raise DataError(f"{path} is unfinished; run the same `sgela-fast silhouettes` command again to finish it")
    layout, found = find_sequences(path)
    faults: list[Fault] = []
    frames = []
    for item in found:
        usable = read_sequence(path, item, PackConfig().min_mass, lambda *fault: faults.append(Fault(*fault)))
        frames.append(len(usable))
        advance(1)
    table = Sequences.of(
        (item.subject, item.condition, item.view, count) for item, count in zip(found, frames, strict=True)
    )
    empty = [fault for fault in faults if fault.reason == EMPTY]
    return Inspection(path, layout, table, tuple(fault for fault in faults if fault.reason != EMPTY), len(empty))


def _inspect_packed(path: Path, advance: Callable[[int], object]) -> Inspection:
    packed = Packed(path)
    left_out = [Fault(*row.values()) for row in packed.quarantine.to_pylist()]
    faults = [fault for fault in left_out if fault.reason != EMPTY]
    try:
        packed.verify(advance)
    except DataError as error:
        faults.append(Fault("", "", str(error)))
    layout = f"packed from {packed.info.get('layout', 'images')}"
    return Inspection(path, layout, packed.sequences, tuple(faults), len(left_out) - len(faults))
