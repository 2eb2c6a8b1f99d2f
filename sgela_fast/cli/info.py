"""``sgela-fast info``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> None:
    """Print what this installation can do."""
    import json

    from rich.table import Table

    from sgela_fast.cli.console import plain_console
    from sgela_fast.environment import describe

    entries = describe()
    if args.json:
        print(json.dumps({entry.name: entry.value for entry in entries}, indent=2))
        return
    table = Table(show_header=False, box=None)
    for entry in entries:
        table.add_row(entry.name, entry.value, entry.remark)
    plain_console(160).print(table)
