"""Write the Markdown report, and plots if asked for, of a results file.

python -m benchmarks.report benchmarks/results/locality_attention_amd_epyc.json --plot png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from sgela_fast.atomic import write_text
from sgela_fast.benchmarks.harness.markdown import render
from sgela_fast.benchmarks.harness.plots import draw
from sgela_fast.benchmarks.harness.results import read


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files beside the results file."""
    parser = ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("results", type=Path, help="results file (JSON)")
    parser.add_argument("--plot", type=Literal["none", "png", "svg", "pdf"], default="none", help="draw plots too")
    args = parser.parse_args(None if argv is None else [str(word) for word in argv])
    content = read(args.results)
    write_text(args.results.with_suffix(".md"), render(content))
    if args.plot != "none":
        draw(content, args.results.with_suffix(f".{args.plot}"))


if __name__ == "__main__":
    main()
