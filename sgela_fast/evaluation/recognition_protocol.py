"""Protocol C: a recognition network on frozen gait encodings of the training side, tested on the other side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.features import Features
from sgela_fast.evaluation.figures import recording_figures, score_figures
from sgela_fast.evaluation.metrics import Floats, cmc_curve, label_ranks
from sgela_fast.evaluation.recognition_training import MakeNetwork, RecognitionTraining, hold_out, require_held_out
from sgela_fast.evaluation.released_batches import counted_windows, whole_batches
from sgela_fast.evaluation.results import Outcome
from sgela_fast.evaluation.sides import Side, Sides

GIB = 1 << 30
Note = Callable[[str], None]


class TrainedNetwork(NamedTuple):
    """The training whose weights are tested, and what it did."""

    training: RecognitionTraining
    details: dict[str, Any]


class RecognitionRun:
    """Protocol C on one division of a store; features are read once for all seeds.

    Args:
        sides: training and test windows.
        split: name of the division, for the outcome.
        config: of the evaluation.
        device: where training runs.
        note: called with a remark after every epoch.
        make_network: makes the network that is trained instead, from features of a row, persons and seed.
        seconds: after how long training ends with the epoch it is in; a refit is planned for within that time.
    """

    def __init__(
        self,
        sides: Sides,
        split: str,
        config: EvaluationConfig,
        device: torch.device | str,
        note: Note,
        make_network: MakeNetwork | None = None,
        seconds: float = math.inf,
    ) -> None:
        self.sides, self.split, self.config, self.device, self.note = sides, split, config, device, note
        self.make_network, self.seconds = make_network, seconds
        self.recognition = config.recognition
        self.form = "frames" if self.recognition.prediction == "ap" else "concat"
        self.train_side, self.test_side = sides.train, sides.test
        if self.recognition.released_batches:
            self.train_side = self.train_side.take(whole_batches(self.train_side.persons, pad=True))
            self.test_side = self.test_side.take(whole_batches(self.test_side.persons, pad=False))
        self.train = self._features(self.train_side)
        self.labels = torch.from_numpy(self.train_side.persons)
        if self.recognition.released_batches:
            keep = counted_windows(len(self.test_side), self.train.frames)
            self.test_side = self.test_side.take(np.arange(keep))

    def outcome(self, seed: int) -> Outcome:
        """Train with ``seed``, test, and give the figures."""
        trained = self.trained(seed)
        return self.outcome_of(trained, trained.training.logits(self.test))

    def trained(self, seed: int) -> TrainedNetwork:
        """Train with ``seed`` and choose the weights as the configuration says."""
        choose = {"validation": self.train_honestly, "last": self._last, "best-on-test": self._best_on_test}
        return choose[str(self.recognition.selection)](seed)

    def outcome_of(self, trained: TrainedNetwork, scores: Floats) -> Outcome:
        """The figures of a network with these test ``scores (N, C)``."""
        sides = replace(self.sides, train=self.train_side, test=self.test_side, left_out=self._left_out())
        selection = self.recognition.selection_label
        return classifier_outcome(
            sides, scores, self.config, self.split, trained.training.seed, selection, trained.details
        )

    def train_honestly(self, seed: int) -> TrainedNetwork:
        """Train without a look at the test side: recordings held out of the training side choose the epoch."""
        fit, held = (torch.from_numpy(positions) for positions in hold_out(self.train_side, seed))
        require_held_out(held, self.train_side)
        training = self._start(fit, seed)
        held_labels = self.labels[held]
        best, best_epoch, best_state, improved = (-1.0, 0.0), 0, training.state(), 0
        refit_share = len(self.train) / len(fit) if self.recognition.refit else 0.0
        started = time.monotonic()
        for epoch in range(1, self._max_epochs + 1):
            loss = training.epoch()
            scores = training.logits(self.train, held)
            rank1 = rank1_of(scores, held_labels.numpy())
            held_loss = float(cross_entropy(torch.from_numpy(scores), held_labels))
            self.note(f"seed {seed}, epoch {epoch}, loss {loss:.4f}, held-out Rank-1 {100 * rank1:.1f} %")
            if rank1 > best[0]:
                improved = epoch
            # Of epochs that recognise equally many windows the surer one is better, but it is no reason to go on.
            if (rank1, -held_loss) > best:
                best, best_epoch, best_state = (rank1, -held_loss), epoch, training.state()
            needed = (time.monotonic() - started) * (1 + refit_share * best_epoch / epoch)
            if epoch - improved >= self.recognition.patience or needed > self.seconds:
                break
        details: dict[str, Any] = {
            "held_out_windows": len(held),
            "held_out_rank1": best[0],
            "epochs_tried": training.epochs,
            "epochs": best_epoch,
            "refit": self.recognition.refit,
        }
        if self.recognition.refit:
            training = self._start(torch.arange(len(self.train)), seed)
            self._run_epochs(training, best_epoch, "refit on all training windows")
        else:
            training.network.load_state_dict(best_state)
        details["steps"] = training.steps
        return TrainedNetwork(training, details)

    def _last(self, seed: int) -> TrainedNetwork:
        training = self._start(torch.arange(len(self.train)), seed)
        self._run_epochs(training, self._max_epochs, "training", seconds=self.seconds)
        return TrainedNetwork(training, {"epochs": training.epochs, "steps": training.steps})

    def _best_on_test(self, seed: int) -> TrainedNetwork:
        """Look at the test set every so many steps and keep the best weights; a tie takes the later ones."""
        training = self._start(torch.arange(len(self.train)), seed)
        best: dict[str, Any] = {"rank1": -1.0}

        def look(step: int) -> None:
            if step % self.recognition.evaluate_every:
                return
            rank1 = rank1_of(training.logits(self.test), self.test_side.persons)
            if rank1 >= best["rank1"]:
                best.update(rank1=rank1, state=training.state(), step=step)

        self._run_epochs(training, self._max_epochs, "best on test", look, self.seconds)
        if "state" in best:
            training.network.load_state_dict(best["state"])
        step = best.get("step", training.steps)
        return TrainedNetwork(training, {"epochs": training.epochs, "steps": training.steps, "best_step": step})

    @cached_property
    def test(self) -> Features:
        """Test feature rows; read no sooner than they are tested."""
        return self._features(self.test_side)

    @property
    def _max_epochs(self) -> int:
        assert self.recognition.max_epochs is not None
        return self.recognition.max_epochs

    def _features(self, side: Side) -> Features:
        return Features(side, self.form, self.config.memory_gb * GIB, self.device)

    def _start(self, windows: Tensor, seed: int) -> RecognitionTraining:
        memory, persons = self.config.memory_gb * GIB, len(self.sides.persons)
        return RecognitionTraining(
            self.train, windows, self.labels, persons, self.recognition, seed, memory, self.make_network
        )

    def _run_epochs(
        self,
        training: RecognitionTraining,
        epochs: int,
        what: str,
        look: Callable[[int], None] | None = None,
        seconds: float = math.inf,
    ) -> None:
        end = time.monotonic() + seconds
        for epoch in range(1, epochs + 1):
            loss = training.epoch(look)
            self.note(f"seed {training.seed}, {what}, epoch {epoch} of {epochs}, loss {loss:.4f}")
            if time.monotonic() > end:
                break

    def _left_out(self) -> dict[str, int]:
        left_out = dict(self.sides.left_out)
        if self.recognition.released_batches:
            left_out["test windows outside whole batches of 128"] = len(self.sides.test) - len(self.test_side)
        return left_out


def classifier_outcome(
    sides: Sides,
    scores: Floats,
    config: EvaluationConfig,
    split: str,
    seed: int | None,
    selection: str,
    details: dict[str, Any],
) -> Outcome:
    """What protocol C tells of any classifier.

    Args:
        sides: the windows that were trained on and tested.
        scores: ``(N, C)`` of the tested windows, higher is more alike.
        config: of the evaluation.
        split: name of the division.
        seed: of the training; ``None`` where nothing is random.
        selection: how the classifier was chosen, in words.
        details: what the training did.
    """
    persons = len(sides.persons)
    return Outcome(
        protocol="C",
        split=split,
        seed=seed,
        selection=selection,
        persons=persons,
        probe_windows=len(sides.test),
        gallery_windows=len(sides.train),
        chance=1 / persons,
        left_out=dict(sides.left_out),
        notes=sides.notes,
        windows=score_figures(scores, sides.test.persons, config),
        recordings=recording_figures(scores, sides.test, config),
        details=details,
    )


def rank1_of(scores: Floats, persons: NDArray[np.int64]) -> float:
    """Share of probes with ``scores (N, C)`` whose person comes first."""
    return float(cmc_curve(label_ranks(scores, persons), 1)[0])
