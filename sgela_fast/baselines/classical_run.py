"""Protocol C of the classical baselines: a classifier of one vector for each window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgela_fast.baselines.classical import Candidate, Classifier, candidates
from sgela_fast.baselines.config import BaselineConfig
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.recognition_protocol import classifier_outcome, rank1_of
from sgela_fast.evaluation.recognition_training import hold_out, require_held_out
from sgela_fast.evaluation.results import Outcome
from sgela_fast.evaluation.sides import Sides

Floats = NDArray[np.floating[Any]]

LABELS = {
    "validation": "setting chosen on held-out training recordings",
    "last": "first setting, nothing chosen",
    "best-on-test": "BEST ON TEST: setting chosen on the test set itself; optimistic",
}
ONE_SETTING = "one setting, nothing to choose"


class ClassicalRun:
    """Protocol C of one classical method on one division of an archive's windows.

    Args:
        method: what decides.
        settings: of the baselines.
        sides: training and test windows.
        train: standardised vectors of the training windows, ``(N, D)``.
        test: those of the test windows, on the same scale.
        split: name of the division, for the outcome.
        config: of the evaluation; its recognition settings say how a setting is chosen.
        note: called with a remark after every setting that was tried.
    """

    def __init__(
        self,
        method: str,
        settings: BaselineConfig,
        sides: Sides,
        train: Floats,
        test: Floats,
        split: str,
        config: EvaluationConfig,
        note: Callable[[str], None],
    ) -> None:
        self.sides, self.train, self.test = sides, train, test
        self.split, self.config, self.note = split, config, note
        self.candidates = candidates(method, settings)
        self.persons = len(sides.persons)

    def outcome(self, seed: int) -> Outcome:
        """Choose a setting, fit with ``seed``, test, and give the figures."""
        selection = str(self.config.recognition.selection)
        everything = np.arange(len(self.train))
        if len(self.candidates) == 1 or selection == "last":
            label = ONE_SETTING if len(self.candidates) == 1 else LABELS["last"]
            scores, details = self._scores(self.candidates[0], everything, self.test, seed), {}
            details = dict(self.candidates[0].settings)
        elif selection == "validation":
            label = LABELS[selection]
            fit, held = hold_out(self.sides.train, seed)
            require_held_out(held, self.sides.train)
            tried = [
                rank1_of(self._scores(one, fit, self.train[held], seed), self.sides.train.persons[held])
                for one in self.candidates
            ]
            chosen = self.candidates[int(np.argmax(tried))]
            scores = self._scores(chosen, everything, self.test, seed)
            details = {**chosen.settings, "held_out_windows": len(held), "held_out_rank1": max(tried)}
        else:
            label = LABELS[selection]
            found = [self._scores(one, everything, self.test, seed) for one in self.candidates]
            best = int(np.argmax([rank1_of(scores, self.sides.test.persons) for scores in found]))
            scores, details = found[best], dict(self.candidates[best].settings)
        return classifier_outcome(self.sides, scores, self.config, self.split, seed, label, details)

    def _scores(self, candidate: Candidate, fit: NDArray[np.int64], rows: Floats, seed: int) -> Floats:
        classifier: Classifier = candidate.make(seed)
        classifier.fit(self.train[fit], self.sides.train.persons[fit], self.persons)
        scores = classifier.scores(rows)
        self.note(", ".join(f"{name} {value}" for name, value in candidate.settings.items()))
        return scores
