"""``sgela-fast silhouettes``: draw, pack and look at silhouettes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

from sgela_fast.errors import ConfigError
from sgela_fast.silhouettes.config import CASIA_B_CONDITIONS, CASIA_B_VIEWS, PackConfig, RenderConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.silhouettes.dataset import SilhouetteSet

Action = Literal["render", "pack", "inspect", "sheet"]
PATHS = {"render": ("FOLDER",), "pack": ("FOLDER", "PACKED"), "inspect": ("FOLDER",), "sheet": ("SHEET.png",)}
LISTS = ("views", "conditions")
LISTED = 20


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("action", type=Action, help="render, pack, inspect or sheet")
    parser.add_argument(
        "paths",
        type=str,
        nargs="+",
        help="render: folder of images to make; pack: folder of images, folder to make; inspect: folder of images or "
        "packed set; sheet: PNG file to make",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_argument(
        "--source",
        type=str | None,
        help="render, sheet: archive of skeletons to draw, not synthetic walkers; sheet: also a set of silhouettes",
    )
    parser.add_argument("--persons", type=int, default=3, help="sheet: how many persons")
    parser.add_argument("--moment", type=float, default=0.4, help="sheet: which frame, as a share of the sequence")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    # As text: a list would take the view 000 for the number 0.
    parser.add_argument(
        "--views", type=str, default=",".join(CASIA_B_VIEWS), help="render, sheet: angles, with commas between them"
    )
    parser.add_argument(
        "--conditions", type=str, default=",".join(CASIA_B_CONDITIONS), help="render, sheet: walks of a person"
    )
    parser.add_class_arguments(RenderConfig, "render", skip=set(LISTS))
    parser.add_class_arguments(PackConfig, "pack")


def run(args: Namespace) -> None:
    """Do the action and print what came of it."""
    wanted = PATHS[args.action]
    if len(args.paths) != len(wanted):
        count = f"{len(wanted)} path{'s' if len(wanted) > 1 else ''} ({' '.join(wanted)})"
        raise ConfigError(f"`silhouettes {args.action}` takes {count}, not {len(args.paths)}; give each once")
    if args.source and args.action in ("pack", "inspect"):
        raise ConfigError(f"--source is not for `silhouettes {args.action}`; leave it out")
    {"render": _render, "pack": _pack, "inspect": _inspect, "sheet": _sheet}[args.action](args)


def _render(args: Namespace) -> None:
    from sgela_fast.cli.progress import Progress
    from sgela_fast.silhouettes.packing import render_images

    with Progress("Rendering", None, "sequences") as progress:
        found = render_images(args.paths[0], _render_config(args), args.source, advance=progress.advance)
    of = args.source or "synthetic walkers"
    facts = {"subjects": found.subjects, "sequences": found.sequences, "frames": found.frames}
    _print(args, f"{'silhouettes':<12} {found.path} (of {of}, layout casia-b)", {"folder": str(found.path), **facts})


def _pack(args: Namespace) -> None:
    from sgela_fast.cli.progress import Progress
    from sgela_fast.silhouettes.packing import count_sequences, pack

    source, destination = args.paths
    with Progress("Packing", count_sequences(source), "sequences") as progress:
        packed = pack(source, destination, PackConfig(**vars(args.pack)), advance=progress.advance)
    names = ("subjects", "sequences", "frames", "left_out_sequences", "left_out_frames")
    facts = {name: packed.info[name] for name in names}
    _print(args, f"{'packed':<19} {destination} (from {packed.info['layout']})", {"packed": destination, **facts})
    if packed.info["left_out_sequences"] or packed.info["left_out_frames"]:
        print(f"note: what was left out is listed in {destination}/quarantine.parquet", file=sys.stderr)


def _inspect(args: Namespace) -> None:
    from sgela_fast.cli.progress import Progress
    from sgela_fast.silhouettes.inspection import inspect

    with Progress("Reading", None, "sequences") as progress:
        found = inspect(args.paths[0], advance=progress.advance)
    if args.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
        return
    for name, fact in found.summary().items():
        print(f"{name.replace('_', ' '):<21} {_words(fact)}")
    for fault in found.faults[:LISTED]:
        print(f"  {fault.file or fault.sequence}: {fault.reason}")
    if len(found.faults) > LISTED:
        print(f"  and {len(found.faults) - LISTED:,} more; --json lists all")


def _sheet(args: Namespace) -> None:
    from sgela_fast.silhouettes.sheet import write_sheet

    width, height = write_sheet(_open(args), args.paths[0], args.persons, args.moment)
    facts = {"sheet": args.paths[0], "width": width, "height": height}
    _print(args, f"sheet        {args.paths[0]} ({width} x {height} pixels)", facts, listed=False)


def _open(args: Namespace) -> SilhouetteSet:
    from pathlib import Path

    from sgela_fast.silhouettes.dataset import SilhouetteSet
    from sgela_fast.skeletons.archive import is_archive

    if args.source and not is_archive(Path(args.source)):
        return SilhouetteSet.open(args.source)
    return SilhouetteSet.rendered(_render_config(args), args.source)


def _render_config(args: Namespace) -> RenderConfig:
    lists: dict[str, Any] = {name: tuple(word.strip() for word in getattr(args, name).split(",")) for name in LISTS}
    return RenderConfig(**vars(args.render), **lists)


def _print(args: Namespace, headline: str, facts: dict[str, Any], *, listed: bool = True) -> None:
    if args.json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    print(headline)
    width = headline.index(" ")
    for name, fact in list(facts.items())[1:] if listed else ():
        print(f"{name.replace('_', ' '):<{max(width, 18 if 'left_out_frames' in facts else 11)}} {fact:,}")


def _words(fact: Any) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{name} ({count:,})" for name, count in fact.items())
    if isinstance(fact, list):
        return " / ".join(f"{value:,}" for value in fact) + " (least, median, most)"
    return f"{fact:,}" if isinstance(fact, int) else str(fact)
