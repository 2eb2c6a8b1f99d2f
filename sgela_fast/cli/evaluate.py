"""``sgela-fast evaluate``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from sgela_fast.evaluation.config import CROSS_VIEW_PROTOCOLS, EvaluationConfig, RecognitionConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.evaluation.comparison import Difference
    from sgela_fast.evaluation.results import EvaluationResult

_OWN = {"config", "stores", "train", "out", "json", "no_plots", "compare", "splits"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("stores", type=str, nargs="+", help="store folders, as `sgela-fast encode` makes them")
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_argument("--train", type=str | None, help="store with the training windows; default: the store itself")
    parser.add_argument(
        "--splits",
        type=str,
        default="split",
        help="columns that name each window's side, with commas between them; empty, with --train: all windows",
    )
    parser.add_argument("--out", type=str | None, help="folder for results.json and plots; default STORE.evaluation")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of tables")
    parser.add_argument("--no-plots", action="store_true", help="write no PNG files")
    parser.add_argument("--compare", action="store_true", help="compare each store with the first, paired by probes")
    parser.add_class_arguments(EvaluationConfig, skip={"splits"})
    leave_to_preset(parser, "recognition")


def leave_to_preset(parser: ArgumentParser, section: str) -> None:
    """Unset the defaults that a preset fills in: the parser takes them from an instance, where that has happened."""
    parser.set_defaults({f"{section}.{item.name}": None for item in fields(RecognitionConfig) if item.default is None})


def run(args: Namespace) -> None:
    """Evaluate, print the figures and say where they are."""
    import json
    import sys
    from pathlib import Path

    from sgela_fast.cli.progress import Progress
    from sgela_fast.evaluation.evaluate import RESULTS, count_runs, evaluate

    config = settings(args)
    first = Path(args.stores[0])
    out = Path(args.out) if args.out else first.with_name(f"{first.name}.evaluation")
    if config.protocol in CROSS_VIEW_PROTOCOLS:
        from sgela_fast.cli.cross_view import run_cross_view

        run_cross_view(args, config, out)
        return
    with Progress("Evaluating", count_runs(len(args.stores), config), "runs") as progress:
        result = evaluate(
            args.stores,
            config,
            train=args.train,
            out=out,
            plots=not args.no_plots,
            compare=args.compare,
            progress=progress.advance,
        )
    for line in remarks(result):
        print(f"note: {line}", file=sys.stderr)
    if args.json:
        print(json.dumps(result.as_json(), indent=2, allow_nan=False))
    else:
        print_tables(result)
        print_comparisons(result)
    print(f"results: {out / RESULTS}", file=sys.stderr)


def settings(args: Namespace) -> EvaluationConfig:
    """The job's settings out of parsed arguments."""
    from sgela_fast.evaluation.config import CrossViewConfig, RetrievalConfig

    sections = {"recognition": RecognitionConfig, "retrieval": RetrievalConfig, "cross_view": CrossViewConfig}
    values = {name: value for name, value in vars(args).items() if name not in _OWN}
    for name, kind in sections.items():
        if not isinstance(values[name], kind):
            values[name] = kind(**vars(values[name]))
    return EvaluationConfig(splits=tuple(name.strip() for name in args.splits.split(",")), **values)


def remarks(result: EvaluationResult) -> list[str]:
    """What was left out, each remark once."""
    lines = []
    for store in result.stores:
        for outcome in store.outcomes:
            where = f"{store.store}, {outcome.split}" if outcome.split else store.store
            lines += [f"{where}: {count:,} {reason} left out" for reason, count in outcome.left_out.items()]
            lines += [f"{where}: {remark}" for remark in outcome.notes]
    return list(dict.fromkeys(lines))


def print_tables(result: EvaluationResult) -> None:
    """One table for each protocol: a column for each store and kind of probe, figures in per cent."""

    from rich.table import Table

    from sgela_fast.cli.console import plain_console
    from sgela_fast.evaluation.results import TITLES, summarise

    rows = summarise(result)
    # A file or pipe has no width of its own; folded cells would be hard to read back.
    console = plain_console(max(80, 30 + 20 * len(rows)))
    for protocol in ("C", "G"):
        chosen = [row for row in rows if row.protocol == protocol]
        if not chosen:
            continue
        figures = [name for name in TITLES if any(name in row.figures for row in chosen)]
        table = Table(title=f"Protocol {protocol}: {chosen[0].selection}; per cent", title_justify="left")
        table.add_column("")
        for row in chosen:
            table.add_column(f"{row.store}\n{row.level}", justify="right", overflow="fold")
        for name in figures:
            table.add_row(TITLES[name], *(row.cell(name) for row in chosen))
            ends = [row.interval_cell(name) for row in chosen]
            if name == "rank1" and any(ends):
                table.add_row(f"  {100 * result.settings['confidence']:g} % interval", *ends)
        table.add_row("Rank-1 by chance", *(f"{100 * row.chance:.1f}" for row in chosen), end_section=True)
        for title, count in (
            ("persons", "persons"),
            ("probes", "probes"),
            ("training windows" if protocol == "C" else "gallery windows", "gallery_windows"),
            ("runs", "runs"),
        ):
            table.add_row(title, *(f"{getattr(row, count):,}" for row in chosen))
        console.print(table)


def print_comparisons(result: EvaluationResult) -> None:
    """One table for each protocol: what each store gains on the first one."""

    from rich.table import Table

    from sgela_fast.cli.console import plain_console
    from sgela_fast.evaluation.results import TITLES

    for protocol in dict.fromkeys(found.protocol for found in result.comparisons):
        chosen = [found for found in result.comparisons if found.protocol == protocol]
        console = plain_console(max(80, 30 + 40 * len(chosen)))
        confidence = f"{100 * result.settings['confidence']:g} % interval over persons"
        title = f"Protocol {protocol}: difference to {chosen[0].first}, percentage points ({confidence}), p"
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for found in chosen:
            table.add_column(f"{found.other}\n{found.comparison.level}", justify="right", overflow="fold")
        for name in chosen[0].comparison.figures:
            table.add_row(TITLES[name], *(_difference_cell(found.comparison.figures[name]) for found in chosen))
        console.print(table)


def _difference_cell(found: Difference) -> str:
    text = f"{100 * found.difference:+.1f}"
    if found.interval is not None:
        text += f" ({100 * found.interval[0]:+.1f} to {100 * found.interval[1]:+.1f})"
    return text if found.p_value is None else f"{text}, p = {found.p_value:.2g}"
