"""The format of a store: file names, columns, and what ``store.json`` must say.

:mod:`sgela_fast.encoding.store` describes the folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from sgela_fast._version import __version__
from sgela_fast.errors import DataError

SCHEMA = "sgela-fast/store"
SCHEMA_VERSION = 2
READABLE = (1, 2)
INDEX = "store.json"
UNFINISHED = "unfinished.json"
QUARANTINE = "quarantine.parquet"
LOCK = ".lock"
SEARCH_INDEX = "index"  # a folder that searching derives from the values
VALUES_CHECKSUM = b"values_sha256"
FEATURES = ("ages", "states", "strips")
POOLINGS = ("none", "mean", "max")
DTYPES = ("float32", "float16", "bfloat16", "int8")
AGAIN = "encode the archive again"
REBUILD = "encode the archive again (--resume rebuilds what is damaged alone)"

_PER_WINDOW = [
    pa.field("window", pa.int64(), nullable=False),
    pa.field("recording", pa.string(), nullable=False),
    pa.field("person", pa.string()),
    pa.field("window_start", pa.int32(), nullable=False),
    pa.field("frames", pa.int32(), nullable=False),
    pa.field("valid", pa.bool_(), nullable=False),
]
QUALITY = pa.field("quality", pa.float32())
SOURCE = pa.field("source_sha256", pa.string())
SCALE = pa.field("scale", pa.float32(), nullable=False)
RESERVED = frozenset(field.name for field in (*_PER_WINDOW, QUALITY, SOURCE, SCALE))
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("recording", pa.string(), nullable=False),
        pa.field("person", pa.string()),
        pa.field("source", pa.string()),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
PART_FILE = re.compile(r"part-\d{5,}\.(npy|parquet|json)")
TEMPORARY_FILE = re.compile(r"\..*\.tmp")


def values_name(part: int) -> str:
    """File name of a part's values."""
    return f"part-{part:05d}.npy"


def rows_name(part: int) -> str:
    """File name of a part's table."""
    return f"part-{part:05d}.parquet"


def receipt_name(part: int) -> str:
    """File name of the record that commits a part of an unfinished store."""
    return f"part-{part:05d}.json"


def rows_schema(further: Iterable[str], dtype: str, checksum: str) -> pa.Schema:
    """Columns of a part's table.

    Args:
        further: names of the archive's further columns, all nullable text.
        dtype: of the stored values; ``int8`` has a scale for each row.
        checksum: SHA-256 of the values' bytes, for the metadata.
    """
    scale = [SCALE] if dtype == "int8" else []
    text = [pa.field(name, pa.string()) for name in sorted(further)]
    return pa.schema([*_PER_WINDOW, QUALITY, SOURCE, *scale, *text], metadata={VALUES_CHECKSUM: checksum})


def head() -> dict[str, Any]:
    """The first entries of every ``store.json``."""
    return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "made_by": f"sgela_fast {__version__}"}


def implied_feature(settings: Mapping[str, Any]) -> str:
    """What a store holds whose settings do not say it, as those of earlier releases.

    They were AGEs, or what was encoded in their place by a model without attention, its encoded gait states.
    """
    model = settings.get("model")
    return "states" if isinstance(model, Mapping) and model.get("attention") == "none" else "ages"


def read_index(path: Path) -> dict[str, Any]:
    """The content of ``store.json``; where it says nothing of the feature, :func:`implied_feature` does.

    Raises:
        DataError: ``path`` is not a finished store of a version that this release reads, or its index is damaged.
    """
    index = path / INDEX
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the folder that `sgela-fast encode` made")
    if not index.exists():
        if (path / UNFINISHED).exists():
            raise DataError(f"{path} is an unfinished store; finish it with `sgela-fast encode` and --resume")
        if (path / rows_name(0)).exists():
            raise DataError(f"{path} is an unfinished store; remove it and {AGAIN}")
        raise DataError(f"{path} is not a store: it has no {INDEX}; make one with `sgela-fast encode`")
    try:
        info: dict[str, Any] = json.loads(index.read_text())
        schema, version = info["schema"], info["schema_version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{index} is damaged ({error!r}); {AGAIN}") from error
    if schema != SCHEMA or version not in READABLE:
        raise DataError(
            f"{index} is {schema!r} version {version} but this release reads {SCHEMA!r} up to version "
            f"{SCHEMA_VERSION}; {AGAIN} or use a matching release"
        )
    for name in ("parts", "windows", "frames", "dim"):
        if type(info.get(name)) is not int or not 0 < info[name] < 1 << 50:
            raise DataError(f"{index} is damaged ({name} is {info.get(name)!r}); {AGAIN}")
    info.setdefault("feature", implied_feature(info))
    for name, choices in (("feature", FEATURES), ("pooling", POOLINGS), ("dtype", DTYPES)):
        if info.get(name) not in choices:
            raise DataError(f"{index} is damaged ({name} is {info.get(name)!r}); {AGAIN}")
    if version > 1:
        _check_shards(info, index)
    return info


def _check_shards(info: dict[str, Any], index: Path) -> None:
    try:
        shards = [(s["part"], s["windows"], s["values_bytes"], s["rows_bytes"]) for s in info["shards"]]
        digests = [(s["values_sha256"], s["rows_sha256"]) for s in info["shards"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{index} is damaged (shards: {error!r}); {AGAIN}") from error
    numbers = [number for shard in shards for number in shard]
    rising = all(one[0] < other[0] for one, other in pairwise(shards))
    texts = all(type(text) is str for digest in digests for text in digest)
    if not (texts and all(type(number) is int and 0 <= number < 1 << 50 for number in numbers) and rising):
        raise DataError(f"{index} is damaged (shards holds impossible numbers); {AGAIN}")
    if len(shards) != info["parts"]:
        raise DataError(f"{index} is damaged (parts is {info['parts']} but {len(shards)} shards are listed); {AGAIN}")
