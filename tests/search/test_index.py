"""A store is searched with and without an index; an index that does not fit is refused."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.encoding.store import Store
from sgela_fast.errors import ConfigError, DataError, MissingDependencyError, OutputError
from sgela_fast.search import Index, IndexConfig, Queries, SearchResult
from sgela_fast.search.filters import chosen_windows

KINDS = ("exact", "ivf", "hnsw")


@pytest.mark.parametrize("metric", ["cosine", "inner-product", "euclidean"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_finds_what_comparing_all_finds(make_store: Any, kind: str, metric: str) -> None:
    store = make_store(persons=8, windows=10)
    plain = Index.open(store, metric=metric).search("p1_0", 5)
    Index.build(store, IndexConfig(kind=kind, metric=metric, recall=1.0, lists=4))
    index = Index.open(store.path)
    found = index.search("p1_0", 5)
    assert index.config.kind == kind
    assert found.method == kind
    np.testing.assert_array_equal(found.rows, plain.rows)
    np.testing.assert_array_equal(found.scores, plain.scores)
    assert index.search("p1_0", 5, exact=True).method == "exact"


def test_an_approximate_index_says_what_it_finds(make_store: Any) -> None:
    store = make_store(persons=20, windows=20, noise=1.0)
    index = Index.build(store, IndexConfig(kind="ivf", lists=30, effort=1))
    assert index.recall is not None
    assert 0.1 < index.recall < 1
    better = Index.build(store, IndexConfig(kind="ivf", lists=30, recall=0.95))
    assert better.recall is not None
    assert better.recall >= 0.95
    assert list(better.recalls.values()) == sorted(better.recalls.values())
    assert Index.open(store).recalls == pytest.approx(better.recalls, abs=1e-6)
    assert Index.open(store).search("p1_0").recall == pytest.approx(better.recall, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_is_applied_before_searching(make_store: Any, kind: str) -> None:
    store = make_store(persons=20, windows=20, noise=1.0)
    Index.build(store, IndexConfig(kind=kind, lists=20, effort=1))
    index = Index.open(store)
    person, sensor = (np.array(store.table[name].to_pylist(), object) for name in ("person", "sensor"))
    found = index.search("p3_0", 30, where=["person!=p3,p4", "sensor=k1"])
    assert (found.rows >= 0).all()
    assert not np.isin(person[found.rows], ["p3", "p4"]).any()
    assert (sensor[found.rows] == "k1").all()
    few = index.search("p3_0", 400, where="person=p5")
    assert ((few.rows >= 0).sum(axis=1) == 60).all()
    np.testing.assert_array_equal(few.rows, index.search("p3_0", 400, where="person=p5", exact=True).rows)


@pytest.mark.parametrize("kind", KINDS)
def test_the_own_recording_is_left_out_unless_asked_for(make_store: Any, kind: str) -> None:
    store = make_store()
    index = Index.build(store, IndexConfig(kind=kind))
    recording = np.array(store.table["recording"].to_pylist())
    assert not (recording[index.search("p1_0", 20).rows] == "p1_0").any()
    own = index.search("p1_0", 1, include_own=True)
    assert (recording[own.rows[:, 0]] == "p1_0").all()
    np.testing.assert_allclose(own.scores, 1, rtol=1e-6)


def test_the_same_recording_of_another_store_counts_as_own_if_the_archive_is_the_same(make_store: Any) -> None:
    store, other = make_store("one"), make_store("two")
    recording = np.array(store.table["recording"].to_pylist())
    found = Index.open(store).search(Queries.of_recordings(other, "p1_0"), 1)
    assert (recording[found.rows[:, 0]] == "p1_0").all()
    again = Index.open(store).search(Queries.of_recordings(Store(store.path), "p1_0"), 1)
    assert not (recording[again.rows[:, 0]] == "p1_0").any()


def test_rows_in_float16_take_half_and_find_nearly_the_same(make_store: Any) -> None:
    store = make_store(persons=20)
    plain = Index.open(store).search("p1_0", 10)
    Index.build(store, IndexConfig(dtype="float16"))
    found = Index.open(store).search("p1_0", 10)
    np.testing.assert_allclose(found.scores, plain.scores, atol=2e-3)
    assert (store.path / "index" / "rows.npy").stat().st_size < 2.2 * len(store) * 8


def test_concatenated_frames_are_searched(make_store: Any) -> None:
    values = np.random.default_rng(0).standard_normal((12, 3, 4))
    store = make_store(values=values)
    mean, concat = (Index.open(store, feature=feature) for feature in ("mean", "concat"))
    assert (mean.rows.width, concat.rows.width) == (4, 12)
    for index, rows in ((mean, values.mean(axis=1)), (concat, values.reshape(12, 12))):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        found = index.search(values[:2].astype(np.float32), 12)
        np.testing.assert_allclose(found.scores, -np.sort(-(rows[:2] @ rows.T), axis=1), atol=1e-6)
    assert mean.search(values[:2].mean(axis=1).astype(np.float32)).rows[0, 0] == 0


def test_an_index_is_refused_once_the_store_has_changed(make_store: Any) -> None:
    store = make_store()
    Index.build(store)
    info = json.loads((store.path / "store.json").read_text())
    (store.path / "store.json").write_text(json.dumps({**info, "model_hash": "b"}))
    with pytest.raises(DataError, match=r"index\.json was made before .* changed; build it again"):
        Index.open(store.path)
    Index.build(store.path)
    Index.open(store.path).search("p1_0")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_index_is_refused(make_store: Any, kind: str) -> None:
    store = make_store()
    Index.build(store, IndexConfig(kind=kind))
    data = store.path / "index" / ("rows.npy" if kind == "exact" else "index.faiss")
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"is damaged \(.*\); build it again"):
        Index.open(store)
    changed = bytearray(whole)
    changed[-3] ^= 64
    data.write_bytes(changed)
    with pytest.raises(DataError, match="does not fit its checksum"):
        Index.open(store).verify()
    data.unlink()
    with pytest.raises(DataError, match="is damaged"):
        Index.open(store)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": "sgela-fast/index"}', "[" * 10**5])
def test_a_damaged_head_is_refused(make_store: Any, content: str) -> None:
    store = make_store()
    Index.build(store)
    (store.path / "index" / "index.json").write_text(content)
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        Index.open(store)


@pytest.mark.parametrize("change", [{"config": {"kind": "tree"}}, {"config": None}, {"recalls": []}, {"effort": "x"}])
def test_a_head_that_makes_no_sense_is_refused(make_store: Any, change: dict[str, Any]) -> None:
    store = make_store()
    Index.build(store)
    path = store.path / "index" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        Index.open(store)


def test_another_schema_version_is_refused(make_store: Any) -> None:
    store = make_store()
    Index.build(store)
    path = store.path / "index" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 9}))
    with pytest.raises(DataError, match="version 9 but this release reads"):
        Index.open(store)


def test_a_file_of_another_index_is_refused(make_store: Any) -> None:
    store, other = make_store(), make_store("other", persons=7)
    for each in (store, other):
        Index.build(each, IndexConfig(kind="ivf"))
    foreign = other.path / "index" / "index.faiss"
    (store.path / "index" / "index.faiss").write_bytes(foreign.read_bytes())
    path = store.path / "index" / "index.json"
    checksum = json.loads((other.path / "index" / "index.json").read_text())["sha256"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": checksum}))
    with pytest.raises(DataError, match=r"index\.faiss is damaged \(it is a IndexIVFFlat of 126 x 8\)"):
        Index.open(store)


def test_another_metric_than_the_index_has_is_refused(make_store: Any) -> None:
    store = make_store()
    Index.build(store)
    with pytest.raises(ConfigError, match="has metric cosine, not euclidean"):
        Index.open(store, metric="euclidean")


def test_exact_search_needs_no_faiss(make_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] == "faiss":
            raise ImportError(name)
        return real(name, *arguments, **named)

    store = make_store()
    Index.build(store)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert Index.open(store).search("p1_0").rows.shape == (6, 10)
    with pytest.raises(MissingDependencyError, match=r'pip install "sgela_fast\[search\]"'):
        Index.build(store, IndexConfig(kind="ivf"))
    assert Index.open(store).config.kind == "exact"  # what was there is still there


def test_a_store_with_a_value_that_is_not_finite_is_refused(make_store: Any) -> None:
    values = np.ones((12, 4))
    values[7, 2] = np.nan
    store = make_store(values=values)
    with pytest.raises(DataError, match="values that are not finite, first in window 7"):
        Index.build(store)
    with pytest.raises(DataError, match="values that are not finite, first in window 7"):
        Index.open(store).search(np.ones((1, 4)))
    assert not (store.path / "index" / "index.json").exists()


def test_values_beyond_float16_are_refused(make_store: Any) -> None:
    store = make_store(values=np.full((6, 4), 1e6))
    with pytest.raises(DataError, match="beyond the range of float16; use dtype float32"):
        Index.build(store, IndexConfig(metric="euclidean", dtype="float16"))


def test_an_index_that_cannot_be_written_leaves_none(make_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store()
    Index.build(store)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        Index.build(store)
    assert list((store.path / "index").iterdir()) == []


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (np.full((1, 8), np.nan), "not finite, first in window 0"),
        (np.zeros((0, 8)), "has no query window"),
        (np.ones((2, 5)), "has windows of 5 numbers, which make 5 features where .* has 8"),
        (np.ones(8), "give encodings"),
        (np.array([["a"]]), "give encodings"),
        ("p9_0", "has no recording 'p9_0', but 15 others"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(make_store: Any, query: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Index.open(make_store()).search(query)


def test_a_query_of_another_model_is_refused(make_store: Any) -> None:
    query = Queries.of_recordings(make_store("other", model="b"), "p1_0")
    with pytest.raises(DataError, match="was encoded by another model"):
        Index.open(make_store()).search(query)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": 0}, "k is 0; it must be at least 1"),
        ({"level": "pair"}, "level is 'pair'; choose window"),
        ({"best": 0}, "best is 0"),
        ({"threshold": "some"}, "threshold is 'some'"),
        ({"threshold": "calibrated"}, "has no calibrated threshold for level window"),
        ({"where": "sensor"}, "the condition 'sensor' cannot be read"),
        ({"where": "frames=many"}, "compares with 'many'; it must be a number"),
        ({"where": np.ones(3, np.bool_)}, "a mask over"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make_store: Any, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Index.open(make_store()).search("p1_0", **settings)


def test_an_unknown_column_is_named(make_store: Any) -> None:
    with pytest.raises(DataError, match="has no column 'camera', only window, recording"):
        Index.open(make_store()).search("p1_0", where="camera=1")


def test_nothing_fits_the_filter(make_store: Any) -> None:
    store = make_store()
    for level in ("window", "sequence", "recording", "person"):
        found = Index.open(store).search("p1_0", 4, where="person=nobody", level=level)
        assert (found.rows == -1).all()
        assert np.isneginf(found.scores).all()
        assert found.table.num_rows == 0


def test_conditions_mean_what_they_say(make_store: Any) -> None:
    store = make_store()
    start, sensor = (np.array(store.table[name].to_pylist(), object) for name in ("window_start", "sensor"))

    def holds(*conditions: str) -> list[bool]:
        return chosen_windows(store, conditions).tolist()

    assert holds("window_start=3..9") == ((start >= 3) & (start <= 9)).tolist()
    assert holds("window_start=10..") == (start >= 10).tolist()
    assert holds("window_start=..2") == (start <= 2).tolist()
    assert holds("window_start = 3, 6") == np.isin(start, [3, 6]).tolist()
    assert holds("sensor=k1") == (sensor == "k1").tolist()
    assert holds("sensor!=k1") == (sensor != "k1").tolist()  # also where there is no entry
    assert holds("sensor=k1..k2") == np.isin(sensor, ["k1", "k2"]).tolist()
    assert holds("valid=true") == [True] * len(store)
    assert holds("sensor=k1", "window_start=0") == ((sensor == "k1") & (start == 0)).tolist()
    assert chosen_windows(store, "frames=3").all()


def test_the_table_has_a_row_for_each_hit(make_store: Any) -> None:
    store = make_store()
    found: SearchResult = Index.open(store).search("p1_0", 2)
    rows = found.table.to_pylist()
    assert [row["rank"] for row in rows] == [1, 2] * 6
    assert [row["query_start"] for row in rows] == [start for start in range(0, 18, 3) for _ in range(2)]
    assert {row["person"] for row in rows} == {"p1"}
    assert [row["window"] for row in rows] == found.rows.ravel().tolist()
    persons = Index.open(store).search("p1_0", 2, level="person").table.to_pylist()
    assert persons[0].items() >= {"person": "p1", "recordings": 3, "windows": 18}.items()


def test_a_threshold_says_who_is_known(make_store: Any) -> None:
    index = Index.open(make_store())
    found = index.search("p1_0", 1, threshold=0.5)
    assert found.known is not None
    assert found.known.all()
    assert found.table["known"].to_pylist() == [True] * 6
    unknown = index.search("p1_0", 1, threshold=0.5, where="person=p3")
    assert unknown.known is not None
    assert not unknown.known.all()
    assert index.search("p1_0").known is None


def test_a_query_file_is_read_without_code(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "several.npy", a=np.ones(3))
    (tmp_path / "several.npy.npz").rename(tmp_path / "several.npy")
    for name, sentence in (("objects", "cannot be read"), ("several", "several arrays"), ("none", "cannot be read")):
        with pytest.raises(DataError, match=sentence):
            Queries.of_file(tmp_path / f"{name}.npy")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_narrow_stores_are_searched_as_they_are(make_store: Any, dtype: str) -> None:
    store = make_store(persons=12, dtype=dtype)
    values = store.values().astype(np.float64)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    for index in (Index.open(store), Index.build(store), Index.build(store, IndexConfig(kind="ivf", recall=1.0))):
        found = index.search("p1_0", 3, include_own=True)
        np.testing.assert_allclose(found.scores, -np.sort(-(values[18:24] @ values.T))[:, :3], atol=1e-6)


def test_deleting_a_person_removes_the_index(make_store: Any) -> None:
    from sgela_fast.cli.main import main

    store = make_store()
    Index.build(store, IndexConfig(kind="ivf"))
    assert main(["store", "delete", str(store.path), "--person", "p1"]) == 0
    assert not (store.path / "index").exists()
    found = Index.open(store.path).search("p2_0", 100)
    assert "p1" not in found.table["person"].to_pylist()
    assert found.rows.max() < len(Store(store.path))


@pytest.mark.parametrize("level", ["window", "person"])
def test_a_store_is_widened_tile_by_tile(make_store: Any, monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    from sgela_fast.search import nearest

    store = make_store(persons=30, dtype="int8")
    monkeypatch.setattr(nearest, "MIB", 64)  # 32 x 64 bytes for a tile of rows and scores
    taken: list[int] = []
    real = Store.values

    def counted(self: Store, rows: Any = None) -> Any:
        taken.append(len(self) if rows is None else len(rows))
        return real(self, rows)

    monkeypatch.setattr(Store, "values", counted)
    Index.open(store).search("p1_0", 2, level=level)
    assert sum(taken) >= len(store)
    assert max(taken) <= 32 * 64 // (4 * (6 + 8))
