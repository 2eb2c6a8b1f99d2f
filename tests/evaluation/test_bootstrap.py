"""Intervals by resampling persons."""

from __future__ import annotations

import numpy as np
import pytest

from sgela_fast.evaluation.bootstrap import Run, person_interval, runs_interval


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


def test_several_runs_are_drawn_together_and_seeds_are_averaged_before_splits() -> None:
    generator = np.random.default_rng(0)
    splits, counts = ("a", "a", "b"), (5, 5, 3)
    runs = []
    for split, count in zip(splits, counts, strict=True):
        persons = np.repeat([f"p{code}" for code in range(8)], count)
        runs.append(Run(generator.random(len(persons)) < 0.5 + 0.3 * (split == "b"), persons, split))
    low, high = runs_interval(runs, resamples=4000) or (0, 0)
    drawn = np.random.default_rng(1).integers(0, 8, (4000, 8))
    each = [
        np.stack([run.values[run.persons == f"p{code}"].mean() for code in range(8)])[drawn].mean(1) for run in runs
    ]
    expected = np.percentile((each[0] + each[1]) / 4 + each[2] / 2, [2.5, 97.5])
    np.testing.assert_allclose((low, high), expected, atol=0.02)
    assert low < 0.25 * (runs[0].values.mean() + runs[1].values.mean()) + 0.5 * runs[2].values.mean() < high


def test_a_person_whom_one_run_lacks_is_drawn_for_the_others() -> None:
    first = Run(np.ones(4), np.array(["anna", "anna", "bert", "bert"]), "a")
    second = Run(np.zeros(1), np.array(["anna"]), "b")
    # Where Bert alone is drawn there is no probe of the second run, and the first alone counts.
    assert runs_interval([first, second], resamples=500) == (0.5, 1.0)
