"""The exhaustive search finds what comparing everything finds, whatever the tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.search import nearest as module
from sgela_fast.search.nearest import Exclusion, nearest, tiles
from sgela_fast.search.rows import prepared
from tests.search.held import Held

METRICS = ("cosine", "inner-product", "euclidean")


def all_scores(queries: Tensor, rows: Tensor, metric: str) -> NDArray[np.float32]:
    left, right = queries.double().numpy(), rows.double().numpy()
    if metric == "euclidean":
        return -np.sqrt(((left[:, None] - right[None]) ** 2).sum(axis=2)).astype(np.float32)
    return np.stack([np.einsum("ij,j->i", right, query) for query in left]).astype(np.float32)


def ranking(scores: NDArray[np.float32], numbers: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """All rows of finite score by (score, number), padded with -1."""
    found = np.full((len(scores), k), -1)
    for query, row in enumerate(scores):
        order = np.lexsort((numbers, -row))
        order = order[np.isfinite(row[order])][:k]
        found[query, : len(order)] = order
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    queries=st.integers(1, 5),
    k=st.integers(1, 70),
    metric=st.sampled_from(METRICS),
    levels=st.sampled_from([2, 4, 1000]),
    tile=st.integers(1, 25),
)
def test_ranking_equals_brute_force(
    seed: int, count: int, queries: int, k: int, metric: str, levels: int, tile: int
) -> None:
    random = np.random.default_rng(seed)
    # Few levels make many equal rows and equal scores.
    values = np.round(random.standard_normal((count + queries, 5)) * levels) / levels
    rows = prepared(values.astype(np.float32), metric, "mean")
    rows, wanted = rows[:count], rows[count:]
    numbers = random.permutation(count)
    chosen = np.flatnonzero(random.random(count) < 0.7)
    hidden = [
        Exclusion(np.array([query]), np.flatnonzero(random.random(count) < 0.3))
        for query in range(queries)
        if random.random() < 0.5
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "tiles", lambda positions, *_: (positions[i : i + tile] for i in range(0, len(positions), tile))
        )
        patch.setattr(module, "_QUERIES_AT_ONCE", 2)
        scores, found = nearest(
            wanted, Held(rows), k, positions=chosen, numbers=numbers, metric=metric, exclusions=hidden
        )
    expected = all_scores(wanted, rows, metric)
    masked = expected.copy()
    masked[:, np.setdiff1d(np.arange(count), chosen)] = -np.inf
    for item in hidden:
        masked[np.ix_(item.queries, item.rows)] = -np.inf
    there = found >= 0
    np.testing.assert_array_equal(there, ranking(masked, numbers, k) >= 0)
    np.testing.assert_allclose(scores[there], np.take_along_axis(expected, np.maximum(found, 0), 1)[there], rtol=1e-6)
    assert np.isneginf(scores[~there]).all()
    for query in range(queries):
        hits = found[query][there[query]]
        assert len(set(hits.tolist())) == len(hits)
        assert np.isfinite(masked[query, hits]).all()
        pairs = list(zip(-scores[query][there[query]], numbers[hits], strict=True))
        assert pairs == sorted(pairs)
    # What is left out scores no better, by more than the last digit, than what is last.
    last = np.where(there.all(axis=1), scores[:, -1], -np.inf)
    np.put_along_axis(masked, np.where(there, found, found[:, :1]), -np.inf, axis=1)
    assert (masked.max(axis=1) <= last + 1e-6).all() or not there.any()


@pytest.mark.parametrize("tile_mb", [1, 32])
@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_come_by_their_numbers(metric: str, tile_mb: int) -> None:
    rows = prepared(np.tile(np.random.default_rng(0).standard_normal((3, 64)), (500, 1)), metric, "mean")
    numbers = np.random.default_rng(1).permutation(len(rows))
    scores, found = nearest(
        rows[:1], Held(rows), 400, positions=np.arange(len(rows)), numbers=numbers, metric=metric, tile_mb=tile_mb
    )
    same = np.arange(0, len(rows), 3)
    assert numbers[found[0]].tolist() == np.sort(numbers[same])[:400].tolist()
    assert len(set(scores[0].tolist())) == 1


def test_more_is_asked_than_there_is() -> None:
    rows = prepared(np.eye(3), "cosine", "mean")
    scores, found = nearest(rows[:1], Held(rows), 5, positions=np.arange(3), numbers=np.arange(3))
    assert found.tolist() == [[0, 1, 2, -1, -1]]
    assert scores.tolist() == [[1, 0, 0, -np.inf, -np.inf]]


def test_nothing_to_search() -> None:
    rows = prepared(np.eye(3), "cosine", "mean")
    scores, found = nearest(rows, Held(rows), 2, positions=np.arange(0), numbers=np.arange(3))
    assert (found == -1).all()
    assert np.isneginf(scores).all()


def test_a_tile_is_bounded_in_memory() -> None:
    sizes = [len(piece) for piece in tiles(np.arange(10**6), 100, 768, 32)]
    assert sum(sizes) == 10**6
    assert max(sizes) * 4 * (100 + 768) <= 32 << 20
