"""The windows of an archive as the evaluation sees a store, so that both are divided, judged and counted alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.errors import DataError
from sgela_fast.evaluation.sides import WindowStore
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import Layout
from sgela_fast.skeletons.windows import missing_joints, usable_frames, valid_windows, warn_if_not_centered


class CutWindows(NamedTuple):
    """Windows of one recording, as the sensor saw them.

    Attributes:
        joints: ``(B, T, J, 3)`` float32, not centred.
        lost: ``(B, T, J)`` bool.
        layout: what the joints are.
        window: how they were cut, and the joint that becomes the origin.
    """

    joints: Tensor
    lost: Tensor
    layout: Layout
    window: WindowConfig


ExtractFeatures = Callable[[CutWindows], Tensor]


class VectorStore:
    """One vector for each window of a store, in memory; a :class:`sgela_fast.evaluation.sides.WindowStore`.

    Args:
        store: whose windows they are.
        vectors: ``(windows, D)`` float32; rows that no side counts are never read.
    """

    def __init__(self, store: WindowStore, vectors: NDArray[np.float32]) -> None:
        self.path, self.info, self.table, self.vectors = store.path, store.info, store.table, vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def values(self, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[np.float32]:
        """Vectors of the windows at ``rows``, of all without them."""
        return self.vectors if rows is None else self.vectors[rows]


class ArchiveWindows:
    """All windows of an archive that an encoder with the same :class:`WindowConfig` would encode, in the same order.

    A :class:`sgela_fast.evaluation.sides.WindowStore`: features are computed when they are asked for, recording by
    recording, and nothing but the table is kept.

    Args:
        archive: the recordings.
        window: how they are cut.
        extract: features of the windows of one recording, ``(B, D)`` or ``(B, T, D)``.

    Raises:
        DataError: no recording holds a whole window.
    """

    def __init__(self, archive: Archive, window: WindowConfig, extract: ExtractFeatures) -> None:
        warn_if_not_centered(window)
        self.archive, self.window, self.extract = archive, window, extract
        starts = [np.asarray(window.starts(row.frames), np.int64) for row in archive.rows]
        counts = np.array([len(own) for own in starts])
        if not counts.sum():
            raise DataError(
                f"{archive.path} has no recording long enough for one whole window of {window.frames} frames between "
                f"trimmed ends of {window.trim}; lower window.trim or window.frames"
            )
        self._starts = np.concatenate(starts)
        self._owner = np.repeat(np.arange(len(starts)), counts)  # (windows,), position of the recording
        valid = [
            valid_windows(usable_frames(archive.frames_of(row)), own, window.frames)
            for row, own in zip(archive.rows, starts, strict=True)
            if len(own)
        ]
        self.table = self._make_table(np.concatenate(valid))

    @property
    def path(self) -> Path:
        """The archive's folder, for messages."""
        return self.archive.path

    @property
    def info(self) -> Mapping[str, Any]:
        """What the evaluation asks for of a store's description."""
        return {"archive_fingerprint": self.archive.fingerprint, "frames": self.window.frames}

    def __len__(self) -> int:
        return len(self._starts)

    def values(self, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[np.float32]:
        """Features of the windows at ``rows``, of all without them: ``(N, D)`` or ``(N, T, D)``."""
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows)
        owners = self._owner[wanted]
        order = np.argsort(owners, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(owners[order])) + 1)
        found: NDArray[np.float32] | None = None
        for group in groups:
            features = self._features(int(owners[group[0]]), self._starts[wanted[group]])
            if found is None:
                found = np.empty((len(wanted), *features.shape[1:]), np.float32)
            found[group] = features
        assert found is not None, "no window was asked for"
        return found

    def _features(self, recording: int, starts: NDArray[np.int64]) -> NDArray[np.float32]:
        frames = self.archive.frames_of(self.archive.rows[recording])
        steps = starts[:, None] + np.arange(self.window.frames)  # (B, T)
        lost = missing_joints(frames)[steps]
        cut = CutWindows(torch.from_numpy(frames[steps]), torch.from_numpy(lost), self.archive.layout, self.window)
        return self.extract(cut).numpy()

    def _make_table(self, valid: NDArray[np.bool_]) -> pa.Table:
        rows = self.archive.rows
        names = sorted({name for row in rows for name in row.extra})
        texts = {"recording": [row.recording for row in rows], "person": [row.person for row in rows]}
        texts |= {name: [row.extra.get(name) for row in rows] for name in names}
        owner = pa.array(self._owner)
        columns = {name: pa.array(values, pa.string()).take(owner) for name, values in texts.items()}
        columns["window_start"] = pa.array(self._starts)
        columns["frames"] = pa.array(np.full(len(self), self.window.frames))
        columns["valid"] = pa.array(valid)
        return pa.table(columns)
