"""Confidence intervals of mean figures, by resampling persons.

Windows of one person are alike, so that resampling windows would promise far too narrow an interval. Whole persons are
drawn with replacement, each with all of its probes. The gallery, or the trained network, stays as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import MissingDependencyError

_RESAMPLES_AT_ONCE = 128


def person_interval(
    values: NDArray[np.floating[Any]] | NDArray[np.bool_],
    persons: NDArray[np.integer[Any]],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of the mean of ``values``.

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
    codes, positions = np.unique(persons, return_inverse=True)
    if resamples < 1 or len(codes) < 2:
        return None
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise MissingDependencyError("confidence intervals need SciPy; install sgela_fast[eval]") from error
    sums = np.bincount(positions, weights=values)
    counts = np.bincount(positions)
    interval = bootstrap(
        (sums, counts),
        lambda drawn_sums, drawn_counts, axis: drawn_sums.sum(axis) / drawn_counts.sum(axis),
        n_resamples=resamples,
        batch=_RESAMPLES_AT_ONCE,
        vectorized=True,
        paired=True,
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
