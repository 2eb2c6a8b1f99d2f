"""Cross-view identification of silhouette sequences: every probe view against every gallery view.

Nothing is trained. A probe is recognised in a gallery view if the nearest of that view's gallery sequences is of the
right subject. Distances are Euclidean for each strip of an embedding, averaged over the strips, as in GaitSet and in
SelfGait's released code.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sgela_fast.errors import DataError
from sgela_fast.evaluation.config import CROSS_VIEW_PROTOCOLS, CrossViewProtocol, EvaluationConfig
from sgela_fast.evaluation.cross_view_results import CrossViewKind, CrossViewResult
from sgela_fast.evaluation.retrieval import MIB, Euclidean
from sgela_fast.evaluation.sides import WindowStore, texts

Texts = NDArray[np.str_]
Cells = NDArray[np.float64]
_RELEASED_DIVISOR = 10  # right for the eleven views of CASIA-B alone
COLUMNS = ("person", "condition", "view")


class Embeddings(NamedTuple):
    """Sequences to be compared.

    Attributes:
        values: ``(n, S, E)`` float32, S strips of E features; S = 1 where there are none.
        subject: ``(n,)``.
        condition: ``(n,)``, as the data set names it.
        view: ``(n,)``, degrees as three figures.
    """

    values: NDArray[np.float32]
    subject: Texts
    condition: Texts
    view: Texts


def cross_view(
    embeddings: Embeddings,
    config: EvaluationConfig,
    *,
    name: str = "embeddings",
    advance: Callable[[int], None] = lambda probes: None,
) -> CrossViewResult:
    """Rank-1 of every probe view against every gallery view.

    Exhaustive and exact, in tiles of probes of bounded memory. A right sequence as near as a wrong one does not count.

    Args:
        embeddings: of the tested subjects, gallery and probes together.
        config: ``protocol`` is ``casia-b`` or ``ou-mvlp``; ``cross_view``, ``retrieval.tile_mb``, ``resamples`` and
            ``confidence`` count.
        name: for messages.
        advance: called with the number of probes done since.

    Raises:
        DataError: there is no gallery or no probe, or a value is not finite.
    """
    protocol = CROSS_VIEW_PROTOCOLS[config.protocol]
    if not np.isfinite(embeddings.values.sum(dtype=np.float64)):
        raise DataError(f"{name} holds values that are not finite; encode the silhouettes again")
    gallery = _gallery(embeddings, protocol, name)
    views = sorted(set(embeddings.view.tolist()))
    kinds = []
    for kind, conditions in protocol.probes.items():
        rows = np.flatnonzero(np.isin(embeddings.condition, conditions))
        if len(rows):
            hits, mates = _compare(embeddings, rows, gallery, views, config, advance)
            kinds.append(_figures(kind, embeddings, rows, views, hits, mates, config))
    if not kinds:
        wanted = ", ".join(condition for conditions in protocol.probes.values() for condition in conditions)
        raise DataError(f"{name} holds no probe of protocol {config.protocol} ({wanted}); encode the tested sequences")
    return CrossViewResult(
        protocol=config.protocol,
        store=name,
        subjects=len(set(embeddings.subject.tolist())),
        gallery_sequences=len(gallery),
        strips=embeddings.values.shape[1],
        unmatched=config.cross_view.unmatched,
        released_divisor=config.cross_view.released_divisor,
        views=views,
        kinds=kinds,
    )


def evaluate_cross_view(
    store: WindowStore, config: EvaluationConfig, advance: Callable[[int], None] = lambda probes: None
) -> CrossViewResult:
    """:func:`cross_view` of a store with one embedding a sequence.

    The store has the columns ``person``, ``condition`` and ``view``; its entry ``strips`` says how many strips stand
    one behind the other in a row of values (1 without it). Where it has the column named by ``splits``, rows of the
    test side alone are compared.

    Raises:
        DataError: a column lacks, the values are not one row a sequence, or as :func:`cross_view`.
    """
    return cross_view(read_embeddings(store, config), config, name=str(store.path), advance=advance)


def read_embeddings(store: WindowStore, config: EvaluationConfig) -> Embeddings:
    """The tested sequences of a store.

    Raises:
        DataError: as :func:`evaluate_cross_view`.
    """
    table, names = store.table, store.table.column_names
    for column in COLUMNS:
        if column not in names:
            raise DataError(
                f"{store.path} has no column {column!r}, which protocol {config.protocol} needs; encode silhouettes, "
                "or choose protocol C, G or both"
            )
    rows = np.arange(len(store))
    split = config.splits[0]
    if split in names:
        rows = np.flatnonzero(texts(table, split) == config.test_value)
        if not len(rows):
            raise DataError(
                f"column {split!r} of {store.path} never says {config.test_value!r}; name another split column, or the "
                "value with --test_value"
            )
    values = store.values(rows)
    strips = int(store.info.get("strips", 1))
    if values.ndim != 2 or values.shape[1] % strips:
        raise DataError(
            f"{store.path} holds values of shape {values.shape[1:]} a row, not {strips} strips of one sequence; encode "
            "silhouettes with one embedding a sequence"
        )
    subject, condition, view = (texts(table, column)[rows] for column in COLUMNS)
    return Embeddings(values.reshape(len(values), strips, -1), subject, condition, view)


def _gallery(embeddings: Embeddings, protocol: CrossViewProtocol, name: str) -> NDArray[np.int64]:
    """Rows of the gallery, view by view."""
    rows = np.flatnonzero(np.isin(embeddings.condition, protocol.gallery))
    if not len(rows):
        known = ", ".join(sorted(set(embeddings.condition.tolist()))[:12]) or "none"
        raise DataError(
            f"{name} holds no gallery sequence ({', '.join(protocol.gallery)}); its conditions are: {known}; choose "
            "the protocol of the data set"
        )
    return rows[np.argsort(embeddings.view[rows], kind="stable")]


def _compare(
    embeddings: Embeddings,
    rows: NDArray[np.int64],
    gallery: NDArray[np.int64],
    views: list[str],
    config: EvaluationConfig,
    advance: Callable[[int], None],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each probe is recognised in each gallery view, and whether its subject is there, ``(probes, views)``."""
    values = torch.from_numpy(embeddings.values)
    # (S, M, E): a copy, as the measure centres it in place
    measures = [Euclidean(strip) for strip in values[torch.from_numpy(gallery)].transpose(0, 1).contiguous()]
    subject = np.unique(embeddings.subject, return_inverse=True)[1]
    edges = np.searchsorted(embeddings.view[gallery], np.array([*views, "~"]))
    hits, mates = (np.zeros((len(rows), len(views)), np.bool_) for _ in range(2))
    tile = max(1, config.retrieval.tile_mb * MIB // (3 * 4 * len(gallery)))
    for first in range(0, len(rows), tile):
        chosen = rows[first : first + tile]
        probes = values[torch.from_numpy(chosen)]  # (tile, S, E)
        distances = np.zeros((len(chosen), len(gallery)), np.float32)
        for strip, measure in enumerate(measures):
            distances += measure(probes[:, strip])
        right = subject[chosen][:, None] == subject[gallery]
        for place, (low, high) in enumerate(pairwise(edges)):
            if low < high:
                block, mine = distances[:, low:high], right[:, low:high]
                nearest_right = block.min(axis=1, where=mine, initial=np.inf)
                nearest_wrong = block.min(axis=1, where=~mine, initial=np.inf)
                hits[first : first + tile, place] = nearest_right < nearest_wrong
                mates[first : first + tile, place] = mine.any(axis=1)
        advance(len(chosen))
    return hits, mates


def _figures(
    kind: str,
    embeddings: Embeddings,
    rows: NDArray[np.int64],
    views: list[str],
    hits: NDArray[np.bool_],
    mates: NDArray[np.bool_],
    config: EvaluationConfig,
) -> CrossViewKind:
    """Figures of one kind of probes, with an interval from resampling subjects; the gallery stays as it is."""
    settings, count = config.cross_view, len(views)
    in_gallery = np.isin(
        views, embeddings.view[np.isin(embeddings.condition, CROSS_VIEW_PROTOCOLS[config.protocol].gallery)]
    )
    counted = mates if settings.unmatched == "leave-out" else np.broadcast_to(in_gallery, mates.shape)
    persons, person = np.unique(embeddings.subject[rows], return_inverse=True)
    view = np.searchsorted(views, embeddings.view[rows])
    right, all_ = (np.zeros((len(persons), count, count)) for _ in range(2))  # (subjects, probe view, gallery view)
    np.add.at(right, (person, view), hits & counted)
    np.add.at(all_, (person, view), counted)
    matrix = _shares(right.sum(axis=0), all_.sum(axis=0))
    by_view = _without_identical(matrix, settings.released_divisor)
    identical = matrix.diagonal()
    return CrossViewKind(
        kind=kind,
        probes=len(rows),
        unmatched=int((np.broadcast_to(in_gallery, mates.shape) & ~mates).sum()),
        rank1=[[_number(cell) for cell in row] for row in matrix],
        by_probe_view=[_number(value) for value in by_view],
        mean=_number(_mean(by_view)),
        identical_view=_number(_mean(identical)),
        interval=_interval(right, all_, config),
    )


def _shares(right: Cells, counted: Cells) -> Cells:
    return np.divide(right, counted, out=np.full(right.shape, np.nan), where=counted > 0)


def _without_identical(matrix: Cells, released_divisor: bool) -> Cells:
    """Mean over the gallery views other than the probe's, ``(..., views, views)`` to ``(..., views)``."""
    count = matrix.shape[-1]
    other = np.where(np.eye(count, dtype=bool), np.nan, matrix)
    if released_divisor:
        return np.where(np.isnan(other).all(axis=-1), np.nan, np.nansum(other, axis=-1) / _RELEASED_DIVISOR)
    return _mean(other)


def _mean(values: Cells) -> Cells:
    """Mean over the last axis of what is a number; NaN where nothing is."""
    known = ~np.isnan(values)
    return _shares(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def _interval(right: Cells, counted: Cells, config: EvaluationConfig) -> tuple[float, float] | None:
    subjects = len(right)
    if config.resamples < 1 or subjects < 2:
        return None
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(subjects, np.full(subjects, 1 / subjects), size=config.resamples).astype(np.float64)
    sums, counts = (np.tensordot(drawn, cells, axes=1) for cells in (right, counted))  # (resamples, views, views)
    means = _mean(_without_identical(_shares(sums, counts), config.cross_view.released_divisor))
    tail = (1 - config.confidence) / 2
    if np.isnan(means).all():
        return None
    low, high = np.nanquantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _number(value: float | Cells) -> float | None:
    return None if np.isnan(value) else float(value)
