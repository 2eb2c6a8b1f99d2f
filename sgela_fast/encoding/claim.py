"""Who may encode into a folder, with which settings, and what of an earlier attempt still holds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgela_fast.atomic import make_folder, write_json, writing
from sgela_fast.encoding.change import recover
from sgela_fast.encoding.manifest import receipts_of
from sgela_fast.encoding.schema import (
    INDEX,
    LOCK,
    PART_FILE,
    QUARANTINE,
    SCHEMA,
    SCHEMA_VERSION,
    SEARCH_INDEX,
    TEMPORARY_FILE,
    UNFINISHED,
    implied_feature,
    read_index,
)
from sgela_fast.errors import OutputError
from sgela_fast.locking import exclusive

# What the bytes of a store follow from; a job that goes on with another's parts must agree in all of it.
BINDING = (
    "model_hash",
    "archive_fingerprint",
    "layout",
    "model",
    "window",
    "feature",
    "pooling",
    "dtype",
    "precision",
    "backend",
    "device",
    "encoding",
)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the store in ``folder``.

    Raises:
        OutputError: another process is writing into it.
    """
    with exclusive(folder / LOCK, f"another process is writing into {folder}; wait for it or choose another --out"):
        yield


@contextmanager
def claimed(folder: Path, settings: Mapping[str, Any], plan: str, *, resume: bool) -> Iterator[dict[str, Any]]:
    """Make or take over the folder of a store for an encoding; gives the settings that it was begun with.

    Where the block fails before it commits a part, the folder is left as it was found.

    Args:
        folder: of the store.
        settings: entries of ``store.json`` that are known before the first window.
        plan: hash of the plan.
        resume: go on with what is there, finished or not.

    Raises:
        OutputError: it holds a store, other files, or an unfinished store that cannot be gone on with; it cannot be
            written; or another process is encoding into it.
    """
    there = folder.is_dir()
    recover(folder)
    _check_files(folder)
    make_folder(folder)
    fresh = False
    try:
        with locked(folder):
            fresh = not (folder / INDEX).exists() and not (folder / UNFINISHED).exists()
            begun = _begin(folder, {**settings, "plan": plan}) if fresh else _take_over(folder, settings, plan, resume)
            remove_temporary(folder)
            yield begun
    except BaseException:
        if fresh:
            _leave(folder, keep=there)
        raise


def _begin(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    write_json(folder / UNFINISHED, {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **settings})
    return settings


def _take_over(folder: Path, settings: Mapping[str, Any], plan: str, resume: bool) -> dict[str, Any]:
    finished = (folder / INDEX).exists()
    if not resume and finished:
        raise OutputError(f"{folder} already holds a store; choose another output path or remove it")
    if not resume:
        raise OutputError(f"{folder} holds an unfinished store; go on with --resume or remove it")
    if not finished:
        begun = _read_unfinished(folder)
        _check_same(folder, begun, settings, plan)
        return begun
    found = read_index(folder)
    _check_unchanged(folder, found)
    _check_same(folder, found, settings, plan)
    # Back to the state before its last step, in an order that may be cut short anywhere.
    begun = _begin(folder, {name: found.get(name, now) for name, now in {**settings, "plan": plan}.items()})
    for receipt in receipts_of(folder, found):
        receipt.write(folder)
    with writing(folder):
        (folder / INDEX).unlink()
    return begun


def _read_unfinished(folder: Path) -> dict[str, Any]:
    path = folder / UNFINISHED
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        version = found.pop("schema"), found.pop("schema_version")
        found.setdefault("feature", implied_feature(found))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OutputError(f"{path} is damaged ({error!r}); remove {folder} and encode the archive again") from error
    if version != (SCHEMA, SCHEMA_VERSION):
        raise OutputError(f"{folder} was begun by another release; finish it there, or remove it")
    return found


def _check_unchanged(folder: Path, found: Mapping[str, Any]) -> None:
    if found.get("changes") or "plan" not in found:
        raise OutputError(
            f"{folder} is not as `encode` left it ({', '.join(found.get('changes', [])) or 'made otherwise'}), so its "
            "parts cannot be encoded again one by one; encode the archive into another --out"
        )


def _check_same(folder: Path, found: Mapping[str, Any], settings: Mapping[str, Any], plan: str) -> None:
    for section in BINDING:
        before, now = found.get(section), settings[section]
        if isinstance(before, dict) and isinstance(now, dict):
            names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            difference = [(f"{section}.{name}", before.get(name), now.get(name)) for name in names]
        else:
            difference = [(section, before, now)] if before != now else []
        if difference:
            name, one, other = difference[0]
            raise OutputError(
                f"{folder} was begun with {name} = {_short(one)}, not {_short(other)}; resume with the same model, "
                "archive and settings, or choose another --out"
            )
    if found.get("plan") != plan:
        raise OutputError(f"{folder} was begun by another release; finish it there, or choose another --out")


def _short(value: Any) -> str:
    return repr(value[:12] + "...") if isinstance(value, str) and len(value) == 64 else repr(value)


def _check_files(folder: Path) -> None:
    """Whatever is no part of a store is not ours to touch."""
    if not folder.is_dir():
        return
    ours = {INDEX, UNFINISHED, QUARANTINE, LOCK, SEARCH_INDEX}
    with writing(folder):
        strange = sorted(
            file.name
            for file in folder.iterdir()
            if file.name not in ours and not PART_FILE.fullmatch(file.name) and not TEMPORARY_FILE.fullmatch(file.name)
        )
    if strange:
        raise OutputError(f"{folder} holds {strange[0]!r}, which is no part of a store; choose another output path")
    if not (folder / INDEX).exists() and not (folder / UNFINISHED).exists() and list(folder.glob("part-*")):
        raise OutputError(
            f"{folder} holds parts of a store whose {UNFINISHED} is gone; choose another --out or remove it"
        )


def remove_temporary(folder: Path) -> None:
    """Remove what processes that died were writing."""
    with writing(folder):
        for file in folder.iterdir():
            if TEMPORARY_FILE.fullmatch(file.name):
                file.unlink(missing_ok=True)


def _leave(folder: Path, *, keep: bool) -> None:
    """Clear the folder of a job that failed before it committed anything."""
    with contextlib.suppress(OSError):
        if (folder / INDEX).exists() or any(folder.glob("part-*.json")) or (folder / LOCK).exists():
            return
        for file in [*folder.glob("part-*"), folder / QUARANTINE, folder / UNFINISHED]:
            file.unlink(missing_ok=True)
        if not keep:
            folder.rmdir()
