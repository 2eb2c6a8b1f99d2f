"""``sgela-fast bench``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sgela_fast.benchmarks.harness import arguments

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    arguments.add_arguments(parser, "benchmark-results")


def run(args: Namespace) -> None:
    """Measure, compare or list, as asked for."""
    from sgela_fast.benchmarks.harness.command import execute

    words = sys.argv[1:] if sys.argv[1:2] == ["bench"] else ["bench", *args.suites]
    execute(args, " ".join(["sgela-fast", *words]))
