"""``sgela-fast index``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sgela_fast.search.config import CalibrationConfig, IndexConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.search.index import Index
    from sgela_fast.search.thresholds import Calibration

_OWN = {"config", "store", "calibrate", "where", "calibration"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("store", type=str, help="store folder, as `sgela-fast encode` makes it")
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_class_arguments(IndexConfig)
    parser.add_argument(
        "--calibrate",
        type=str | None,
        help="find the threshold for unknown persons from these windows, such as split=validation; an index that is "
        "there already is kept unless other settings are given",
    )
    parser.add_argument("--where", type=str | None, help="windows that they are searched for in; default: all")
    parser.add_class_arguments(CalibrationConfig, "calibration")


def run(args: Namespace) -> None:
    """Build the index, calibrate if asked to, and print what was measured."""
    from sgela_fast.cli.progress import Progress
    from sgela_fast.encoding.store import Store
    from sgela_fast.search.calibration import calibrate
    from sgela_fast.search.index import Index

    store = Store(args.store)
    config = IndexConfig(**{name: value for name, value in vars(args).items() if name not in _OWN})
    calibration = CalibrationConfig(**vars(args.calibration))
    index = _standing(store.path, config) if args.calibrate else None
    if index is None:
        with Progress("Indexing", len(store), "windows") as progress:
            index = Index.build(store, config, advance=progress.advance)
    else:
        print(f"index: {store.path / 'index'} is there already", file=sys.stderr)
    _print_index(index)
    if args.calibrate:
        with Progress("Calibrating", None, "windows compared") as progress:
            found = calibrate(index, args.calibrate, calibration, where=args.where, advance=progress.advance)
        _print_calibration(found)


def _standing(path: object, config: IndexConfig) -> Index | None:
    """The index that stands there, if it fits the store and no other settings are asked for."""
    from sgela_fast.errors import DataError
    from sgela_fast.search.index import Index

    try:
        index = Index.open(str(path))
    except DataError:
        return None
    # Settings that nobody gave are no reason to throw away what may have taken hours.
    return index if index.kept and config in (index.config, IndexConfig()) else None


def _print_index(index: Index) -> None:
    config = index.config
    print(f"index     {index.store.path / 'index'}")
    print(f"kind      {config.kind}, {config.metric} of {index.rows.width} features, {len(index.store):,} windows")
    if index.approximation is not None:
        effort = index.approximation.effort
        what = f"{effort} of {index.approximation.largest_effort} lists" if config.kind == "ivf" else f"effort {effort}"
        print(f"recall@10 {index.recall:.3f} looking at {what}, on {config.recall_queries} windows of the store")


def _print_calibration(found: Calibration) -> None:
    share = f"{100 * found.confidence:g} %"
    print(f"threshold {found.threshold:.6f}{_ends(found.threshold_interval, share, '.6f')} for level {found.level}")
    rate = f"{100 * found.measured_rate:.2f} %{_ends(found.rate_interval, share, '.2%')}"
    print(f"unknown   {rate} of {found.impostors:,} searches without the own person would name somebody")
    if found.miss_rate is not None:
        missed = f"{100 * found.miss_rate:.1f} %{_ends(found.miss_interval, share, '.1%')}"
        print(f"known     {missed} of {found.genuine:,} searches for persons in the store would say unknown")


def _ends(interval: tuple[float, float] | None, share: str, form: str) -> str:
    return "" if interval is None else f" ({share} interval {interval[0]:{form}} to {interval[1]:{form}})"
