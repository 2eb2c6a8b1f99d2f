"""The threshold below which a person counts as unknown, from searches whose answer is known.

Every validation query is searched for twice. With its own person left out it is a person who is not in the store: the
best score there is what such a person gets, and the share of these scores that reach a threshold is its false-match
rate (of a whole search, so it grows with the store; in biometrics the false-positive identification rate). Among the
other recordings of its own person alone, the best score is what a known person gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import DataError, MissingDependencyError
from sgela_fast.search.config import CalibrationConfig
from sgela_fast.search.filters import Where, chosen_windows
from sgela_fast.search.finder import Finder, query_units
from sgela_fast.search.index import Index
from sgela_fast.search.nearest import Exclusion, Scores
from sgela_fast.search.queries import Queries
from sgela_fast.search.rows import Positions
from sgela_fast.search.thresholds import Calibration, save_threshold
from sgela_fast.search.units import texts, units_of

Interval = tuple[float, float] | None


def calibrate(
    index: Index,
    validation: Where,
    config: CalibrationConfig | None = None,
    *,
    where: Where = None,
    advance: Callable[[int], None] = lambda windows: None,
) -> Calibration:
    """Find the threshold for a wanted false-match rate, and keep it beside the index.

    Args:
        index: of the store; it is searched exhaustively, a query's own recording left out.
        validation: which windows are searched for, as for :func:`sgela_fast.search.filters.chosen_windows`.
        config: the wanted rate, the level, the bootstrap.
        where: which windows are searched; all by default.
        advance: called with the number of windows compared since.

    Raises:
        DataError: too few searches for the wanted rate, or fewer than two persons.
        MissingDependencyError: intervals need SciPy.
        OutputError: the threshold cannot be saved.
    """
    config = config or CalibrationConfig()
    scores = validation_scores(index, validation, config, where=where, advance=advance)
    found = calibration_of(index, scores, config, validation, where)
    save_threshold(index, found)
    return found


@dataclass(frozen=True)
class ValidationScores:
    """Best scores of searches whose answer is known.

    Attributes:
        impostors: ``(N,)``, of each search with the query's own person left out.
        impostor_persons: ``(N,)``, code of the query's person.
        genuine: ``(M,)``, of each search among the own person's other recordings alone.
        genuine_persons: ``(M,)``, code of that person.
    """

    impostors: Scores
    impostor_persons: Positions
    genuine: Scores
    genuine_persons: Positions


def validation_scores(
    index: Index,
    validation: Where,
    config: CalibrationConfig | None = None,
    *,
    where: Where = None,
    advance: Callable[[int], None] = lambda windows: None,
) -> ValidationScores:
    """Search for every validation query twice: with its own person left out, and among that person alone.

    Args:
        index, validation, config, where, advance: as for :func:`calibrate`.

    Raises:
        DataError: fewer than two persons.
    """
    searches = _Searches(index, validation, where, config or CalibrationConfig(), advance)
    impostors, genuine = searches.impostors(), searches.genuine()
    told, own = np.isfinite(impostors), np.isfinite(genuine)
    if len(np.unique(searches.persons[told])) < 2:
        raise DataError(f"{index.store.path} has no two persons to calibrate with; give other validation windows")
    return ValidationScores(impostors[told], searches.persons[told], genuine[own], searches.persons[own])


def calibration_of(
    index: Index, scores: ValidationScores, config: CalibrationConfig, validation: Where, where: Where = None
) -> Calibration:
    """The threshold that ``scores`` ask for and what it costs; nothing is written.

    Args:
        index, config, validation, where: with which :func:`validation_scores` found the scores.
        scores: what was found.

    Raises:
        DataError: too few searches for the wanted rate.
        MissingDependencyError: intervals need SciPy.
    """
    impostors, genuine = scores.impostors, scores.genuine
    if len(impostors) * config.false_match_rate < 1:
        raise DataError(
            f"{len(impostors)} searches are too few for a false-match rate of {config.false_match_rate}; give at "
            f"least {int(np.ceil(1 / config.false_match_rate))}, or a greater rate"
        )
    threshold = _threshold(impostors, np.ones(len(impostors)), config.false_match_rate)
    missed = (genuine < threshold).astype(np.float64)
    order = np.argsort(-impostors)
    return Calibration(
        level=config.level,
        metric=index.config.metric,
        feature=index.config.feature,
        best=config.best,
        sequence=config.sequence,
        false_match_rate=config.false_match_rate,
        threshold=threshold,
        threshold_interval=_interval(
            scores.impostor_persons[order],
            lambda weights: _threshold(impostors[order], weights, config.false_match_rate),
            config,
        ),
        measured_rate=float((impostors >= threshold).mean()),
        rate_interval=_interval(scores.impostor_persons, _mean_of((impostors >= threshold).astype(np.float64)), config),
        miss_rate=float(missed.mean()) if len(missed) else None,
        miss_interval=_interval(scores.genuine_persons, _mean_of(missed), config),
        confidence=config.confidence,
        impostors=len(impostors),
        genuine=len(genuine),
        persons=len(np.unique(scores.impostor_persons)),
        validation=_in_words(validation),
        where=_in_words(where),
    )


class _Searches:
    """The validation queries, and what each finds among others and among its own person's windows."""

    def __init__(
        self,
        index: Index,
        validation: Where,
        where: Where,
        config: CalibrationConfig,
        advance: Callable[[int], None],
    ) -> None:
        store, self.index, self.config, self.advance = index.store, index, config, advance
        names, self.recordings = texts(store.table, "person"), texts(store.table, "recording")
        self.of_row = np.where(names == "", -1, np.unique(names, return_inverse=True)[1])
        self.allowed = chosen_windows(store, where) & (self.of_row >= 0)
        rows = np.flatnonzero(_drawn(self._of_one_person(chosen_windows(store, validation)), self.recordings, config))
        if not len(rows):
            raise DataError(f"{store.path} has no validation window that names its person; choose others")
        self.queries = Queries.of_rows(store, rows)
        self.vectors = index.prepared(self.queries)
        self.groups = query_units(self.queries, config.level, config.sequence)
        self.units = units_of(store.table, config.level, config.sequence)
        person_of = dict(zip(self.recordings[rows].tolist(), self.of_row[rows].tolist(), strict=True))
        first = np.unique(self.groups, return_index=True)[1]
        # Person of every query window, and of every query unit.
        self.window_persons = np.array([person_of[name] for name in self.queries.names])[self.queries.groups]
        self.persons = self.window_persons[first]

    def impostors(self) -> Scores:
        """Best score of each query unit among all other persons; minus infinity without any."""
        hidden = [
            Exclusion(np.flatnonzero(self.window_persons == person), np.flatnonzero(self.of_row == person))
            for person in np.unique(self.window_persons)
        ]
        return self._best(self.allowed, np.arange(len(self.queries)), hidden)

    def genuine(self) -> Scores:
        """Best score of each query unit among its own person's other recordings; minus infinity without any."""
        scores = np.full(len(self.persons), -np.inf, np.float32)
        for person in np.unique(self.persons):
            members = np.flatnonzero(self.window_persons == person)
            hidden = [
                Exclusion(
                    np.flatnonzero(self.queries.groups[members] == group),
                    np.flatnonzero(self.recordings == self.queries.names[group]),
                )
                for group in np.unique(self.queries.groups[members])
            ]
            scores[self.persons == person] = self._best(self.allowed & (self.of_row == person), members, hidden)
        return scores

    def _best(self, allowed: NDArray[np.bool_], members: Positions, hidden: list[Exclusion]) -> Scores:
        index = self.index
        finder = Finder(
            index.rows, index.numbers, allowed, index.config.metric, None, index.config.tile_mb, self.advance
        )
        vectors = self.vectors[members]
        if self.config.level == "window":
            return finder.windows(vectors, 1, hidden)[0][:, 0]
        groups = np.unique(self.groups[members], return_inverse=True)[1]
        return finder.units(vectors, groups, self.units, 1, self.config.best, hidden)[0][:, 0]

    def _of_one_person(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The windows that name a person; of a recording of several persons those of one."""
        rows = np.flatnonzero(chosen & (self.of_row >= 0))
        _, first, inverse = np.unique(self.recordings[rows], return_index=True, return_inverse=True)
        kept = np.zeros(len(chosen), np.bool_)
        kept[rows[self.of_row[rows] == self.of_row[rows][first][inverse]]] = True
        return kept


def _drawn(chosen: NDArray[np.bool_], recordings: NDArray[np.str_], config: CalibrationConfig) -> NDArray[np.bool_]:
    """Whole recordings drawn at random until they have about as many windows as wanted."""
    rows = np.flatnonzero(chosen)
    if not config.queries or len(rows) <= config.queries:
        return chosen
    names, inverse, counts = np.unique(recordings[rows], return_inverse=True, return_counts=True)
    order = np.random.default_rng(config.seed).permutation(len(names))
    taken = np.zeros(len(names), np.bool_)
    taken[order[: max(1, int(np.searchsorted(np.cumsum(counts[order]), config.queries, "right")))]] = True
    kept = np.zeros(len(chosen), np.bool_)
    kept[rows[taken[inverse]]] = True
    return kept


def _threshold(scores: Scores, weights: NDArray[np.floating], rate: float) -> float:
    """The least float32 that a share of at most ``rate`` of the weighted scores reaches."""
    order = np.argsort(-scores, kind="stable")
    reached = np.cumsum(weights[order])
    # The best scores may reach it as long as they weigh no more than the rate; ties stand or fall together.
    last = int(np.searchsorted(reached, rate * reached[-1] * (1 + 1e-12), "right"))
    return float(np.nextafter(scores[order][min(last, len(scores) - 1)], np.float32(np.inf)))


def _mean_of(values: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], float]:
    return lambda weights: float(weights @ values / weights.sum())


def _interval(
    persons: Positions, statistic: Callable[[NDArray[np.float64]], float], config: CalibrationConfig
) -> Interval:
    """Percentile interval of a weighted statistic under resampling of persons, each with all queries."""
    codes, inverse = np.unique(persons, return_inverse=True)
    if not config.resamples or len(codes) < 2:
        return None
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise MissingDependencyError(
            'intervals need SciPy; install it with pip install "sgela_fast[search]", or set resamples to 0'
        ) from error

    def drawn(chosen: Positions) -> float:
        return statistic(np.bincount(chosen, minlength=len(codes))[inverse].astype(np.float64))

    ends = bootstrap(
        (np.arange(len(codes)),),
        drawn,
        n_resamples=config.resamples,
        vectorized=False,
        confidence_level=config.confidence,
        method="percentile",
        random_state=np.random.default_rng(config.seed),
    ).confidence_interval
    return float(ends.low), float(ends.high)


def _in_words(where: Where) -> str:
    if where is None:
        return "all windows"
    if isinstance(where, np.ndarray):
        return f"{int(where.sum())} chosen windows"
    return where if isinstance(where, str) else " and ".join(where)
