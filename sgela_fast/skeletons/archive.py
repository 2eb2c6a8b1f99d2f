"""The archive: skeleton recordings packed for streaming and random access.

A folder of

* ``archive.json``: schema version, layout with joint names and parents, units, axes, totals. Written last; a folder
  without it is an unfinished conversion.
* ``frames-00000.npy``: float32 ``(frames, J, 3)``, metres, y up; recordings one behind the other.
* ``recordings-00000.parquet``: one row per recording of that shard: name, person, first frame, frames, fps, lost
  joints, source, then every further column (``split``, ``sensor`` ...) as text. It is renamed into place after its
  frames and is the shard's commit point.

NumPy and any Parquet reader open it without this package. Frames are memory-mapped and never loaded whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sgela_fast._version import __version__
from sgela_fast.atomic import make_folder, replacing, write_file, write_json
from sgela_fast.errors import DataError, OutputError
from sgela_fast.skeletons.archive_index import INDEX, PLAN, SCHEMA, SCHEMA_VERSION, is_archive, read_index
from sgela_fast.skeletons.layouts import Layout, get_layout
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.shards import (
    CHECKSUM,
    FIXED_COLUMNS,
    Row,
    checksum,
    count_shard_rows,
    frames_name,
    open_shard_frames,
    read_shard_rows,
    read_shard_table,
    rows_name,
    rows_table,
)

__all__ = ["INDEX", "PLAN", "SCHEMA", "SCHEMA_VERSION", "Archive", "ArchiveWriter", "Row", "is_archive"]


class Archive:
    """Read access to an archive folder.

    Args:
        path: the folder.

    Raises:
        DataError: the folder is not a complete archive of a known version, or a shard is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info = read_index(self.path)
        self.layout: Layout = get_layout(self.info["layout"]["name"])
        if tuple(self.info["layout"].get("joints", ())) != self.layout.joints:
            raise DataError(
                f"{self.path / INDEX} lists other joints for layout {self.layout.name!r} than this release knows; "
                "convert the source again"
            )
        self._counts = [count_shard_rows(self.path, shard) for shard in range(self.info["shards"])]
        if sum(self._counts) != self.info["recordings"]:
            raise DataError(
                f"{self.path} lists {self.info['recordings']} recordings but its tables hold {sum(self._counts)}; "
                "convert the source again"
            )

    def __len__(self) -> int:
        return sum(self._counts)

    @cached_property
    def rows(self) -> list[Row]:
        """What is known of every recording: about a kilobyte each, so read when first asked for.

        Raises:
            DataError: a table is damaged.
        """
        return [row for shard in range(self.info["shards"]) for row in read_shard_rows(self.path, shard)]

    def table(self, shard: int) -> pa.Table:
        """The table of one shard, a row per recording, the frames' checksum (``frames_sha256``) included.

        Raises:
            DataError: the table is damaged.
        """
        return read_shard_table(self.path, shard)

    @cached_property
    def _by_name(self) -> dict[str, Row]:
        return {row.recording: row for row in self.rows}

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        return [self._open_shard(shard) for shard in range(self.info["shards"])]

    def _open_shard(self, shard: int) -> np.ndarray:
        return open_shard_frames(self.path, shard, [row for row in self.rows if row.shard == shard], self.layout)

    def frames_of(self, row: Row) -> np.ndarray:
        """The recording's frames, ``(frames, J, 3)`` float32, a read-only view of the memory-mapped file."""
        return self._shards[row.shard][row.first_frame : row.first_frame + row.frames]

    def row(self, name: str) -> Row:
        """The row of the recording called ``name``.

        Raises:
            DataError: there is no such recording.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise DataError(f"{self.path} has no recording {name!r}; see `sgela-fast inspect {self.path}`") from None

    def __getitem__(self, name: str) -> Recording:
        row = self.row(name)
        return Recording(
            name=row.recording,
            joints=self.frames_of(row),
            layout=self.layout.name,
            fps=row.fps,
            person=row.person,
            source=row.source,
            extra=dict(row.extra),
        )

    def __iter__(self) -> Iterator[Recording]:
        for row in self.rows:
            yield self[row.recording]

    @property
    def persons(self) -> list[str]:
        """Known identities, sorted."""
        return sorted({row.person for row in self.rows if row.person is not None})

    def select(self, column: str, value: str) -> list[Row]:
        """Rows whose further column ``column`` (such as ``split``) equals ``value``.

        Raises:
            DataError: no recording has that column, or none has that value.
        """
        known = {row.extra[column] for row in self.rows if column in row.extra}
        if not known:
            columns = sorted({name for row in self.rows for name in row.extra})
            raise DataError(f"{self.path} has no column {column!r}; its columns are: {', '.join(columns) or 'none'}")
        rows = [row for row in self.rows if row.extra.get(column) == value]
        if not rows:
            raise DataError(
                f"column {column!r} of {self.path} never equals {value!r}; it holds: {', '.join(sorted(known))}"
            )
        return rows

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the tables and the frame checksums: names the content, not the place."""
        digest = hashlib.sha256(json.dumps(self.info["layout"], sort_keys=True).encode())
        for shard in range(self.info["shards"]):
            table = self.table(shard).select(["recording", "person", "frames", CHECKSUM])
            for recording, person, frames, stated in zip(*(column.to_pylist() for column in table), strict=True):
                digest.update(f"{recording}\0{person}\0{frames}\0{stated}\n".encode())
        return digest.hexdigest()

    def verify(self) -> None:
        """Read every frame and compare it with its checksum.

        Raises:
            DataError: a shard is damaged; names the first recording whose frames changed.
        """
        for row, stated in zip(self.rows, self._checksums(), strict=True):
            if checksum(self.frames_of(row)) != stated:
                raise DataError(
                    f"{self.path / frames_name(row.shard)} is damaged: the frames of {row.recording!r} do not "
                    "fit their checksum; convert the source again"
                )

    def _checksums(self) -> list[str]:
        sums: list[str] = []
        for shard in range(self.info["shards"]):
            table = pq.read_table(self.path / rows_name(shard), columns=[CHECKSUM])
            sums.extend(table.column(0).to_pylist())
        return sums


