"""Single probes say the same as the figures, and come back from their files as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError
from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig
from sgela_fast.evaluation.evaluate import evaluate
from sgela_fast.evaluation.probes import Probes, read_probes, write_probes

MakeStore = Callable[..., Store]
CONFIG = EvaluationConfig(resamples=0, recognition=RecognitionConfig(max_epochs=2, batch=16, hidden=8, seeds=(0, 4)))


def some_probes() -> Probes:
    return Probes(
        person=np.array([2, 2, 0, 0]),
        persons=np.array(["anna", "bert", "cem"]),
        recording=np.array([1, 1, 0, 0]),
        recordings=np.array(["a_0", "c_0"]),
        start=np.array([0, 3, 0, 3]),
        rank=np.array([1, 3, 2, 1]),
        recording_rank=np.array([1, 2]),
    )


def test_probes_add_up_to_the_figures(make_store: MakeStore) -> None:
    outcomes = evaluate([make_store(noise=2.0).path], CONFIG).stores[0].outcomes
    assert [(outcome.protocol, outcome.seed) for outcome in outcomes] == [("C", 0), ("C", 4), ("G", None)]
    for outcome in outcomes:
        probes = outcome.probes
        assert probes is not None
        assert 0 < outcome.windows.rank[1] < 1
        assert len(probes) == outcome.windows.probes == 36
        assert probes.cmc().tolist() == outcome.windows.cmc
        for k, share in outcome.recordings.rank.items():
            assert (probes.recording_rank <= k).mean() == share


def test_probes_say_whose_they_are(make_store: MakeStore) -> None:
    store = make_store()
    probes = evaluate([store.path], CONFIG).stores[0].outcomes[0].probes
    assert probes is not None
    table = store.table.to_pylist()
    tested = [row for row in table if row["split"] == "test"]
    found = zip(probes.persons[probes.person], probes.recordings[probes.recording], probes.start, strict=True)
    assert [tuple(map(str, row)) for row in found] == [
        (row["person"], row["recording"], str(row["window_start"])) for row in tested
    ]
    assert probes.persons[probes.recording_persons()].tolist() == [name[:3] for name in probes.recordings]


def test_every_outcome_has_its_file(make_store: MakeStore, tmp_path: Path) -> None:
    one, other = make_store("a b"), make_store("a-b", seed=1)
    result = evaluate([one.path, other.path], CONFIG, out=tmp_path / "out", plots=False)
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    files = [outcome["probes_file"] for store in content["stores"] for outcome in store["outcomes"]]
    assert files == [
        "probes/a-b_split_C_seed0.npz", "probes/a-b_split_C_seed4.npz", "probes/a-b_split_G.npz",
        "probes/a-b_split_C_seed0_2.npz", "probes/a-b_split_C_seed4_2.npz", "probes/a-b_split_G_2.npz",
    ]  # fmt: skip
    assert "probes" not in content["stores"][0]["outcomes"][0]
    assert "ranks" not in content["stores"][0]["outcomes"][0]["windows"]
    assert content["stores"][0]["outcomes"][0]["windows"]["probes"] == 36
    outcomes = [outcome for store in result.stores for outcome in store.outcomes]
    for file, outcome in zip(files, outcomes, strict=True):
        assert outcome.probes is not None
        assert_same(read_probes(tmp_path / "out" / file), outcome.probes)


def assert_same(one: Probes, other: Probes) -> None:
    for item in fields(Probes):
        assert np.array_equal(getattr(one, item.name), getattr(other, item.name)), item.name


def test_probes_survive_their_file(tmp_path: Path) -> None:
    write_probes(tmp_path / "new" / "probes.npz", some_probes())
    assert_same(read_probes(tmp_path / "new" / "probes.npz"), some_probes())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rank": np.array([1, 4, 2, 1])}, "rank is not from 1 to 3 everywhere"),
        ({"rank": np.array([1, 0, 2, 1])}, "rank is not from 1 to 3 everywhere"),
        ({"recording": np.array([1, 2, 0, 0])}, "recording is not from 0 to 1 everywhere"),
        ({"start": np.array([0, 3])}, r"start has the shape \(2,\), not \(4,\)"),
        ({"rank": np.array(["x", "y", "z", "q"])}, "invalid literal"),
        ({"rank": None}, "pickle"),
        ({"rank": ...}, "rank"),
    ],
)
def test_damaged_files_are_told(tmp_path: Path, change: dict[str, object], said: str) -> None:
    arrays = {item.name: getattr(some_probes(), item.name) for item in fields(Probes)} | change
    np.savez(tmp_path / "bad.npz", **{name: value for name, value in arrays.items() if value is not ...})
    with pytest.raises(DataError, match=rf"bad.npz is no file of probes, or is damaged \(.*{said}"):
        read_probes(tmp_path / "bad.npz")


def test_a_file_that_is_cut_off_or_missing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "probes.npz"
    with pytest.raises(DataError, match="is no file of probes"):
        read_probes(path)
    write_probes(path, some_probes())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="is no file of probes"):
        read_probes(path)
