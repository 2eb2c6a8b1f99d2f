"""Intervals by resampling persons."""

from __future__ import annotations

import numpy as np
import pytest

from sgela_fast.evaluation.bootstrap import person_interval


def test_persons_are_resampled_not_windows() -> None:
    # Ten persons, each wholly right or wholly wrong: however many windows they have, there are ten observations.
    few = person_interval(np.arange(10) % 2, np.arange(10))
    many = person_interval(np.repeat(np.arange(10) % 2, 500), np.repeat(np.arange(10), 500))
    assert few == many
    assert few is not None
    assert few[1] - few[0] > 0.4


def test_interval_holds_the_mean_and_lies_between_0_and_1() -> None:
    random = np.random.default_rng(0)
    values, persons = random.random(300) < 0.7, random.integers(0, 20, 300)
    interval = person_interval(values, persons)
    assert interval is not None
    low, high = interval
    assert 0 <= low < values.mean() < high <= 1


def test_persons_with_more_probes_weigh_more() -> None:
    values, persons = np.repeat([1.0, 0.0], [90, 10]), np.repeat([0, 1], [90, 10])
    low, high = person_interval(values, persons, resamples=2000) or (0, 0)
    assert (low, high) == (0.0, 1.0)


def test_perfect_figures_have_an_interval_of_no_width() -> None:
    assert person_interval(np.ones(30), np.arange(30) % 5) == (1.0, 1.0)


def test_wider_confidence_gives_a_wider_interval() -> None:
    values, persons = np.random.default_rng(0).random(200), np.arange(200) % 20
    narrow, wide = (person_interval(values, persons, confidence=share) or (0, 0) for share in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(("persons", "resamples"), [([3, 3], 100), ([0, 1], 0)])
def test_no_interval_of_one_person_or_without_resamples(persons: list[int], resamples: int) -> None:
    assert person_interval(np.array([0.0, 1.0]), np.array(persons), resamples) is None
