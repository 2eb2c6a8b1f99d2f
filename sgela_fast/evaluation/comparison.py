"""Whether one encoder is really better than another: paired comparison of figures on the same probes.

Windows of one person are alike, so persons are what is resampled and permuted, each with all probes of all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import ConfigError, DataError, MissingDependencyError
from sgela_fast.evaluation.bootstrap import person_interval
from sgela_fast.evaluation.metrics import place_figures
from sgela_fast.evaluation.probes import Probes, read_probes
from sgela_fast.evaluation.results import EvaluationResult
from sgela_fast.evaluation.sides import Sides

Level = Literal["windows", "recordings"]
Run: TypeAlias = Probes | str | Path

_PERMUTATIONS_AT_ONCE = 256


@dataclass(frozen=True)
class Difference:
    """One figure of two sets of probes; all are shares in 0..1.

    Attributes:
        first: the figure of the first set, over the probes of all runs.
        other: that of the other set.
        difference: ``other - first``.
        interval: ends of the percentile interval of the difference, persons drawn with replacement; ``None`` with a
            single person or without resamples.
        p_value: share of sign flips of whole persons under which the difference is at least as large in either
            direction; ``None`` with a single person or without permutations. Not corrected for several comparisons.
    """

    first: float
    other: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None


@dataclass(frozen=True)
class Comparison:
    """Figures of two sets of probes, paired.

    Attributes:
        level: ``windows`` or ``recordings``.
        persons: who have probes.
        probes: in all runs together.
        runs: splits and seeds.
        figures: name of a figure, as in :data:`sgela_fast.evaluation.results.TITLES`, to its difference.
    """

    level: str
    persons: int
    probes: int
    runs: int
    figures: dict[str, Difference]


@dataclass(frozen=True)
class StoreComparison:
    """A store's outcomes under one protocol against those of the first store."""

    first: str
    other: str
    protocol: str
    comparison: Comparison


class _Paired(NamedTuple):
    """Ranks of the same probes in both sets, and whose they are."""

    persons: NDArray[np.str_]
    ranks: tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]
    places: tuple[int, int]


