"""Protocol C: a recognition network on frozen gait encodings of the training side, tested on the other side."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from sgela_fast.errors import DataError
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.features import Features
from sgela_fast.evaluation.figures import recording_figures, score_figures
from sgela_fast.evaluation.metrics import cmc_curve, label_ranks
from sgela_fast.evaluation.recognition_training import RecognitionTraining, hold_out
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
    """

    def __init__(
        self, sides: Sides, split: str, config: EvaluationConfig, device: torch.device | str, note: Note
    ) -> None:
        self.sides, self.split, self.config, self.device, self.note = sides, split, config, device, note
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
        """Train with ``seed``, test once, and give the figures."""
        if self.recognition.selection == "best-on-test":
            scores, details = self._best_on_test(seed)
        else:
            chosen = self._last(seed) if self.recognition.selection == "last" else self.train_honestly(seed)
            scores, details = chosen.training.logits(self.test), chosen.details
        persons = self.test_side.persons
        return Outcome(
            protocol="C",
            split=self.split,
            seed=seed,
            selection=self.recognition.selection_label,
            persons=len(self.sides.persons),
            probe_windows=len(self.test_side),
            gallery_windows=len(self.train_side),
            chance=1 / len(self.sides.persons),
            left_out=self._left_out(),
            notes=self.sides.notes,
            windows=score_figures(scores, persons, self.config),
            recordings=recording_figures(scores, self.test_side, self.config),
            details=details,
        )

    def train_honestly(self, seed: int) -> TrainedNetwork:
        """Train without a look at the test side: recordings held out of the training side choose the epoch."""
        fit, held = (torch.from_numpy(positions) for positions in hold_out(self.train_side, seed))
        if not len(held):
            raise DataError(
                f"no person of {self.train_side.store.path} has enough training windows to hold some out; "
                "train for a fixed number of epochs with recognition.selection=last"
            )
        training = self._start(fit, seed)
        held_labels = self.labels[held]
        best, best_epoch, best_state, improved = (-1.0, 0.0), 0, training.state(), 0
        for epoch in range(1, self._max_epochs + 1):
            loss = training.epoch()
            scores = training.logits(self.train, held)
            rank1 = _rank1(scores, held_labels.numpy())
            held_loss = float(cross_entropy(torch.from_numpy(scores), held_labels))
            self.note(f"seed {seed}, epoch {epoch}, loss {loss:.4f}, held-out Rank-1 {100 * rank1:.1f} %")
            if rank1 > best[0]:
                improved = epoch
            # Of epochs that recognise equally many windows the surer one is better, but it is no reason to go on.
            if (rank1, -held_loss) > best:
                best, best_epoch, best_state = (rank1, -held_loss), epoch, training.state()
            if epoch - improved >= self.recognition.patience:
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
        self._run_epochs(training, self._max_epochs, "training")
        return TrainedNetwork(training, {"epochs": training.epochs, "steps": training.steps})

    def _best_on_test(self, seed: int) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Look at the test set every so many steps and keep the best scores; a tie takes the later ones."""
        training = self._start(torch.arange(len(self.train)), seed)
        best: dict[str, Any] = {"rank1": -1.0}

        def look(step: int) -> None:
            if step % self.recognition.evaluate_every:
                return
            scores = training.logits(self.test)
            rank1 = _rank1(scores, self.test_side.persons)
            if rank1 >= best["rank1"]:
                best.update(rank1=rank1, scores=scores, step=step)

        self._run_epochs(training, self._max_epochs, "best on test", look)
        if "scores" not in best:
            best.update(scores=training.logits(self.test), step=training.steps)
        return best["scores"], {"epochs": training.epochs, "steps": training.steps, "best_step": best["step"]}

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
        memory = self.config.memory_gb * GIB
        return RecognitionTraining(
            self.train, windows, self.labels, len(self.sides.persons), self.recognition, seed, memory
        )

    def _run_epochs(
        self, training: RecognitionTraining, epochs: int, what: str, look: Callable[[int], None] | None = None
    ) -> None:
        for epoch in range(1, epochs + 1):
            loss = training.epoch(look)
            self.note(f"seed {training.seed}, {what}, epoch {epoch} of {epochs}, loss {loss:.4f}")

    def _left_out(self) -> dict[str, int]:
        left_out = dict(self.sides.left_out)
        if self.recognition.released_batches:
            left_out["test windows outside whole batches of 128"] = len(self.sides.test) - len(self.test_side)
        return left_out


def _rank1(scores: NDArray[np.float32], persons: NDArray[np.int64]) -> float:
    return float(cmc_curve(label_ranks(scores, persons), 1)[0])
