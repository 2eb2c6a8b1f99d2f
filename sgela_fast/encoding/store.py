"""The store of gait encodings: one row a window, values beside it.

A folder of

* ``store.json``: schema version, where the encodings come from (model hash and settings, archive fingerprint, windows),
  totals, and the list of parts with the checksums of their files. Written last; a folder without it is an unfinished
  job.
* ``part-00000.npy``: values, ``(windows, T, D)``, or ``(windows, D)`` where the frames are pooled; float32,
  float16, the bits of bfloat16 as uint16, or int8.
* ``part-00000.parquet``: one row per window of that part: number, recording, person, first frame, frames, whether every
  joint was seen, quality, hash of the recording, for int8 the scale, then the archive's further columns (``split``,
  ``sensor`` ...).
* ``quarantine.parquet``: recordings that were left out, and why; absent if there are none.

NumPy and any Parquet reader open it without this package. Values are memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sgela_fast.encoding.change import recover
from sgela_fast.encoding.quarantine import read_quarantine
from sgela_fast.encoding.schema import (
    AGAIN,
    REBUILD,
    SCALE,
    VALUES_CHECKSUM,
    read_index,
    rows_name,
    values_name,
)
from sgela_fast.encoding.shard import Shard, file_sha256, open_values, read_names, read_rows, values_sha256
from sgela_fast.encoding.storage import Array, unpack
from sgela_fast.errors import DataError, one_line

Rows = NDArray[np.integer[Any]] | NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Some windows of a store.

    Attributes:
        rows: positions in the store ``(N,)``.
        values: float32 ``(N, T, D)`` or ``(N, D)``.
        columns: the columns asked for, N entries each.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    columns: dict[str, list[Any]]


class Store:
    """Read access to a store.

    A change of the store that was interrupted is finished or taken back first.

    Args:
        path: the folder.

    Attributes:
        info: content of ``store.json``.

    Raises:
        DataError: the folder is not a complete store of a known version, or a part is damaged.
        OutputError: an interrupted change cannot be finished.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        recover(self.path)
        self.info: Mapping[str, Any] = read_index(self.path)
        self.parts: list[int] = list(range(self.info["parts"]))
        self._shards: list[Shard] = []
        if self.info["schema_version"] > 1:
            self._shards = [Shard.listed(entry) for entry in self.info["shards"]]
            self.parts = [shard.part for shard in self._shards]
            self._raise_first(shard.fault(self.path, deep=False) for shard in self._shards)
        self._counts = [s.windows for s in self._shards] or [self._count(part) for part in self.parts]
        self._first = np.cumsum([0, *self._counts])
        if self._first[-1] != self.info["windows"]:
            raise DataError(
                f"{self.path} lists {self.info['windows']} windows but its parts hold {self._first[-1]}; {AGAIN}"
            )

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def pooling(self) -> str:
        """``none``, ``mean`` or, for sequences of silhouettes, ``max``."""
        return str(self.info["pooling"])

    @property
    def feature(self) -> str:
        """``ages``, or ``states`` for encoded gait states."""
        return str(self.info["feature"])

    @property
    def dtype(self) -> str:
        """Of the stored values: ``float32``, ``float16``, ``bfloat16`` or ``int8``."""
        return str(self.info["dtype"])

    @property
    def frames(self) -> int:
        """Frames of a window T."""
        return int(self.info["frames"])

    @property
    def width(self) -> int:
        """Features of one encoding D."""
        return int(self.info["dim"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values of one window: ``(T, D)``, or ``(D,)`` if pooled."""
        return (self.frames, self.width) if self.pooling == "none" else (self.width,)

    @cached_property
    def table(self) -> pa.Table:
        """Columns of all windows, in the order of the values."""
        return self.columns()

    def columns(self, *names: str) -> pa.Table:
        """Some columns of all windows, in the order of the values; all columns if none is named.

        Raises:
            DataError: a part's table is damaged, or there is no such column.
        """
        known = read_names(self.path, self.parts[0]) if names else []
        missing = [name for name in names if name not in known]
        if missing:
            raise DataError(f"{self.path} has no column {missing[0]!r}; see `sgela-fast store info {self.path}`")
        parts = [read_rows(self.path, part, names or None) for part in self.parts]
        for part, table, count in zip(self.parts, parts, self._counts, strict=True):
            if table.num_rows != count:
                raise DataError(f"{self.path / rows_name(part)} has {table.num_rows} rows, not {count}; {REBUILD}")
        try:
            return pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
        except pa.ArrowException as error:
            raise DataError(f"the tables of {self.path} do not fit together ({one_line(error)}); {AGAIN}") from error

    @cached_property
    def quarantine(self) -> pa.Table:
        """Recordings that were left out: recording, person, source, part, kind, reason.

        Raises:
            DataError: the table is damaged.
        """
        return read_quarantine(self.path)

    def values(self, rows: Rows | None = None) -> NDArray[np.float32]:
        """Encodings of chosen windows.

        Args:
            rows: positions from 0, in any order, repeated or not, or a mask over all windows; ``None`` for all.

        Returns:
            ``(N, T, D)``, or ``(N, D)`` for a pooled store; float32, a copy.

        Raises:
            IndexError: as :meth:`positions`.
            DataError: a part is damaged.
        """
        wanted = self.positions(rows)
        values = np.empty((len(wanted), *self.shape), np.float32)
        part_of = np.searchsorted(self._first, wanted, side="right") - 1
        for part in np.unique(part_of):
            mine = np.flatnonzero(part_of == part)
            inside = wanted[mine] - self._first[part]
            scales = self._scales[wanted[mine]] if self.dtype == "int8" else None
            values[mine] = unpack(self._open[part][inside], self.dtype, scales)
        return values

    def batches(
        self,
        size: int,
        *,
        rows: Rows | None = None,
        columns: Sequence[str] = (),
        shuffle: bool = False,
        seed: int = 0,
    ) -> Iterator[Batch]:
        """The store piece by piece, in memory of one batch, for ``torch.from_numpy`` or anything else.

        Args:
            size: windows of a batch; the last may be smaller.
            rows: which windows, as for :meth:`values`.
            columns: columns of the table to go with the values.
            shuffle: in random order.
            seed: of the order.

        Raises:
            IndexError, DataError: as :meth:`values`, :meth:`columns`.
            ValueError: ``size`` is below 1.
        """
        if size < 1:
            raise ValueError(f"size is {size}; it must be at least 1")
        wanted = self.positions(rows)
        if shuffle:
            wanted = np.random.default_rng(seed).permutation(wanted)
        table = self.columns(*columns) if columns else None
        for start in range(0, len(wanted), size):
            mine = wanted[start : start + size]
            taken = {} if table is None else table.take(pa.array(mine)).to_pydict()
            yield Batch(mine, self.values(mine), taken)

    def verify(self) -> None:
        """Read every byte and compare each part with its checksums.

        Raises:
            DataError: names the first file that is damaged.
        """
        self._raise_first(self.faults())
        _ = self.quarantine

    def faults(self) -> Iterator[str]:
        """A sentence for each damaged part, as they are found; reads every byte."""
        if self._shards:
            for shard in self._shards:
                fault = shard.fault(self.path, deep=True)
                if fault is not None:
                    yield fault
            return
        for part, values in zip(self.parts, self._open, strict=True):
            metadata = dict(pq.read_schema(self.path / rows_name(part)).metadata or {})
            if metadata.get(VALUES_CHECKSUM, b"").decode() != values_sha256(values):
                yield f"{self.path / values_name(part)} does not fit its checksum; {AGAIN}"

    def shards(self) -> list[Shard]:
        """The parts with the checksums of their files; a store of version 1 is read for them."""
        if self._shards:
            return list(self._shards)
        found = []
        for part, count in zip(self.parts, self._counts, strict=True):
            files = [self.path / values_name(part), self.path / rows_name(part)]
            (values_bytes, values), (rows_bytes, rows) = [(file.stat().st_size, file_sha256(file)) for file in files]
            found.append(Shard(part, count, values_bytes, values, rows_bytes, rows))
        return found

    def raw(self, part: int) -> Array:
        """The values of part number ``part`` as they are stored, memory-mapped."""
        return self._open[self.parts.index(part)]

    def positions(self, rows: Rows | None) -> NDArray[np.int64]:
        """Positions ``(N,)`` of chosen windows, given as for :meth:`values`.

        Raises:
            IndexError: a position or the mask's length lies outside the store, or they are no whole numbers in a row.
        """
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows)
        if wanted.size == 0 and wanted.dtype != np.bool_:
            return np.empty(0, np.int64)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iub":
            raise IndexError(
                f"windows of {self.path} are chosen by whole numbers (N,) or a mask, not {wanted.dtype} {wanted.shape}"
            )
        if wanted.dtype == np.bool_:
            if wanted.shape != (len(self),):
                raise IndexError(f"a mask over {self.path} needs the shape ({len(self)},), not {wanted.shape}")
            wanted = np.flatnonzero(wanted)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(
                f"{self.path} has the windows 0 to {len(self) - 1}; {wanted.min()} to {wanted.max()} asked"
            )
        return wanted.astype(np.int64)

    @cached_property
    def _open(self) -> list[Array]:
        counted = zip(self.parts, self._counts, strict=True)
        return [open_values(self.path, part, (count, *self.shape), self.dtype) for part, count in counted]

    @cached_property
    def _scales(self) -> NDArray[np.float32]:
        return np.asarray(self.columns(SCALE.name)[SCALE.name].to_numpy(), np.float32)

    def _count(self, part: int) -> int:
        path = self.path / rows_name(part)
        try:
            return int(pq.read_metadata(path).num_rows)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read ({one_line(error)}); {AGAIN}") from error

    @staticmethod
    def _raise_first(faults: Iterator[str | None]) -> None:
        for fault in faults:
            if fault is not None:
                raise DataError(fault)
