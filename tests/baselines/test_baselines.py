"""The baselines from end to end: what they recognise, what they must not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgela_fast.baselines import run as job
from sgela_fast.baselines.config import BaselineConfig
from sgela_fast.baselines.registry import BASELINES
from sgela_fast.baselines.run import run_baseline
from sgela_fast.errors import ConfigError
from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig
from sgela_fast.evaluation.results import Outcome
from sgela_fast.evaluation.sides import Sides
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig

QUICK = BaselineConfig(epochs=12, patience=12, batch=16, learning_rate=0.01, hidden=16, rounds=20)
NETWORKS = [name for name, baseline in BASELINES.items() if baseline.is_network]
CLASSICAL = [name for name in BASELINES if name not in NETWORKS]


def outcomes(
    archive: Archive, name: str, seed: int = 0, config: BaselineConfig = QUICK, **settings: Any
) -> list[Outcome]:
    recognition = RecognitionConfig(selection=settings.pop("selection", "last"), evaluate_every=3)
    evaluation = EvaluationConfig(resamples=20, recognition=recognition, **settings)
    return run_baseline(name, archive, split="split", evaluation=evaluation, config=config, seed=seed)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "position"])
def test_every_baseline_recognises_walkers_and_says_how(walkers: Archive, name: str) -> None:
    classifier, retrieval = outcomes(walkers, name)
    assert (classifier.protocol, retrieval.protocol) == ("C", "G")
    for outcome in (classifier, retrieval):
        assert outcome.persons == 5
        assert outcome.windows.rank[1] > 3 * 0.2
        assert outcome.windows.nauc_cmc > 0.8
        assert outcome.recordings.probes == 5
        assert outcome.left_out["windows with a lost joint"] > 0
        assert outcome.probes is not None
        assert len(outcome.probes) == outcome.probe_windows
    assert "nothing" in classifier.selection
    assert retrieval.selection.startswith("trained with labels" if name in NETWORKS else "nothing trained")


def test_the_position_tells_less_than_the_body(walkers: Archive) -> None:
    position, body = (outcomes(walkers, name, protocol="C")[0].windows.rank[1] for name in ("position", "lda"))
    assert position < body - 0.2


@pytest.mark.parametrize("name", BASELINES)
def test_shuffled_labels_are_recognised_by_chance(walkers: Archive, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    divide = job.divide
    found = []
    for seed in range(4):
        random = np.random.default_rng(seed)

        def shuffled(*arguments: Any, random: np.random.Generator = random) -> Sides:
            sides = divide(*arguments)
            train = replace(sides.train, persons=random.permutation(sides.train.persons))
            return replace(sides, train=train)

        monkeypatch.setattr(job, "divide", shuffled)
        few = replace(QUICK, epochs=2)
        found.append(outcomes(walkers, name, config=few, protocol="C")[0].windows.rank[1])
    assert abs(np.mean(found) - 0.2) < 0.1


@pytest.mark.parametrize("name", ["d13-svm", "single-layer-lstm"])
def test_the_same_seed_gives_the_same_figures(walkers: Archive, name: str) -> None:
    config = replace(QUICK, svm_windows=10, epochs=2)
    first, again, other = (outcomes(walkers, name, seed, config, protocol="C")[0] for seed in (1, 1, 2))
    assert first == again
    assert other.windows.nauc_roc != first.windows.nauc_roc


@pytest.mark.parametrize("name", ["d13-knn", "pose-cnn"])
def test_honest_selection_does_not_depend_on_the_test_side(
    walkers: Archive, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = outcomes(walkers, name, selection="validation", protocol="C")[0]
    divide = job.divide

    def other_tests(*arguments: Any) -> Sides:
        sides = divide(*arguments)
        return replace(sides, test=replace(sides.test, persons=(sides.test.persons + 1) % 5))

    monkeypatch.setattr(job, "divide", other_tests)
    misled = outcomes(walkers, name, selection="validation", protocol="C")[0]
    assert misled.details == honest.details
    assert "held_out_rank1" in honest.details
    assert misled.windows.rank[1] < honest.windows.rank[1]


@pytest.mark.parametrize("name", ["d13-knn", "single-layer-lstm"])
def test_best_on_test_is_at_least_as_good_and_says_so(walkers: Archive, name: str) -> None:
    best, last = (outcomes(walkers, name, selection=how, protocol="C")[0] for how in ("best-on-test", "last"))
    assert "BEST ON TEST" in best.selection
    assert best.windows.rank[1] >= last.windows.rank[1]


def test_a_method_without_choices_says_so_under_every_selection(walkers: Archive) -> None:
    found = [outcomes(walkers, "lda", selection=how, protocol="C")[0] for how in ("validation", "best-on-test")]
    assert found[0] == found[1]
    assert found[0].selection == "one setting, nothing to choose"


@pytest.mark.parametrize("selection", ["validation", "last", "best-on-test"])
def test_the_time_budget_ends_training_after_the_epoch_it_is_in(walkers: Archive, selection: str) -> None:
    hurried = replace(QUICK, minutes=1e-6)
    details = outcomes(walkers, "single-layer-lstm", config=hurried, selection=selection, protocol="C")[0].details
    assert details["epochs"] == 1
    assert details.get("epochs_tried", 1) == 1


def test_windows_are_those_that_are_asked_for(walkers: Archive) -> None:
    evaluation = EvaluationConfig(protocol="G", resamples=0)
    counts = [
        run_baseline("lda", walkers, split="split", window=WindowConfig(stride=stride), evaluation=evaluation)[0]
        for stride in (3, 6)
    ]
    assert counts[0].probe_windows > 1.7 * counts[1].probe_windows
    assert counts[0].probes is not None
    assert set(np.diff(counts[0].probes.start).clip(0).tolist()) <= {0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30}


def test_an_archive_is_found_by_its_path(walkers: Archive) -> None:
    evaluation = EvaluationConfig(protocol="G", resamples=0)
    assert run_baseline("d13-knn", walkers.path, split="split_2", evaluation=evaluation)[0].split == "split_2"


def test_what_has_no_meaning_for_baselines_is_refused(walkers: Archive) -> None:
    with pytest.raises(ConfigError, match="baseline 'd14' is unknown; choose one of: d13-knn, d13-svm"):
        run_baseline("d14", walkers, split="split")
    with pytest.raises(ConfigError, match="need every joint; leave windows with a lost joint out"):
        outcomes(walkers, "lda", keep_invalid=True)
    released = EvaluationConfig(recognition=RecognitionConfig(released_batches=True))
    with pytest.raises(ConfigError, match="baselines have none, set it to false"):
        run_baseline("lda", walkers, split="split", evaluation=released)
    with pytest.raises(ConfigError, match=r"baselines\.rounds is 0"):
        BaselineConfig(rounds=0)
