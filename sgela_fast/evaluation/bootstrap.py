"""Confidence intervals of mean figures, by resampling persons.

Windows of one person are alike, so that resampling windows would promise far too narrow an interval. Whole persons are
drawn with replacement, each with all of its probes. The gallery, or the trained network, stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import MissingDependencyError

_RESAMPLES_AT_ONCE = 128


class Run(NamedTuple):
    """One figure of the probes of one run.

    Attributes:
        values: ``(N,)``, the figure of each probe, such as whether it was recognised at once.
        persons: ``(N,)``, the person of each probe, by name or code.
        split: runs of one split are averaged before splits are.
    """

    values: NDArray[Any]
    persons: NDArray[Any]
    split: str = ""


def person_interval(
    values: NDArray[np.floating[Any]] | NDArray[np.bool_],
    persons: NDArray[np.integer[Any]],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of the mean of ``values``, the figures of a single run.

    Args:
        values: ``(N,)``, one figure of each probe, such as whether it was recognised at once.
        persons: ``(N,)``, the person of each probe.
        resamples: number of resamples; 0 for no interval.
        confidence: share of resamples inside the interval.
        seed: of the resampling.

    Returns:
        Lower and upper end, or ``None`` without resamples or with a single person.

    Raises:
        MissingDependencyError: SciPy is not installed.
    """
    return runs_interval([Run(values, persons)], resamples, confidence, seed)


def runs_interval(
    runs: Sequence[Run], resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """Percentile interval of a figure's mean over splits, each the mean over its runs.

    A person who is drawn is drawn with the probes of all runs. What other seeds of training would give is not in it.

    Args:
        runs: splits and seeds.
        resamples: see :func:`person_interval`; so are ``confidence``, ``seed``, the result and what is raised.
    """
    names, codes = np.unique(np.concatenate([run.persons for run in runs]), return_inverse=True)
    if resamples < 1 or len(names) < 2:
        return None
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise MissingDependencyError(
            'confidence intervals need SciPy; install it with pip install "sgela_fast[eval]"'
        ) from error
    of_run = np.split(codes, np.cumsum([len(run.persons) for run in runs])[:-1])
    counts = np.stack([np.bincount(own, minlength=len(names)) for own in of_run], axis=1)  # (persons, runs)
    sums = np.stack([np.bincount(own, run.values, len(names)) for own, run in zip(of_run, runs, strict=True)], axis=1)
    in_split = Counter(run.split for run in runs)
    weights = np.array([1 / in_split[run.split] for run in runs])

    def mean(drawn: NDArray[Any], axis: int) -> NDArray[np.float64]:
        persons = drawn.astype(np.intp)
        probes = counts[persons].sum(axis - 1)  # (resamples, runs)
        # A draw without anybody whom some run tested says nothing of that run.
        tested = weights * (probes > 0)
        means = sums[persons].sum(axis - 1) / np.maximum(probes, 1)
        return np.asarray((tested * means).sum(-1) / tested.sum(-1))

    interval = bootstrap(
        (np.arange(len(names)),),
        mean,
        n_resamples=resamples,
        batch=_RESAMPLES_AT_ONCE,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
