"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) of a query's nearest rows, in bounded memory.

Two rows are close if their neighbourhoods overlap, whatever the plain distance says. The published computation holds
all distances among queries and gallery. Here lists of neighbours are made only for the rows that a query's candidates
depend on, and kept for the next query; a list takes 12 bytes a neighbour. The universe of a query is the searched rows
and the query itself, so that its result does not depend on which other queries stand in the same call.

With d the distance (1 - cosine, or Euclidean), N(p, k) the row p itself and its k nearest and
R(p, k) = {g in N(p, k): p in N(g, k)}, R* adds to R(p, k1) every R(c, k1 / 2), c in R(p, k1), that has more than two
thirds of its members in it. V(p) has exp(-d(p, g)) for the g in R*(p), scaled to sum 1, and is averaged over
N(p, k2 - 1). The new distance is (1 - lambda) (1 - J) + lambda d, where J is the sum of minima of two such V over the
sum of maxima.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.search.config import Metric, RerankConfig
from sgela_fast.search.nearest import Scores, ranked_pairs, rescored
from sgela_fast.search.rows import Positions, Rows

# Searches the rows that count for (n, D) queries: scores and positions (n, k), padded with -infinity and -1.
Find = Callable[[Tensor, int], tuple[Scores, Positions]]


def rerank(
    queries: Tensor,
    rows: Rows,
    k: int,
    *,
    find: Find,
    numbers: Positions,
    metric: Metric,
    config: RerankConfig,
    advance: Callable[[int], None] = lambda queries: None,
) -> tuple[Scores, Positions]:
    """Rank each query's candidates anew.

    Args:
        queries: ``(Q, D)`` float32, prepared as the rows are.
        rows: N rows.
        k: how many to return.
        find: searches the rows that count.
        numbers: ``(N,)``, window number of every row, which breaks ties.
        metric: ``cosine`` or ``euclidean``.
        config: settings.
        advance: called with the number of queries done since.

    Returns:
        Minus the new distances ``(Q, k)``, best first, and their rows; padded with minus infinity and -1.
    """
    lists = _Lists(rows, find, config.neighbours)
    scores, found = find(queries, max(config.candidates, config.neighbours))
    best = np.full((len(queries), k), -np.inf, np.float32)
    places = np.full((len(queries), k), -1, np.int64)
    for query in range(len(queries)):
        near = found[query][found[query] >= 0]
        universe = _Universe(queries[query : query + 1], rows, lists, near, metric)
        chosen = near[: config.candidates]
        if len(chosen):
            new = -universe.distances(chosen, scores[query, : len(chosen)], config)
            one, place = ranked_pairs(np.zeros(len(chosen), np.int64), new.astype(np.float32), chosen, numbers, 1, k)
            best[query], places[query] = one[0], place[0]
        advance(1)
    return best, places


class _Lists:
    """Neighbours of rows among the rows that count, computed when first asked for."""

    def __init__(self, rows: Rows, find: Find, count: int) -> None:
        self.rows, self.find, self.count = rows, find, count
        self.place = np.full(len(rows), -1, np.int64)
        self.found = np.empty((0, count), np.int64)
        self.scores = np.empty((0, count), np.float32)

    def of(self, positions: Positions) -> tuple[Positions, Scores]:
        """Neighbours without the rows themselves, ``(n, k1)``, and their scores; ``positions`` ascend."""
        missing = positions[self.place[positions] < 0]
        if len(missing):
            scores, found = self.find(self.rows.block(missing), self.count + 1)
            own = found == missing[:, None]
            own[~own.any(axis=1), -1] = True
            shape = (len(missing), self.count)
            self.place[missing] = len(self.found) + np.arange(len(missing))
            self.found = np.concatenate([self.found, found[~own].reshape(shape)])
            self.scores = np.concatenate([self.scores, scores[~own].reshape(shape)])
        return self.found[self.place[positions]], self.scores[self.place[positions]]


