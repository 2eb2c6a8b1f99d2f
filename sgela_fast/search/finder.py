"""One search's way to the nearest windows and units: exhaustive or approximate, with what is hidden from each query."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.search.approximate import Approximate
from sgela_fast.search.config import Level, Metric, RerankConfig
from sgela_fast.search.nearest import Exclusion, Scores, nearest
from sgela_fast.search.queries import Queries
from sgela_fast.search.reranking import rerank
from sgela_fast.search.rows import Positions, Rows
from sgela_fast.search.units import Units, best_units, unit_scores

SHORTLIST = 100  # windows found for each query window, whose units are then scored exactly


class Finder:
    """Searches the allowed rows.

    Args:
        rows: N rows.
        numbers: ``(N,)``, window number of every row.
        allowed: ``(N,)``, the rows to search.
        metric: of the scores.
        approximation: a FAISS index of all rows, ``None`` to compare them all.
        tile_mb: memory for a tile, in MiB.
        advance: called with the number of rows compared since.
    """

    def __init__(
        self,
        rows: Rows,
        numbers: Positions,
        allowed: NDArray[np.bool_],
        metric: Metric,
        approximation: Approximate | None = None,
        tile_mb: int = 32,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self.rows, self.numbers, self.allowed, self.metric = rows, numbers, allowed, metric
        self.approximation, self.tile_mb, self.advance = approximation, tile_mb, advance
        self.positions = np.flatnonzero(allowed)
        self.everything = len(self.positions) == len(allowed)

    def windows(self, queries: Tensor, k: int, hidden: list[Exclusion]) -> tuple[Scores, Positions]:
        """Scores and positions of the nearest rows, ``(Q, k)``."""
        if self.approximation is not None:
            return self.approximation.nearest(
                queries,
                self.rows,
                k,
                allowed=None if self.everything else self.allowed,
                numbers=self.numbers,
                exclusions=hidden,
            )
        return nearest(
            queries,
            self.rows,
            k,
            positions=self.positions,
            numbers=self.numbers,
            metric=self.metric,
            exclusions=hidden,
            tile_mb=self.tile_mb,
            advance=self.advance,
        )

    def reranked(
        self, queries: Tensor, k: int, hidden: list[Exclusion], config: RerankConfig
    ) -> tuple[Scores, Positions]:
        """The nearest rows ranked anew, ``(Q, k)``; queries from which the same rows are hidden share their work."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        nothing = np.empty(0, np.int64)
        free = np.setdiff1d(np.arange(len(queries)), np.concatenate([nothing, *(item.queries for item in hidden)]))
        for members, own in [*hidden, *([Exclusion(free, nothing)] if len(free) else [])]:

            def find(part: Tensor, count: int, own: Positions = own) -> tuple[Scores, Positions]:
                return self.windows(part, count, [Exclusion(np.arange(len(part)), own)] if len(own) else [])

            scores[members], rows[members] = rerank(
                queries[torch.from_numpy(members)],
                self.rows,
                k,
                find=find,
                numbers=self.numbers,
                metric=self.metric,
                config=config,
            )
        return scores, rows

    def units(
        self, queries: Tensor, groups: Positions, units: Units, k: int, best: int, hidden: list[Exclusion]
    ) -> tuple[Scores, Positions]:
        """Scores and codes of the best units of every group, ``(R, k)``.

        With an approximate index the units are those of each query window's nearest windows; their scores are exact.
        """
        count = int(groups[-1]) + 1
        scores, codes = np.full((count, k), -np.inf, np.float32), np.full((count, k), -1, np.int64)

        def finished(group: int, found: NDArray[np.float64]) -> None:
            scores[group], codes[group] = best_units(found, k)

        if self.approximation is None:
            self._score_units(queries, groups, units, self.positions, best, hidden, finished)
            return scores, codes
        near = self.windows(queries, SHORTLIST, hidden)[1]
        for group in range(count):
            members = np.flatnonzero(groups == group)
            rows = near[members]
            listed = np.unique(units.codes[rows[rows >= 0]])
            positions = self.positions[np.isin(units.codes[self.positions], listed[listed >= 0])]
            own = [Exclusion(np.arange(len(members)), item.rows) for item in hidden if members[0] in item.queries]
            part = queries[torch.from_numpy(members)]
            self._score_units(part, groups[members], units, positions, best, own, finished)
        return scores, codes

    def _score_units(
        self,
        queries: Tensor,
        groups: Positions,
        units: Units,
        positions: Positions,
        best: int,
        hidden: list[Exclusion],
        finished: Callable[[int, NDArray[np.float64]], None],
    ) -> None:
        unit_scores(
            queries,
            groups,
            self.rows,
            units,
            positions=positions,
            best=best,
            metric=self.metric,
            exclusions=hidden,
            tile_mb=self.tile_mb,
            finished=finished,
            advance=self.advance,
        )


def query_units(queries: Queries, level: Level, sequence: int) -> Positions:
    """Which query unit each query window belongs to, ``(Q,)``, ascending from 0 without gaps."""
    if level == "window":
        return np.arange(len(queries))
    if level != "sequence":
        return queries.groups
    place = np.arange(len(queries)) - np.searchsorted(queries.groups, queries.groups)
    pairs = np.stack([queries.groups, place // sequence])
    return np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
