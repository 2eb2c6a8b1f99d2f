"""The packed set: silhouettes of a whole data set in a few files, memory-mapped.

A folder of

* ``silhouettes.json``: schema version, size, totals, where the frames come from. Written last; a folder without it is
  unfinished.
* ``frames-00000.npy``: uint8 ``(frames, 64, 64)``; sequences one behind the other.
* ``sequences-00000.parquet``: one row for each sequence of that shard: key, subject, condition, view, first frame,
  frames, and the SHA-256 of its frames. It is renamed into place after its frames and is the shard's commit point.
* ``quarantine.parquet``: sequence, file and reason of every frame and sequence that was left out.

NumPy and any Parquet reader open it without this package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sgela_fast._version import __version__
from sgela_fast.atomic import replacing, write_file, write_json
from sgela_fast.errors import DataError, OutputError, one_line
from sgela_fast.silhouettes.claiming import PLAN, claim
from sgela_fast.silhouettes.config import SIZE
from sgela_fast.silhouettes.images import Frame
from sgela_fast.silhouettes.sequences import Sequences

SCHEMA = "sgela-fast/silhouettes"
SCHEMA_VERSION = 1
INDEX = "silhouettes.json"
QUARANTINE = "quarantine.parquet"
AGAIN = "pack the folder again"
_COLUMNS = ("key", "subject", "condition", "view", "first_frame", "frames", "sha256")
_UNREADABLE = (OSError, pa.ArrowException, KeyError, ValueError, TypeError)
_FAULTS = pa.schema([(name, pa.string()) for name in ("sequence", "file", "reason")])


def is_packed(path: Path) -> bool:
    """Whether ``path`` is a folder with a finished packed set."""
    return (path / INDEX).is_file()


class Packed:
    """Read access to a packed set.

    Args:
        path: the folder.

    Raises:
        DataError: it is unfinished, damaged or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info = _read_index(path)
        tables = [_read_table(path, shard) for shard in range(self.info["shards"])]
        table = pa.concat_tables(tables) if tables else pa.table({name: [] for name in _COLUMNS})
        if table.num_rows != self.info["sequences"]:
            raise DataError(
                f"{path} lists {self.info['sequences']} sequences but its tables hold {table.num_rows}; {AGAIN}"
            )
        names = [table[name].to_pylist() for name in ("subject", "condition", "view", "frames")]
        self.sequences = Sequences.of(zip(*names, strict=True))
        self._first = table["first_frame"].to_numpy()
        self._sha256 = table["sha256"].to_pylist()
        self._shard = np.repeat(np.arange(len(tables)), [part.num_rows for part in tables])

    def frames(self, index: int) -> Frame:
        """Frames of sequence ``index``, ``(T, 64, 64)``, a read-only view of the memory-mapped file."""
        first = int(self._first[index])
        return self._maps[self._shard[index]][first : first + int(self.sequences.frames[index])]

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        return [self._map(shard) for shard in range(self.info["shards"])]

    def _map(self, shard: int) -> np.ndarray:
        file = self.path / _frames_name(shard)
        expected = int(self.sequences.frames[self._shard == shard].sum())
        try:
            frames: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
        except _UNREADABLE as error:
            raise DataError(f"{file} cannot be read ({one_line(error)}); {AGAIN}") from error
        if frames.shape != (expected, SIZE, SIZE) or frames.dtype != np.uint8:
            raise DataError(f"{file} holds {frames.dtype} {frames.shape}, not uint8 {(expected, SIZE, SIZE)}; {AGAIN}")
        return frames

    @cached_property
    def quarantine(self) -> pa.Table:
        """What was left out: sequence, file (empty for a whole sequence) and reason.

        Raises:
            DataError: the table is damaged.
        """
        file = self.path / QUARANTINE
        try:
            return pq.read_table(file)
        except _UNREADABLE as error:
            raise DataError(f"{file} cannot be read ({one_line(error)}); {AGAIN}") from error

    def verify(self, advance: Callable[[int], object] = lambda sequences: None) -> None:
        """Read every frame and compare it with its checksum.

        Args:
            advance: called with the number of sequences that were read.

        Raises:
            DataError: names the first sequence whose frames changed.
        """
        for index, stated in enumerate(self._sha256):
            if _checksum(self.frames(index)) != stated:
                raise DataError(
                    f"{self.path / _frames_name(int(self._shard[index]))} is damaged: the frames of "
                    f"{self.sequences.key[index]} do not fit their checksum; {AGAIN}"
                )
            advance(1)


