"""``sgela-fast walkers``: write an archive of synthetic walkers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgela_fast.skeletons.config import WalkerConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments; settings and their defaults are those of :class:`WalkerConfig`."""
    parser.add_argument("destination", type=str, help="archive folder to make")
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_class_arguments(WalkerConfig)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: Namespace) -> None:
    """Generate the walkers and print what was written."""
    import json

    from sgela_fast.cli.progress import Progress
    from sgela_fast.skeletons.walker import write_walkers

    settings = {name: value for name, value in vars(args).items() if name in WalkerConfig.__dataclass_fields__}
    config = WalkerConfig(**settings)
    with Progress("Walking", total=config.persons * config.walks, unit="recordings") as progress:
        archive = write_walkers(args.destination, config, advance=progress.advance)
    totals = {name: archive.info[name] for name in ("recordings", "persons", "frames")}
    if args.json:
        print(json.dumps({"archive": str(archive.path), "layout": archive.layout.name, **totals, "seed": config.seed}))
    else:
        print(f"archive     {archive.path} (synthetic walkers, layout {archive.layout.name}, seed {config.seed})")
        for name, total in totals.items():
            print(f"{name:<11} {total:,}")
