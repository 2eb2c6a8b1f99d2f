"""The shards of an archive: a file of frames and a table of recordings each, with names, columns and checks.

:mod:`sgela_fast.skeletons.archive` describes the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sgela_fast.errors import DataError, one_line
from sgela_fast.skeletons.layouts import Layout
from sgela_fast.skeletons.recording import Recording, lost_joints

FIXED_COLUMNS = ("recording", "person", "shard", "first_frame", "frames", "fps", "lost_joints", "source")
CHECKSUM = "frames_sha256"
_UNREADABLE = (OSError, pa.ArrowException, KeyError, ValueError, TypeError, OverflowError)


@dataclass(frozen=True)
class Row:
    """What an archive knows about one recording without touching its frames."""

    recording: str
    person: str | None
    shard: int
    first_frame: int
    frames: int
    fps: float
    lost_joints: int
    source: str
    extra: dict[str, str]


def frames_name(shard: int) -> str:
    """File name of a shard's frames."""
    return f"frames-{shard:05d}.npy"


def rows_name(shard: int) -> str:
    """File name of a shard's table."""
    return f"recordings-{shard:05d}.parquet"


def read_shard_table(path: Path, shard: int) -> pa.Table:
    """The table of one committed shard, with every column.

    Raises:
        DataError: the table is missing, damaged, or lacks a column.
    """
    file = path / rows_name(shard)
    try:
        table = pq.read_table(file)
        table.select([*FIXED_COLUMNS, CHECKSUM])
    except _UNREADABLE as error:
        raise _damaged(file, error) from error
    return table


def table_rows(table: pa.Table, file: Path) -> list[Row]:
    """The rows of a shard's table or of a slice of it; ``file`` is named when they are damaged.

    Raises:
        DataError: a cell cannot be read.
    """
    try:
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
    except _UNREADABLE as error:
        raise _damaged(file, error) from error
    further = [name for name in columns if name not in FIXED_COLUMNS and name != CHECKSUM]
    return [
        Row(
            **{name: columns[name][index] for name in FIXED_COLUMNS},
            extra={name: columns[name][index] for name in further if columns[name][index] is not None},
        )
        for index in range(table.num_rows)
    ]


def read_shard_rows(path: Path, shard: int) -> list[Row]:
    """The rows of one committed shard.

    Raises:
        DataError: the table is missing or damaged.
    """
    return table_rows(read_shard_table(path, shard), path / rows_name(shard))


def count_shard_rows(path: Path, shard: int) -> int:
    """Recordings in one committed shard, without reading its rows.

    Raises:
        DataError: the table is missing or damaged.
    """
    file = path / rows_name(shard)
    try:
        return int(pq.read_metadata(file).num_rows)
    except _UNREADABLE as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} cannot be read ({one_line(error)}); convert the source again")


def open_shard_frames(path: Path, shard: int, rows: Sequence[Row], layout: Layout) -> np.ndarray:
    """Memory-map the frames of one shard, ``(frames, J, 3)`` float32.

    Raises:
        DataError: the file is missing, cut off, or does not hold the frames that ``rows`` list.
    """
    file = path / frames_name(shard)
    try:
        frames: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be read ({one_line(error)}); convert the source again") from error
    needed = sum(row.frames for row in rows)
    if frames.dtype != np.float32 or frames.shape != (needed, len(layout), 3):
        raise DataError(
            f"{file} holds {frames.dtype} {frames.shape} where float32 ({needed}, {len(layout)}, 3) is needed; convert "
            "the source again"
        )
    return frames


def checksum(joints: np.ndarray) -> str:
    """SHA-256 of a recording's frames as they lie in the archive."""
    return hashlib.sha256(np.ascontiguousarray(joints, np.float32).data).hexdigest()


def rows_table(recordings: Sequence[Recording], shard: int) -> pa.Table:
    """The table of a shard that holds ``recordings`` one behind the other."""
    first_frames = np.cumsum([0, *(item.frames for item in recordings)])[:-1]
    columns: dict[str, pa.Array] = {
        "recording": pa.array([item.name for item in recordings], pa.string()),
        "person": pa.array([item.person for item in recordings], pa.string()),
        "shard": pa.array([shard] * len(recordings), pa.int32()),
        "first_frame": pa.array(first_frames, pa.int64()),
        "frames": pa.array([item.frames for item in recordings], pa.int64()),
        "fps": pa.array([item.fps for item in recordings], pa.float64()),
        "lost_joints": pa.array([int(lost_joints(item.joints).sum()) for item in recordings], pa.int64()),
        "source": pa.array([item.source for item in recordings], pa.string()),
    }
    for name in sorted({name for item in recordings for name in item.extra}):
        columns[name] = pa.array([item.extra.get(name) for item in recordings], pa.string())
    columns[CHECKSUM] = pa.array([checksum(item.joints) for item in recordings], pa.string())
    return pa.table(columns)