class ArchiveWriter:
    """Write an archive shard by shard; a writer opened on an unfinished folder goes on behind its last whole shard.

    Args:
        path: the folder to make.
        layout: layout of every recording.
        plan: describes what is converted and how; a resumed conversion must state the same plan.
        frames_per_shard: a shard is closed once it holds this many frames.

    Raises:
        OutputError: the folder holds a finished archive, or an unfinished one made by another plan.
    """

    def __init__(
        self, path: str | Path, layout: Layout, plan: dict[str, Any], *, frames_per_shard: int = 1_000_000
    ) -> None:
        self.path = Path(path)
        self.layout = layout
        self.frames_per_shard = frames_per_shard
        if (self.path / INDEX).exists():
            raise OutputError(f"{self.path} already holds an archive; choose another output path or remove it")
        make_folder(self.path)
        self._plan = plan
        self._claim(plan)
        self.done: list[Row] = []
        self._shard = 0
        while (self.path / rows_name(self._shard)).exists():
            rows = read_shard_rows(self.path, self._shard)
            open_shard_frames(self.path, self._shard, rows, layout)
            self.done.extend(rows)
            self._shard += 1
        self._names = {row.recording for row in self.done}
        self._pending: list[Recording] = []
        self._pending_frames = 0

    def __len__(self) -> int:
        """Recordings that were added so far, on disk or not."""
        return len(self.done) + len(self._pending)

    def _claim(self, plan: dict[str, Any]) -> None:
        path = self.path / PLAN
        plan = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "layout": self.layout.name, **plan}
        if path.exists():
            try:
                found = json.loads(path.read_text())
            except ValueError:
                found = None
            if found != plan:
                raise OutputError(
                    f"{self.path} holds an unfinished conversion of other recordings or with other settings; remove "
                    "it or choose another output path"
                )
        elif any(self.path.iterdir()):
            raise OutputError(f"{self.path} is not empty and holds no archive; choose another output path")
        else:
            write_json(path, plan)

    def add(self, recording: Recording) -> None:
        """Append ``recording``; it is on disk once its shard is closed.

        Raises:
            DataError: another layout than the archive's, a name that is taken, or no frames.
            OutputError: the shard cannot be written; shards already written stay.
        """
        if recording.layout != self.layout.name:
            raise DataError(
                f"recording {recording.name!r} has layout {recording.layout!r} but the archive has "
                f"{self.layout.name!r}; name one target layout for all with --layout"
            )
        if recording.name in self._names:
            raise DataError(f"two recordings are called {recording.name!r}; rename one of them")
        reserved = sorted({*FIXED_COLUMNS, CHECKSUM} & recording.extra.keys())
        if reserved:
            raise DataError(
                f"recording {recording.name!r} ({recording.source}) has a further column called {reserved[0]!r}, which "
                "the archive keeps for itself; rename the column"
            )
        if recording.frames == 0:
            raise DataError(f"recording {recording.name!r} ({recording.source}) has no frames; leave it out")
        self._names.add(recording.name)
        self._pending.append(recording)
        self._pending_frames += recording.frames
        if self._pending_frames >= self.frames_per_shard:
            self.flush()

    def discard(self) -> None:
        """Remove what the writer made, unless it holds a whole shard already."""
        if not self.done:
            (self.path / PLAN).unlink(missing_ok=True)
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def flush(self) -> None:
        """Close the current shard: write its frames, then its table, which commits it."""
        if not self._pending:
            return
        write_file(self.path / frames_name(self._shard), self._write_frames)
        table = rows_table(self._pending, self._shard)
        with replacing(self.path / rows_name(self._shard)) as temporary:
            pq.write_table(table, temporary)
        self.done.extend(read_shard_rows(self.path, self._shard))
        self._pending.clear()
        self._pending_frames = 0
        self._shard += 1

    def _write_frames(self, file: BinaryIO) -> None:
        # Piece by piece: joining the recordings first would double the memory that a shard takes.
        shape = (self._pending_frames, len(self.layout), 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for item in self._pending:
            file.write(np.ascontiguousarray(item.joints, "<f4").data)

    def finish(self, **notes: Any) -> Archive:
        """Close the last shard, write ``archive.json`` and open the result.

        Raises:
            DataError: nothing was added.
        """
        self.flush()
        if not self.done:
            raise DataError(f"nothing to write into {self.path}: the source has no usable recording")
        write_json(
            self.path / INDEX,
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "made_by": f"sgela_fast {__version__}",
                "layout": {
                    "name": self.layout.name,
                    "joints": list(self.layout.joints),
                    "parents": list(self.layout.parents),
                },
                "units": "metre",
                "axes": "right-handed, y up, float32 (frames, joints, xyz)",
                "shards": self._shard,
                "recordings": len(self.done),
                "frames": sum(row.frames for row in self.done),
                "persons": len({row.person for row in self.done if row.person is not None}),
                "plan": self._plan,
                **notes,
            },
        )
        (self.path / PLAN).unlink(missing_ok=True)
        return Archive(self.path)
