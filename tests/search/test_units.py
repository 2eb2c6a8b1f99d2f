"""Sequences, recordings and persons are scored by the mean of best matches among their windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sgela_fast.search import Index, IndexConfig
from sgela_fast.search import finder as finder_module
from sgela_fast.search.units import units_of

LEVELS = ("sequence", "recording", "person")


def by_hand(store: Any, query: str, level: str, best: int, metric: str, sequence: int) -> dict[tuple[int, int], float]:
    """Score of each query unit with each unit of the store, straight from the formula."""
    values = store.values().astype(np.float64)
    if metric == "cosine":
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    recordings = store.table["recording"].to_pylist()
    keys: list[Any] = store.table["person"].to_pylist() if level == "person" else list(recordings)
    if level == "sequence":
        keys = [(name, place - recordings.index(name)) for place, name in enumerate(recordings)]
        keys = [(name, place // sequence) for name, place in keys]
    units: dict[Any, list[int]] = {}
    for place, key in enumerate(keys):
        units.setdefault(key, []).append(place)
    own = [place for place, name in enumerate(recordings) if name == query]
    queries = [own[i : i + sequence] for i in range(0, len(own), sequence)] if level == "sequence" else [own]
    found = {}
    for number, windows in enumerate(queries):
        for unit in units.values():
            rows = [row for row in unit if row not in own]
            if not rows:
                continue
            total = 0.0
            for window in windows:
                if metric == "euclidean":
                    scores = -np.linalg.norm(values[rows] - values[window], axis=1)
                else:
                    scores = values[rows] @ values[window]
                total += np.sort(scores)[::-1][:best].mean()
            found[number, unit[0]] = total / len(windows)
    return found


@pytest.mark.parametrize("metric", ["cosine", "inner-product", "euclidean"])
@pytest.mark.parametrize("best", [1, 3, 100])
@pytest.mark.parametrize("level", LEVELS)
def test_scores_are_those_of_the_formula(make_store: Any, level: str, best: int, metric: str) -> None:
    store = make_store(windows=7, noise=1.0)
    index = Index(store, IndexConfig(metric=metric, tile_mb=1), Index.open(store, metric=metric).rows)
    found = index.search("p1_0", 100, level=level, best=best, sequence=3)
    expected = by_hand(store, "p1_0", level, best, metric, 3)
    hits = {
        (query, int(row)): float(score)
        for query, (rows, scores) in enumerate(zip(found.rows, found.scores, strict=True))
        for row, score in zip(rows, scores, strict=True)
        if row >= 0
    }
    assert hits.keys() == expected.keys()
    for pair, score in hits.items():
        assert score == pytest.approx(expected[pair], rel=2e-5, abs=1e-6)
    assert (np.diff(np.where(found.rows >= 0, found.scores, -1e9)) <= 0).all()


@pytest.mark.parametrize("best", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
def test_small_tiles_change_nothing(make_store: Any, monkeypatch: pytest.MonkeyPatch, level: str, best: int) -> None:
    from sgela_fast.search import units

    store = make_store(windows=7, noise=1.0)
    whole = Index.open(store).search("p2_1", 4, level=level, best=best)
    monkeypatch.setattr(
        units, "tiles", lambda positions, *_: (positions[i : i + 4] for i in range(0, len(positions), 4))
    )
    monkeypatch.setattr(units, "MIB", 1)  # query windows two or so at a time
    pieces = Index.open(store).search("p2_1", 4, level=level, best=best)
    np.testing.assert_array_equal(pieces.rows, whole.rows)
    np.testing.assert_allclose(pieces.scores, whole.scores, rtol=1e-6)


def test_units_are_numbered_by_their_first_windows(make_store: Any) -> None:
    table = make_store(persons=2, windows=5).table
    recordings = units_of(table, "recording")
    assert recordings.codes.tolist() == [number // 5 for number in range(30)]
    assert recordings.first.tolist() == list(range(0, 30, 5))
    sequences = units_of(table, "sequence", 2)
    assert sequences.first.tolist() == [base + start for base in range(0, 30, 5) for start in (0, 2, 4)]
    assert units_of(table, "person").codes.tolist() == [0] * 15 + [1] * 15
    assert units_of(table, "window").codes.tolist() == list(range(30))


def test_windows_out_of_order_make_the_same_units(make_store: Any) -> None:
    table = make_store(persons=2, windows=5).table
    order = np.random.default_rng(0).permutation(30)
    for level in ("sequence", "recording", "person"):
        whole, mixed = units_of(table, level, 2), units_of(table.take(order), level, 2)
        np.testing.assert_array_equal(mixed.codes, whole.codes[order])
        np.testing.assert_array_equal(order[mixed.first], whole.first)


def test_a_window_without_a_person_is_nobody() -> None:
    import pyarrow as pa

    table = pa.table({"person": [None, "a", None], "window": [0, 1, 2], "recording": ["x", "x", "y"]})
    units = units_of(table, "person")
    assert units.codes.tolist() == [-1, 0, -1]
    assert len(units) == 1


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("level", LEVELS)
def test_an_approximate_index_proposes_units_and_scores_them_exactly(
    make_store: Any, monkeypatch: pytest.MonkeyPatch, kind: str, level: str
) -> None:
    store = make_store(persons=10, windows=10, noise=1.0)
    exact = Index.open(store).search("p1_0", 3, level=level)
    index = Index.build(store, IndexConfig(kind=kind, lists=5, recall=1.0))
    monkeypatch.setattr(finder_module, "SHORTLIST", 40)
    found = index.search("p1_0", 3, level=level)
    assert found.method == kind
    np.testing.assert_array_equal(found.rows, exact.rows)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-6)


def test_the_own_recording_does_not_count_for_its_person(make_store: Any) -> None:
    store = make_store(noise=1.0)
    left_out = Index.open(store).search("p1_0", 1, level="person", where="person=p1")
    counted = Index.open(store).search("p1_0", 1, level="person", where="person=p1", include_own=True)
    assert counted.scores[0, 0] == pytest.approx(1, abs=1e-6)
    assert left_out.scores[0, 0] < 0.999
