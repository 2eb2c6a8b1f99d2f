"""The store of gait encodings: one row a window, values beside it.

A folder of

* ``store.json``: schema version, where the encodings come from (model hash and settings, archive fingerprint, windows)
  and totals. Written last; a folder without it is an unfinished job.
* ``part-00000.npy``: values, float32 or float16, ``(windows, T, D)``, or ``(windows, D)`` where the frames are pooled.
* ``part-00000.parquet``: one row per window of that part: running number, recording, person, first frame, frames,
  whether every joint was seen, then the archive's further columns (``split``, ``sensor`` ...). Its metadata holds the
  values' SHA-256. It is renamed into place after its values and is the part's commit point.

NumPy and any Parquet reader open it without this package. Values are memory-mapped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sgela_fast._version import __version__
from sgela_fast.atomic import make_folder, replacing, write_file, write_json, writing
from sgela_fast.errors import DataError, OutputError

SCHEMA = "sgela-fast/store"
SCHEMA_VERSION = 1
INDEX = "store.json"
CHECKSUM = b"values_sha256"
POOLINGS = ("none", "mean")
DTYPES = ("float32", "float16")
FIXED = pa.schema(
    [
        pa.field("window", pa.int64(), nullable=False),
        pa.field("recording", pa.string(), nullable=False),
        pa.field("person", pa.string()),
        pa.field("window_start", pa.int32(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("valid", pa.bool_(), nullable=False),
    ]
)
_PART = re.compile(r"part-\d{5}\.(npy|parquet)|\.part-\d{5}\.(npy|parquet)\..*\.tmp")
AGAIN = "encode the archive again"


class Store:
    """Read access to a store.

    Args:
        path: the folder.

    Attributes:
        info: content of ``store.json``.

    Raises:
        DataError: the folder is not a complete store of a known version, or a part is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info: Mapping[str, Any] = _read_index(self.path)
        self._counts = [self._count(part) for part in range(self.info["parts"])]
        self._first = np.cumsum([0, *self._counts])
        if self._first[-1] != self.info["windows"]:
            raise DataError(
                f"{self.path} lists {self.info['windows']} windows but its parts hold {self._first[-1]}; {AGAIN}"
            )

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def pooling(self) -> str:
        """``none`` or ``mean``."""
        return str(self.info["pooling"])

    @property
    def frames(self) -> int:
        """Frames of a window T."""
        return int(self.info["frames"])

    @property
    def width(self) -> int:
        """Features of one encoding D."""
        return int(self.info["dim"])

    @cached_property
    def table(self) -> pa.Table:
        """Columns of all windows, in the order of the values."""
        parts = [_read_parquet(self.path / rows_name(part)) for part in range(self.info["parts"])]
        try:
            return pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
        except pa.ArrowException as error:
            raise DataError(f"the tables of {self.path} do not fit together ({error}); {AGAIN}") from error

    def values(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Encodings of chosen windows.

        Args:
            rows: positions from 0, in any order, repeated or not, or a mask over all windows; ``None`` for all.

        Returns:
            ``(N, T, D)``, or ``(N, D)`` for a pooled store; float32, a copy.

        Raises:
            IndexError: a position or the mask's length lies outside the store.
        """
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows)
        if wanted.dtype == np.bool_:
            if wanted.shape != (len(self),):
                raise IndexError(f"a mask over {self.path} needs the shape ({len(self)},), not {wanted.shape}")
            wanted = np.flatnonzero(wanted)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(
                f"{self.path} has the windows 0 to {len(self) - 1}; {wanted.min()} to {wanted.max()} asked"
            )
        values = np.empty((len(wanted), *self._shape), np.float32)
        part_of = np.searchsorted(self._first, wanted, side="right") - 1
        for part in np.unique(part_of):
            mine = np.flatnonzero(part_of == part)
            values[mine] = self._parts[part][wanted[mine] - self._first[part]]
        return values

    def verify(self) -> None:
        """Read every value and compare each part with its checksum.

        Raises:
            DataError: names the part that is damaged.
        """
        for part, values in enumerate(self._parts):
            path = self.path / values_name(part)
            if _metadata(self.path / rows_name(part)).get(CHECKSUM, b"").decode() != _checksum(values):
                raise DataError(f"{path} does not fit its checksum; {AGAIN}")

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.width,) if self.pooling == "mean" else (self.frames, self.width)

    @cached_property
    def _parts(self) -> list[np.ndarray]:
        return [self._open(part) for part in range(self.info["parts"])]

    def _open(self, part: int) -> np.ndarray:
        path = self.path / values_name(part)
        try:
            values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); {AGAIN}") from error
        wanted = (self._counts[part], *self._shape)
        if values.shape != wanted or values.dtype != np.dtype(self.info["dtype"]):
            raise DataError(
                f"{path} holds {values.dtype} {values.shape} where {self.info['dtype']} {wanted} is needed; {AGAIN}"
            )
        return values

    def _count(self, part: int) -> int:
        path = self.path / rows_name(part)
        try:
            return int(pq.read_metadata(path).num_rows)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read ({error}); {AGAIN}") from error


class StoreWriter:
    """Write a store part by part; holds the windows of one part. Parts of an unfinished store are made anew.

    Args:
        path: the folder to make.
        info: entries of ``store.json``; must have ``pooling``, ``dtype``, ``frames`` and ``dim``.
        part_bytes: a part is closed once its values reach this size.

    Raises:
        OutputError: the folder holds a store or something else, or cannot be made.
    """

    def __init__(self, path: str | Path, info: Mapping[str, Any], *, part_bytes: int = 64 << 20) -> None:
        self.path, self.info, self.part_bytes = Path(path), dict(info), part_bytes
        if (self.path / INDEX).exists():
            raise OutputError(f"{self.path} already holds a store; choose another output path or remove it")
        make_folder(self.path)
        _clear_unfinished(self.path)
        self._dtype = np.dtype(self.info["dtype"])
        self._values: list[np.ndarray] = []
        self._columns: dict[str, list[Any]] = {}
        self._parts = self._windows = 0

    def add(self, values: np.ndarray, columns: Mapping[str, list[Any]]) -> None:
        """Append windows.

        Args:
            values: ``(N, T, D)`` or ``(N, D)``.
            columns: ``recording``, ``person``, ``window_start``, ``frames``, ``valid`` and any further text columns,
                N entries each; every call must name the same columns.

        Raises:
            OutputError: a part cannot be written.
        """
        self._values.append(values.astype(self._dtype))
        for name, entries in columns.items():
            self._columns.setdefault(name, []).extend(entries)
        if sum(piece.nbytes for piece in self._values) >= self.part_bytes:
            self._flush()

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
        head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "made_by": f"sgela_fast {__version__}"}
        counts = {"parts": self._parts, "windows": self._windows}
        write_json(self.path / INDEX, {**head, **self.info, **counts, **totals})
        return Store(self.path)

    def _flush(self) -> None:
        if not self._values:
            return
        values = np.concatenate(self._values)
        count = len(values)
        self._columns["window"] = list(range(self._windows, self._windows + count))
        further = [pa.field(name, pa.string()) for name in sorted(set(self._columns) - set(FIXED.names))]
        schema = pa.schema([*FIXED, *further], metadata={CHECKSUM: _checksum(values)})
        table = pa.table({name: self._columns[name] for name in schema.names}, schema=schema)
        write_file(self.path / values_name(self._parts), lambda file: _write_array(file, values))
        with replacing(self.path / rows_name(self._parts)) as temporary:
            pq.write_table(table, temporary)
        self._parts += 1
        self._windows += count
        self._values.clear()
        self._columns.clear()


def _clear_unfinished(path: Path) -> None:
    """Remove the parts that an interrupted job left; anything else in the folder is not ours to remove."""
    with writing(path):
        found = list(path.iterdir())
        strange = [file.name for file in found if not _PART.fullmatch(file.name)]
        if strange:
            raise OutputError(f"{path} holds {strange[0]!r}, which is no part of a store; choose another output path")
        for file in found:
            file.unlink()


def values_name(part: int) -> str:
    """File name of a part's values."""
    return f"part-{part:05d}.npy"


def rows_name(part: int) -> str:
    """File name of a part's table."""
    return f"part-{part:05d}.parquet"


def _write_array(file: BinaryIO, values: np.ndarray) -> None:
    # Not np.save: on a full disk it raises an error without the system's reason.
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
    file.write(np.ascontiguousarray(values).data)


def _checksum(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _metadata(path: Path) -> dict[bytes, bytes]:
    return dict(pq.read_schema(path).metadata or {})


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({error}); {AGAIN}") from error


def _read_index(path: Path) -> dict[str, Any]:
    index = path / INDEX
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the folder that `sgela-fast encode` made")
    if not index.exists():
        if (path / rows_name(0)).exists():
            raise DataError(f"{path} is an unfinished store; remove it and {AGAIN}")
        raise DataError(f"{path} is not a store: it has no {INDEX}; make one with `sgela-fast encode`")
    try:
        info: dict[str, Any] = json.loads(index.read_text())
        schema, version = info["schema"], info["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{index} is damaged ({error!r}); {AGAIN}") from error
    if schema != SCHEMA or version != SCHEMA_VERSION:
        raise DataError(
            f"{index} is {schema!r} version {version} but this release reads {SCHEMA!r} version {SCHEMA_VERSION}; "
            f"{AGAIN} or use a matching release"
        )
    for name in ("parts", "windows", "frames", "dim"):
        if type(info.get(name)) is not int or info[name] < 1:
            raise DataError(f"{index} is damaged ({name} is {info.get(name)!r}); {AGAIN}")
    for name, choices in (("pooling", POOLINGS), ("dtype", DTYPES)):
        if info.get(name) not in choices:
            raise DataError(f"{index} is damaged ({name} is {info.get(name)!r}); {AGAIN}")
    return info
