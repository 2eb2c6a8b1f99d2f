"""Protocol G: nearest neighbours of test (probe) windows among training (gallery) windows, nothing trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.features import Features
from sgela_fast.evaluation.figures import recording_figures, score_figures
from sgela_fast.evaluation.results import Outcome
from sgela_fast.evaluation.retrieval import search
from sgela_fast.evaluation.sides import Sides


class Distances(NamedTuple):
    """Distances from probe windows to persons' nearest gallery windows, for a histogram.

    Attributes:
        same: ``(N,)``, to the right person.
        other: ``(N, C - 1)``, to the others.
    """

    same: NDArray[np.float32]
    other: NDArray[np.float32]


def run_retrieval(
    sides: Sides,
    split: str,
    config: EvaluationConfig,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda probes: None,
) -> tuple[Outcome, Distances]:
    """Compare every probe window with every gallery window.

    Persons are ranked by their nearest gallery window; Rank-k, CMC and both areas are over persons. The published
    rule, a right window among the k nearest windows, is ``window_rank``; mAP and mINP are over gallery windows too.
    A recording's distance to a person is the mean over its windows of theirs.

    Args:
        sides: probe (test) and gallery (training) windows.
        split: name of the division, for the outcome.
        config: of the evaluation.
        device: where distances are computed; they are ranked on the CPU.
        advance: called with the number of probe windows done since.
    """
    retrieval = config.retrieval
    gallery_side = sides.train.take(np.argsort(sides.train.persons, kind="stable"))
    gallery = Features(gallery_side, retrieval.feature, np.inf, device).rows()
    probes = Features(sides.test, retrieval.feature, np.inf, device).rows()
    persons = sides.test.persons
    found = search(
        probes,
        persons,
        gallery,
        gallery_side.persons,
        distance=retrieval.distance,
        tile_mb=retrieval.tile_mb,
        advance=advance,
    )
    scores = -found.nearest  # (N, C)
    shares = np.bincount(gallery_side.persons) / len(gallery_side)
    outcome = Outcome(
        protocol="G",
        split=split,
        seed=None,
        selection="nothing trained",
        persons=len(sides.persons),
        probe_windows=len(sides.test),
        gallery_windows=len(gallery_side),
        chance=float(shares[persons].mean()),
        left_out=dict(sides.left_out),
        notes=sides.notes,
        windows=score_figures(
            scores,
            persons,
            config,
            found.first_rank,
            {
                "mean_average_precision": found.average_precision,
                "mean_inverse_negative_penalty": found.inverse_negative_penalty,
            },
        ),
        recordings=recording_figures(scores, sides.test, config),
        details={"feature": retrieval.feature, "distance": retrieval.distance},
    )
    others = np.ones(scores.shape, np.bool_)
    np.put_along_axis(others, persons[:, None], False, axis=1)
    same = np.take_along_axis(found.nearest, persons[:, None], axis=1)[:, 0]
    return outcome, Distances(same, found.nearest[others].reshape(len(persons), -1))
