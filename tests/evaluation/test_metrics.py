"""Ranks, CMC and areas against hand-made examples, plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from sgela_fast.errors import DataError
from sgela_fast.evaluation.metrics import (
    average_precision,
    cmc_curve,
    group_mean,
    inverse_negative_penalty,
    label_ranks,
    nauc_cmc,
    nauc_roc,
)


def test_ranks_and_cmc_of_a_hand_example() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    labels = np.array([0, 1, 2, 2])
    ranks = label_ranks(scores, labels)
    assert ranks.tolist() == [1, 2, 3, 1]
    cmc = cmc_curve(ranks, 3)
    assert cmc.tolist() == [0.5, 0.75, 1.0]
    assert nauc_cmc(cmc) == pytest.approx((0.5 + 0.75 + 1.0) / 3)


def test_a_shorter_cmc_is_the_head_of_the_whole_one() -> None:
    ranks = np.array([1, 5, 2, 9, 9])
    assert cmc_curve(ranks, 4).tolist() == cmc_curve(ranks, 9)[:4].tolist()


def test_ties_never_help() -> None:
    assert label_ranks(np.zeros((2, 5)), np.array([0, 4])).tolist() == [5, 5]
    assert label_ranks(np.array([[1.0, 1.0, 0.0]]), np.array([0])).tolist() == [2]


def test_perfect_scores_give_one() -> None:
    labels = np.arange(7) % 4
    scores = np.eye(4)[labels]
    cmc = cmc_curve(label_ranks(scores, labels), 4)
    assert cmc[0] == nauc_cmc(cmc) == nauc_roc(scores, labels) == 1.0


def test_the_two_areas_differ() -> None:
    # Each row is right, but the rows are on different scales: the ROC area compares them with each other.
    scores, labels = np.array([[10.0, 9.0], [0.0, 1.0]]), np.array([0, 1])
    assert nauc_cmc(cmc_curve(label_ranks(scores, labels), 2)) == 1.0
    assert nauc_roc(scores, labels) == 0.75


def test_roc_area_is_the_share_of_ordered_pairs() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 6, (30, 5)).astype(float), random.integers(0, 5, 30)
    right = scores[np.arange(30), labels]
    wrong = [scores[i, j] for i in range(30) for j in range(5) if j != labels[i]]
    pairs = [1.0 if r > w else 0.5 if r == w else 0.0 for r in right for w in wrong]
    assert nauc_roc(scores, labels) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_random_scores_land_at_chance() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.standard_normal((20_000, 10)), random.integers(0, 10, 20_000)
    cmc = cmc_curve(label_ranks(scores, labels), 10)
    assert np.abs(cmc - np.arange(1, 11) / 10).max() < 0.015
    assert nauc_roc(scores, labels) == pytest.approx(0.5, abs=0.01)


def test_figures_do_not_depend_on_the_order_of_persons_or_probes() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.standard_normal((40, 6)), random.integers(0, 6, 40)
    persons, probes = random.permutation(6), random.permutation(40)
    moved_scores, moved_labels = scores[probes][:, persons], np.argsort(persons)[labels[probes]]
    assert np.array_equal(label_ranks(moved_scores, moved_labels), label_ranks(scores, labels)[probes])
    assert nauc_roc(moved_scores, moved_labels) == pytest.approx(nauc_roc(scores, labels), abs=1e-12)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="not a number"):
        label_ranks(np.array([[np.nan, 1.0]]), np.array([1]))


def test_precisions_of_a_hand_example() -> None:
    ranks = np.array([[1, 3, 5]])
    assert average_precision(ranks)[0] == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert inverse_negative_penalty(ranks)[0] == pytest.approx(3 / 5)


def test_average_precision_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    scores, right = random.standard_normal(50), random.random(50) < 0.3
    ranks = 1 + np.flatnonzero(right[np.argsort(-scores)])
    assert average_precision(ranks[None])[0] == pytest.approx(average_precision_score(right, scores), abs=1e-12)


def test_group_mean_is_the_mean_of_each_group() -> None:
    scores = np.arange(10.0).reshape(5, 2)
    means = group_mean(scores, np.array([1, 0, 1, 2, 0]), 3)
    assert means.tolist() == [[5.0, 6.0], [2.0, 3.0], [6.0, 7.0]]
