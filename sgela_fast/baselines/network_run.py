"""Protocol C of the supervised networks, on the recognition protocol's terms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from sgela_fast.baselines.config import BaselineConfig
from sgela_fast.baselines.networks import SequenceNetwork, make_network
from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig
from sgela_fast.evaluation.features import Features
from sgela_fast.evaluation.recognition_protocol import GIB, RecognitionRun
from sgela_fast.evaluation.recognition_training import RecognitionTraining
from sgela_fast.evaluation.sides import Sides


class NetworkTraining(RecognitionTraining):
    """A supervised network and the state of its training.

    Args:
        method: which network.
        frames: frames of a window, T.
        features: all frames of a window side by side, ``(N, 1, T D)``.
        windows: positions of the windows to train on.
        labels: person of every window of ``features``.
        persons: classes, C.
        config: of the training.
        seed: of initial weights and order.
        memory_bytes: for blocks of features that are not held in memory.
    """

    def __init__(
        self,
        method: str,
        frames: int,
        features: Features,
        windows: Tensor,
        labels: Tensor,
        persons: int,
        config: RecognitionConfig,
        seed: int,
        memory_bytes: float,
    ) -> None:
        self.method, self.frames = method, frames
        super().__init__(features, windows, labels, persons, config, seed, memory_bytes)

    def make_network(self, persons: int) -> SequenceNetwork:
        """A network for ``persons`` classes."""
        width = self.features.width // self.frames
        return make_network(self.method, self.frames, width, persons, self.config.hidden, self.seed)

    def vectors(self, features: Features) -> Tensor:
        """What the network makes of each window before its last layer, ``(N, E)``."""
        network, standardise = cast(SequenceNetwork, self.network), self.standardise
        assert standardise is not None
        blocks = features.blocks(torch.arange(len(features)))
        return torch.cat([network.window_vectors(standardise(block)).cpu() for block in blocks])


class NetworkRun(RecognitionRun):
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

    def __init__(
        self,
        method: str,
        settings: BaselineConfig,
        sides: Sides,
        split: str,
        config: EvaluationConfig,
        device: torch.device | str,
        note: Callable[[str], None],
    ) -> None:
        self.method, self.frames = method, int(sides.train.frames[0])
        recognition = replace(
            config.recognition,
            prediction="sc",
            max_epochs=settings.epochs,
            patience=settings.patience,
            batch=settings.batch,
            learning_rate=settings.learning_rate,
            hidden=settings.hidden,
            drop_incomplete=False,
            standardise=True,
            shuffle="epoch",
        )
        seconds = 60 * settings.minutes or math.inf
        super().__init__(sides, split, replace(config, recognition=recognition), device, note, seconds)

    def _start(self, windows: Tensor, seed: int) -> NetworkTraining:
        return NetworkTraining(
            self.method,
            self.frames,
            self.train,
            windows,
            self.labels,
            len(self.sides.persons),
            self.recognition,
            seed,
            self.config.memory_gb * GIB,
        )
