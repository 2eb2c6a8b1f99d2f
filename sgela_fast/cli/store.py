"""``sgela-fast store``: look at finished stores and change them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

from sgela_fast.errors import ConfigError, DataError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

Action = Literal["info", "verify", "delete", "compact", "merge", "export"]
# Which of the options an action takes.
OPTIONS = {
    "info": ("json",),
    "verify": (),
    "delete": ("person", "recording"),
    "compact": ("part_mb",),
    "merge": ("out",),
    "export": ("out", "to"),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("action", type=Action, help="info, verify, delete, compact, merge or export")
    parser.add_argument(
        "stores", type=str, nargs="+", help="store folder, as `sgela-fast encode` makes it; merge: several"
    )
    parser.add_argument("--person", type=str, default=[], nargs="+", help="delete: all that is theirs")
    parser.add_argument("--recording", type=str, default=[], nargs="+", help="delete: these recordings")
    parser.add_argument("--part_mb", type=float | None, help="compact: MiB of values of a part, 64 unless said")
    parser.add_argument(
        "--out", type=str | None, help="merge: folder of the store to make; export: folder for the files"
    )
    parser.add_argument("--to", type=Literal["parquet"] | None, help="export: the format")
    parser.add_argument("--json", action="store_true", help="info: print JSON")


def run(args: Namespace) -> None:
    """Do the action and print what it did."""
    given = {name for names in OPTIONS.values() for name in names if getattr(args, name)}
    strange = sorted(given - set(OPTIONS[args.action]))
    if strange:
        raise ConfigError(f"--{strange[0]} is not for `store {args.action}`; leave it out")
    if args.action == "merge":
        _merge(args)
        return
    if len(args.stores) != 1:
        raise ConfigError(f"`store {args.action}` takes one store, not {len(args.stores)}; run it for each")
    path = args.stores[0]
    actions = {"info": _info, "verify": _verify, "delete": _delete, "compact": _compact, "export": _export}
    actions[args.action](path, args)


def _info(path: str, args: Namespace) -> None:
    import pyarrow.compute as pc

    from sgela_fast.encoding.shard import read_names
    from sgela_fast.encoding.store import Store

    store = Store(path)
    persons = pc.count_distinct(store.columns("person")["person"]).as_py()
    size = sum(file.stat().st_size for file in store.path.iterdir() if file.is_file())
    facts: dict[str, Any] = {
        "store": str(store.path),
        "version": store.info["schema_version"],
        "windows": len(store),
        "values": f"{' x '.join(map(str, store.shape))} {store.dtype}",
        "recordings": store.info.get("recordings"),
        "persons": persons,
        "quarantined": store.info.get("quarantined", 0),
        "parts": len(store.parts),
        "bytes": size,
        "model": store.info.get("model_hash"),
        "precision": store.info.get("precision"),
        "archive": store.info.get("archive"),
        "changes": store.info.get("changes", []),
        "columns": read_names(store.path, store.parts[0]),
    }
    if args.json:
        print(json.dumps(facts, indent=2))
        return
    for name, fact in facts.items():
        text = f"{fact:,}" if isinstance(fact, int) else ", ".join(fact) if isinstance(fact, list) else str(fact)
        if text not in ("", "None"):
            print(f"{name:<11} {text}")


def _verify(path: str, args: Namespace) -> None:
    from sgela_fast.encoding.schema import REBUILD
    from sgela_fast.encoding.store import Store

    store = Store(path)
    _ = store.quarantine
    faults = list(store.faults())
    for fault in faults:
        print(fault.partition(";")[0])
    if faults:
        raise DataError(f"{len(faults)} of {len(store.parts)} parts of {path} are damaged; {REBUILD}")
    print(f"{path}: {len(store.parts):,} parts with {len(store):,} windows fit their checksums")


def _delete(path: str, args: Namespace) -> None:
    from sgela_fast.encoding.maintenance import delete

    done = delete(path, persons=args.person, recordings=args.recording)
    print(f"deleted     {done.windows:,} windows of {len(done.recordings):,} recordings; {done.parts:,} parts changed")
    print(f"note: copies of {path}, snapshots and backups are not touched, nor is the archive", file=sys.stderr)


def _compact(path: str, args: Namespace) -> None:
    from sgela_fast.encoding.maintenance import compact

    before, after = compact(path, part_mb=64 if args.part_mb is None else args.part_mb)
    print(f"parts       {before:,} before, {after:,} after")


def _merge(args: Namespace) -> None:
    from sgela_fast.encoding.maintenance import merge

    if not args.out:
        raise ConfigError("`store merge` needs --out, the folder of the store to make")
    store = merge(args.stores, args.out)
    print(f"store       {store.path}")
    print(f"windows     {len(store):,} in {len(store.parts):,} parts")


def _export(path: str, args: Namespace) -> None:
    from sgela_fast.encoding.export_store import export_parquet

    if not args.out or not args.to:
        raise ConfigError("`store export` needs --to parquet and --out, the folder for the files")
    files = export_parquet(path, args.out)
    print(f"files       {len(files):,} in {args.out}, such as {files[0].name}")
