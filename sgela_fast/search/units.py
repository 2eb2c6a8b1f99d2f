"""Sequences, recordings and persons as units of a search, scored by the best matches among their windows.

The score of a query (the windows q of one recording or sequence) and a unit U is

    s(Q, U) = mean over q in Q of the mean of the m largest of {s(q, x): x in U},    m = ``best``

so that every query window looks for its own best matches, and a unit is as good as these are on average. A unit of
fewer than m windows counts with all that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.search.config import Level, Metric
from sgela_fast.search.nearest import MIB, Exclusion, Scores, hide, tiles
from sgela_fast.search.rows import Positions, Rows


@dataclass(frozen=True)
class Units:
    """Which unit every window belongs to.

    Attributes:
        level: what a unit is.
        codes: ``(N,)``, unit of each window, -1 for none; units are numbered by their first windows.
        first: ``(U,)``, each unit's window with the smallest number.
    """

    level: Level
    codes: Positions
    first: Positions

    def __len__(self) -> int:
        return len(self.first)


def coded(table: pa.Table, name: str) -> tuple[Positions, list[str]]:
    """A column of text as codes ``(N,)`` and what they stand for; a missing entry is an empty text."""
    encoded = table[name].cast("string").fill_null("").combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def texts(table: pa.Table, name: str) -> NDArray[np.str_]:
    """A column as text, missing entries empty."""
    codes, names = coded(table, name)
    return np.array([*names, ""], np.str_)[codes]


def units_of(table: pa.Table, level: Level, sequence: int = 10) -> Units:
    """Divide a store's windows into units.

    Args:
        table: the store's.
        level: ``recording`` (two persons of one recording are two units), ``sequence`` (so many successive windows of
            a recording, in the order of their first frames; the last may be shorter), ``person`` (windows without one
            belong nowhere) or ``window``.
        sequence: windows of a sequence.
    """
    numbers = table["window"].to_numpy().astype(np.int64)
    if level == "window":
        return Units(level, np.arange(len(table)), np.arange(len(table)))
    persons, names = coded(table, "person")
    if level == "person":
        keys = persons
    else:
        keys = coded(table, "recording")[0] * max(1, len(names)) + persons
        if level == "sequence":
            order = np.lexsort((numbers, table["window_start"].to_numpy(), keys))
            place = np.empty(len(order), np.int64)
            place[order] = np.arange(len(order)) - np.searchsorted(keys[order], keys[order])
            keys = keys * (len(order) + 1) + place // sequence
    belongs = persons != names.index("") if level == "person" and "" in names else np.ones(len(table), np.bool_)
    rows = np.flatnonzero(belongs)
    by_number = rows[np.argsort(numbers[rows], kind="stable")]
    _, at, inverse = np.unique(keys[by_number], return_index=True, return_inverse=True)
    order = np.argsort(at, kind="stable")
    codes = np.full(len(table), -1, np.int64)
    codes[by_number] = np.argsort(order, kind="stable")[inverse]
    return Units(level, codes, by_number[at[order]].astype(np.int64))


def unit_scores(
    queries: Tensor,
    groups: Positions,
    rows: Rows,
    units: Units,
    *,
    positions: Positions,
    best: int = 1,
    metric: Metric = "cosine",
    exclusions: Sequence[Exclusion] = (),
    tile_mb: int = 32,
    finished: Callable[[int, NDArray[np.float64]], None],
    advance: Callable[[int], None] = lambda rows: None,
) -> None:
    """Score every group of queries with every unit.

    Args:
        queries: ``(Q, D)`` float32, prepared as the rows are.
        groups: ``(Q,)``, ascending, the group of each.
        rows: N rows.
        units: of the rows.
        positions: ``(n,)``, ascending, the rows that count.
        best: m of the formula.
        metric: as for :func:`sgela_fast.search.nearest.nearest`.
        exclusions: rows hidden from some queries; all queries of a group must agree.
        tile_mb: memory for a tile of rows and scores, and as much again for the scores of units, in MiB.
        finished: called with each group and its scores ``(U,)``, minus infinity where no row of a unit counts.
        advance: called with the number of rows searched since, times the share of queries.
    """
    positions = positions[units.codes[positions] >= 0]
    positions = positions[np.argsort(units.codes[positions], kind="stable")]
    at_once = max(1, min(1024, tile_mb * MIB // (4 * best * max(1, len(units)))))
    sums = np.zeros(len(units))
    for first in range(0, len(queries), at_once):
        chosen = slice(first, min(first + at_once, len(queries)))
        part = queries[chosen]
        hidden = [
            Exclusion(item.queries[inside] - first, item.rows)
            for item in exclusions
            if (inside := (item.queries >= first) & (item.queries < chosen.stop)).any()
        ]
        matches = _Matches(len(units), len(part), best)
        for piece in tiles(positions, len(part), rows.width, tile_mb):
            # Rows are read in ascending order and then put into the order of units.
            ascending = np.sort(piece)
            scores = _scores(part, rows.block(ascending), metric)  # (Q, n)
            hide(scores, ascending, hidden)
            matches.offer(scores.T[torch.from_numpy(np.searchsorted(ascending, piece))], units.codes[piece])
            advance(len(piece))
        means = matches.means()  # (U, Q)
        for place, group in enumerate(groups[chosen].tolist()):
            sums += means[:, place]
            last = first + place
            if last + 1 == len(groups) or groups[last + 1] != group:
                finished(group, sums / np.count_nonzero(groups == group))
                sums = np.zeros(len(units))


def best_units(scores: NDArray[np.float64], k: int) -> tuple[Scores, Positions]:
    """The k best units of one group: scores ``(k,)`` and codes ``(k,)``, ties by code; -infinity and -1 for none."""
    rounded = scores.astype(np.float32)
    order = np.lexsort((np.arange(len(rounded)), -rounded))[:k]
    order = order[rounded[order] > -np.inf]
    best, codes = np.full(k, -np.inf, np.float32), np.full(k, -1, np.int64)
    best[: len(order)], codes[: len(order)] = rounded[order], order
    return best, codes


def _scores(queries: Tensor, block: Tensor, metric: Metric) -> Tensor:
    if metric != "euclidean":
        return queries @ block.T
    # Squares of nearly equal rows cancel, which no later step mends here: hence float64.
    left, right = queries.double(), block.double()
    squares = torch.addmm(right.square().sum(dim=1), left, right.T, alpha=-2)
    squares += left.square().sum(dim=1, keepdim=True)
    return squares.clamp_min_(0).sqrt_().neg_().float()


class _Matches:
    """The m best scores of each query within each unit, over tiles of rows in the order of units."""

    def __init__(self, units: int, queries: int, best: int) -> None:
        self.best = np.full((units, best, queries), -np.inf, np.float32)

    def offer(self, scores: Tensor, codes: Positions) -> None:
        """Take the scores ``(n, Q)`` of rows whose units are ``codes``, ascending."""
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        present = codes[starts]
        if self.best.shape[1] == 1:
            largest = np.maximum.reduceat(scores.numpy(), starts, axis=0)  # (units, Q)
            self.best[present, 0] = np.maximum(self.best[present, 0], largest)
            return
        for unit, start, stop in zip(present, starts, [*starts[1:], len(codes)], strict=True):
            both = torch.cat([torch.from_numpy(self.best[unit]), scores[start:stop]])
            self.best[unit] = both.topk(self.best.shape[1], dim=0).values.numpy()

    def means(self) -> NDArray[np.float64]:
        """Mean over the matches there are, ``(U, Q)``; minus infinity where there are none."""
        there = np.isfinite(self.best)
        counts = there.sum(axis=1)
        sums = np.where(there, self.best, 0).sum(axis=1, dtype=np.float64)
        return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
