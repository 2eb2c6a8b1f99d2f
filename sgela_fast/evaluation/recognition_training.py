"""Training of the recognition network on frozen feature rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from sgela_fast.errors import DataError, DivergenceError
from sgela_fast.evaluation.config import RecognitionConfig
from sgela_fast.evaluation.features import Features, Standardiser
from sgela_fast.evaluation.sides import Side
from sgela_fast.models.recognition import RecognitionNetwork, WindowClassifier, initialise_recognition
from sgela_fast.models.tf_adam import TensorFlowAdam

MakeNetwork = Callable[[int, int, int], WindowClassifier]

_SMALL_STEP = 1 << 26  # multiply-adds
_HELD_SHARE = 5  # one window in so many is held out of a person's only recording


class RecognitionTraining:
    """A recognition network and the state of its training.

    Args:
        features: training feature rows.
        windows: positions of the windows to train on.
        labels: person of every window of ``features``.
        persons: classes, C.
        config: of protocol C.
        seed: of initial weights and order.
        memory_bytes: for blocks of features that are not held in memory.
        make_network: makes the network that is trained instead, from features of a row, persons and seed.
    """

    def __init__(
        self,
        features: Features,
        windows: Tensor,
        labels: Tensor,
        persons: int,
        config: RecognitionConfig,
        seed: int,
        memory_bytes: float,
        make_network: MakeNetwork | None = None,
    ) -> None:
        self.features, self.windows, self.config, self.seed = features, windows, config, seed
        self.labels = labels[windows]
        self.memory_bytes = memory_bytes
        self.network = (make_network or self._recognition_network)(features.width, persons, seed).to(features.device)
        self.optimiser = build_optimiser(self.network, config.learning_rate)
        self.standardise = Standardiser(features, windows) if config.standardise else None
        self.generator = torch.Generator().manual_seed(seed)
        self.steps = self.epochs = 0

    def epoch(self, after_step: Callable[[int], None] | None = None) -> float:
        """Pass once over the training rows; returns the mean loss of the steps.

        Raises:
            DivergenceError: the loss is not finite.
        """
        if self.config.shuffle == "once":
            self.generator.manual_seed(self.seed)
        with self._threads():
            loss = self._steps(after_step)
        self.epochs += 1
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the recognition network's loss is {loss} in epoch {self.epochs}; lower recognition.learning_rate "
                "or set recognition.standardise"
            )
        return loss

    def logits(self, features: Features, windows: Tensor | None = None) -> NDArray[np.float32]:
        """Mean logits ``(B, C)`` of the windows at the given positions, of all without positions."""
        positions = torch.arange(len(features)) if windows is None else windows
        found = []
        for block in features.blocks(positions):
            rows = self.standardise(block) if self.standardise else block
            found.append(self.network.window_logits(rows).cpu())
        return torch.cat(found).numpy()

    def state(self) -> dict[str, Tensor]:
        """Copy of the weights."""
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def _steps(self, after_step: Callable[[int], None] | None) -> float:
        batch, total, taken = self.config.batch, torch.zeros((), device=self.features.device), 0
        for rows, source in self.features.shuffled(self.windows, batch, self.memory_bytes, self.generator):
            if self.standardise:
                rows = self.standardise(rows)
            labels = self.labels[source].to(rows.device)
            for start in range(0, len(rows), batch):
                stop = start + batch
                # A set smaller than one batch is trained on as it is: dropping it would leave nothing.
                if stop > len(rows) and self.config.drop_incomplete and taken:
                    break
                total += training_step(self.network, self.optimiser, rows[start:stop], labels[start:stop])
                taken += 1
                self.steps += 1
                if after_step:
                    after_step(self.steps)
        return float(total) / taken

    def _recognition_network(self, width: int, persons: int, seed: int) -> WindowClassifier:
        network = RecognitionNetwork(width, persons, self.config.hidden)
        assert self.config.initial is not None
        initialise_recognition(network, self.config.initial, seed)
        return network

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """One thread for small steps: two would gain little, and lose tenfold where other jobs share the cores."""
        before = torch.get_num_threads()
        weights = sum(parameter.numel() for parameter in self.network.parameters())
        small = self.config.batch * weights < _SMALL_STEP
        torch.set_num_threads(1 if small else before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def build_optimiser(network: WindowClassifier, learning_rate: float) -> TensorFlowAdam:
    """The released code's optimiser for :func:`training_step`."""
    return TensorFlowAdam(network.parameters(), learning_rate, fused=True)


def training_step(network: WindowClassifier, optimiser: torch.optim.Optimizer, rows: Tensor, labels: Tensor) -> Tensor:
    """One step on the mean cross-entropy of feature rows ``(B, D)``; returns the loss before it."""
    loss = cross_entropy(network(rows), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()


def hold_out(side: Side, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose training windows that judge the epoch: a whole recording of each person, drawn at random.

    Of a person with a single recording the last fifth of the windows is held out instead, and windows that share
    frames with it are left out of training. A person with too few windows for that has none held out.

    Returns:
        Positions to train on and positions held out.
    """
    random = np.random.default_rng(seed)
    train, held = [], []
    order = np.argsort(side.persons, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(side.persons[order])) + 1):
        recordings = np.unique(side.recordings[own])
        if len(recordings) > 1:
            chosen = side.recordings[own] == random.choice(recordings)
            train.append(own[~chosen])
            held.append(own[chosen])
            continue
        own = own[np.argsort(side.starts[own], kind="stable")]
        last = own[len(own) - max(1, len(own) // _HELD_SHARE) :]
        before = own[side.starts[own] + side.frames[own] <= side.starts[last[0]]]
        if len(before):
            train.append(before)
            held.append(last)
        else:
            train.append(own)
    return np.concatenate(train), np.concatenate(held) if held else np.empty(0, np.int64)


def require_held_out(held: NDArray[np.int64] | Tensor, side: Side) -> None:
    """Raise DataError if nothing could be held out of ``side``."""
    if not len(held):
        raise DataError(
            f"no person of {side.store.path} has enough training windows to hold some out; "
            "train for a fixed number of epochs with recognition.selection=last"
        )
