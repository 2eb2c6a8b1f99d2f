"""``store.json``: the list of committed parts, written once all are there."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sgela_fast.atomic import sync_folder, write_json, writing
from sgela_fast.encoding.quarantine import SHORT, read_quarantine, write_quarantine
from sgela_fast.encoding.schema import INDEX, UNFINISHED, head
from sgela_fast.encoding.shard import Receipt, Shard
from sgela_fast.errors import DataError


def finish(folder: Path, settings: Mapping[str, Any], receipts: Sequence[Receipt]) -> None:
    """Turn a folder of committed parts into a store.

    Args:
        folder: of the store.
        settings: what it was begun with.
        receipts: one for each part, in order.

    Raises:
        OutputError: a file cannot be written; the folder stays an unfinished store.
    """
    left_out = [row for receipt in receipts for row in receipt.left_out]
    write_quarantine(folder, left_out)
    short = sum(row["kind"] == SHORT for row in left_out)
    content = {
        **head(),
        **settings,
        "parts": len(receipts),
        "windows": sum(receipt.shard.windows for receipt in receipts),
        "recordings": sum(receipt.recordings for receipt in receipts),
        "invalid_windows": sum(receipt.invalid for receipt in receipts),
        "short_recordings": short,
        "quarantined": len(left_out) - short,
        "shards": [
            {
                **asdict(receipt.shard),
                "recordings": receipt.recordings,
                "invalid": receipt.invalid,
                "left_out": len(receipt.left_out),
            }
            for receipt in receipts
        ],
    }
    write_json(folder / INDEX, content)
    with writing(folder):
        for file in folder.glob("part-*.json"):
            file.unlink()
        (folder / UNFINISHED).unlink(missing_ok=True)
        sync_folder(folder)


def receipts_of(folder: Path, info: Mapping[str, Any]) -> list[Receipt]:
    """Receipts of a finished store's parts, as they were before it was finished.

    A part whose left-out recordings are no longer known gets none, so that it is made anew.
    """
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(DataError):
        rows = read_quarantine(folder).to_pylist()
    found = Counter(row["part"] for row in rows)
    return [
        Receipt(
            Shard.listed(entry),
            info["plan"],
            entry["recordings"],
            entry["invalid"],
            [row for row in rows if row["part"] == entry["part"]] if entry["left_out"] else [],
        )
        for entry in info["shards"]
        if found[entry["part"]] == entry["left_out"]
    ]
