"""A store as Parquet files that hold the values beside the rows, for tools that read nothing else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sgela_fast.atomic import make_folder, open_new, sync_folder, writing
from sgela_fast.encoding.schema import LOCK, SCALE, TEMPORARY_FILE, rows_name
from sgela_fast.encoding.shard import read_rows
from sgela_fast.encoding.storage import unpack
from sgela_fast.encoding.store import Store
from sgela_fast.errors import OutputError
from sgela_fast.locking import exclusive

VALUES = "values"


def export_parquet(store: str | Path | Store, out: str | Path) -> list[Path]:
    """Write one Parquet file for each part: its columns, and the values as lists of fixed length without nulls.

    Values of a float16 store stay float16; bfloat16 and int8 become float32. The metadata entry ``shape`` of the column
    ``values`` says how a list is to be reshaped. No file has its name before all are written, so that half an export
    is not taken for a whole one.

    Args:
        store: a store or its folder.
        out: folder for the files; new or empty.

    Returns:
        The files.

    Raises:
        DataError: the store is damaged.
        OutputError: ``out`` is not empty, is in use, or cannot be written.
    """
    opened, folder = store if isinstance(store, Store) else Store(store), Path(out)
    there = folder.is_dir()
    make_folder(folder)
    try:
        with exclusive(folder / LOCK, f"another process is writing into {folder}; choose another output path"):
            _clear(folder)
            try:
                for part in opened.parts:
                    _write_part(opened, part, folder)
                with writing(folder):
                    files = [_staged(folder, part).rename(folder / rows_name(part)) for part in opened.parts]
                    sync_folder(folder)
            finally:
                for part in opened.parts:
                    _staged(folder, part).unlink(missing_ok=True)
    except BaseException:
        if not there:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return files


def _staged(folder: Path, part: int) -> Path:
    """Where a part is until all are written."""
    return folder / f".{rows_name(part)}.tmp"


def _clear(folder: Path) -> None:
    """Remove what an export left that was killed; nothing else may be there."""
    with writing(folder):
        for file in folder.iterdir():
            if file.name != LOCK and not TEMPORARY_FILE.fullmatch(file.name):
                raise OutputError(f"{folder} is not empty; choose another output path")
        for file in folder.glob(".*.tmp"):
            file.unlink()


def _write_part(store: Store, part: int, folder: Path) -> None:
    kind = pa.float16() if store.dtype == "float16" else pa.float32()
    table = read_rows(store.path, part)
    stored = store.raw(part)
    if kind == pa.float16():
        values = np.ascontiguousarray(stored)
    else:
        scales = table[SCALE.name].to_numpy() if store.dtype == "int8" else None
        values = unpack(stored, store.dtype, scales)
    length = int(np.prod(store.shape))
    item = pa.field("item", kind, nullable=False)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind), type=pa.list_(item, length))
    shape = ",".join(map(str, store.shape))
    field = pa.field(VALUES, lists.type, nullable=False, metadata={"shape": shape})
    with writing(folder / rows_name(part)), open_new(_staged(folder, part)) as file:
        # Embeddings hardly compress, and a dictionary of them is larger than they are.
        plain = table.replace_schema_metadata(None).append_column(field, lists)
        names = list(table.column_names)
        pq.write_table(plain, file, compression="none", use_dictionary=names, write_statistics=names)
        file.flush()
        os.fsync(file.fileno())
