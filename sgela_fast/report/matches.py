"""Searches on which distances and playback rest: probe recordings against the gallery, and unknown persons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgela_fast.encoding.store import Store
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.report.chart import histogram
from sgela_fast.report.config import ReportConfig
from sgela_fast.report.inputs import Inputs
from sgela_fast.report.page import Section, evenly
from sgela_fast.search.calibration import calibration_of, validation_scores
from sgela_fast.search.config import CalibrationConfig
from sgela_fast.search.index import Index
from sgela_fast.search.queries import Queries
from sgela_fast.search.thresholds import Calibration, path_of, saved_threshold
from sgela_fast.search.units import texts

BINS = 40
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Match:
    """A recording that a probe was compared with; ``score`` as the search has it, greater is nearer."""

    recording: str
    person: str
    score: float


@dataclass(frozen=True)
class Ranking:
    """One probe recording against all gallery recordings.

    Attributes:
        probe: its name.
        person: its person.
        best: the nearest recording.
        worst: the farthest one.
        right: the nearest recording of the right person, ``None`` where there is none.
        place: of ``right`` among all recordings, from 1.
        gallery: recordings compared with.
    """

    probe: str
    person: str
    best: Match
    worst: Match
    right: Match | None
    place: int
    gallery: int

    @property
    def known(self) -> bool:
        """Whether the nearest recording is the right person's."""
        return self.best.person == self.person


def sides(store: Store, config: ReportConfig) -> tuple[Mask, Mask, str]:
    """Windows searched for, windows searched, and what that is in words."""
    named = (texts(store.table, "person") != "") & np.asarray(
        store.table["valid"].to_numpy(zero_copy_only=False), np.bool_
    )
    if config.split in store.table.column_names:
        values = texts(store.table, config.split)
        probes, gallery = values == config.test_value, values == config.train_value
        if (probes & named).any() and (gallery & named).any():
            words = f"recordings with {config.split} = {config.test_value} among those with {config.train_value}"
            return probes & named, gallery & named, words
    return named, named, "every recording among all others"


