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
        label, details = LABELS[selection], dict[str, Any]()
        if len(self.candidates) == 1:
            selection, label = "last", ONE_SETTING
        if selection == "best-on-test":
            found = [self._tested(one, seed) for one in self.candidates]
            best = int(np.argmax([rank1_of(scores, self.sides.test.persons) for scores in found]))
            chosen, scores = self.candidates[best], found[best]
        else:
            chosen = self.candidates[0]
            if selection == "validation":
                chosen, details = self._choose(seed)
            scores = self._tested(chosen, seed)
        details = {**chosen.settings, **details}
        return classifier_outcome(self.sides, scores, self.config, self.split, seed, label, details)

    def _choose(self, seed: int) -> tuple[Candidate, dict[str, Any]]:
        """The setting that does best on recordings held out of the training side, and how well."""
        fit, held = hold_out(self.sides.train, seed)
        require_held_out(held, self.sides.train)
        persons = self.sides.train.persons[held]
        tried = [rank1_of(self._scores(one, fit, self.train[held], seed), persons) for one in self.candidates]
        best = int(np.argmax(tried))
        return self.candidates[best], {"held_out_windows": len(held), "held_out_rank1": tried[best]}

    def _tested(self, candidate: Candidate, seed: int) -> Floats:
        return self._scores(candidate, np.arange(len(self.train)), self.test, seed)

    def _scores(self, candidate: Candidate, fit: NDArray[np.int64], rows: Floats, seed: int) -> Floats:
        classifier: Classifier = candidate.make(seed)
        classifier.fit(self.train[fit], self.sides.train.persons[fit], self.persons)
        scores = classifier.scores(rows)
        self.note(", ".join(f"{name} {value}" for name, value in candidate.settings.items()))
        return scores
