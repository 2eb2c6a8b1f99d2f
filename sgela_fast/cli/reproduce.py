"""``sgela-fast reproduce``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgela_fast.baselines.config import BaselineConfig
from sgela_fast.cli.evaluate import leave_to_preset
from sgela_fast.cli.run import build
from sgela_fast.cli.train import settings as training_settings
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.models.config import SGELAConfig
from sgela_fast.reproduction.config import SELECTIONS, TABLES, JobConfig, ReproductionConfig
from sgela_fast.skeletons.config import WalkerConfig, WindowConfig
from sgela_fast.training.config import Preset, TrainingConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.reproduction.agenda import Outlook
    from sgela_fast.reproduction.runner import Report
    from sgela_fast.reproduction.tables import Table

_DEFAULT = ReproductionConfig.tables


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_argument(
        "--data",
        type=str,
        nargs="*",
        default=[],
        help="archives or folders of recordings, named after their folders or as in biwi=PATH; none: synthetic walkers",
    )
    parser.add_argument("--out", type=str, required=True, help="folder of the results, gone on with if there are some")
    parser.add_argument(
        "--tables", type=str, default=",".join(_DEFAULT), help=f"with commas between them, of {','.join(TABLES)}"
    )
    parser.add_argument("--splits", type=str, default="split", help="columns that name each recording's side")
    parser.add_argument("--seeds", type=str, default="0", help="of encoders and recognition networks")
    parser.add_argument("--protocols", type=str, default="C,G", help="C, G or both")
    parser.add_argument("--selections", type=str, default=",".join(SELECTIONS), help="of protocol C")
    parser.add_argument("--frames", type=str, default="4,6,8,10", help="window lengths f of the sweep")
    parser.add_argument("--ranges", type=str, default="1,2,4,6,8", help="attentional ranges D of the sweep")
    parser.add_argument("--budget", type=str, default="", help="time for this run: 2h, 90m or seconds; empty: no limit")
    parser.add_argument("--jobs", type=int, default=1, help="processes at work, one thread each")
    parser.add_argument(
        "--encoders", type=str, nargs="*", default=[], help="folders with finished runs to use instead of training anew"
    )
    parser.add_argument("--keep_stores", action="store_true", help="keep encodings that no cell needs any more")
    parser.add_argument("--stores_gb", type=float, default=JobConfig.stores_gb, help="room for encodings, in GiB")
    parser.add_argument(
        "--training_share",
        type=float,
        default=JobConfig.training_share,
        help="share of the budget for training, where the budget sets the number of steps",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the plan and what each cell will take")
    parser.add_argument("--json", action="store_true", help="print finished cells and claims as JSON")
    parser.add_argument(
        "--preset", type=Preset | None, help="sets model.variant and training.preset together, as for `train`"
    )
    for name, kind in (
        ("walkers", WalkerConfig),
        ("model", SGELAConfig),
        ("window", WindowConfig),
        ("training", TrainingConfig),
        ("encoding", EncodingConfig),
        ("evaluation", EvaluationConfig),
        ("baselines", BaselineConfig),
    ):
        parser.add_class_arguments(kind, name)
    leave_to_preset(parser, "evaluation.recognition")


def run(args: Namespace) -> None:
    """Do what is left of the plan and print the tables.

    Raises:
        DataError: some cells failed; the others are done.
    """
    from sgela_fast.cli.progress import Progress
    from sgela_fast.reproduction.runner import Runner

    job = JobConfig(
        budget=args.budget,
        jobs=args.jobs,
        encoders=tuple(args.encoders),
        keep_stores=args.keep_stores,
        stores_gb=args.stores_gb,
        training_share=args.training_share,
    )
    walkers = WalkerConfig(**vars(args.walkers))
    runner = Runner(args.data, Path(args.out), _settings(args), job, walkers=walkers, announce=_announce)
    if args.dry_run:
        _print_outlook(runner.outlook(), runner.encoders.steps, args.json)
        return
    with Progress("Reproducing", None, "cells") as progress:
        report = runner.run(progress.advance, progress.plan)
    _print_report(report, args.json)


def _settings(args: Namespace) -> ReproductionConfig:
    model, window, training = training_settings(args)
    return ReproductionConfig(
        tables=_names(args.tables),
        splits=_names(args.splits),
        seeds=_numbers(args.seeds, "seeds"),
        protocols=_names(args.protocols),
        selections=_names(args.selections),
        frames=_numbers(args.frames, "frames"),
        ranges=_numbers(args.ranges, "ranges"),
        model=model,
        window=window,
        training=training,
        encoding=build(EncodingConfig, args.encoding),
        evaluation=build(EvaluationConfig, args.evaluation),
        baselines=build(BaselineConfig, args.baselines),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _numbers(text: str, name: str) -> tuple[int, ...]:
    from sgela_fast.errors import ConfigError

    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{name} is {text!r}; give whole numbers with commas between them") from error


def _announce(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)


def _print_outlook(outlook: list[Outlook], steps: int, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    if as_json:
        print(json.dumps({"steps": steps, "cells": [asdict(item) for item in outlook]}, indent=2))
        return
    trained = f"{steps:,} steps" if steps else "whole epochs"
    print(f"{len(outlook):,} cells to do; every encoder is trained for {trained}\n")
    line = "{:>10}  {:>8}  {:<14}  {}".format
    print(line("done after", "takes", "made before", "cell"))
    for item in outlook:
        # A cell that shows what the one before it has measured takes nothing.
        takes = _time(item.seconds) if item.seconds else ""
        print(line(_time(item.until) if item.fits else "no time", takes, _made(item.needs), item.cell))
    made = [name for item in outlook if item.fits for name in item.needs]
    stores = sum(_is_store(name) for name in made)
    fits, until = sum(item.fits for item in outlook), max((item.until for item in outlook if item.fits), default=0.0)
    print(
        f"\n{fits:,} of {len(outlook):,} cells, {len(made) - stores:,} encoders and {stores:,} stores of encodings are "
        f"made, in about {_time(until)} with one job"
    )


def _made(names: Sequence[str]) -> str:
    """What has to be made for a cell, in a word for each."""
    return ", ".join("store" if _is_store(name) else "encoder" for name in names)


def _is_store(name: str) -> bool:
    return name.endswith(("-ages", "-states"))


def _print_report(report: Report, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from sgela_fast.errors import DataError

    if as_json:
        print(
            json.dumps(
                {"cells": [asdict(cell) for cell in report.cells], "claims": report.claims, "leakage": report.leakage},
                indent=2,
                allow_nan=False,
            )
        )
    else:
        for table in report.tables:
            print_table(table)
    total = len(report.cells) + len(report.failed) + len(report.left)
    print(f"{len(report.cells)} of {total} cells are done ({report.done} now): {report.out}", file=sys.stderr)
    if report.left:
        print(f"note: no time for {len(report.left)} cells; run the command again to go on", file=sys.stderr)
    if report.failed:
        first, reason = next(iter(report.failed.items()))
        raise DataError(
            f"{len(report.failed)} of {total} cells failed, first {first}: {reason} (all of them: "
            f"{report.out}/failures.json); mend that and run the command again"
        )


def print_table(table: Table) -> None:
    """Print a table of texts."""
    from rich.table import Table as RichTable

    from sgela_fast.cli.console import plain_console

    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    console = plain_console(max(80, sum(widths) + 3 * len(widths) + 1))
    shown = RichTable(title=table.title, title_justify="left")
    for place, name in enumerate(table.columns):
        shown.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)
    for note in table.notes:
        console.print(note, highlight=False)


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
