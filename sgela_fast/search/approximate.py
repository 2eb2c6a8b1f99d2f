"""Approximate search by FAISS: inverted lists or a graph of neighbours.

What FAISS finds is scored again by :func:`sgela_fast.search.nearest.rescored`, so that scores and ties mean the same as
in the exhaustive search; only which windows are looked at is approximate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.atomic import replacing
from sgela_fast.errors import MissingDependencyError, OutputError
from sgela_fast.search.config import IndexConfig, Metric
from sgela_fast.search.files import file_sha256
from sgela_fast.search.nearest import Exclusion, Scores, nearest, ranked_pairs, rescored, tiles
from sgela_fast.search.rows import Positions, Rows

RECALL_AT = 10
_TRAINING_ROWS = 40  # for each inverted list; FAISS warns below 39
_HNSW_CONSTRUCTION = 80
_HNSW_LARGEST = 4096


def import_faiss() -> Any:
    """The library.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the generator that its bindings are made by
            import faiss
    except ImportError as error:
        raise MissingDependencyError(
            'an approximate index needs FAISS; install it with pip install "sgela_fast[search]", or use the kind exact'
        ) from error
    return faiss


class Approximate:
    """A FAISS index of all rows.

    Args:
        index: ``IndexIVFFlat`` or ``IndexHNSWFlat``; its ids are positions of rows.
        config: what it was built by.
        effort: lists looked at or candidates kept, by default.
    """

    def __init__(self, index: Any, config: IndexConfig, effort: int) -> None:
        self.index, self.config, self.effort = index, config, effort

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def largest_effort(self) -> int:
        """Beyond which more effort finds nothing more, or is dearer than an exhaustive search."""
        return int(self.index.nlist) if self.config.kind == "ivf" else max(1, min(_HNSW_LARGEST, len(self)))

    @property
    def share(self) -> float:
        """Share of the rows that a search looks at, roughly."""
        if self.config.kind == "ivf":
            return self.effort / self.index.nlist
        return min(1.0, 4 * self.config.links * self.effort / max(1, len(self)))

    def nearest(
        self,
        queries: Tensor,
        rows: Rows,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None,
        numbers: Positions,
        exclusions: list[Exclusion],
        effort: int | None = None,
    ) -> tuple[Scores, Positions]:
        """The nearest rows that it finds; arguments and result as for :func:`sgela_fast.search.nearest.nearest`.

        FAISS applies the filter while it searches. Queries that found fewer than k rows although more are allowed are
        searched again with twice the effort, and in the end exhaustively.

        Args:
            queries: ``(Q, D)``.
            rows: the same rows, for the scores.
            k: how many.
            allowed: ``(N,)``, the rows to search; ``None`` for all.
            numbers: ``(N,)``, window number of every row.
            exclusions: rows hidden from some queries; a query may stand in one of them at most.
            effort: in place of the default one.
        """
        pairs: list[tuple[Positions, Positions]] = []
        for members, mask in _masks(len(queries), len(self), allowed, exclusions):
            count = len(self) if mask is None else int(mask.sum())
            if count:
                found = self._until_k(queries, members, mask, rows, min(k, count), numbers, effort or self.effort)
                of_query, place = np.nonzero(found >= 0)
                pairs.append((members[of_query], found[of_query, place]))
        of_query, places = (np.concatenate([np.empty(0, np.int64), *(pair[part] for pair in pairs)]) for part in (0, 1))
        scores = rescored(queries, rows, of_query, places, self.config.metric)
        return ranked_pairs(of_query, scores, places, numbers, len(queries), k)

    def _until_k(
        self,
        queries: Tensor,
        members: Positions,
        mask: NDArray[np.bool_] | None,
        rows: Rows,
        k: int,
        numbers: Positions,
        effort: int,
    ) -> Positions:
        found = np.full((len(members), k), -1, np.int64)
        short = np.arange(len(members))
        while True:
            part = queries[torch.from_numpy(members[short])].contiguous().numpy()
            found[short] = self.index.search(part, k, params=self._parameters(mask, max(effort, k)))[1]
            short = np.flatnonzero(found[:, -1] < 0)
            if not len(short):
                return found
            if effort >= self.largest_effort:
                break
            effort *= 2
        positions = np.arange(len(self)) if mask is None else np.flatnonzero(mask)
        found[short] = nearest(
            queries[torch.from_numpy(members[short])],
            rows,
            k,
            positions=positions,
            numbers=numbers,
            metric=self.config.metric,
            tile_mb=self.config.tile_mb,
        )[1]
        return found

    def _parameters(self, mask: NDArray[np.bool_] | None, effort: int) -> Any:
        faiss = import_faiss()
        selector = None if mask is None else faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        if self.config.kind == "ivf":
            return faiss.SearchParametersIVF(sel=selector, nprobe=min(effort, self.largest_effort))
        return faiss.SearchParametersHNSW(sel=selector, efSearch=effort)


