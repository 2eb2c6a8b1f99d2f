"""The part of ``sgela-fast evaluate`` that compares silhouettes of all views."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from sgela_fast.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from jsonargparse import Namespace

    from sgela_fast.evaluation.config import EvaluationConfig
    from sgela_fast.evaluation.cross_view_results import CrossViewResult


def run_cross_view(args: Namespace, config: EvaluationConfig, out: Path) -> None:
    """Evaluate stores of silhouette sequences, print the figures and say where they are."""
    from sgela_fast.atomic import make_folder, write_json
    from sgela_fast.cli.progress import Progress
    from sgela_fast.encoding.store import Store
    from sgela_fast.evaluation.cross_view import evaluate_cross_view
    from sgela_fast.evaluation.cross_view_results import RESULTS, as_json

    if args.train:
        raise ConfigError(f"--train is not for protocol {config.protocol}; gallery and probes are in one store")
    stores = [Store(path) for path in args.stores]
    with Progress("Evaluating", None, "probes") as progress:
        results = [evaluate_cross_view(store, config, progress.advance) for store in stores]
    content = as_json(results, config)
    write_json(make_folder(out) / RESULTS, content)
    for result in results:
        for kind in result.kinds:
            if kind.unmatched:
                where, treated = f"{result.store}, {kind.kind}", config.cross_view.unmatched
                pairs = f"{kind.unmatched:,} pairs of a probe and a gallery view without its subject"
                print(f"note: {where}: {pairs}: {treated}", file=sys.stderr)
    if args.json:
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        for result in results:
            print_table(result, config.confidence)
    print(f"results: {out / RESULTS}", file=sys.stderr)


def print_table(result: CrossViewResult, confidence: float) -> None:
    """One row for each kind of probes, one column for each probe view, in per cent."""
    from rich.table import Table

    from sgela_fast.cli.console import plain_console

    console = plain_console(60 + 7 * len(result.views))
    divisor = ", divided by 10 as the released code does" if result.released_divisor else ""
    table = Table(
        title=f"{result.store}, protocol {result.protocol}: Rank-1 by probe view, identical views excluded{divisor}; "
        f"{result.subjects:,} subjects; per cent",
        title_justify="left",
    )
    for column in ("probes", *result.views, "mean", f"{100 * confidence:g} % interval"):
        table.add_column(column, justify="left" if column == "probes" else "right")
    for row in result.rows():
        table.add_row(*row)
    console.print(table)
