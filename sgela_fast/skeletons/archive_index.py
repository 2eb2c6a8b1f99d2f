"""``archive.json``: what it says, and what is wrong with one that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sgela_fast.errors import DataError

SCHEMA = "sgela-fast/archive"
SCHEMA_VERSION = 1
INDEX = "archive.json"
PLAN = "unfinished.json"


def is_archive(path: Path) -> bool:
    """Whether ``path`` is a folder with a finished archive."""
    return (path / INDEX).is_file()


def read_index(path: Path) -> dict[str, Any]:
    """The content of the archive's ``archive.json``, checked.

    Raises:
        DataError: the folder is not a complete archive of a known version.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the folder that `sgela-fast convert` made")
    index = path / INDEX
    if not index.exists():
        if (path / PLAN).exists():
            raise DataError(f"{path} is an unfinished conversion; run the same `sgela-fast convert` again to finish it")
        raise DataError(f"{path} is not an archive: it has no {INDEX}; make one with `sgela-fast convert`")
    try:
        info: dict[str, Any] = json.loads(index.read_text())
        schema, version = info["schema"], info["schema_version"]
        _ = {info["layout"]["name"]: tuple(info["layout"].get("joints", ()))}
        if not (type(info["shards"]) is type(info["recordings"]) is int and 0 < info["shards"] <= info["recordings"]):
            raise ValueError(f"{info['shards']!r} shards of {info['recordings']!r} recordings")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{index} is damaged ({error!r}); convert the source again") from error
    if schema != SCHEMA:
        raise DataError(f"{index} is of kind {schema!r}, not {SCHEMA!r}; give a skeleton archive")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{index} has schema version {version} but this release reads version {SCHEMA_VERSION}; "
            "convert the source again or use a matching release"
        )
    return info