def build(rows: Rows, config: IndexConfig, advance: Callable[[int], None] = lambda rows: None) -> Approximate:
    """Build a FAISS index, a tile of rows at a time.

    Args:
        rows: N rows.
        config: kind and size.
        advance: called with the number of rows added since.

    Raises:
        MissingDependencyError: FAISS is not installed.
    """
    faiss = import_faiss()
    measure = _faiss_metric(config.metric)
    if config.kind == "hnsw":
        index = faiss.IndexHNSWFlat(rows.width, config.links, measure)
        index.hnsw.efConstruction = max(_HNSW_CONSTRUCTION, config.links)
    else:
        lists = max(1, min(config.lists or round(4 * len(rows) ** 0.5), len(rows) // 39 or 1))
        quantiser = faiss.IndexFlat(rows.width, measure)
        index = faiss.IndexIVFFlat(quantiser, rows.width, lists, measure)
        index.cp.seed = config.seed
        index.cp.spherical = config.metric == "cosine"
        index.train(_sample(rows, lists * _TRAINING_ROWS, config.seed).numpy())
    for piece in tiles(np.arange(len(rows)), 0, rows.width, config.tile_mb):
        index.add(rows.block(piece).contiguous().numpy())
        advance(len(piece))
    return Approximate(index, config, max(1, config.effort))


def tune(built: Approximate, rows: Rows, numbers: Positions) -> dict[int, float]:
    """Choose the least effort that reaches the wanted recall, unless one is given.

    A sample of the rows is searched for with each effort, itself left out, and compared with the exhaustive search. A
    row as near as the tenth counts as found, whichever of equals it is.

    Args:
        built: what :func:`build` made; its ``effort`` is set.
        rows: the rows.
        numbers: ``(N,)``, window number of every row.

    Returns:
        Recall of the ten nearest rows by effort; the last is that of the effort chosen.
    """
    config = built.config
    count = min(len(rows), config.recall_queries)
    sample = np.sort(np.random.default_rng(config.seed).choice(len(rows), count, replace=False))
    queries, k = rows.block(sample), min(RECALL_AT, len(rows) - 1)
    if not k:
        return {built.effort: 1.0}
    truth, _ = _without_self(
        *nearest(
            queries,
            rows,
            k + 1,
            positions=np.arange(len(rows)),
            numbers=numbers,
            metric=config.metric,
            tile_mb=config.tile_mb,
        ),
        sample,
    )
    effort, recalls = max(1, config.effort), {}
    while True:
        found, _ = _without_self(
            *built.nearest(queries, rows, k + 1, allowed=None, numbers=numbers, exclusions=[], effort=effort), sample
        )
        recalls[effort] = float((found >= truth[:, -1:]).mean())
        if config.effort or recalls[effort] >= config.recall or effort >= built.largest_effort:
            break
        effort = min(2 * effort, built.largest_effort)
    built.effort = effort
    return recalls


def load(path: Path, rows: Rows, config: IndexConfig, effort: int) -> Approximate:
    """Read a FAISS file whose checksum has been compared.

    Raises:
        ValueError: it is not the index that is needed.
        MissingDependencyError: FAISS is not installed.
    """
    faiss = import_faiss()
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    wanted = faiss.IndexIVFFlat if config.kind == "ivf" else faiss.IndexHNSWFlat
    found = (type(index), index.ntotal, index.d, index.metric_type)
    if found != (wanted, len(rows), rows.width, _faiss_metric(config.metric)):
        raise ValueError(f"it is a {type(index).__name__} of {index.ntotal} x {index.d}")
    return Approximate(index, config, effort)


def save(built: Approximate, path: Path) -> str:
    """Write FAISS's file.

    Returns:
        Its SHA-256.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as temporary:
        try:
            import_faiss().write_index(built.index, str(temporary))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise OutputError(f"cannot write {path}: {reason}; free some space and run the command again") from error
        return file_sha256(temporary)


def _faiss_metric(metric: Metric) -> int:
    faiss = import_faiss()
    return int(faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT)


def _sample(rows: Rows, count: int, seed: int) -> Tensor:
    if count >= len(rows):
        return rows.block(np.arange(len(rows))).contiguous()
    chosen = np.random.default_rng(seed).choice(len(rows), count, replace=False)
    return rows.block(np.sort(chosen)).contiguous()


def _without_self(scores: Scores, found: Positions, own: Positions) -> tuple[Scores, Positions]:
    """Take each query's own row out of ``(Q, k + 1)`` results, or the last one where it is not among them."""
    own_place = found == own[:, None]
    own_place[~own_place.any(axis=1), -1] = True
    shape = (len(found), found.shape[1] - 1)
    return scores[~own_place].reshape(shape), found[~own_place].reshape(shape)


def _masks(
    queries: int, rows: int, allowed: NDArray[np.bool_] | None, exclusions: list[Exclusion]
) -> Iterator[tuple[Positions, NDArray[np.bool_] | None]]:
    """Queries that share a filter, and the filter."""
    free = np.ones(queries, np.bool_)
    for item in exclusions:
        free[item.queries] = False
        mask = np.ones(rows, np.bool_) if allowed is None else allowed.copy()
        mask[item.rows] = False
        yield item.queries, mask
    if free.any():
        yield np.flatnonzero(free), allowed
