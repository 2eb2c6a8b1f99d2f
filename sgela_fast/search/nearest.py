"""Exhaustive search of the nearest rows, in tiles: one matrix product, never a matrix of all against all.

A tile's float32 scores only choose candidates, with a margin of what rounding can do to them. The candidates are then
scored again in float64, so that the result depends neither on tiles nor on threads, and equal rows score equal. Of
equal scores the smaller window number comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.search.config import Metric
from sgela_fast.search.rows import Positions, Rows

MIB = 1 << 20
_QUERIES_AT_ONCE = 1024
_ROUNDING = 2.0**-24  # unit roundoff u of float32
_DEVIATIONS = 6
Scores = NDArray[np.float32]


class Exclusion(NamedTuple):
    """Rows that some queries must not find.

    Attributes:
        queries: ``(n,)``, ascending positions among the queries.
        rows: ``(m,)``, ascending positions among the rows.
    """

    queries: Positions
    rows: Positions


def nearest(
    queries: Tensor,
    rows: Rows,
    k: int,
    *,
    positions: Positions,
    numbers: Positions,
    metric: Metric = "cosine",
    exclusions: Sequence[Exclusion] = (),
    tile_mb: int = 32,
    advance: Callable[[int], None] = lambda rows: None,
) -> tuple[Scores, Positions]:
    """The k nearest rows of every query.

    Args:
        queries: ``(Q, D)`` float32, prepared as the rows are.
        rows: N rows.
        k: how many.
        positions: ``(n,)``, ascending, the rows to search.
        numbers: ``(N,)``, window number of every row, which breaks ties.
        metric: ``cosine`` and ``inner-product`` score q.x, ``euclidean`` minus the distance.
        exclusions: rows hidden from some queries.
        tile_mb: memory for a tile of rows and its scores, in MiB.
        advance: called with the number of rows searched since, times the share of queries.

    Returns:
        Scores ``(Q, k)``, best first, and their rows ``(Q, k)``; minus infinity and -1 where fewer than k are left.
    """
    scores = np.full((len(queries), k), -np.inf, np.float32)
    found = np.full((len(queries), k), -1, np.int64)
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        chosen = slice(first, min(first + _QUERIES_AT_ONCE, len(queries)))
        part = queries[chosen]
        best = _Candidates(part, k, numbers, metric)
        hidden = [
            Exclusion(item.queries[inside] - first, item.rows)
            for item in exclusions
            if (inside := (item.queries >= first) & (item.queries < chosen.stop)).any()
        ]
        for piece in tiles(positions, len(part), rows.width, tile_mb):
            best.offer(rows.block(piece), piece, hidden)
            advance(len(piece))
        scores[chosen], found[chosen] = best.ranked(rows)
    return scores, found


def tiles(positions: Positions, queries: int, width: int, tile_mb: int) -> Iterator[Positions]:
    """Cut ``positions`` so that a tile's rows and scores take about ``tile_mb``."""
    size = max(1, tile_mb * MIB // (4 * (queries + width)))
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


def hide(scores: Tensor, piece: Positions, exclusions: Sequence[Exclusion]) -> None:
    """Set the ``scores`` ``(Q, n)`` of excluded rows to minus infinity, in place."""
    for item in exclusions:
        inside = item.rows[np.searchsorted(item.rows, piece[0]) : np.searchsorted(item.rows, piece[-1], "right")]
        columns = np.searchsorted(piece, inside)
        columns = columns[piece[np.minimum(columns, len(piece) - 1)] == inside]
        if len(columns):
            scores[torch.from_numpy(item.queries)[:, None], torch.from_numpy(columns)] = -torch.inf


def rescored(
    queries: Tensor, rows: Rows, of_query: Positions, found: Positions, metric: Metric, at_once: int = 1 << 14
) -> Scores:
    """Scores of pairs in float64, rounded to float32.

    Args:
        queries: ``(Q, D)``.
        rows: the rows.
        of_query: ``(P,)``, the query of each pair.
        found: ``(P,)``, the row of each pair.
        metric: of the score.
        at_once: pairs computed at once.
    """
    scores = np.empty(len(found), np.float32)
    by_row = np.argsort(found, kind="stable")
    for start in range(0, len(found), at_once):
        pairs = by_row[start : start + at_once]
        distinct, where = np.unique(found[pairs], return_inverse=True)
        left = queries[torch.from_numpy(of_query[pairs])].double().numpy()
        right = rows.block(distinct).double().numpy()[where]
        if metric == "euclidean":
            left -= right
            scores[pairs] = -np.sqrt(np.einsum("ij,ij->i", left, left))
        else:
            scores[pairs] = np.einsum("ij,ij->i", left, right)
    return scores


def ranked_pairs(
    of_query: Positions, scores: Scores, found: Positions, numbers: Positions, queries: int, k: int
) -> tuple[Scores, Positions]:
    """Pairs in any order as ``(Q, k)`` arrays, best first, ties by window number."""
    order = np.lexsort((numbers[found], -scores, of_query))
    of_query, scores, found = of_query[order], scores[order], found[order]
    rank = np.arange(len(order)) - np.searchsorted(of_query, of_query)
    kept = rank < k
    best = np.full((queries, k), -np.inf, np.float32)
    places = np.full((queries, k), -1, np.int64)
    best[of_query[kept], rank[kept]] = scores[kept]
    places[of_query[kept], rank[kept]] = found[kept]
    return best, places


class _Candidates:
    """Rows that may be among the k nearest of each query, as far as rounding allows to say."""

    def __init__(self, queries: Tensor, k: int, numbers: Positions, metric: Metric) -> None:
        self.queries, self.k, self.numbers, self.metric = queries, k, numbers, metric
        self.norms = queries.norm(dim=1)  # (Q,)
        self.largest = 0.0  # norm of a row so far
        self.kth = torch.full((len(queries),), -torch.inf)
        # Only where over a thousand rows lie within rounding of the k-th is the choice among them left to rounding.
        self.kept = 4 * k + 1024
        self.of_query = np.empty(0, np.int64)
        self.found = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)

    def offer(self, block: Tensor, piece: Positions, exclusions: Sequence[Exclusion]) -> None:
        """Take the candidates of a tile of rows ``(n, D)``."""
        scores = self._products(block)  # (Q, n)
        hide(scores, piece, exclusions)
        floor = self.kth - self._margin()
        many = bool(torch.isinf(floor).any()) or int((scores >= floor[:, None]).sum()) > 16 * self.k * len(self.kth)
        if many and len(piece) >= self.k:
            own = scores.topk(self.k, dim=1).values[:, -1]
            floor = torch.maximum(floor, own - self._margin())
        there = scores > -torch.inf  # what no exclusion hides
        of_query, columns = ((scores >= floor[:, None]) & there).nonzero(as_tuple=True)
        if not len(of_query):
            return
        self.of_query = np.concatenate([self.of_query, of_query.numpy()])
        self.found = np.concatenate([self.found, piece[columns.numpy()]])
        self.scores = np.concatenate([self.scores, scores[of_query, columns].numpy()])
        self._thin()

    def ranked(self, rows: Rows) -> tuple[Scores, Positions]:
        """The k best of each query by their float64 scores."""
        exact = rescored(self.queries, rows, self.of_query, self.found, self.metric)
        return ranked_pairs(self.of_query, exact, self.found, self.numbers, len(self.queries), self.k)

    def _products(self, block: Tensor) -> Tensor:
        if self.metric == "cosine":
            self.largest = 1.0
            return self.queries @ block.T
        squares = block.square().sum(dim=1)  # (n,)
        self.largest = max(self.largest, float(squares.max()) ** 0.5)
        if self.metric == "inner-product":
            return self.queries @ block.T
        # |q - x|^2 = |q|^2 + |x|^2 - 2 q.x; |q|^2 is the same for all rows of a query.
        return torch.addmm(squares.neg(), self.queries, block.T, alpha=2)

    def _margin(self) -> Tensor:
        """Twice what rounding changes in a score, but for one case in ten million.

        A sum of D products, rounded D times to u, is off by 6 sqrt(D) u or more with probability 2 exp(-6^2 / 2), if
        roundings are independent (Higham and Mary, 2019).
        """
        size = self.norms * self.largest
        if self.metric == "euclidean":
            size = 2 * size + self.largest**2
        return 2 * _DEVIATIONS * self.queries.shape[1] ** 0.5 * _ROUNDING * size

    def _thin(self) -> None:
        """Forget candidates that are out of reach."""
        order = np.lexsort((self.numbers[self.found], -self.scores, self.of_query))
        of_query, scores = self.of_query[order], self.scores[order]
        rank = np.arange(len(order)) - np.searchsorted(of_query, of_query)
        last = rank == self.k - 1
        self.kth[torch.from_numpy(of_query[last])] = torch.from_numpy(scores[last])
        kept = (rank < self.kept) & (scores >= (self.kth - self._margin()).numpy()[of_query])
        self.of_query, self.scores, self.found = of_query[kept], scores[kept], self.found[order[kept]]
