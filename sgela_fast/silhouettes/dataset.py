"""A set of silhouette sequences, wherever they are: packed, in a folder of images, or drawn from skeletons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.silhouettes.claiming import PLAN
from sgela_fast.silhouettes.config import RenderConfig
from sgela_fast.silhouettes.images import Frame
from sgela_fast.silhouettes.layouts import find_sequences
from sgela_fast.silhouettes.packed import Packed, is_packed
from sgela_fast.silhouettes.sequences import Rows, Sequences
from sgela_fast.silhouettes.sources import Cached, ImageFolder, Rendered, Source
from sgela_fast.silhouettes.walks import ArchiveWalks, WalkerWalks
from sgela_fast.skeletons.archive import Archive

_CACHE_MB = 512.0
_MIN_MASS = 10_000


class SilhouetteSet:
    """Sequences of silhouettes, 64 x 64, with subject, condition and view.

    Made by :meth:`open` and :meth:`rendered`.

    Attributes:
        name: where it comes from, for messages.
        sequences: the table, in the order of :meth:`load`.
    """

    def __init__(self, source: Source, name: str, rows: np.ndarray | None = None) -> None:
        self._source, self.name = source, name
        self._rows = np.arange(len(source.sequences)) if rows is None else rows
        self.sequences: Sequences = source.sequences[self._rows]

    @classmethod
    def open(cls, path: str | Path, *, cache_mb: float = _CACHE_MB) -> SilhouetteSet:
        """Open a packed set, or a folder of PNG images in the layout of CASIA-B or OU-MVLP.

        Args:
            path: the folder.
            cache_mb: images are read when they are asked for, and so many MiB of what was used last are held.

        Raises:
            DataError: there is no such folder, no layout fits, or a packed set is damaged or unfinished.
        """
        path = Path(path)
        if is_packed(path):
            return cls(Packed(path), str(path))
        if (path / PLAN).exists():
            raise DataError(f"{path} is unfinished; run the same `sgela-fast silhouettes` command again to finish it")
        _, found = find_sequences(path)
        return cls(Cached(ImageFolder(path, found, _MIN_MASS), cache_mb), str(path))

    @classmethod
    def rendered(
        cls,
        config: RenderConfig | None = None,
        archive: str | Path | Archive | None = None,
        *,
        cache_mb: float = _CACHE_MB,
    ) -> SilhouetteSet:
        """Silhouettes drawn from skeletons when they are asked for.

        Args:
            config: who, how long, from where.
            archive: whose recordings are drawn, the k-th of a person under the k-th condition; ``None`` for synthetic
                walkers.
            cache_mb: of drawn sequences that are held, MiB.

        Raises:
            DataError: the archive cannot be read or drawn.
        """
        config = config or RenderConfig()
        if archive is None:
            return cls(Cached(Rendered(WalkerWalks(config), config), cache_mb), "synthetic walkers")
        archive = archive if isinstance(archive, Archive) else Archive(archive)
        return cls(Cached(Rendered(ArchiveWalks(archive, config), config), cache_mb), str(archive.path))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Frame:
        """Frames of sequence ``index``, ``(T, 64, 64)`` uint8, read-only.

        From a folder of images, T is smaller than ``sequences.frames`` where frames are empty or cannot be read.

        Raises:
            DataError: no frame can be read.
        """
        return self._source.frames(int(self._rows[index]))

    def select(self, rows: Rows) -> SilhouetteSet:
        """The sequences at ``rows`` (positions or a mask) as a set that shares the frames."""
        return SilhouetteSet(self._source, self.name, self._rows[rows])
