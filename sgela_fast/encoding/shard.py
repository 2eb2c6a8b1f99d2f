"""A part of a store: a file of values, a table of their windows, and the receipt that both are whole on disk."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sgela_fast.atomic import write_file, write_json
from sgela_fast.encoding.schema import REBUILD, VALUES_CHECKSUM, receipt_name, rows_name, rows_schema, values_name
from sgela_fast.encoding.storage import NUMPY, Array
from sgela_fast.errors import DataError, one_line

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Shard:
    """What ``store.json`` lists of one part.

    Attributes:
        part: number in the file names.
        windows: rows of the table and of the values.
        values_bytes: size of the ``.npy`` file.
        values_sha256: of the whole ``.npy`` file.
        rows_bytes: size of the ``.parquet`` file.
        rows_sha256: of the whole ``.parquet`` file.
    """

    part: int
    windows: int
    values_bytes: int
    values_sha256: str
    rows_bytes: int
    rows_sha256: str

    @classmethod
    def listed(cls, entry: Mapping[str, Any]) -> Shard:
        """The shard of an entry of ``store.json`` or of a receipt."""
        return cls(**{item.name: entry[item.name] for item in fields(cls)})

    def fault(self, folder: Path, *, deep: bool) -> str | None:
        """What is wrong with the part's files, in a sentence that names the file; ``None`` if nothing is.

        Args:
            folder: the store.
            deep: read every byte and compare it with its checksum; otherwise only the sizes are looked at.
        """
        for name, size, digest in (
            (values_name(self.part), self.values_bytes, self.values_sha256),
            (rows_name(self.part), self.rows_bytes, self.rows_sha256),
        ):
            path = folder / name
            try:
                found = path.stat().st_size
                if found != size:
                    return f"{path} cannot be read (it has {found:,} of {size:,} bytes); {REBUILD}"
                if deep and file_sha256(path) != digest:
                    return f"{path} does not fit its checksum; {REBUILD}"
            except OSError as error:
                return f"{path} cannot be read ({error.strerror or error}); {REBUILD}"
        return None


@dataclass(frozen=True)
class Receipt:
    """What encoding one unit left on disk; its file commits the part.

    Attributes:
        shard: the part.
        plan: hash of the plan that the unit belongs to.
        recordings: recordings that begin in the unit and were encoded.
        invalid: windows with a lost joint.
        left_out: rows of the quarantine table.
    """

    shard: Shard
    plan: str
    recordings: int
    invalid: int
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Commit the part."""
        content = asdict(self)
        write_json(folder / receipt_name(self.shard.part), {**content, "check": _digest(content)})

    @classmethod
    def read(cls, folder: Path, part: int) -> Receipt | None:
        """The receipt of a part, ``None`` if there is none or it is damaged."""
        try:
            content = json.loads((folder / receipt_name(part)).read_text())
            check = content.pop("check")
            receipt = cls(**{**content, "shard": Shard.listed(content["shard"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return receipt if check == _digest(asdict(receipt)) and receipt.shard.part == part else None


def write_shard(
    folder: Path, part: int, values: Array, columns: Mapping[str, Any], further: Sequence[str], dtype: str
) -> Shard:
    """Write the values and then the table of one part, each whole or not at all.

    Args:
        folder: the store.
        part: number of the part.
        values: ``(N, T, D)`` or ``(N, D)``, as they are stored.
        columns: entries of the table's columns, N each; columns that may be empty can be left out.
        further: names of the archive's further columns.
        dtype: of the store.

    Raises:
        OutputError: a file cannot be written; what was under its name stays.
    """
    values = np.ascontiguousarray(values, NUMPY[dtype])
    schema = rows_schema(further, dtype, values_sha256(values))
    nothing = [None] * len(values)
    table = pa.table({name: columns.get(name, nothing) for name in schema.names}, schema=schema)
    return _write_files(folder, part, values, table)


def write_shard_table(folder: Path, part: int, values: Array, table: pa.Table) -> Shard:
    """Write a part from values as they are stored and a table whose columns are those of the store."""
    values = np.ascontiguousarray(values)
    checksum = {VALUES_CHECKSUM: values_sha256(values).encode()}
    return _write_files(folder, part, values, table.combine_chunks().replace_schema_metadata(checksum))


def _write_files(folder: Path, part: int, values: Array, table: pa.Table) -> Shard:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    rows = buffer.getvalue()
    header = _npy_header(values)
    digest = hashlib.sha256(header)
    digest.update(values.data)
    size = len(header) + values.nbytes
    write_file(folder / values_name(part), lambda file: (file.write(header), file.write(values.data)), size=size)
    write_file(folder / rows_name(part), lambda file: file.write(rows), size=rows.size)
    return Shard(part, len(values), size, digest.hexdigest(), rows.size, hashlib.sha256(rows).hexdigest())


def read_rows(folder: Path, part: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a part.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / rows_name(part)
    try:
        return pq.read_table(path, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); {REBUILD}") from error


def read_names(folder: Path, part: int) -> list[str]:
    """Names of the columns of a part's table.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / rows_name(part)
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); {REBUILD}") from error


def open_values(folder: Path, part: int, shape: tuple[int, ...], dtype: str) -> Array:
    """Memory-map the values of a part, as they are stored.

    Raises:
        DataError: the file is missing or holds something else than ``shape`` and ``dtype``.
    """
    path = folder / values_name(part)
    try:
        values: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); {REBUILD}") from error
    if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != NUMPY[dtype]:
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive of arrays"
        raise DataError(f"{path} holds {found} where {dtype} {shape} is needed; {REBUILD}")
    return values


def values_sha256(values: Array) -> str:
    """SHA-256 of the numbers alone, as a part's table states it in its metadata."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _npy_header(values: Array) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
    return file.getvalue()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
