"""Supervised networks on the recognition protocol's terms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from sgela_fast.baselines.config import BaselineConfig
from sgela_fast.baselines.networks import SequenceNetwork, make_network
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.features import Features
from sgela_fast.evaluation.recognition_protocol import RecognitionRun
from sgela_fast.evaluation.recognition_training import RecognitionTraining
from sgela_fast.evaluation.sides import Sides


def network_run(
    method: str,
    settings: BaselineConfig,
    sides: Sides,
    split: str,
    config: EvaluationConfig,
    device: torch.device,
    note: Callable[[str], None],
) -> RecognitionRun:
    """Protocol C of one supervised network on one division of an archive's windows.

    Args:
        method: which network.
        settings: how it is trained.
        sides: training and test windows, with features for each frame.
        split: name of the division, for the outcome.
        config: of the evaluation; of its recognition settings those that choose the epoch are used.
        device: where training runs.
        note: called with a remark after every epoch.
    """
    recognition = replace(
        config.recognition,
        prediction="sc",  # all frames of a window side by side, which the network parts again
        max_epochs=settings.epochs,
        patience=settings.patience,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        drop_incomplete=False,
        standardise=True,
        shuffle="epoch",
    )
    make = partial(make_network, method, int(sides.train.frames[0]), settings.hidden)
    seconds = 60 * settings.minutes or math.inf
    return RecognitionRun(sides, split, replace(config, recognition=recognition), device, note, make, seconds)


def window_vectors(training: RecognitionTraining, features: Features) -> Tensor:
    """What a trained network makes of each window before its last layer, ``(N, E)``."""
    network, standardise = cast(SequenceNetwork, training.network), training.standardise
    assert standardise is not None
    blocks = features.blocks(torch.arange(len(features)))
    return torch.cat([network.window_vectors(standardise(block)).cpu() for block in blocks])
