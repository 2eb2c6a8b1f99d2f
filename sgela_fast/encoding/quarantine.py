"""Recordings that could not be encoded, in ``quarantine.parquet`` beside the values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sgela_fast.atomic import write_file
from sgela_fast.encoding.schema import AGAIN, QUARANTINE, QUARANTINE_SCHEMA
from sgela_fast.errors import DataError, one_line

SHORT = "short"  # not at fault, only shorter than one window


def write_quarantine(folder: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write the table; without rows there is no file.

    Returns:
        The number of rows.

    Raises:
        OutputError: it cannot be written.
    """
    table = pa.Table.from_pylist(list(rows), schema=QUARANTINE_SCHEMA)
    write_quarantine_table(folder, table)
    return int(table.num_rows)


def write_quarantine_table(folder: Path, table: pa.Table) -> None:
    """Like :func:`write_quarantine`, from a table."""
    if not table.num_rows:
        (folder / QUARANTINE).unlink(missing_ok=True)
        return
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    content = buffer.getvalue()
    write_file(folder / QUARANTINE, lambda file: file.write(content), size=content.size)


def read_quarantine(folder: Path) -> pa.Table:
    """Recordings that a store left out: name, person, source, part, kind and reason; empty if there are none.

    Raises:
        DataError: the table is damaged.
    """
    path = folder / QUARANTINE
    if not path.exists():
        return QUARANTINE_SCHEMA.empty_table()
    try:
        return pq.read_table(path).select(QUARANTINE_SCHEMA.names).cast(QUARANTINE_SCHEMA)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({one_line(error)}); {AGAIN}") from error
