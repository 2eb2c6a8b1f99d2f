"""The recordings of an archive for encoding: in order, a shard's table at a time, whatever the archive's size.

Frames are read with plain reads and compared with their checksum. A memory map would end the process where a file
shrinks or a disk fails under it; here the recording at fault is told from the others.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgela_fast.encoding.schema import RESERVED
from sgela_fast.errors import DataError, SgelaError, one_line
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.shards import CHECKSUM, FIXED_COLUMNS, Row, checksum, frames_name, rows_name, table_rows


class Unusable(SgelaError, ValueError):
    """A recording that cannot be encoded; ``kind`` is one word on why."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass
class Entry:
    """A recording: its row in the archive and the SHA-256 of its frames, where that is known before they are read."""

    row: Row
    sha256: str


class Source:
    """The recordings of ``archive`` by their position.

    Attributes:
        counts: windows of each recording ``(recordings,)``, as its length has it.
        further: names of the archive's further columns.

    Raises:
        DataError: a table is damaged, or a further column has a name that the store keeps for itself.
    """

    def __init__(self, archive: Archive, window: WindowConfig) -> None:
        self.archive, self.window = archive, window
        counts: list[NDArray[np.int64]] = []
        further: set[str] = set()
        frames = 0
        for shard in range(archive.info["shards"]):
            table = archive.table(shard)
            further |= set(table.column_names) - {*FIXED_COLUMNS, CHECKSUM}
            lengths = self._lengths(table, shard)
            frames += int(lengths.sum())
            counts.append(_windows(lengths, window))
        if frames != archive.info.get("frames", frames):
            raise DataError(
                f"{archive.path} lists {archive.info['frames']} frames but its tables hold {frames}; convert the "
                "source again"
            )
        self._first = np.cumsum([0, *map(len, counts)])
        self.counts = np.concatenate(counts)
        taken = sorted(further & RESERVED)
        if taken:
            raise DataError(
                f"{archive.path} has a further column {taken[0]!r}, which the store keeps for itself; rename it in the "
                "manifest and convert the source again"
            )
        self.further = sorted(further)
        # One table and one open file: recordings are visited in order.
        self._table = lru_cache(maxsize=1)(archive.table)
        self._file: tuple[int, BinaryIO, int, tuple[int, ...], np.dtype[np.generic]] | None = None

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def name(self) -> str:
        """Where the recordings are, for messages."""
        return str(self.archive.path)

    def _lengths(self, table: pa.Table, shard: int) -> NDArray[np.int64]:
        file = self.archive.path / rows_name(shard)
        try:
            lengths = np.asarray(table.column("frames").to_numpy(), np.int64)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise DataError(f"{file} cannot be read ({one_line(error)}); convert the source again") from error
        if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) < 1 << 40:
            raise DataError(f"{file} cannot be read (impossible numbers of frames); convert the source again")
        return lengths

    def entries(self, first: int, stop: int) -> list[Entry]:
        """What the archive's tables say of the recordings at positions ``first`` to ``stop``.

        Raises:
            DataError: a table is damaged.
        """
        found: list[Entry] = []
        while first < stop:
            shard = int(np.searchsorted(self._first, first, side="right")) - 1
            until = min(stop, int(self._first[shard + 1]))
            piece = self._table(shard).slice(first - int(self._first[shard]), until - first)
            rows = table_rows(piece, self.archive.path / rows_name(shard))
            digests = piece.column(CHECKSUM).to_pylist()
            for row, digest in zip(rows, digests, strict=True):
                if type(row.recording) is not str or not isinstance(row.person, str | None):
                    raise DataError(
                        f"{self.archive.path / rows_name(shard)} has a recording without a name; convert the source "
                        "again"
                    )
                found.append(Entry(row, str(digest)))
            first = until
        return found

    def frames(self, entry: Entry) -> NDArray[np.float32]:
        """The recording's frames ``(frames, J, 3)``.

        Raises:
            Unusable: they cannot be read, are not those that were converted, are of other joints, or not one joint was
                ever seen.
        """
        row, joints = entry.row, len(self.archive.layout)
        name = frames_name(row.shard)
        try:
            _, file, offset, shape, dtype = self._opened(row.shard)
            if dtype != np.dtype("<f4") or len(shape) != 3 or shape[1:] != (joints, 3):
                raise Unusable("joints", f"{name} holds {dtype} {shape} where float32 (frames, {joints}, 3) is needed")
            size = row.frames * joints * 12
            data = os.pread(file.fileno(), size, offset + row.first_frame * joints * 12)
            while 0 < len(data) < size:
                more = os.pread(file.fileno(), size - len(data), offset + row.first_frame * joints * 12 + len(data))
                if not more:
                    break
                data += more
        except (OSError, ValueError, OverflowError, SyntaxError, TypeError) as error:
            if isinstance(error, Unusable):
                raise
            said = error.strerror if isinstance(error, OSError) else error
            raise Unusable("unreadable", f"{name} cannot be read ({said})") from error
        if len(data) < size:
            raise Unusable("unreadable", f"{name} ends within the recording's frames")
        frames = np.frombuffer(data, np.float32).reshape(row.frames, joints, 3)
        if checksum(frames) != entry.sha256:
            raise Unusable("damaged", f"{name} has other frames than were converted: they do not fit their checksum")
        if len(frames) and not np.isfinite(frames).all(axis=-1).any():
            raise Unusable("not finite", "not one joint of one frame has three finite coordinates")
        return frames

    def close(self) -> None:
        """Close the file that is open."""
        if self._file is not None:
            self._file[1].close()
        self._file = None

    def _opened(self, shard: int) -> tuple[int, BinaryIO, int, tuple[int, ...], np.dtype[np.generic]]:
        if self._file is not None and self._file[0] == shard:
            return self._file
        self.close()
        with ExitStack() as stack:
            file = stack.enter_context((self.archive.path / frames_name(shard)).open("rb"))
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if fortran:
                raise ValueError("the array lies in Fortran order")
            stack.pop_all()
        self._file = (shard, file, file.tell(), shape, dtype)
        return self._file


def _windows(lengths: NDArray[np.int64], window: WindowConfig) -> NDArray[np.int64]:
    """Windows of recordings with so many frames; the vector form of :meth:`WindowConfig.starts`."""
    room = lengths - 2 * window.trim - window.frames
    return np.asarray(np.where(room >= 0, room // window.step + 1, 0), np.int64)
