"""Figures of identification and retrieval: ranks, CMC, the two areas called nAUC, precision of rankings.

Ties never help: wherever a right and a wrong answer score the same, the wrong one is put first (pessimistic rank).
Only :func:`nauc_roc` counts a tie as half, which is the ROC area's definition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import DataError, MissingDependencyError

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

RANKS = (1, 5, 10)
_BLOCK = 1 << 24  # comparisons held at once


def label_ranks(scores: Floats, labels: Integers) -> NDArray[np.int64]:
    """Rank of each row's true person among all persons, 1 is best; a tie takes the last place of the tied.

    Args:
        scores: ``(N, C)``, higher is more alike.
        labels: ``(N,)``, the true column of each row.

    Raises:
        DataError: a score is not a number.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} do not belong together")
    count, persons = scores.shape
    ranks = np.empty(count, np.int64)
    step = max(1, _BLOCK // max(1, persons))
    for start in range(0, count, step):
        block, label = scores[start : start + step], labels[start : start + step]
        if np.isnan(block).any():
            raise DataError("a score is not a number; lower the learning rate or encode the store again")
        ranks[start : start + step] = (block >= np.take_along_axis(block, label[:, None], axis=1)).sum(axis=1)
    return ranks


def cmc_curve(ranks: Integers, places: int) -> NDArray[np.float64]:
    """Cumulative matching curve ``(places,)``: entry k-1 is the share of probes whose rank is k or better."""
    counts = np.bincount(np.minimum(ranks, places + 1) - 1, minlength=places + 1)
    return np.cumsum(counts[:places]) / len(ranks)


def nauc_cmc(cmc: Floats) -> float:
    """Area under the CMC normalised by the number of ranks: the mean of the curve.

    The paper's nAUC (section 4.1). The curve has to reach over all persons.
    """
    return float(np.mean(cmc))


def place_figures(ranks: Integers, places: int) -> dict[str, NDArray[np.float64]]:
    """What each probe adds to the figures that are means over probes, ``(N,)`` each, by name.

    Args:
        ranks: ``(N,)``, place of each probe's person, from 1.
        places: persons that were ranked; Rank-k of more than these does not exist.
    """
    figures = {f"rank{k}": (ranks <= k).astype(np.float64) for k in RANKS if k <= places}
    return {**figures, "nauc_cmc": (places - ranks + 1) / places}


def nauc_roc(scores: Floats, labels: Integers) -> float:
    """Micro-averaged ROC area: one-hot labels against scores, all pairs of row and person on one scale.

    What the released code prints as nAUC. Ties count half.

    Args:
        scores: ``(N, C)`` with C of at least 2.
        labels: ``(N,)``.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise MissingDependencyError(
            'the ROC area needs scikit-learn; install it with pip install "sgela_fast[eval]"'
        ) from error
    truth = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(truth, labels[:, None], True, axis=1)
    return float(roc_auc_score(truth.ravel(), scores.ravel()))


def average_precision(ranks: Floats | Integers) -> NDArray[np.float64]:
    """Mean precision at the right answers of each row.

    Libraries take all scores of a row; the tiled search never holds one, it keeps the ranks of the right answers.

    Args:
        ranks: ``(N, M)``, each row the ascending ranks (1 is best) of its M right answers.

    Returns:
        ``(N,)``.
    """
    return (np.arange(1, ranks.shape[1] + 1) / ranks).mean(axis=1)


def inverse_negative_penalty(ranks: Floats | Integers) -> NDArray[np.float64]:
    """Share of right answers down to the last one found, of each row (its mean is mINP; Ye et al., 2021).

    Args:
        ranks: as in :func:`average_precision`.

    Returns:
        ``(N,)``: M divided by the rank of the hardest right answer.
    """
    return ranks.shape[1] / ranks[:, -1]


def group_mean(scores: Floats, groups: Integers, count: int) -> NDArray[np.float64]:
    """Mean score of each group of rows: ``(N, C)`` and the row's group ``(N,)`` to ``(count, C)``.

    Every group has at least one row.
    """
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups, minlength=count)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sums = np.add.reduceat(scores[order].astype(np.float64), starts, axis=0)
    return sums / sizes[:, None]
