"""Writing a store from values that are there already; :mod:`sgela_fast.encoding.store` describes the folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.atomic import make_folder, write_json, writing
from sgela_fast.encoding.schema import INDEX, PART_FILE, RESERVED, TEMPORARY_FILE, UNFINISHED, head
from sgela_fast.encoding.shard import Shard, write_shard
from sgela_fast.encoding.storage import pack
from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError, OutputError


class StoreWriter:
    """Write a store from values that are there already; holds the windows of one part.

    Parts of an earlier writer that did not finish are made anew. An archive is encoded by
    :func:`sgela_fast.encoding.encode.encode`, which can be gone on with.

    Args:
        path: the folder to make.
        info: entries of ``store.json``; must have ``pooling``, ``dtype``, ``frames`` and ``dim``.
        part_bytes: a part is closed once its values reach this size.

    Raises:
        OutputError: the folder holds a store or something else, or cannot be made.
    """

    def __init__(self, path: str | Path, info: Mapping[str, Any], *, part_bytes: int = 64 << 20) -> None:
        self.path, self.info, self.part_bytes = Path(path), dict(info), part_bytes
        # What another store says of its own parts.
        for name in ("schema", "schema_version", "made_by", "shards", "plan", "changes", "quarantined"):
            self.info.pop(name, None)
        if (self.path / INDEX).exists():
            raise OutputError(f"{self.path} already holds a store; choose another output path or remove it")
        if (self.path / UNFINISHED).exists():
            raise OutputError(f"{self.path} holds an unfinished store; choose another output path or remove it")
        make_folder(self.path)
        _clear_unfinished(self.path)
        self._values: list[np.ndarray] = []
        self._columns: dict[str, list[Any]] = {}
        self._shards: list[Shard] = []
        self._windows = 0

    def add(self, values: np.ndarray, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append windows.

        Args:
            values: ``(N, T, D)`` or ``(N, D)``.
            columns: ``recording``, ``person``, ``window_start``, ``frames``, ``valid``, and if they are known
                ``quality`` and ``source_sha256``, and any further text columns, N entries each; every call must name
                the same columns.

        Raises:
            OutputError: a part cannot be written.
        """
        self._values.append(np.asarray(values, np.float32))
        for name, entries in columns.items():
            self._columns.setdefault(name, []).extend(entries)
        if sum(len(piece) for piece in self._values) * self._row_bytes >= self.part_bytes:
            self._flush()

    @property
    def _row_bytes(self) -> int:
        stored, _ = pack(np.asarray(self._values[0][:1]), self.info["dtype"])
        return int(stored[0].nbytes) if len(stored) else 0

    def finish(self, **totals: Any) -> Store:
        """Close the last part, write ``store.json`` and open the result.

        Raises:
            DataError: nothing was added.
            OutputError: a file cannot be written.
        """
        self._flush()
        if not self._windows:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            raise DataError(f"nothing to write into {self.path}: the archive has no window")
        counts = {"parts": len(self._shards), "windows": self._windows}
        shards = [asdict(shard) for shard in self._shards]
        write_json(self.path / INDEX, {**head(), **self.info, **counts, **totals, "shards": shards})
        return Store(self.path)

    def _flush(self) -> None:
        if not sum(map(len, self._values)):
            return
        stored, scales = pack(np.concatenate(self._values), self.info["dtype"])
        columns: dict[str, Any] = dict(self._columns)
        columns["window"] = range(self._windows, self._windows + len(stored))
        columns["scale"] = scales
        further = sorted(columns.keys() - RESERVED)
        part = len(self._shards)
        self._shards.append(write_shard(self.path, part, stored, columns, further, self.info["dtype"]))
        self._windows += len(stored)
        self._values.clear()
        self._columns.clear()


def _clear_unfinished(path: Path) -> None:
    """Remove the parts that an interrupted job left; anything else in the folder is not ours to remove."""
    with writing(path):
        found = list(path.iterdir())
        strange = [f.name for f in found if not PART_FILE.fullmatch(f.name) and not TEMPORARY_FILE.fullmatch(f.name)]
        if strange:
            raise OutputError(f"{path} holds {strange[0]!r}, which is no part of a store; choose another output path")
        for file in found:
            file.unlink()
