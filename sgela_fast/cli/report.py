"""``sgela-fast report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgela_fast.report.config import ReportConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

_OWN = {"config", "results", "out", "store", "archive", "runs", "low_label"}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument(
        "results",
        type=str,
        help="folder made by `sgela-fast reproduce`, `evaluate` or `run`, or the JSON file of a study of few labels",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_argument("-o", "--out", type=str, default="report.html", help="the page to write")
    parser.add_argument(
        "--store", type=str | None, help="store of the encodings; default: the one that the results name"
    )
    parser.add_argument("--archive", type=str | None, help="archive of the recordings; default: the one of the store")
    parser.add_argument("--runs", type=str, nargs="*", default=[], help="run folders whose training curves are drawn")
    parser.add_argument(
        "--low_label",
        type=str | None,
        help="JSON file of a study of few labels, to stand beside results of silhouettes",
    )
    parser.add_class_arguments(ReportConfig)


def run(args: Namespace) -> None:
    """Write the page and say where it is and what it lacks."""
    import sys

    from sgela_fast.cli.progress import Progress
    from sgela_fast.report.report import SECTIONS, write_report

    config = ReportConfig(**{name: value for name, value in vars(args).items() if name not in _OWN})
    with Progress("Drawing", SECTIONS, "sections") as progress:
        report = write_report(
            args.results,
            args.out,
            config,
            store=args.store,
            archive=args.archive,
            runs=args.runs,
            low_label=args.low_label,
            progress=progress.advance,
        )
    for title, why in report.missing.items():
        print(f"note: {title} is empty: {why}", file=sys.stderr)
    print(f"{report.path} ({report.size / 1e6:.1f} MB)")