def spread(store: Store, chosen: Mask, most: int) -> NDArray[np.int64]:
    """About ``most`` of the chosen windows: evenly from each recording, of so many recordings evenly that fit."""
    rows = np.flatnonzero(chosen)
    names, inverse = np.unique(texts(store.table, "recording")[rows], return_inverse=True)
    kept = evenly(len(names), max(1, most // 4))
    each = max(1, most // len(kept))
    members = [rows[inverse == place] for place in kept]
    return np.sort(np.concatenate([mine[evenly(len(mine), each)] for mine in members]))


def rankings(inputs: Inputs, config: ReportConfig) -> list[Ranking]:
    """Every probe recording against the gallery, in the order of the store; none if nobody is named."""
    if inputs.store is None:
        return []
    store = inputs.store
    probes, gallery, _ = sides(store, config)
    if not probes.any():
        return []
    index = Index.open(store)
    units = len(np.unique(texts(store.table, "recording")[gallery]))
    result = index.search(
        Queries.of_rows(store, spread(store, probes, config.queries)),
        k=units,
        where=gallery,
        level="recording",
        exact=True,
    )
    persons, recordings = texts(store.table, "person"), texts(store.table, "recording")
    own = dict(zip(recordings.tolist(), persons.tolist(), strict=True))
    return list(_ranked(result.queries, result.rows, result.scores, own, persons, recordings))


def _ranked(
    queries: tuple[str, ...],
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    own: dict[str, str],
    persons: NDArray[np.str_],
    recordings: NDArray[np.str_],
) -> Iterator[Ranking]:
    for name, found, values in zip(queries, rows, scores, strict=True):
        found = found[found >= 0]
        if not len(found):
            continue
        matches = [
            Match(str(recordings[row]), str(persons[row]), float(value))
            for row, value in zip(found, values, strict=False)
        ]
        place = next((number for number, match in enumerate(matches, 1) if match.person == own[name]), 0)
        right = matches[place - 1] if place else None
        yield Ranking(name, own[name], matches[0], matches[-1], right, place, len(matches))


def distances(inputs: Inputs, config: ReportConfig) -> Section:
    """How far known and unknown persons are, and the threshold between them."""
    title = "Distances and unknown persons"
    if inputs.store is None:
        return Section("distances", title, missing=f"There is no store to search: {inputs.why_no_store}.")
    store = inputs.store
    probes, gallery, words = sides(store, config)
    if not probes.any():
        why = f"{store.path.name} names no persons; encode an archive that names them."
        return Section("distances", title, missing=why)
    index = Index.open(store)
    validation = np.zeros(len(store), np.bool_)
    validation[spread(store, probes, config.queries)] = True
    wanted = CalibrationConfig(false_match_rate=config.false_match_rate, queries=0, resamples=0, seed=config.seed)
    try:
        scores = validation_scores(index, validation, wanted, where=gallery)
    except DataError as error:
        return Section("distances", title, missing=f"{str(error)[0].upper()}{str(error)[1:]}.")
    found, source = _saved(index, wanted.sequence)
    asked = None if found else config.false_match_rate
    if found is None:
        rate = max(config.false_match_rate, 1 / len(scores.impostors))
        found = calibration_of(
            index, scores, CalibrationConfig(false_match_rate=rate, resamples=0), validation, gallery
        )
    impostors, genuine = (_distance(values, index.config.metric) for values in (scores.impostors, scores.genuine))
    threshold = float(_distance(np.array([found.threshold]), index.config.metric)[0])
    every = np.concatenate([impostors, genuine])
    edges = np.linspace(every.min(), max(every.max(), every.min() + 1e-6), BINS + 1)
    shares = {
        label: (100 * np.histogram(values, edges)[0] / len(values)).tolist()
        for label, values in (("own person", genuine), ("nearest other person", impostors))
        if len(values)
    }
    chart = histogram(
        "Distance to the nearest recording",
        edges.tolist(),
        shares,
        x_title=f"{_DISTANCE[index.config.metric]}; nearer is further left",
        y_title="searches, %",
        marks={"threshold": threshold},
    )
    lead = (
        f"Each probe is searched for twice ({words}): among its own person's other recordings alone, and among all "
        "other persons, as if it were unknown. A recording nearer than the threshold counts as known.",
        _threshold_in_words(found, source, threshold, asked, genuine, impostors),
    )
    return Section("distances", title, lead, parts=(chart,))


_DISTANCE = {
    "cosine": "1 − cosine similarity",
    "euclidean": "Euclidean distance",
    "inner-product": "minus the inner product",
}


def _distance(scores: NDArray[np.floating], metric: str) -> NDArray[np.float64]:
    """Scores as what grows with unlikeness."""
    return np.asarray((1.0 if metric == "cosine" else 0.0) - scores.astype(np.float64), np.float64)


def _saved(index: Index, sequence: int) -> tuple[Calibration | None, str]:
    """The threshold that the store keeps, if it is there and is one of recordings by their best match; in words."""
    if not path_of(index, "recording").exists():
        return None, (
            "The store has no calibrated threshold (`sgela-fast index STORE --calibrate` makes one); that of these "
            "searches"
        )
    try:
        found = saved_threshold(index, "recording", 1, sequence)
    except (ConfigError, DataError) as error:
        return None, f"The store's calibrated threshold cannot be used here ({error}); that of these searches"
    return found, f"The store's calibrated threshold ({found.validation})"


def _threshold_in_words(
    found: Calibration,
    source: str,
    threshold: float,
    asked: float | None,
    genuine: NDArray[np.float64],
    impostors: NDArray[np.float64],
) -> str:
    rate = f"{100 * found.false_match_rate:.3g} %"
    if asked is not None and found.false_match_rate > asked:
        rate += f" ({100 * asked:g} % was asked, which takes more searches)"
    wrong = 100 * float((impostors <= threshold).mean())
    text = (
        f"{source} is {threshold:.4g} for a false-match rate of {rate}: with it {wrong:.1f} % of these "
        f"{len(impostors):,} searches for unknown persons would name somebody"
    )
    if len(genuine):
        text += f" and {100 * (genuine > threshold).mean():.1f} % of {len(genuine):,} known ones would be missed"
    return f"{text}."
