"""AdaBoost of decision stumps, each person against the rest, for all persons at once.

Libraries boost multi-class stumps, which tell two persons apart at a time and learn next to nothing of a hundred, or
fit one booster for each person, which takes hours. Here the weighted histograms of all persons come from one sparse
product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import MissingDependencyError

Floats = NDArray[np.floating[Any]]

_BINS = 64  # candidate thresholds of a feature are its quantiles
_SCORE_ROWS = 8192


class Stumps(NamedTuple):
    """One round: for each of C persons a threshold on a feature, and the vote on either side of it.

    Attributes:
        feature: ``(C,)``.
        threshold: ``(C,)``.
        below: ``(C,)``, vote for the person where the feature is at most the threshold.
        above: ``(C,)``, vote elsewhere.
    """

    feature: NDArray[np.int64]
    threshold: Floats
    below: NDArray[np.float32]
    above: NDArray[np.float32]


class OneAgainstRestBoosting:
    """Confidence-rated AdaBoost (Schapire and Singer, 1999) with stumps, a booster for each person.

    In the beginning a person's own windows weigh as much as all others together.

    Args:
        rounds: stumps of each booster.
    """

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.stumps: list[Stumps] = []

    def fit(self, rows: Floats, persons: NDArray[np.int64], count: int) -> None:
        """Boost on ``rows (N, D)`` of ``persons (N,)``, codes below ``count``.

        Memory: three arrays ``(N, count)`` of float32.

        Raises:
            MissingDependencyError: SciPy is not installed.
        """
        edges = np.quantile(rows, np.arange(1, _BINS) / _BINS, axis=0)  # (edges, D)
        bins = np.stack([np.searchsorted(edges[:, d], rows[:, d]) for d in range(rows.shape[1])], axis=1)  # (N, D)
        membership = _membership(bins)
        own = np.bincount(persons, minlength=count)
        signs = np.full((len(rows), count), -1, np.float32)
        signs[np.arange(len(rows)), persons] = 1
        weights = np.where(signs > 0, 0.5 / own, 0.5 / (len(rows) - own)).astype(np.float32)
        self.stumps = []
        for _ in range(self.rounds):
            stumps, at = _best_stumps(bins, membership, weights, persons, edges)
            below = bins[:, stumps.feature] <= at  # (N, C)
            weights *= np.exp(-signs * np.where(below, stumps.below, stumps.above))
            weights /= weights.sum(axis=0)
            self.stumps.append(stumps)

    def scores(self, rows: Floats) -> NDArray[np.float32]:
        """Sum of the votes for each person, ``(N, C)``."""
        pieces = np.array_split(rows, max(1, len(rows) // _SCORE_ROWS))
        return np.concatenate([sum(_votes(stumps, piece) for stumps in self.stumps) for piece in pieces])


def _votes(stumps: Stumps, rows: Floats) -> NDArray[np.float32]:
    return np.where(rows[:, stumps.feature] <= stumps.threshold, stumps.below, stumps.above)


def _best_stumps(
    bins: NDArray[np.int64], membership: Any, weights: NDArray[np.float32], persons: NDArray[np.int64], edges: Floats
) -> tuple[Stumps, NDArray[np.int64]]:
    """For each person the stump with the least normaliser Z, and the bin of its threshold."""
    count, features = weights.shape[1], bins.shape[1]
    total = (membership @ weights).reshape(features, _BINS, count).cumsum(axis=1)  # weight up to each bin
    own_weights = weights[np.arange(len(bins)), persons]
    own = np.stack([np.bincount(bins[:, d] * count + persons, own_weights, _BINS * count) for d in range(features)])
    own = own.reshape(features, _BINS, count).cumsum(axis=1)
    right_below, wrong_below = own[:, :-1], total[:, :-1] - own[:, :-1]
    right_above, wrong_above = own[:, -1:] - right_below, (total - own)[:, -1:] - wrong_below
    z = np.sqrt((right_below * wrong_below).clip(0)) + np.sqrt((right_above * wrong_above).clip(0))
    best = z.reshape(-1, count).argmin(axis=0)  # (C,)
    feature, at = np.divmod(best, _BINS - 1)

    def vote(right: NDArray[Any], wrong: NDArray[Any]) -> NDArray[np.float32]:
        chosen = (side.reshape(-1, count)[best, np.arange(count)].clip(0) for side in (right, wrong))
        # Where one kind of window is absent the vote would be infinite; one window's weight stands for it.
        smoothed = [weight + 1 / len(bins) for weight in chosen]
        return (0.5 * np.log(smoothed[0] / smoothed[1])).astype(np.float32)

    stumps = Stumps(feature, edges[at, feature], vote(right_below, wrong_below), vote(right_above, wrong_above))
    return stumps, at


def _membership(bins: NDArray[np.int64]) -> Any:
    """Sparse ``(D bins, N)`` matrix of which window lies in which bin of which feature."""
    try:
        from scipy.sparse import csr_matrix
    except ImportError as error:
        raise MissingDependencyError('boosting needs SciPy; pip install "sgela_fast[eval]"') from error
    count, features = bins.shape
    places = (bins + np.arange(features) * _BINS).ravel()
    windows = np.repeat(np.arange(count), features)
    return csr_matrix((np.ones(len(places), np.float32), (places, windows)), shape=(features * _BINS, count))
