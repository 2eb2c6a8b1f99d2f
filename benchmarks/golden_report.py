"""Print how far the official variant is from the official implementation's tensors, as Markdown.

    python -m benchmarks.golden_report FOLDER

FOLDER holds the golden files. First the largest deviation of each kind in every file, then a table of each kind with a
row for every quantity and a column for every file. Ends with status 1 if anything is beyond its bound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from sgela_fast.benchmarks.golden_comparison import FILES, Deviation, compare

KINDS = {
    "forward": "Forward tensors, absolute",
    "loss": "Losses, relative",
    "gradient": "Gradients, relative to the tensor's largest entry",
    "step": "Weights after optimiser steps, 99.9 % quantile of the absolute deviation",
}


def report(deviations: Sequence[Deviation]) -> str:
    """The tables. Bold figures are beyond their bound."""
    files = list(dict.fromkeys(found.file for found in deviations))
    return "\n\n".join(
        [
            _summary(deviations, files),
            *(
                f"### {title} (bound {_bounds(found.bound for found in of_kind)})\n\n{_quantities(of_kind, files)}"
                for kind, title in KINDS.items()
                if (of_kind := [found for found in deviations if found.kind == kind])
            ),
        ]
    )


def is_beyond(found: Deviation) -> bool:
    """Whether a deviation is not below its bound; one that is not a number is beyond."""
    return not found.value < found.bound


def _summary(deviations: Sequence[Deviation], files: Sequence[str]) -> str:
    rows = []
    for file in files:
        cells = [file]
        for kind in KINDS:
            of_kind = [found for found in deviations if found.file == file and found.kind == kind]
            worst = max(of_kind, key=lambda found: found.value, default=None)
            cells.append(f"{_figure(worst)} {worst.quantity}" if worst else "-")
        rows.append(cells)
    return _table(["file", *KINDS], rows)


def _quantities(deviations: Sequence[Deviation], files: Sequence[str]) -> str:
    places = {(found.quantity, found.file): found for found in deviations}
    held = [file for file in files if any(found.file == file for found in deviations)]
    rows = [
        [quantity, *(_figure(places[quantity, file]) if (quantity, file) in places else "-" for file in held)]
        for quantity in dict.fromkeys(found.quantity for found in deviations)
    ]
    return _table(["quantity", *held], rows)


def _figure(found: Deviation) -> str:
    return f"**{found.value:.1e}**" if is_beyond(found) else f"{found.value:.1e}"


def _bounds(bounds: Iterable[float]) -> str:
    return ", ".join(f"{bound:.0e}" for bound in sorted(set(bounds)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the golden files")
    folder = parser.parse_args().folder
    here = [name for name in FILES if (folder / f"{name}.npz").is_file()]
    if not here:
        parser.error(f"{folder} holds none of the golden files, such as {next(iter(FILES))}.npz; check the path")
    for name in FILES.keys() - set(here):
        print(f"note: {name}.npz is not there", file=sys.stderr)
    deviations = [found for name in here for found in compare(folder, name)]
    print(report(deviations))
    beyond = [found for found in deviations if is_beyond(found)]
    print(f"\n{len(deviations)} comparisons, {len(beyond)} beyond their bound")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
