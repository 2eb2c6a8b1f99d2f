"""Exhaustive search of nearest gallery windows, in tiles of probes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.evaluation.metrics import average_precision, inverse_negative_penalty

MIB = 1 << 20


class Retrieved(NamedTuple):
    """What the search found for each of N probes among C persons.

    Attributes:
        nearest: ``(N, C)``, distance to each person's nearest gallery window.
        first_rank: ``(N,)``, place of the nearest right gallery window among all gallery windows, 1 is best.
        average_precision: ``(N,)``.
        inverse_negative_penalty: ``(N,)``.
    """

    nearest: NDArray[np.float32]
    first_rank: NDArray[np.int64]
    average_precision: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]


def search(
    probes: Tensor,
    probe_persons: NDArray[np.int64],
    gallery: Tensor,
    gallery_persons: NDArray[np.int64],
    *,
    distance: str = "euclidean",
    tile_mb: int = 256,
    advance: Callable[[int], None] = lambda probes: None,
) -> Retrieved:
    """Rank all gallery windows for every probe.

    Each tile of probes is compared with the whole gallery, so that memory is bounded by ``tile_mb`` and the figures
    are exact. Of equally distant gallery windows the wrong ones come first.

    Args:
        probes: ``(N, D)`` float32.
        probe_persons: ``(N,)``, codes below C.
        gallery: ``(M, D)`` float32, windows of one person side by side; changed in place.
        gallery_persons: ``(M,)``, ascending codes; each of 0..C-1 occurs.
        distance: ``euclidean``, or ``cosine`` for 1 minus the cosine.
        tile_mb: for one tile's distances; a tile has at least one probe.
        advance: called with the number of probes done since.
    """
    starts = np.flatnonzero(np.diff(gallery_persons, prepend=-1))
    if np.any(np.diff(gallery_persons) < 0) or not np.array_equal(gallery_persons[starts], np.arange(len(starts))):
        raise ValueError("gallery_persons must ascend from 0 without gaps")
    ends = np.append(starts[1:], len(gallery))
    measure = Euclidean(gallery) if distance == "euclidean" else _Cosine(gallery)
    # Probes of one person share a tile's right columns, so persons are taken one after the other.
    order = np.argsort(probe_persons, kind="stable")
    tile = max(1, tile_mb * MIB // (4 * len(gallery)))
    found = Retrieved(
        np.empty((len(probes), len(starts)), np.float32),
        np.empty(len(probes), np.int64),
        np.empty(len(probes)),
        np.empty(len(probes)),
    )
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for first in range(0, len(order), tile):
            chosen = order[first : first + tile]
            distances = measure(probes[torch.from_numpy(chosen)])  # (tile, M)
            found.nearest[chosen] = _by_rows(
                pool, lambda rows: np.minimum.reduceat(rows, starts, axis=1), distances, len(starts)
            )
            persons = probe_persons[chosen]
            edges = np.flatnonzero(np.diff(persons, prepend=-1, append=-1))
            right = []
            for top, bottom in pairwise(edges):
                person = persons[top]
                own = distances[top:bottom, starts[person] : ends[person]]
                right.append(np.sort(own, axis=1))  # a copy
                own[:] = np.inf  # what stays finite is wrong
            _by_rows(pool, _sort_rows, distances, 0)
            for top, bottom, own in zip(edges[:-1], edges[1:], right, strict=True):
                before = torch.searchsorted(
                    torch.from_numpy(distances[top:bottom]), torch.from_numpy(own), side="right"
                ).numpy()
                ranks = before + np.arange(1, own.shape[1] + 1)  # (rows, right windows)
                probe = chosen[top:bottom]
                found.first_rank[probe] = ranks[:, 0]
                found.average_precision[probe] = average_precision(ranks)
                found.inverse_negative_penalty[probe] = inverse_negative_penalty(ranks)
            advance(len(chosen))
    return found


def nearest_of_persons(
    probes: Tensor, gallery: Tensor, gallery_persons: NDArray[np.int64], tile_mb: int = 256
) -> NDArray[np.float32]:
    """Euclidean distance from every probe to each person's nearest gallery window: :func:`search` without rankings.

    Args:
        probes: ``(N, D)`` float32.
        gallery: ``(M, D)`` float32, windows of one person side by side; changed in place.
        gallery_persons: ``(M,)``, ascending.
        tile_mb: for one tile's distances.

    Returns:
        ``(N, C)``, persons in ascending order.
    """
    starts = np.flatnonzero(np.diff(gallery_persons, prepend=-1))
    measure = Euclidean(gallery)
    tiles = probes.split(max(1, tile_mb * MIB // (4 * len(gallery))))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:

        def nearest(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.minimum.reduceat(rows, starts, axis=1)

        return np.concatenate([_by_rows(pool, nearest, measure(tile), len(starts)) for tile in tiles])


class Euclidean:
    """Distances ``(N, M)`` of probes ``(N, D)`` to a gallery ``(M, D)``, which is centred in place."""

    def __init__(self, gallery: Tensor) -> None:
        # Distances do not see a common shift; centring keeps the squares small, so that less cancels.
        self.centre = gallery.mean(dim=0)
        self.gallery = gallery.sub_(self.centre)
        self.squares = gallery.square().sum(dim=1)  # (M,)

    def __call__(self, probes: Tensor) -> NDArray[np.float32]:
        probes = probes - self.centre
        squares = torch.addmm(self.squares, probes, self.gallery.T, alpha=-2)  # (tile, M)
        squares += probes.square().sum(dim=1, keepdim=True)
        return squares.clamp_min_(0).sqrt_().cpu().numpy()


class _Cosine:
    def __init__(self, gallery: Tensor) -> None:
        self.gallery = gallery.div_(_norm(gallery))

    def __call__(self, probes: Tensor) -> NDArray[np.float32]:
        return torch.mm(probes / _norm(probes), self.gallery.T).neg_().add_(1).cpu().numpy()


def _norm(rows: Tensor) -> Tensor:
    return rows.norm(dim=1, keepdim=True).clamp_min_(torch.finfo(rows.dtype).tiny)


def _sort_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    rows.sort(axis=1)
    return rows[:, :0]


def _by_rows(
    pool: ThreadPoolExecutor, work: Callable[[NDArray[np.float32]], Any], matrix: NDArray[np.float32], width: int
) -> NDArray[np.float32]:
    """Let all threads work on bands of rows; NumPy sets the interpreter free meanwhile."""
    bands = np.array_split(matrix, min(len(matrix), 4 * pool._max_workers))
    result = np.concatenate(list(pool.map(work, bands)))
    assert result.shape == (len(matrix), width)
    return result