class PackWriter:
    """Write a packed set shard by shard; opened on an unfinished folder it goes on behind the last whole shard.

    Args:
        path: the folder to make.
        plan: what is packed and how; a resumed job must state the same.
        frames_per_shard: a shard is closed once it holds this many frames.

    Attributes:
        done: keys of sequences that an earlier job has dealt with, left out or not.

    Raises:
        OutputError: the folder holds a finished set, an unfinished one of another plan, or something else.
    """

    def __init__(self, path: Path, plan: dict[str, Any], *, frames_per_shard: int) -> None:
        self.path, self._plan, self._limit = path, plan, frames_per_shard
        if is_packed(path):
            raise OutputError(f"{path} already holds packed silhouettes; choose another output path or remove it")
        claim(path, plan)
        self._shard, self._totals = 0, {"sequences": 0, "frames": 0}
        self.done: set[str] = set()
        self._subjects: set[str] = set()
        self._faults: list[tuple[str, str, str]] = []
        while (path / _rows_name(self._shard)).exists():
            table = _read_table(path, self._shard)
            self._faults += [(note["sequence"], note["file"], note["reason"]) for note in _read_faults(table)]
            self._count(table)
            self._shard += 1
        self.done |= {fault[0] for fault in self._faults}
        self._new_faults: list[tuple[str, str, str]] = []
        self._frames: list[Frame] = []
        self._rows: list[tuple[str, str, str, str, int, int, str]] = []

    def add(self, subject: str, condition: str, view: str, frames: Frame) -> None:
        """Append a sequence ``(T, 64, 64)``.

        Raises:
            OutputError: a shard cannot be written.
        """
        key = f"{subject}/{condition}/{view}"
        first = sum(map(len, self._frames))
        self._rows.append((key, subject, condition, view, first, len(frames), _checksum(frames)))
        self._frames.append(frames)
        if first + len(frames) >= self._limit:
            self._close_shard()

    def fault(self, key: str, file: str, reason: str) -> None:
        """Note that an image, or with an empty ``file`` a whole sequence, is left out."""
        self._new_faults.append((key, file, reason))

    def finish(self, **notes: Any) -> Packed:
        """Close the last shard and write the index.

        Args:
            notes: further entries of the index.

        Raises:
            DataError: there is no sequence at all.
            OutputError: a file cannot be written.
        """
        if self._rows:
            self._close_shard()
        faults = self._faults + self._new_faults
        if not self._totals["sequences"]:
            file, reason = faults[0][1:]
            why = reason if file in reason else f"{file}: {reason}"
            raise DataError(f"not one sequence can be packed into {self.path}; the first fault: {why}")
        columns = zip(*faults, strict=True) if faults else ((), (), ())
        with replacing(self.path / QUARANTINE) as temporary:
            pq.write_table(pa.table([pa.array(column, pa.string()) for column in columns], schema=_FAULTS), temporary)
        index = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "made_by": f"sgela_fast {__version__}",
            "size": [SIZE, SIZE],
            "shards": self._shard,
            **self._totals,
            "subjects": len(self._subjects),
            "left_out_frames": sum(bool(file) for _, file, _ in faults),
            "left_out_sequences": sum(not file for _, file, _ in faults),
            "plan": self._plan,
            **notes,
        }
        write_json(self.path / INDEX, index)
        (self.path / PLAN).unlink(missing_ok=True)
        return Packed(self.path)

    def _close_shard(self) -> None:
        frames = np.concatenate(self._frames)
        write_file(self.path / _frames_name(self._shard), lambda file: np.save(file, frames, allow_pickle=False))
        columns = dict(zip(_COLUMNS, map(list, zip(*self._rows, strict=True)), strict=True))
        notes = [dict(zip(_FAULTS.names, fault, strict=True)) for fault in self._new_faults]
        table = pa.table(columns).replace_schema_metadata({"quarantine": json.dumps(notes)})
        with replacing(self.path / _rows_name(self._shard)) as temporary:
            pq.write_table(table, temporary)
        self._shard += 1
        self._count(table)
        self._faults += self._new_faults
        self._frames, self._rows, self._new_faults = [], [], []

    def _count(self, table: pa.Table) -> None:
        self.done.update(table["key"].to_pylist())
        self._subjects.update(table["subject"].to_pylist())
        self._totals["sequences"] += table.num_rows
        self._totals["frames"] += sum(table["frames"].to_pylist())


def _frames_name(shard: int) -> str:
    return f"frames-{shard:05d}.npy"


def _rows_name(shard: int) -> str:
    return f"sequences-{shard:05d}.parquet"


def _checksum(frames: Frame) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()


def _read_table(path: Path, shard: int) -> pa.Table:
    file = path / _rows_name(shard)
    try:
        return pq.read_table(file).select(list(_COLUMNS))
    except _UNREADABLE as error:
        raise DataError(f"{file} cannot be read ({one_line(error)}); {AGAIN}") from error


def _read_faults(table: pa.Table) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((table.schema.metadata or {}).get(b"quarantine", b"[]"))
    return found


def _read_index(path: Path) -> dict[str, Any]:
    file = path / INDEX
    try:
        info: dict[str, Any] = json.loads(file.read_text())
        schema, version = info["schema"], info["schema_version"]
        if not (type(info["shards"]) is type(info["sequences"]) is int and 0 < info["shards"] <= info["sequences"]):
            raise ValueError(f"{info['shards']!r} shards of {info['sequences']!r} sequences")
    except _UNREADABLE as error:
        raise DataError(f"{file} is damaged ({one_line(error)}); {AGAIN}") from error
    if (schema, version) != (SCHEMA, SCHEMA_VERSION):
        raise DataError(
            f"{file} is {schema!r} version {version} but this release reads {SCHEMA!r} version {SCHEMA_VERSION}; "
            f"{AGAIN} or use a matching release"
        )
    return info
