"""The classical classifiers, against scikit-learn and against reckoning."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import SVC

from sgela_fast.baselines import boosting, classical
from sgela_fast.baselines.boosting import OneAgainstRestBoosting
from sgela_fast.baselines.classical import LinearDiscriminants, Neighbours, SupportVectors, stratified


def groups(persons: int = 5, each: int = 30, spread: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``(N, 4)`` about a centre for each person, in random order."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(persons), each))
    centres = np.random.default_rng(9).standard_normal((persons, 4))
    return (centres[labels] + spread * random.standard_normal((len(labels), 4))).astype(np.float32), labels


@pytest.mark.parametrize(
    "classifier",
    [
        Neighbours(1),
        Neighbours(5),
        SupportVectors(10.0, 1000, 0),
        OneAgainstRestBoosting(20),
        LinearDiscriminants(),
    ],
    ids=["1-nn", "5-nn", "svm", "adaboost", "lda"],
)
@pytest.mark.parametrize("persons", [2, 5])
def test_separate_persons_are_told_apart(classifier: LinearDiscriminants, persons: int) -> None:
    classifier.fit(*groups(persons, spread=0.1), persons)
    rows, labels = groups(persons, spread=0.1, seed=1)
    scores = classifier.scores(rows)
    assert scores.shape == (len(rows), persons)
    assert (scores.argmax(axis=1) == labels).all()


def test_votes_decide_and_the_nearest_window_among_equal_votes() -> None:
    rows = np.array([[0.0], [1.0], [1.2], [9.0], [20.0]], np.float32)
    neighbours = Neighbours(3)
    neighbours.fit(rows, np.array([0, 1, 1, 2, 3]), 4)
    scores = neighbours.scores(np.array([[0.2]], np.float32))[0]
    assert scores.argsort()[::-1].tolist() == [1, 0, 2, 3]  # two votes, one, none but nearer, none
    assert np.floor(scores).tolist() == [1, 2, 0, 0]
    nearest = Neighbours(1)
    nearest.fit(rows, np.array([0, 1, 1, 2, 3]), 4)
    np.testing.assert_allclose(nearest.scores(np.array([[0.2]], np.float32))[0], [-0.2, -0.8, -8.8, -19.8], atol=1e-4)


def test_scores_do_not_depend_on_how_many_windows_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = groups(persons=3)
    for classifier in (SupportVectors(2.0, 10_000, 0), OneAgainstRestBoosting(3)):
        classifier.fit(rows, labels, 3)
        together = classifier.scores(rows)
        with monkeypatch.context() as little:
            little.setattr(classical, "_KERNEL_NUMBERS", 2000)
            little.setattr(boosting, "_SCORE_ROWS", 7)
            np.testing.assert_allclose(classifier.scores(rows), together, rtol=1e-9)


@pytest.mark.parametrize("persons", [2, 3, 6])
def test_the_support_vector_machine_is_scikit_learns(persons: int) -> None:
    rows, labels = groups(persons)
    probes, _ = groups(persons, seed=1)
    ours, theirs = SupportVectors(2.0, 10_000, 0), SVC(C=2.0, decision_function_shape="ovo")
    ours.fit(rows, labels, persons)
    theirs.fit(rows.astype(np.float64), labels)
    pairs = ours.pair_decisions(probes).numpy()
    expected = theirs.decision_function(probes.astype(np.float64)).reshape(len(probes), -1)
    # With two persons scikit-learn counts for the second one.
    np.testing.assert_allclose(pairs, -expected if persons == 2 else expected, atol=1e-8)
    if persons > 2:
        theirs.decision_function_shape = "ovr"
        np.testing.assert_allclose(ours.scores(probes), theirs.decision_function(probes.astype(np.float64)), atol=1e-8)


def test_each_round_of_boosting_lowers_the_exponential_loss() -> None:
    rows, labels = groups(spread=1.5)
    signs = np.where(labels[:, None] == np.arange(5), 1, -1)
    share = np.where(signs > 0, 0.5 / 30, 0.5 / 120)
    losses = []
    for rounds in (1, 4, 16, 64):
        boosting = OneAgainstRestBoosting(rounds)
        boosting.fit(rows, labels, 5)
        losses.append((share * np.exp(-signs * boosting.scores(rows))).sum(axis=0))
    assert (np.diff(losses, axis=0) < 0).all()


def test_a_stump_stands_where_it_separates() -> None:
    rows = np.stack([np.linspace(0, 1, 128), np.random.default_rng(0).random(128)], axis=1).astype(np.float32)
    labels = (rows[:, 0] > 0.5).astype(np.int64)
    boosting = OneAgainstRestBoosting(1)
    boosting.fit(rows, labels, 2)
    stumps = boosting.stumps[0]
    assert stumps.feature.tolist() == [0, 0]
    assert stumps.threshold == pytest.approx([0.5, 0.5], abs=1e-6)
    assert stumps.below[0] > 0 > stumps.above[0]
    assert stumps.below[1] < 0 < stumps.above[1]


def test_the_share_of_rows_is_alike_for_all_persons() -> None:
    persons = np.repeat(np.arange(4), [100, 50, 20, 1])
    chosen = stratified(persons, 50, 0)
    assert np.bincount(persons[chosen]).tolist() == [29, 14, 5, 1]
    assert np.array_equal(chosen, stratified(persons, 50, 0))
    assert not np.array_equal(chosen, stratified(persons, 50, 1))
    assert len(stratified(persons, 171, 0)) == 171