class _Universe:
    """The rows that count and one query, which has the position behind the last row."""

    def __init__(self, query: Tensor, rows: Rows, lists: _Lists, near: Positions, metric: Metric) -> None:
        self.query, self.rows, self.lists, self.metric = query, rows, lists, metric
        self.own = len(rows)
        self.near = np.full(lists.count, -1, np.int64)
        self.near[: min(len(near), lists.count)] = near[: lists.count]

    def neighbourhoods(self, items: Positions) -> Positions:
        """N(p, k1), nearest first and the item itself before all, ``(n, k1 + 1)``; ``items`` ascend."""
        gallery = items[items < self.own]
        found, scores = self.lists.of(gallery)
        query = rescored(self.query, self.rows, np.zeros(len(gallery), np.int64), gallery, self.metric)
        # The query comes in behind all rows that are at least as near.
        place = (scores >= query[:, None]).sum(axis=1)
        columns = np.arange(found.shape[1])
        shifted = np.take_along_axis(found, np.maximum(columns - (columns > place[:, None]), 0), axis=1)
        shifted[columns == place[:, None]] = self.own
        around = np.concatenate([gallery[:, None], shifted], axis=1)
        if len(items) > len(gallery):
            around = np.concatenate([around, [[self.own, *self.near]]])
        return around

    def distances(self, candidates: Positions, scores: Scores, config: RerankConfig) -> NDArray[np.float64]:
        """New distances between the query and its candidates ``(n,)``."""
        half = int(np.around(config.neighbours / 2)) + 1
        items = np.append(candidates, self.own)
        expansions = _around(self.neighbourhoods, items)[:, : config.expansion]  # (n + 1, k2)
        encoded = _members(expansions)  # rows whose V is needed
        wide = self.neighbourhoods(encoded)  # (W, k1 + 1)
        inner = _members(wide)
        narrow = self.neighbourhoods(inner)  # (F, k1 + 1)
        outer = _members(narrow[:, :half])
        everything = np.unique(np.concatenate([encoded, inner, outer, candidates]))
        last = self.neighbourhoods(outer)[:, :half]

        reciprocal = _mutual(wide, encoded, narrow, inner)  # (W, k1 + 1), R(p, k1)
        half_reciprocal = _mutual(narrow[:, :half], inner, last, outer)  # (F, half), R(c, k1 / 2)
        holds = np.zeros((len(encoded), len(everything) + 1), np.bool_)  # the last column takes what is not there
        at = np.where(reciprocal, np.searchsorted(everything, wide), len(everything))
        np.put_along_axis(holds, at, True, axis=1)
        holds[:, -1] = False
        plain = holds.copy()
        halves = np.where(half_reciprocal, np.searchsorted(everything, narrow[:, :half]), len(everything))  # (F, half)
        sizes = half_reciprocal.sum(axis=1)
        for one in range(len(encoded)):
            chosen = np.searchsorted(inner, wide[one][reciprocal[one]])
            shared = plain[one][halves[chosen]].sum(axis=1)
            holds[one, halves[chosen][shared > 2 / 3 * sizes[chosen]].ravel()] = True
        holds[:, -1] = False
        values = np.where(holds[:, :-1], np.exp(-self._plain(encoded, everything)), 0)
        values /= values.sum(axis=1, keepdims=True)

        there = expansions >= 0
        weights = np.zeros((len(items), len(encoded) + 1))
        np.put_along_axis(weights, np.where(there, np.searchsorted(encoded, expansions), len(encoded)), 1.0, axis=1)
        averaged = weights[:, :-1] @ values / there.sum(axis=1, keepdims=True)  # (n + 1, everything)
        shared = np.minimum(averaged[-1], averaged[:-1]).sum(axis=1)
        jaccard = 1 - shared / (2 - shared)
        plain_distance = 1 - scores.astype(np.float64) if self.metric == "cosine" else -scores.astype(np.float64)
        return (1 - config.weight) * jaccard + config.weight * plain_distance

    def _plain(self, left: Positions, right: Positions) -> NDArray[np.float64]:
        """Distances ``(left, right)``."""
        one, other = self._vectors(left), self._vectors(right)
        if self.metric == "cosine":
            return (1 - one @ other.T).numpy()
        return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").numpy()

    def _vectors(self, items: Positions) -> Tensor:
        block = self.rows.block(items[items < self.own])
        return (block if items[-1] < self.own else torch.cat([block, self.query])).double()


def _around(neighbourhoods: Callable[[Positions], Positions], items: Positions) -> Positions:
    """Neighbourhoods of items in any order."""
    order = np.argsort(items)
    found = neighbourhoods(items[order])
    return found[np.argsort(order)]


def _members(lists: Positions) -> Positions:
    """All items of lists, ascending, without the padding."""
    items = np.unique(lists)
    return items[items >= 0]


def _mutual(lists: Positions, owners: Positions, others: Positions, of: Positions) -> NDArray[np.bool_]:
    """Which entries of each owner's list have the owner in their own list; ``others`` are the lists of ``of``."""
    there = lists >= 0
    back = others[np.where(there, np.searchsorted(of, lists), 0)]  # (n, k, k')
    return there & (back == owners[:, None, None]).any(axis=2)
