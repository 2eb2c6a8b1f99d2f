"""Classical classifiers of feature vectors, all with scores for every person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sgela_fast.baselines.boosting import OneAgainstRestBoosting
from sgela_fast.baselines.config import BaselineConfig
from sgela_fast.errors import MissingDependencyError
from sgela_fast.evaluation.retrieval import nearest_of_persons

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

_KERNEL_NUMBERS = 1 << 25  # float64 held at once while windows are scored: 256 MiB
NEIGHBOURS = (1, 5, 15, 30)
PENALTIES = (1.0, 10.0, 100.0)


class Classifier(Protocol):
    """What recognises the person of a feature vector."""

    def fit(self, rows: Floats, persons: Indices, count: int) -> None:
        """Learn from standardised ``rows (N, D)`` of ``persons (N,)``; each code below ``count`` occurs."""

    def scores(self, rows: Floats) -> Floats:
        """``(N, count)``, higher is more alike."""


@dataclass(frozen=True)
class Candidate:
    """A classifier with one choice of its settings.

    Attributes:
        settings: the choice, for the outcome's details.
        make: builds the classifier from a seed.
    """

    settings: dict[str, Any]
    make: Callable[[int], Classifier]


def candidates(method: str, config: BaselineConfig) -> list[Candidate]:
    """The choices among which an evaluation selects; the first is taken where nothing is to be selected."""

    def neighbours(k: int) -> Candidate:
        return Candidate({"neighbours": k}, lambda seed: Neighbours(k))

    def machine(penalty: float) -> Candidate:
        settings = {"penalty": penalty, "windows": config.svm_windows}
        return Candidate(settings, lambda seed: SupportVectors(penalty, config.svm_windows, seed))

    if method == "knn":
        return [neighbours(k) for k in NEIGHBOURS]
    if method == "nearest":
        return [neighbours(1)]
    if method == "svm":
        return [machine(penalty) for penalty in PENALTIES]
    if method == "adaboost":
        return [Candidate({"rounds": config.rounds}, lambda seed: OneAgainstRestBoosting(config.rounds))]
    assert method == "lda", method
    return [Candidate({"shrinkage": "Ledoit-Wolf"}, lambda seed: LinearDiscriminants())]


class Neighbours:
    """k nearest neighbours, Euclidean, one vote each; equal votes are ranked by the distance of the nearest window.

    Args:
        k: neighbours.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def fit(self, rows: Floats, persons: Indices, count: int) -> None:
        """Keep ``rows``."""
        order = np.argsort(persons, kind="stable")
        self.rows, self.persons = torch.from_numpy(rows[order]), persons[order]
        if self.k > 1:
            self.votes = _sklearn("neighbors").KNeighborsClassifier(min(self.k, len(rows))).fit(rows, persons)

    def scores(self, rows: Floats) -> Floats:
        """Votes, plus less than one for how near the nearest window is."""
        nearest = nearest_of_persons(torch.from_numpy(rows), self.rows.clone(), self.persons)  # (N, C)
        if self.k == 1:
            return -nearest
        votes = np.rint(self.votes.predict_proba(rows) * self.votes.n_neighbors)
        return votes + 1 / (2 + nearest)


class SupportVectors:
    """A support vector machine with an RBF kernel, one person against one, fitted by libsvm.

    libsvm alone takes minutes to classify what these matrix products classify in seconds.

    Args:
        penalty: C of the machine.
        windows: rows to fit to, at most; libsvm's time grows with their square.
        seed: of the choice of rows.
    """

    def __init__(self, penalty: float, windows: int, seed: int) -> None:
        self.penalty, self.windows, self.seed = penalty, windows, seed

    def fit(self, rows: Floats, persons: Indices, count: int) -> None:
        """Fit to a share of ``rows`` that is alike for all persons, and at least one of each."""
        chosen = stratified(persons, self.windows, self.seed)
        machine = _sklearn("svm").SVC(C=self.penalty, cache_size=500)
        machine.fit(rows[chosen].astype(np.float64), persons[chosen])
        self.gamma, self.count = float(machine._gamma), count
        self.support = torch.from_numpy(machine.support_vectors_)
        self.coefficients = torch.from_numpy(machine.dual_coef_)  # (C - 1, support vectors)
        # For two persons scikit-learn turns the signs round, to count for the second.
        self.sign = -1.0 if count == 2 else 1.0
        self.intercepts = torch.from_numpy(machine.intercept_)
        self.sizes = machine.n_support_.tolist()

    def pair_decisions(self, rows: Floats) -> torch.Tensor:
        """Decision of each pair (i, j), i < j, ``(N, C (C - 1) / 2)``; positive for i."""
        values = torch.from_numpy(rows.astype(np.float64))
        kernel = torch.exp(-self.gamma * torch.cdist(values, self.support).square())  # (N, support vectors)
        parts = [
            block @ own.T
            for block, own in zip(
                kernel.split(self.sizes, dim=1), self.coefficients.split(self.sizes, dim=1), strict=True
            )
        ]  # of each person (N, C - 1): its support vectors' part in the decisions against all others
        first, second = np.triu_indices(self.count, 1)
        stacked = torch.stack(parts, dim=1)  # (N, C, C - 1)
        decisions = stacked[:, first, second - 1] + stacked[:, second, first] + self.intercepts
        return self.sign * decisions

    def scores(self, rows: Floats) -> Floats:
        """Pairs won; equal numbers are ranked by how clearly, which counts less than one pair."""
        each = len(self.support) + 2 * self.count**2  # kernel, and the decisions of all pairs twice
        pieces = np.array_split(rows, -(-len(rows) * each // _KERNEL_NUMBERS))
        return np.concatenate([self._scores(piece) for piece in pieces])

    def _scores(self, rows: Floats) -> Floats:
        decisions = self.pair_decisions(rows)
        first, second = (torch.from_numpy(side) for side in np.triu_indices(self.count, 1))
        won = (decisions > 0).double()
        wins, margin = (decisions.new_zeros(len(rows), self.count) for _ in range(2))
        wins.index_add_(1, first, won).index_add_(1, second, 1 - won)
        margin.index_add_(1, first, decisions).index_add_(1, second, decisions, alpha=-1)
        return (wins + margin / (3 * (margin.abs() + 1))).numpy()


class LinearDiscriminants:
    """Linear discriminant analysis; the covariance is shrunk by as much as Ledoit and Wolf's rule says."""

    def fit(self, rows: Floats, persons: Indices, count: int) -> None:
        """Estimate means and covariance."""
        analysis = _sklearn("discriminant_analysis").LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        self.analysis = analysis.fit(rows.astype(np.float64), persons)

    def scores(self, rows: Floats) -> Floats:
        """Logarithm of each person's likelihood times share, up to a common constant."""
        found = self.analysis.decision_function(rows.astype(np.float64))
        return np.stack([-found, found], axis=1) if found.ndim == 1 else found


def stratified(persons: Indices, most: int, seed: int) -> Indices:
    """Positions of about ``most`` rows, as large a share of each person's as of the others', and at least one."""
    if len(persons) <= most:
        return np.arange(len(persons))
    random = np.random.default_rng(seed)
    share = most / len(persons)
    own = (np.flatnonzero(persons == person) for person in np.unique(persons))
    return np.sort(np.concatenate([random.choice(rows, max(1, int(share * len(rows))), replace=False) for rows in own]))


def _sklearn(module: str) -> Any:
    """A module of scikit-learn.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from importlib import import_module

        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise MissingDependencyError('this baseline needs scikit-learn; pip install "sgela_fast[eval]"') from error
