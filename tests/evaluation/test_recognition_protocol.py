"""Protocol C: what it learns, and what it must not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sgela_fast.encoding.store import Store
from sgela_fast.encoding.store_writer import StoreWriter
from sgela_fast.errors import ConfigError, DataError, DivergenceError
from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig
from sgela_fast.evaluation.recognition_protocol import RecognitionRun
from sgela_fast.evaluation.recognition_training import hold_out
from sgela_fast.evaluation.results import Outcome
from sgela_fast.evaluation.sides import Side, divide

MakeStore = Callable[..., Store]


def configured(memory_gb: float = 4.0, **recognition: Any) -> EvaluationConfig:
    quick = {"max_epochs": 40, "batch": 16, "learning_rate": 0.005, "hidden": 32}
    return EvaluationConfig(
        resamples=50, memory_gb=memory_gb, recognition=RecognitionConfig(**{**quick, **recognition})
    )


def started(store: Store, config: EvaluationConfig) -> RecognitionRun:
    return RecognitionRun(divide(store, "split", config), "split", config, "cpu", lambda remark: None)


def outcome(store: Store, **recognition: Any) -> Outcome:
    return started(store, configured(**recognition)).outcome(0)


@pytest.mark.parametrize("selection", ["validation", "last", "best-on-test"])
@pytest.mark.parametrize("prediction", ["ap", "sc"])
def test_separate_persons_are_all_recognised(make_store: MakeStore, selection: str, prediction: str) -> None:
    found = outcome(make_store(), selection=selection, prediction=prediction)
    for figures in (found.windows, found.recordings):
        assert figures.rank == {1: 1.0, 5: 1.0}
        assert figures.nauc_cmc == 1.0
        assert figures.intervals["rank1"] == (1.0, 1.0)
    assert (found.windows.probes, found.recordings.probes) == (36, 6)
    assert (found.persons, found.probe_windows, found.gallery_windows) == (6, 36, 72)
    assert found.chance == pytest.approx(1 / 6)


def test_a_pooled_store_works(make_store: MakeStore) -> None:
    assert outcome(make_store(pooling="mean")).windows.rank[1] == 1.0


def test_shuffled_labels_land_at_chance(make_store: MakeStore) -> None:
    def shuffle(columns: dict[str, list[Any]]) -> None:
        columns["person"] = np.random.default_rng(0).permutation(columns["person"]).tolist()

    found = outcome(make_store(persons=8, windows=40, noise=3.0, change=shuffle), max_epochs=5)
    assert abs(found.windows.rank[1] - found.chance) < 0.06


def test_honest_selection_reads_neither_test_values_nor_test_persons(make_store: MakeStore) -> None:
    store = make_store()
    values, columns = store.values(), {n: store.table[n].to_pylist() for n in store.table.column_names if n != "window"}
    test = np.array(columns["split"]) == "test"
    values[test] = np.random.default_rng(1).standard_normal(values[test].shape)
    persons = np.array(columns["person"])
    persons[test] = persons[test][::-1]
    writer = StoreWriter(store.path.with_name("other-test"), dict(store.info))
    writer.add(values, {**columns, "person": persons.tolist()})
    trained = [started(one, configured()).train_honestly(0) for one in (store, writer.finish())]
    assert trained[0].details == trained[1].details
    for name, weight in trained[0].training.network.named_parameters():
        assert torch.equal(weight, trained[1].training.network.get_parameter(name)), name


def test_only_best_on_test_may_look_at_the_test_side_while_training(make_store: MakeStore) -> None:
    looks: list[int] = []

    class Watched(Store):
        def values(self, rows: Any = None) -> Any:
            looks.extend(np.asarray(rows).tolist())
            return super().values(rows)

    store = Watched(make_store().path)
    for selection in ("validation", "last"):
        run = started(store, configured(selection=selection))
        test_rows = set(run.test_side.rows.tolist())
        looks.clear()
        run.train_honestly(0) if selection == "validation" else run._last(0)
        assert not test_rows & set(looks)


def test_best_on_test_is_never_worse_than_the_last_step(make_store: MakeStore) -> None:
    store, same = make_store(noise=2.5), {"max_epochs": 12, "evaluate_every": 1}
    best, last = (outcome(store, selection=how, **same).windows.rank[1] for how in ("best-on-test", "last"))
    assert best > last


def test_best_on_test_says_so(make_store: MakeStore) -> None:
    assert "BEST ON TEST" in outcome(make_store(), selection="best-on-test", max_epochs=2).selection
    assert "held-out training recordings" in outcome(make_store("honest"), max_epochs=2).selection


def test_same_seed_same_figures_and_another_seed_others(make_store: MakeStore) -> None:
    run = started(make_store(noise=2.5), configured(max_epochs=3))
    assert run.outcome(1) == run.outcome(1)
    assert run.outcome(1).windows.nauc_roc != run.outcome(2).windows.nauc_roc


def test_values_that_are_not_held_in_memory_serve_as_well(make_store: MakeStore) -> None:
    config = configured(memory_gb=4e-6)
    run = started(make_store(), config)
    assert run.train.held is None
    assert run.outcome(0).windows.rank[1] == 1.0


def test_without_refit_the_chosen_epochs_weights_are_tested(make_store: MakeStore) -> None:
    store = make_store(noise=1.0)
    kept = started(store, configured(refit=False, patience=3)).train_honestly(0)
    assert kept.details["epochs"] <= kept.details["epochs_tried"]
    assert not kept.details["refit"]
    again = started(store, configured(refit=False, max_epochs=max(1, kept.details["epochs"]))).train_honestly(0)
    assert torch.equal(again.training.network.output_weight, kept.training.network.output_weight)


def test_released_batches_cut_the_test_side(make_store: MakeStore) -> None:
    store = make_store(windows=30)
    plain = outcome(store, max_epochs=2)
    cut = outcome(store, max_epochs=2, released_batches=True)
    assert plain.probe_windows == 180
    assert cut.probe_windows == 180 * 3 // 128 * 128 // 3
    assert cut.left_out == {"test windows outside whole batches of 128": 180 - cut.probe_windows}
    assert cut.gallery_windows == 6 * 128  # persons with 60 windows are filled up


def test_a_whole_recording_of_each_person_is_held_out(make_store: MakeStore) -> None:
    side = divide(make_store(), "split", configured()).train
    train, held = hold_out(side, 0)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(len(side)))
    assert not set(side.recordings[train].tolist()) & set(side.recordings[held].tolist())
    assert set(side.persons[train].tolist()) == set(side.persons[held].tolist()) == set(range(6))
    assert any(hold_out(side, seed)[1].tolist() != held.tolist() for seed in range(1, 6))


def side_of(starts: list[int]) -> Side:
    count = len(starts)
    zeros, frames = np.zeros(count, np.int64), np.full(count, 6)
    return Side(None, np.arange(count), zeros, zeros, np.array(starts), frames)  # type: ignore[arg-type]


def test_of_a_single_recording_the_last_fifth_is_held_out_with_no_frame_shared() -> None:
    train, held = hold_out(side_of([27, *range(0, 27, 3)]), 0)
    assert held.tolist() == [9, 0]  # windows from frame 24 and 27 on
    assert train.tolist() == list(range(1, 8))  # frames 0..23: the window at 21 reaches into 24..26


def test_too_few_windows_to_hold_out_is_an_error_that_names_the_mend(make_store: MakeStore) -> None:
    assert hold_out(side_of([0]), 0)[1].tolist() == []
    store = make_store(windows=1, change=lambda columns: columns.update(split=["train", "test", "spare"] * 6))
    with pytest.raises(DataError, match=r"enough training windows .* recognition\.selection=last"):
        outcome(store)


def test_divergence_is_an_error_that_names_the_mend(make_store: MakeStore) -> None:
    with pytest.raises(DivergenceError, match=r"lower recognition\.learning_rate"):
        outcome(make_store(), learning_rate=1e30)


def test_official_preset_is_the_released_codes() -> None:
    official = RecognitionConfig(preset="official")
    assert (official.initial, official.standardise, official.shuffle) == ("official", False, "once")
    assert (official.selection, official.max_epochs, official.batch, official.hidden) == ("best-on-test", 300, 128, 256)
    assert RecognitionConfig(preset="official", selection="validation").selection == "validation"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": ()}, "seeds is"),
        ({"seeds": (1, 1)}, "seeds is"),
        ({"selection": "best"}, "choose validation, last or best-on-test"),
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecognitionConfig(**settings)
