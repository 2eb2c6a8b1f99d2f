"""Which windows the released code counts: its graphs take batches of exactly 128, with consequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RELEASED_BATCH = 128


def counted_windows(windows: int, frames: int, batch: int = RELEASED_BATCH) -> int:
    """How many leading test windows enter the released code's figures.

    Rows (``frames`` of each window) are taken in whole batches; a window that the last batch cuts is dropped.
    With less than a batch of rows all windows stay.
    """
    rows = windows * frames
    return windows if rows < batch else rows // batch * batch // frames


def whole_batches(persons: NDArray[np.int64], pad: bool, batch: int = RELEASED_BATCH) -> NDArray[np.int64]:
    """Positions that remain when each person's windows are encoded in batches of exactly ``batch``.

    Args:
        persons: ``(N,)``, person of each window.
        pad: a person with fewer windows than a batch is filled up with copies of the first one (the released code
            does so and keeps the copies in training; in testing it takes them out again).
        batch: windows in a batch.

    Returns:
        Positions in ``persons``, ordered by person; a person with a batch or more keeps whole batches only.
    """
    kept = []
    for person in np.unique(persons):
        own = np.flatnonzero(persons == person)
        if len(own) >= batch:
            own = own[: len(own) // batch * batch]
        elif pad:
            own = np.concatenate([own, np.full(batch - len(own), own[0])])
        kept.append(own)
    return np.concatenate(kept) if kept else np.empty(0, np.int64)
