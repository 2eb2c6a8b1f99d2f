"""Division of a store into training and test windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.sides import divide

MakeStore = Callable[..., Store]
CONFIG = EvaluationConfig()


def setting(column: str, where: Callable[[int], bool], value: Any) -> Callable[[dict[str, list[Any]]], None]:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[column] = [value if where(i) else entry for i, entry in enumerate(columns[column])]

    return change


def test_each_window_stands_on_the_side_its_column_says(make_store: MakeStore) -> None:
    store = make_store()
    sides = divide(store, "split", CONFIG)
    split, person = (np.array(store.table[name].to_pylist()) for name in ("split", "person"))
    assert (split[sides.train.rows] == "train").all()
    assert (split[sides.test.rows] == "test").all()
    assert len(sides.train) + len(sides.test) == len(store)
    for side in (sides.train, sides.test):
        assert (np.array(sides.persons)[side.persons] == person[side.rows]).all()
    assert not sides.left_out
    assert not sides.notes


def test_windows_of_a_recording_share_a_code_and_codes_have_no_gaps(make_store: MakeStore) -> None:
    store = make_store(persons=4)
    test = divide(store, "split", CONFIG).test
    names = np.array(store.table["recording"].to_pylist())[test.rows]
    assert sorted(set(test.recordings.tolist())) == [0, 1, 2, 3]
    assert len(set(zip(names.tolist(), test.recordings.tolist(), strict=True))) == 4


def test_windows_with_a_lost_joint_are_left_out_and_counted(make_store: MakeStore) -> None:
    store = make_store(change=setting("valid", lambda i: i % 6 == 5, False))
    sides = divide(store, "split", CONFIG)
    assert sides.left_out == {"windows with a lost joint": 18}
    assert len(sides.train) + len(sides.test) == 90
    assert not divide(store, "split", EvaluationConfig(keep_invalid=True)).left_out


def test_windows_without_a_person_are_left_out_and_counted(make_store: MakeStore) -> None:
    store = make_store(change=setting("person", lambda i: i < 4, None))
    assert divide(store, "split", CONFIG).left_out == {"windows without a person": 4}


def test_other_values_of_the_column_are_left_out_and_counted(make_store: MakeStore) -> None:
    store = make_store(change=setting("split", lambda i: i % 6 == 0, "spare"))
    assert divide(store, "split", CONFIG).left_out == {"windows whose split is neither side": 18}


def test_a_test_person_without_training_windows_is_left_out_or_refused(make_store: MakeStore) -> None:
    store = make_store(change=setting("split", lambda i: i < 18, "test"))
    sides = divide(store, "split", CONFIG)
    assert sides.left_out == {"test windows of persons without training windows": 18}
    assert sides.notes == ("1 test persons have no training windows and are left out: p00",)
    assert "p00" not in sides.persons
    with pytest.raises(DataError, match=r"1 test persons of .* have no training windows \(p00\)"):
        divide(store, "split", EvaluationConfig(unknown_persons="error"))


def test_identities_may_be_those_tested_only(make_store: MakeStore) -> None:
    store = make_store(change=setting("split", lambda i: i < 6, "train"))
    assert len(divide(store, "split", CONFIG).persons) == 6
    sides = divide(store, "split", EvaluationConfig(identities="test"))
    assert len(sides.persons) == 5
    assert sides.left_out == {"training windows of persons who are not tested": 18}


def test_a_second_store_gives_the_training_windows(make_store: MakeStore) -> None:
    gallery, probes = make_store("gallery", seed=1), make_store("probes", seed=1)
    sides = divide(probes, "split", CONFIG, gallery)
    assert sides.train.store is gallery
    assert sides.test.store is probes
    assert len(sides.train) == 72
    assert len(sides.test) == 36
    everything = divide(probes, "", CONFIG, gallery)
    assert len(everything.train) == len(everything.test) == 108
    assert everything.notes == ("18 recordings have windows on both sides; figures may be too good",)


def test_stores_of_different_models_are_refused(make_store: MakeStore) -> None:
    other = make_store("other", info={"model_hash": "1"})
    with pytest.raises(DataError, match=r"differ in model_hash \(1 and 0\); encode both"):
        divide(make_store(), "split", CONFIG, other)


def test_a_missing_column_is_named_with_those_present(make_store: MakeStore) -> None:
    with pytest.raises(DataError, match=r"has no column 'camera', only window, .*split, split_2; name another"):
        divide(make_store(), "camera", CONFIG)


def test_a_column_without_a_side_is_refused_with_its_values(make_store: MakeStore) -> None:
    store = make_store()
    with pytest.raises(DataError, match=r"never says 'probe'; it holds train \(72\), test \(36\)"):
        divide(store, "split", EvaluationConfig(test_value="probe"))
    with pytest.raises(DataError, match="no split column is named"):
        divide(store, "", CONFIG)


def test_a_store_without_persons_is_refused(make_store: MakeStore) -> None:
    store = make_store(change=setting("person", lambda i: True, None))
    with pytest.raises(DataError, match="names no person in column 'person'"):
        divide(store, "split", CONFIG)


def test_a_single_person_is_refused(make_store: MakeStore) -> None:
    with pytest.raises(DataError, match=r"has a single person \(p00\) to recognise"):
        divide(make_store(persons=1), "split", CONFIG)


def test_a_side_of_lost_joints_alone_is_refused(make_store: MakeStore) -> None:
    store = make_store(change=setting("valid", lambda i: i % 18 < 6, False))
    with pytest.raises(DataError, match=r"all 36 windows .* with split = 'test' lack a person or have a lost joint"):
        divide(store, "split", CONFIG)


def test_no_common_person_is_refused(make_store: MakeStore) -> None:
    store = make_store(change=lambda columns: columns.update(split=["test"] * 54 + ["train"] * 54))
    with pytest.raises(DataError, match=r"no test person of .* has training windows"):
        divide(store, "split", CONFIG)
