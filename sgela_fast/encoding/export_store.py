"""A store as Parquet files that hold the values beside the rows, for tools that read nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sgela_fast.atomic import make_folder, replacing, writing
from sgela_fast.encoding.schema import SCALE, rows_name
from sgela_fast.encoding.shard import read_rows
from sgela_fast.encoding.storage import unpack
from sgela_fast.encoding.store import Store
from sgela_fast.errors import OutputError

VALUES = "values"


def export_parquet(store: str | Path | Store, out: str | Path) -> list[Path]:
    """Write one Parquet file for each part: its columns, and the values as lists of fixed length without nulls.

    Values of a float16 store stay float16; bfloat16 and int8 become float32. The metadata entry ``shape`` of the column
    ``values`` says how a list is to be reshaped.

    Args:
        store: a store or its folder.
        out: folder for the files; new or empty.

    Returns:
        The files.

    Raises:
        DataError: the store is damaged.
        OutputError: ``out`` is not empty or cannot be written.
    """
    opened, folder = store if isinstance(store, Store) else Store(store), make_folder(Path(out))
    with writing(folder):
        if any(folder.iterdir()):
            raise OutputError(f"{folder} is not empty; choose another output path")
    kind = pa.float16() if opened.dtype == "float16" else pa.float32()
    files = []
    for part in opened.parts:
        table = read_rows(opened.path, part)
        stored = opened.raw(part)
        if kind == pa.float16():
            values = np.ascontiguousarray(stored)
        else:
            scales = table[SCALE.name].to_numpy() if opened.dtype == "int8" else None
            values = unpack(stored, opened.dtype, scales)
        length = int(np.prod(opened.shape))
        item = pa.field("item", kind, nullable=False)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind), type=pa.list_(item, length))
        shape = ",".join(map(str, opened.shape))
        field = pa.field(VALUES, lists.type, nullable=False, metadata={"shape": shape})
        files.append(folder / rows_name(part))
        with replacing(files[-1]) as temporary:
            # Embeddings hardly compress, and a dictionary of them is larger than they are.
            plain = table.replace_schema_metadata(None).append_column(field, lists)
            names = list(table.column_names)
            pq.write_table(plain, temporary, compression="none", use_dictionary=names, write_statistics=names)
    return files