def compare(
    first: Run | Sequence[Run],
    other: Run | Sequence[Run],
    *,
    level: Level = "windows",
    resamples: int = 1000,
    permutations: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of probes.

    Runs are paired in order: the same split and seed on both sides. A person's probes of all runs count together, so
    that seeds and splits are averaged within the person, and what is drawn or flipped is a person with all of them.

    Args:
        first: probes or their files, one for each run.
        other: the same probes with other encodings or another method.
        level: what is a probe. Of ``windows`` both sides must have the same; whole ``recordings`` can be compared where
            windows are of different lengths.
        resamples: for the intervals; 0 for none.
        permutations: sign flips for the p-value; all of them where there are no more; 0 for none.
        confidence: of the intervals.
        seed: of resamples and permutations.

    Raises:
        DataError: the two have different probes or numbers of runs, or a file is damaged.
        ConfigError: an argument is out of range.
        MissingDependencyError: SciPy is not installed.
    """
    _check_arguments(level, resamples, permutations, confidence)
    runs = _opened(first), _opened(other)
    if len(runs[0]) != len(runs[1]) or not runs[0]:
        raise DataError(f"there are {len(runs[0])} runs to compare with {len(runs[1])}; give the same runs of both")
    pairs = [_pair(one, two, level) for one, two in zip(*runs, strict=True)]
    persons = np.concatenate([pair.persons for pair in pairs])
    codes = np.unique(persons, return_inverse=True)[1]
    values = [[place_figures(pair.ranks[side], pair.places[side]) for pair in pairs] for side in (0, 1)]
    figures = {}
    for name in place_figures(np.empty(0, np.int64), min(min(pair.places) for pair in pairs)):
        each = [np.concatenate([of_run[name] for of_run in of_side]) for of_side in values]
        gain = each[1] - each[0]
        figures[name] = Difference(
            float(each[0].mean()),
            float(each[1].mean()),
            float(gain.mean()),
            person_interval(gain, codes, resamples, confidence, seed),
            _sign_flip_p_value(gain, codes, permutations, seed),
        )
    return Comparison(level, int(codes.max()) + 1, len(codes), len(pairs), figures)


def compare_stores(result: EvaluationResult, **options: Any) -> list[StoreComparison]:
    """Compare each store of an evaluation with its first one, both protocols and levels.

    Args:
        result: of :func:`sgela_fast.evaluation.evaluate.evaluate`.
        options: ``resamples``, ``permutations``, ``confidence`` and ``seed`` of :func:`compare`.

    Raises:
        DataError: the stores do not hold the same test windows.
    """
    found = []
    first = result.stores[0]
    for other in result.stores[1:]:
        for protocol in ("C", "G"):
            sides = [
                [outcome.probes for outcome in store.outcomes if outcome.protocol == protocol and outcome.probes]
                for store in (first, other)
            ]
            for level in get_args(Level) if sides[0] else ():
                compared = compare(*sides, level=level, **options)
                found.append(StoreComparison(first.store, other.store, protocol, compared))
    return found


def require_same_windows(first: Sides, other: Sides) -> None:
    """Raise :class:`DataError` unless two divisions test the same windows, before anything is computed."""
    one, two = (Probes.untested(sides.test, sides.persons) for sides in (first, other))
    try:
        _pair(one, two, "windows")
    except DataError as error:
        raise DataError(f"{first.test.store.path} and {other.test.store.path}: {error}") from error


def _check_arguments(level: str, resamples: int, permutations: int, confidence: float) -> None:
    if level not in get_args(Level):
        raise ConfigError(f"level is {level!r}; choose windows or recordings")
    for name, value in (("resamples", resamples), ("permutations", permutations)):
        if value < 0:
            raise ConfigError(f"{name} is {value}; it must be at least 0")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence is {confidence}; it must be between 0 and 1")


def _opened(runs: Run | Sequence[Run]) -> list[Probes]:
    several = [runs] if isinstance(runs, Probes | str | Path) else runs
    return [run if isinstance(run, Probes) else read_probes(run) for run in several]


def _pair(one: Probes, two: Probes, level: Level) -> _Paired:
    (keys, persons, ranks), (other_keys, _, other_ranks) = _keyed(one, level), _keyed(two, level)
    if not np.array_equal(keys, other_keys):
        shared = len(np.intersect1d(keys, other_keys))
        raise DataError(
            f"of {len(keys)} and {len(other_keys)} {level} only {shared} are the same; compare what was made of the "
            f"same test {level}"
        )
    return _Paired(persons, (ranks, other_ranks), (len(one.persons), len(two.persons)))


def _keyed(probes: Probes, level: Level) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[Any]]:
    """What names each probe, sorted, with its person's name and rank."""
    if level == "windows":
        persons, ranks = probes.persons[probes.person], probes.rank
        names = [persons, probes.recordings[probes.recording], probes.start.astype(np.str_)]
    else:
        persons, ranks = probes.persons[probes.recording_persons()], probes.recording_rank
        names = [persons, probes.recordings]
    keys = names[0]
    for name in names[1:]:
        keys = np.char.add(np.char.add(keys, "\t"), name)
    order = np.argsort(keys, kind="stable")
    return keys[order], persons[order], ranks[order]


def _sign_flip_p_value(
    gain: NDArray[np.float64], persons: NDArray[np.int64], permutations: int, seed: int
) -> float | None:
    """Two-sided p-value of the mean gain if a person's probes were as likely to lose as to win."""
    sums = np.bincount(persons, weights=gain)
    if permutations < 1 or len(sums) < 2:
        return None
    try:
        from scipy.stats import permutation_test
    except ImportError as error:
        raise MissingDependencyError('p-values need SciPy; install it with pip install "sgela_fast[eval]"') from error
    found = permutation_test(
        (sums, np.zeros_like(sums)),  # to swap a person's two entries is to flip the sign of the difference
        lambda one, two, axis: (one - two).sum(axis),
        permutation_type="samples",
        n_resamples=permutations,
        batch=_PERMUTATIONS_AT_ONCE,
        vectorized=True,
        random_state=np.random.default_rng(seed),
    )
    return float(found.pvalue)
