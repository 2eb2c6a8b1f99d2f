"""Benchmark of searching pooled gait encodings: exhaustive in tiles, approximate, and what others offer.

python -m benchmarks search
python -m benchmarks search --sizes 1000000    # 7 GB of memory, and minutes to build the inverted lists

Ten nearest windows by cosine of 768 features, for one query and for a hundred. What is done once for all queries does
not count: reading the store, building the index. The bound is that of the exhaustive search, one product that reads
every row once, so an approximate search may pass it.
"""

from __future__ import annotations

from itertools import product

from sgela_fast.benchmarks import search_providers as providers
from sgela_fast.benchmarks.harness.arguments import Choice
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite

WIDTH = 768
WINDOWS = {"quick": (2_000,), "standard": (100_000,), "full": (100_000, 1_000_000)}
QUERIES = (1, 100)


def case_of(windows: int, queries: int, device: str) -> Case:
    """The search among so many windows for so many queries at once."""
    return Case(
        name=f"windows={windows} queries={queries}",
        group="ten nearest, cosine, 768 features, float32",
        axes={"windows": windows, "queries": queries},
        items=windows,
        cost=Cost(2.0 * windows * queries * WIDTH, 4.0 * WIDTH * (windows + queries)),
        device=device,
        clock="cpu",
        settings={"windows": windows, "queries": queries, "width": WIDTH},
    )


def build(choice: Choice) -> Suite:
    """The suite for a grid."""
    windows = choice.sizes or WINDOWS[choice.grid]
    return Suite.of(
        providers,
        name="search",
        title="Search of gait encodings",
        unit="windows",
        subject="exact",
        cases=(case_of(*sizes, choice.device) for sizes in product(windows, QUERIES)),
    )


if __name__ == "__main__":
    raise SystemExit(main("search"))
