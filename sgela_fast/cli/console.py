"""Tables on standard output, with every text as it is."""

from __future__ import annotations

import sys

from rich.console import Console


def plain_console(width: int | None = None) -> Console:
    """Standard output for tables; brackets and colons in names are letters, neither markup nor pictures.

    Args:
        width: columns where standard output is no terminal and so has no width of its own; 80 if not given.
    """
    return Console(width=None if sys.stdout.isatty() else width, markup=False, emoji=False)
