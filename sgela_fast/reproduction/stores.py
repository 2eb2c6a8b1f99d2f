"""Encodings on disk: which are there, and which may go."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from sgela_fast.reproduction.cells import StoreSpec


class KeptStores:
    """The folder of a reproduction's encodings.

    Args:
        folder: one store in each of its folders, under the name of its specification.
        keep: never delete one.
        limit_gb: GiB that they may take together.
    """

    def __init__(self, folder: Path, keep: bool, limit_gb: float) -> None:
        self.folder, self.keep, self.limit_gb = folder, keep, limit_gb
        self.made: set[StoreSpec] = set()

    def find(self, wanted: Iterable[StoreSpec]) -> None:
        """Note which of ``wanted`` earlier runs have finished."""
        self.made = {store for store in wanted if (self.folder / store.name / "store.json").exists()}

    def tidy(self, needed: Iterable[StoreSpec]) -> None:
        """Delete all but ``needed``."""
        if self.keep:
            return
        names = {store.name for store in needed}
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)
        self.made = {store for store in self.made if store.name in names}

    def make_room(self, order: Sequence[StoreSpec]) -> None:
        """Where all of them take too much room, delete those of ``order``, the last first."""
        if self.keep:
            return
        for store in reversed(order):
            if self._bytes() <= self.limit_gb * (1 << 30):
                return
            shutil.rmtree(self.folder / store.name, ignore_errors=True)
            self.made.discard(store)

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
