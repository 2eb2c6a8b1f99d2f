"""The folder ``index`` of a store: what searching derives from it, and whether that still fits.

* ``index.json``: schema, the store's hash, settings, recall. Written last.
* ``rows.npy`` (kind ``exact``): the prepared rows, float32 or float16, ``(N, D)``.
* ``index.faiss`` (kinds ``ivf`` and ``hnsw``): FAISS's own file; ``index.json`` has its SHA-256.
* ``threshold-LEVEL.json``: scores below which a person counts as unknown.

Nothing here is ever mended: a file that does not fit the store is refused, and building it again replaces it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from sgela_fast._version import __version__
from sgela_fast.atomic import make_folder, write_file, write_json, writing
from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError
from sgela_fast.search.config import IndexConfig
from sgela_fast.search.nearest import tiles
from sgela_fast.search.rows import Rows

FOLDER = "index"
INDEX = "index.json"
ROWS = "rows.npy"
FAISS = "index.faiss"
INDEX_SCHEMA = "sgela-fast/index"
THRESHOLD_SCHEMA = "sgela-fast/threshold"
SCHEMA_VERSION = 1
AGAIN = "build it again with `sgela-fast index`"
_PROBED_ROWS = 64


def folder_of(store: Store) -> Path:
    """Where a store's derived files are."""
    return store.path / FOLDER


def store_hash(store: Store) -> str:
    """SHA-256 of what a store says of itself; another content has another hash.

    ``store.json`` lists the checksums of all parts. A store of schema version 1 does not: there its table and some of
    its values are hashed too.
    """
    digest = hashlib.sha256(json.dumps(store.info, sort_keys=True, default=str).encode())
    if "shards" not in store.info:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, store.table.schema) as writer:
            writer.write_table(store.table)
        digest.update(sink.getvalue())
        digest.update(store.values(np.linspace(0, len(store) - 1, _PROBED_ROWS).astype(np.int64)).tobytes())
    return digest.hexdigest()


def write_head(path: Path, schema: str, store: Store, content: Mapping[str, Any]) -> None:
    """Write a JSON file of the folder, which names the state of the store that it was made from.

    Raises:
        OutputError: it cannot be written.
    """
    head = {"schema": schema, "schema_version": SCHEMA_VERSION, "made_by": f"sgela_fast {__version__}"}
    make_folder(path.parent)
    write_json(path, {**head, "store_hash": store_hash(store), "windows": len(store), **content})


def read_head(path: Path, schema: str, store: Store, again: str = AGAIN) -> dict[str, Any]:
    """Read what :func:`write_head` wrote.

    Raises:
        DataError: it is damaged, of another version, or made from another state of the store.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        found = (content["schema"], content["schema_version"])
        of_store = content["store_hash"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error!r}); {again}") from error
    if found != (schema, SCHEMA_VERSION):
        raise DataError(
            f"{path} is {found[0]!r} version {found[1]} but this release reads {schema!r} version {SCHEMA_VERSION}; "
            f"{again}"
        )
    if of_store != store_hash(store):
        raise DataError(f"{path} was made before {store.path} changed; {again}")
    return content


def remove(store: Store, *names: str) -> None:
    """Remove files of the folder, so that none is left that fits no longer.

    Raises:
        OutputError: one cannot be removed.
    """
    for name in names:
        with writing(folder_of(store) / name):
            (folder_of(store) / name).unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_rows(path: Path, rows: Rows, config: IndexConfig, advance: Callable[[int], None] = lambda rows: None) -> str:
    """Write all rows as one array, a tile at a time.

    Returns:
        The file's SHA-256.

    Raises:
        DataError: a value is not finite, or beyond the range of float16.
        OutputError: the file cannot be written.
    """
    dtype, digest = np.dtype(config.dtype), hashlib.sha256()
    head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(rows), rows.width)}

    def write(file: BinaryIO) -> None:
        hashed = _Hashed(file, digest)
        np.lib.format.write_array_header_1_0(hashed, head)
        for piece in tiles(np.arange(len(rows)), 0, rows.width, config.tile_mb):
            with np.errstate(over="ignore"):
                narrow = rows.block(piece).numpy().astype(dtype)
            if not np.isfinite(narrow).all():
                raise DataError(f"{path} cannot hold values beyond the range of {dtype}; use dtype float32")
            hashed.write(np.ascontiguousarray(narrow).data)
            advance(len(piece))

    write_file(path, write)
    return digest.hexdigest()


class _Hashed:
    """A file that is written from start to end and hashed meanwhile."""

    def __init__(self, file: BinaryIO, digest: hashlib._Hash) -> None:
        self.file, self.digest = file, digest

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)
        self.digest.update(data)
