"""``sgela-fast inspect``: what is at a place, and which recordings are at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgela_fast.skeletons.config import QualityConfig, ReaderOptions

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.skeletons.inspection import Inspection

LISTED = 10


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=str, help="recording file, folder of recordings, or archive")
    parser.add_argument("--format", type=str, default="auto", help="name of the file format (default: by content)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, every recording included")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a recording is at fault")
    parser.add_argument("--list", type=int, default=LISTED, help="recordings named for each kind of finding")
    parser.add_class_arguments(QualityConfig, "limits")
    parser.add_class_arguments(ReaderOptions, "reader")


def run(args: Namespace) -> None:
    """Inspect and print; with ``--strict`` a fault is an error."""
    import json

    from sgela_fast.cli.progress import Progress
    from sgela_fast.errors import DataError
    from sgela_fast.skeletons.inspection import inspect, open_for_inspection

    limits = QualityConfig(**vars(args.limits))
    source = open_for_inspection(args.path, args.format, ReaderOptions(**vars(args.reader)))
    with Progress("Inspecting", total=len(source), unit="recordings") as progress:
        result = inspect(source, limits, advance=progress.advance)
    if args.json:
        print(json.dumps(result.as_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_summary(result)
        print_findings(result, args.list)
    if args.strict and result.faults:
        named = list(dict.fromkeys(item.recording for item in result.faults))
        some = ", ".join(named[:3]) + (" ..." if len(named) > 3 else "")
        raise DataError(
            f"{args.path} has {len(named)} of {result.listed} recordings at fault ({some}); mend them or leave them out"
        )


def print_summary(result: Inspection) -> None:
    """One table of what is there."""
    from rich.table import Table

    from sgela_fast.cli.console import plain_console
    from sgela_fast.skeletons.quality import counted

    summary = result.summary()
    frames = summary["frames_of_a_recording"]
    table = Table(title=str(result.path), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    rows = {
        "format": result.format,
        "layout": _counts(summary["layouts"]),
        "recordings": f"{summary['recordings']:,}",
        "persons": f"{summary['persons']:,}",
        "frames": f"{summary['frames']:,}"
        + (f" ({frames['least']} to {frames['most']} a recording, median {frames['median']})" if frames else ""),
        "frames/s": _counts(summary["fps"]),
        "units (guess)": _counts(summary["units"]) + _number(", body {:.4g} high", summary["height"]),
        "up": _counts(summary["up"]),
        "z > 0": _counts(summary["before_camera"]),
        "lost joints": f"{summary['lost_joints']:,} (in {summary['lost_frames']:.2%} of the frames)",
        "not finite": f"{summary['nan_joints']:,}",
        "jumps": f"in {summary['jumping_frames']:.2%} of the frames",
        "bone lengths": _number("spread by {:.1f} cm within a recording", summary["bone_spread_within_recordings"], 100)
        + _number(", by {:.1f} cm between persons", summary["bone_spread_between_persons"], 100),
        "left is left": _number("in {:.0f} % of the frames", summary["sides_agree"], 100) or "cannot be told",
        **{f"column {name}": _counts(values) for name, values in summary["columns"].items()},
        "at fault": counted(summary["faulty_recordings"], "recording"),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    plain_console().print(table)


def print_findings(result: Inspection, listed: int) -> None:
    """Faults, then remarks, by kind; ``listed`` recordings of each are named."""
    from sgela_fast.skeletons.quality import counted

    for fault in (True, False):
        chosen = [item for item in result.findings if item.fault is fault]
        for kind in dict.fromkeys(item.kind for item in chosen):
            of_kind = [item for item in chosen if item.kind == kind]
            print(f"{'fault' if fault else 'note'}: {kind}, {counted(len(of_kind), 'recording')}")
            for item in of_kind[:listed]:
                where = f" ({item.source})" if item.source not in ("", item.recording) else ""
                print(f"  {item.recording}{where}: {item.text}")
            if len(of_kind) > listed:
                print(f"  and {len(of_kind) - listed:,} more; --list names more, --json all")


def _counts(values: dict[str, int]) -> str:
    if len(values) == 1:
        return str(next(iter(values)))
    return ", ".join(f"{name} {count:,}" for name, count in sorted(values.items()))


def _number(template: str, value: float | None, scale: float = 1.0) -> str:
    return "" if value is None else template.format(scale * value)
