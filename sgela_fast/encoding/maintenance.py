"""Changes of finished stores: delete persons or recordings, join small parts, merge stores.

Values are moved as they are stored, so nothing is rounded twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sgela_fast.atomic import make_folder, write_json, writing
from sgela_fast.encoding.change import changing
from sgela_fast.encoding.claim import locked
from sgela_fast.encoding.quarantine import SHORT, write_quarantine_table
from sgela_fast.encoding.schema import (
    INDEX,
    QUARANTINE,
    QUARANTINE_SCHEMA,
    RESERVED,
    UNFINISHED,
    head,
    rows_name,
    rows_schema,
    values_name,
)
from sgela_fast.encoding.shard import Shard, read_names, read_rows, write_shard_table
from sgela_fast.encoding.storage import NUMPY
from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError, OutputError

# What the encodings of two stores must agree in to be compared with one another.
COMPARABLE = ("model_hash", "layout", "window", "precision", "feature", "pooling", "dtype", "frames", "dim")


@dataclass(frozen=True)
class Deletion:
    """What :func:`delete` removed.

    Attributes:
        windows: rows with their values.
        recordings: names of recordings, those that were left out of the store included.
        parts: parts that were written anew or removed.
    """

    windows: int
    recordings: tuple[str, ...]
    parts: int


def delete(store: str | Path, *, persons: Collection[str] = (), recordings: Collection[str] = ()) -> Deletion:
    """Remove all that a store holds of some persons or recordings: values, rows, statistics, quarantine, search index.

    Every part that held something of theirs is written anew. Interrupted, it has happened wholly or not at all once
    the store is opened again.

    Args:
        store: the folder.
        persons: identities.
        recordings: names.

    Raises:
        DataError: the store has none of a name, is damaged, or would be empty afterwards.
        OutputError: it cannot be written, or another process is writing into it.
    """
    folder = Path(store)
    with changing(folder) as change:
        opened = Store(folder)
        info: dict[str, Any] = dict(opened.info)
        wanted = {
            "person": pa.array(sorted(persons), pa.string()),
            "recording": pa.array(sorted(recordings), pa.string()),
        }
        quarantine = opened.quarantine
        _require_known(opened, quarantine, wanted)
        kept_shards: list[Shard] = []
        gone: set[str] = set()
        remove: list[str] = []
        changed = windows = invalid = 0
        for shard in opened.shards():
            hit = _matches(read_rows(folder, shard.part, ["recording", "person"]), wanted)
            if not hit.any():
                kept_shards.append(shard)
                continue
            _require_sound(folder, shard)
            changed += 1
            table = read_rows(folder, shard.part)
            removed = table.filter(pa.array(hit))
            gone |= set(removed["recording"].to_pylist())
            windows += int(hit.sum())
            invalid += int(np.logical_not(removed["valid"].to_numpy(zero_copy_only=False)).sum())
            if hit.all():
                remove += [values_name(shard.part), rows_name(shard.part)]
            else:
                kept = opened.raw(shard.part)[~hit]
                kept_shards.append(write_shard_table(change.staged, shard.part, kept, table.filter(pa.array(~hit))))
        if not kept_shards:
            raise DataError(f"{folder} holds nothing else, so nothing would be left of it; remove the folder itself")
        still = quarantine.filter(pa.array(~_matches(quarantine, wanted)))
        if quarantine.num_rows != still.num_rows:
            remove.append(QUARANTINE)
            write_quarantine_table(change.staged, still)
        if "recordings" in info:
            info["recordings"] -= len(gone)
        if "invalid_windows" in info:
            info["invalid_windows"] -= invalid
        left_out = set(quarantine["recording"].to_pylist()) - set(still["recording"].to_pylist())
        change.commit(_changed(info, "delete", kept_shards, still), remove)
    return Deletion(windows, tuple(sorted(gone | left_out)), changed)


def compact(store: str | Path, *, part_mb: float = 64) -> tuple[int, int]:
    """Join parts that are small, and number them without gaps.

    Args:
        store: the folder.
        part_mb: most MiB of values in a part that is joined from several.

    Returns:
        Parts before and after.

    Raises:
        DataError: the store is damaged.
        OutputError: it cannot be written, or another process is writing into it.
    """
    folder = Path(store)
    with changing(folder) as change:
        opened = Store(folder)
        before = opened.shards()
        row_bytes = int(np.prod(opened.shape)) * NUMPY[opened.dtype].itemsize
        groups = list(_groups(before, max(1, int(part_mb * (1 << 20)) // row_bytes)))
        if [[shard.part] for shard in before] == [[part] for part in range(len(groups))]:
            return len(before), len(before)
        after: list[Shard] = []
        for part, group in enumerate(groups):
            if [shard.part for shard in group] == [part]:
                after.append(group[0])
                continue
            for shard in group:
                _require_sound(folder, shard)
            table = pa.concat_tables([_bare(read_rows(folder, shard.part)) for shard in group])
            values = np.concatenate([opened.raw(shard.part) for shard in group])
            after.append(write_shard_table(change.staged, part, values, table))
        old = {name for shard in before for name in (values_name(shard.part), rows_name(shard.part))}
        new = {name for shard in after for name in (values_name(shard.part), rows_name(shard.part))}
        change.commit(_changed(dict(opened.info), "compact", after, opened.quarantine), sorted(old - new))
    return len(before), len(after)


def merge(stores: Sequence[str | Path], out: str | Path) -> Store:
    """Put stores of different recordings, encoded by the same model in the same way, into one.

    Args:
        stores: two folders or more.
        out: folder of the store to make; an interrupted merge of the same stores is done again.

    Raises:
        DataError: the encodings cannot be compared, a recording is in two stores, or a store is damaged.
        OutputError: ``out`` is taken or cannot be written.
    """
    opened, folder = [Store(store) for store in stores], Path(out)
    if len(opened) < 2:
        raise DataError(f"merging takes two stores or more, not {len(opened)}; name the others")
    _require_comparable(opened)
    further = sorted({name for store in opened for name in _text_columns(store)})
    begun = {**head(), "merge": [_origin(store) for store in opened]}
    _begin_merge(folder, begun)
    with locked(folder):
        write_json(folder / UNFINISHED, begun)
        shards: list[Shard] = []
        left_out: list[pa.Table] = []
        next_window = 0
        for store in opened:
            first, offset = len(shards), next_window
            for shard in store.shards():
                _require_sound(store.path, shard)
                table = _conform(read_rows(store.path, shard.part), further, store.dtype, offset)
                shards.append(write_shard_table(folder, len(shards), store.raw(shard.part), table))
                next_window = max(next_window, (pc.max(table["window"]).as_py() or 0) + 1)
            left_out.append(_renumber(store.quarantine, first))
        quarantine = pa.concat_tables(left_out)
        write_quarantine_table(folder, quarantine)
        write_json(folder / INDEX, _merged_info(opened, shards, quarantine))
        with writing(folder):
            (folder / UNFINISHED).unlink()
    return Store(folder)


def _require_known(store: Store, quarantine: pa.Table, wanted: dict[str, pa.Array]) -> None:
    for column, names in wanted.items():
        known = set(store.columns(column)[column].unique().to_pylist()) | set(quarantine[column].to_pylist())
        missing = [name for name in names.to_pylist() if name not in known]
        if missing:
            raise DataError(f"{store.path} has no {column} {missing[0]!r}; see `sgela-fast store info {store.path}`")
    if not any(map(len, wanted.values())):
        raise DataError(f"nothing is named; say what to delete from {store.path} with --person or --recording")


def _matches(table: pa.Table, wanted: dict[str, pa.Array]) -> np.ndarray:
    hit = np.zeros(table.num_rows, bool)
    for column, names in wanted.items():
        if len(names):
            hit |= pc.is_in(table[column], value_set=names).to_numpy(zero_copy_only=False)
    return hit


def _require_sound(folder: Path, shard: Shard) -> None:
    """A checksum must not be renewed over damage."""
    fault = shard.fault(folder, deep=True)
    if fault is not None:
        raise DataError(fault)


def _changed(info: dict[str, Any], what: str, shards: Sequence[Shard], quarantine: pa.Table) -> dict[str, Any]:
    """``store.json`` after a change."""
    short = pc.sum(pc.equal(quarantine["kind"], SHORT)).as_py() or 0
    if isinstance(info.get("short_recordings"), list):
        # Version 1 named them, but not whose they were.
        info["short_recordings"] = len(info["short_recordings"])
    else:
        info["short_recordings"] = short
    return {
        **info,
        **head(),
        "parts": len(shards),
        "windows": sum(shard.windows for shard in shards),
        "quarantined": quarantine.num_rows - short,
        "changes": [*info.get("changes", []), what],
        "shards": [asdict(shard) for shard in shards],
    }


def _groups(shards: Sequence[Shard], size: int) -> Iterator[list[Shard]]:
    """Neighbours of together at most ``size`` windows; empty parts vanish."""
    group: list[Shard] = []
    for shard in shards:
        if group and sum(one.windows for one in group) + shard.windows > size:
            yield group
            group = []
        if shard.windows:
            group.append(shard)
    if group:
        yield group


def _bare(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(None)


def _require_comparable(stores: Sequence[Store]) -> None:
    one = stores[0]
    for other in stores[1:]:
        for name in COMPARABLE:
            default = "fp32" if name == "precision" else None
            mine, theirs = one.info.get(name, default), other.info.get(name, default)
            if mine != theirs:
                raise DataError(
                    f"{one.path} and {other.path} differ in {name} ({mine} and {theirs}); encode both archives with "
                    "the same model and settings"
                )
    seen: dict[str, Store] = {}
    for store in stores:
        names = {*store.columns("recording")["recording"].unique().to_pylist()}
        names |= {*store.quarantine["recording"].to_pylist()}
        for name in sorted(names & seen.keys()):
            raise DataError(
                f"recording {name!r} is in {seen[name].path} and in {store.path}; delete it from one of them"
            )
        seen |= dict.fromkeys(names, store)


def _text_columns(store: Store) -> list[str]:
    return [name for name in read_names(store.path, store.parts[0]) if name not in RESERVED]


def _origin(store: Store) -> dict[str, Any]:
    named = {"archive": store.info.get("archive"), "archive_fingerprint": store.info.get("archive_fingerprint")}
    return {**named, "windows": len(store)}


def _begin_merge(folder: Path, begun: dict[str, Any]) -> None:
    if (folder / INDEX).exists():
        raise OutputError(f"{folder} already holds a store; choose another output path or remove it")
    make_folder(folder)
    with writing(folder):
        empty = not any(folder.iterdir())
    try:
        same = json.loads((folder / UNFINISHED).read_text()) == begun
    except (OSError, ValueError):
        same = False
    if not empty and not same:
        raise OutputError(f"{folder} is not empty; choose another output path or remove it")


def _conform(table: pa.Table, further: Sequence[str], dtype: str, offset: int) -> pa.Table:
    """A part's table with the columns of the merged store."""
    schema = rows_schema(further, dtype, "").remove_metadata()
    columns = {name: table[name] for name in table.column_names}
    columns["window"] = pc.add(columns["window"], pa.scalar(offset, pa.int64()))
    nothing = pa.nulls(table.num_rows)
    arrays = [columns.get(field.name, nothing).cast(field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def _renumber(quarantine: pa.Table, first: int) -> pa.Table:
    moved = pc.add(quarantine["part"], pa.scalar(first, pa.int32()))
    index = quarantine.column_names.index("part")
    return quarantine.set_column(index, QUARANTINE_SCHEMA.field("part"), moved)


def _merged_info(stores: Sequence[Store], shards: Sequence[Shard], quarantine: pa.Table) -> dict[str, Any]:
    info = {name: value for name, value in stores[0].info.items() if name not in ("plan", "shards", "changes")}
    fingerprints = sorted(str(store.info.get("archive_fingerprint")) for store in stores)
    info["archive"] = ", ".join(str(store.info.get("archive")) for store in stores)
    info["archive_fingerprint"] = hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()
    info["sources"] = [_origin(store) for store in stores]
    for name in ("recordings", "invalid_windows"):
        info[name] = sum(int(store.info.get(name, 0)) for store in stores)
    return _changed(info, "merge", shards, quarantine)
