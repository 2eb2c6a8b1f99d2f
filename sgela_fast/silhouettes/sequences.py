"""The table of a silhouette set: whose walk each sequence is, under which condition and from where it is seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.integer] | NDArray[np.bool_]


@dataclass(frozen=True)
class Sequences:
    """Columns of one entry a sequence, in the order of the set.

    Attributes:
        key: ``(n,)`` text, ``subject/condition/view``, unique.
        subject: ``(n,)`` text.
        condition: ``(n,)`` text: ``nm-01``, ``bg-02``, ``cl-01`` (CASIA-B) or ``00``, ``01`` (OU-MVLP).
        view: ``(n,)`` text, degrees as three figures.
        frames: ``(n,)`` int64; of images that have not been read yet, the number of files.
    """

    key: NDArray[np.str_]
    subject: NDArray[np.str_]
    condition: NDArray[np.str_]
    view: NDArray[np.str_]
    frames: NDArray[np.int64]

    @classmethod
    def of(cls, entries: Iterable[tuple[str, str, str, int]]) -> Sequences:
        """From (subject, condition, view, frames) of each sequence."""
        rows = list(entries)
        subject, condition, view = (np.array([row[column] for row in rows], np.str_) for column in range(3))
        key = np.array(["/".join(row[:3]) for row in rows], np.str_)
        return cls(key, subject, condition, view, np.array([row[3] for row in rows], np.int64))

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: Rows) -> Sequences:
        """The entries at ``rows``: positions or a mask."""
        return Sequences(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def subjects(self) -> list[str]:
        """Names, each once, sorted."""
        return sorted(set(self.subject.tolist()))
