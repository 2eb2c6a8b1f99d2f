"""``sgela-fast convert``: turn recordings of any known format into an archive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sgela_fast.skeletons.config import JOINT_MAPS, SLOTS, ConvertConfig, ReaderOptions

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.skeletons.convert import ConvertResult

LISTED_FAULTS = 20


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments; their defaults are those of :class:`ConvertConfig`."""
    default = ConvertConfig()
    parser.add_argument("source", help="file or folder with the recordings")
    parser.add_argument("destination", help="folder to make")
    parser.add_argument(
        "--format", default=default.format, help="name of the file format; auto tells it from the content"
    )
    parser.add_argument(
        "--layout",
        default=default.layout,
        help="joint layout of the archive, such as kinect-v1; keep takes the recordings' own",
    )
    parser.add_argument(
        "--joint_map",
        default=default.joint_map,
        choices=JOINT_MAPS,
        help="compat exchanges left and right, as the released code does for KGBD",
    )
    parser.add_argument(
        "--manifest", default=None, help="CSV with recording and/or source_file, person, split ...; overrides names"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first recording at fault")
    parser.add_argument("--min_frames", type=int, default=default.min_frames, help="leave shorter recordings out")
    parser.add_argument("--frames_per_shard", type=int, default=default.frames_per_shard, help="frames of a shard")
    parser.add_argument("--slot", default=default.reader.slot, choices=SLOTS, help="BIWI, IAS: which user of a frame")
    parser.add_argument(
        "--keep_untracked",
        action="store_true",
        help="BIWI, IAS: keep frames with an untracked joint and mark it as lost",
    )
    parser.add_argument("--every", type=int, default=default.reader.every, help="CMU: keep every n-th of 120 frames/s")
    parser.add_argument(
        "--pickled_ids",
        action="store_true",
        help="authors' arrays: read persons from pickled ids_*.npy (interpreted, never executed)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: Namespace) -> None:
    """Convert and print what came of it."""
    config = ConvertConfig(
        format=args.format,
        layout=args.layout,
        joint_map=args.joint_map,
        manifest=args.manifest,
        strict=args.strict,
        min_frames=args.min_frames,
        frames_per_shard=args.frames_per_shard,
        reader=ReaderOptions(
            slot=args.slot, keep_untracked=args.keep_untracked, every=args.every, pickled_ids=args.pickled_ids
        ),
    )
    from sgela_fast.cli.progress import Progress
    from sgela_fast.skeletons.convert import convert, open_configured

    source = open_configured(args.source, config)
    with Progress("Converting", total=len(source), unit="recordings") as progress:
        result = convert(source, args.destination, config, advance=progress.advance)
    if args.json:
        print(json.dumps(result.summary(), indent=2, ensure_ascii=False))
    else:
        _print_result(result)


def _print_result(result: ConvertResult) -> None:
    summary = result.summary()
    print(f"archive     {summary['archive']} ({result.format} to layout {summary['layout']})")
    for name in ("recordings", "persons", "frames"):
        print(f"{name:<11} {summary[name]:,}")
    print(f"left out    {len(result.left_out):,}")
    for item in result.left_out[:LISTED_FAULTS]:
        print(f"  {item.recording}: {item.reason}")
    if len(result.left_out) > LISTED_FAULTS:
        print(f"  and {len(result.left_out) - LISTED_FAULTS:,} more, all in archive.json")
    if result.unlisted:
        shown = ", ".join(result.unlisted[:5]) + (" ..." if len(result.unlisted) > 5 else "")
        print(f"not in the manifest: {len(result.unlisted):,} ({shown})")
    if result.resumed:
        print(f"resumed behind {result.resumed:,} recordings of an interrupted conversion")
