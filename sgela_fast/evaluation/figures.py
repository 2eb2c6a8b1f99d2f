"""From scores to figures, the same way for both protocols."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sgela_fast.evaluation.bootstrap import person_interval
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.metrics import (
    RANKS,
    Floats,
    cmc_curve,
    group_mean,
    label_ranks,
    nauc_cmc,
    nauc_roc,
    place_figures,
)
from sgela_fast.evaluation.results import Figures
from sgela_fast.evaluation.sides import Side

WINDOW_PLACES = 50


def score_figures(
    scores: Floats,
    persons: NDArray[np.int64],
    config: EvaluationConfig,
    window_ranks: NDArray[np.int64] | None = None,
    means: Mapping[str, Floats] | None = None,
) -> Figures:
    """Figures of probes.

    Args:
        scores: ``(N, C)``, higher is more alike.
        persons: ``(N,)``, true person of each probe.
        config: of the intervals.
        window_ranks: ``(N,)``, place of the first right gallery window, where there is a gallery.
        means: further figures of each probe ``(N,)``, by the name of the field that holds their mean.
    """
    places = scores.shape[1]
    ranks = label_ranks(scores, persons)
    cmc = cmc_curve(ranks, places)
    each: dict[str, Floats] = {**place_figures(ranks, places)}
    window_rank, window_cmc = {}, np.empty(0)
    if window_ranks is not None:
        window_cmc = cmc_curve(window_ranks, WINDOW_PLACES)
        window_rank = {k: float(window_cmc[k - 1]) for k in RANKS}
        each |= {f"window_rank{k}": (window_ranks <= k).astype(float) for k in RANKS if k > 1}
    each |= means or {}
    intervals = {
        name: person_interval(values, persons, config.resamples, config.confidence) for name, values in each.items()
    }
    return Figures(
        probes=len(scores),
        rank={k: float(cmc[k - 1]) for k in RANKS if k <= places},
        cmc=cmc.tolist(),
        nauc_cmc=nauc_cmc(cmc),
        nauc_roc=nauc_roc(scores, persons),
        window_rank=window_rank,
        window_cmc=window_cmc.tolist(),
        intervals={name: ends for name, ends in intervals.items() if ends is not None},
        ranks=ranks,
        **{name: float(values.mean()) for name, values in (means or {}).items()},
    )


def recording_figures(scores: Floats, side: Side, config: EvaluationConfig) -> Figures:
    """Figures of recordings, each with the mean of its windows' scores ``(N, C)``."""
    count = int(side.recordings.max()) + 1
    persons = np.empty(count, np.int64)
    persons[side.recordings] = side.persons
    return score_figures(group_mean(scores, side.recordings, count), persons, config)
