"""Re-ranking in bounded memory equals the computation that holds all distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sgela_fast.errors import ConfigError
from sgela_fast.search import Index, IndexConfig, Queries, RerankConfig
from sgela_fast.search.finder import Finder
from sgela_fast.search.rows import prepared
from tests.search.held import Held


def all_at_once(
    query: NDArray[np.float64], gallery: NDArray[np.float64], metric: str, config: RerankConfig
) -> NDArray[np.float64]:
    """New distances to the whole gallery, with every matrix written out; the query is the last item."""
    items = np.concatenate([gallery, query[None]])
    if metric == "cosine":
        distances = 1 - items @ items.T
    else:
        distances = np.sqrt(((items[:, None] - items[None]) ** 2).sum(axis=2))
    np.fill_diagonal(distances, -1)  # an item is its own nearest
    nearest = np.argsort(np.round(distances, 12), axis=1, kind="stable")
    np.fill_diagonal(distances, 0)

    def reciprocal(item: int, k: int) -> NDArray[np.int64]:
        around = nearest[item, : k + 1]
        return around[(nearest[around, : k + 1] == item).any(axis=1)]

    encoded = np.zeros_like(distances)
    for item in range(len(items)):
        members = reciprocal(item, config.neighbours)
        wider = members
        for member in members:
            others = reciprocal(member, int(np.around(config.neighbours / 2)))
            if len(np.intersect1d(others, members)) > 2 / 3 * len(others):
                wider = np.union1d(wider, others)
        encoded[item, wider] = np.exp(-distances[item, wider])
        encoded[item] /= encoded[item].sum()
    averaged = np.stack([encoded[nearest[item, : config.expansion]].mean(axis=0) for item in range(len(items))])
    shared = np.minimum(averaged[-1], averaged[:-1]).sum(axis=1)
    return (1 - config.weight) * (1 - shared / (2 - shared)) + config.weight * distances[-1, :-1]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(8, 50),
    metric=st.sampled_from(["cosine", "euclidean"]),
    neighbours=st.integers(1, 12),
    expansion=st.integers(1, 4),
    weight=st.floats(0, 1),
)
def test_distances_equal_those_of_the_whole_matrix(
    seed: int, count: int, metric: str, neighbours: int, expansion: int, weight: float
) -> None:
    random = np.random.default_rng(seed)
    config = RerankConfig(1000, max(neighbours, expansion), expansion, weight)
    centres = random.standard_normal((4, 6))
    values = centres[random.integers(4, size=count + 2)] + 0.5 * random.standard_normal((count + 2, 6))
    rows = prepared(values.astype(np.float32), metric, "mean")  # type: ignore[arg-type]
    finder = Finder(Held(rows[:count]), np.arange(count), np.ones(count, np.bool_), metric)  # type: ignore[arg-type]
    scores, found = finder.reranked(rows[count:], count, [], config)
    exact = rows.double().numpy()
    for query in range(2):
        expected = all_at_once(exact[count + query], exact[:count], metric, config)
        assert sorted(found[query]) == list(range(count))
        np.testing.assert_allclose(-scores[query], expected[found[query]], atol=1e-5)


def test_more_candidates_than_windows_and_fewer_windows_than_neighbours(make_store: Any) -> None:
    store = make_store(persons=2, windows=2)
    found = Index.open(store).search("p0_0", 30, rerank=RerankConfig())
    assert ((found.rows >= 0).sum(axis=1) == 10).all()
    assert np.isfinite(found.scores[:, :10]).all()


def test_the_own_recording_and_the_filter_hold(make_store: Any) -> None:
    store = make_store(noise=1.0)
    found = Index.open(store).search("p1_0", 5, rerank=RerankConfig(20, 5, 2), where="person!=p2")
    recording = np.array(store.table["recording"].to_pylist())[found.rows]
    assert not np.isin(recording, ["p1_0", "p2_0", "p2_1", "p2_2"]).any()
    assert found.method == "exact, re-ranked"


def test_queries_do_not_change_each_other(make_store: Any) -> None:
    store = make_store(noise=1.0)
    index, settings = Index.open(store), RerankConfig(20, 5, 2)
    both = index.search(Queries.of_recordings(store, ["p1_0", "p3_1"]), 5, rerank=settings)
    for first, name in ((0, "p1_0"), (6, "p3_1")):
        alone = index.search(name, 5, rerank=settings)
        np.testing.assert_array_equal(both.rows[first : first + 6], alone.rows)
        np.testing.assert_array_equal(both.scores[first : first + 6], alone.scores)


def test_an_approximate_index_serves_too(make_store: Any) -> None:
    store = make_store(noise=1.0)
    exact = Index.open(store).search("p1_0", 5, rerank=RerankConfig(20, 5, 2))
    index = Index.build(store, IndexConfig(kind="ivf", lists=2, effort=2))
    np.testing.assert_array_equal(index.search("p1_0", 5, rerank=RerankConfig(20, 5, 2)).rows, exact.rows)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"level": "person"}, "re-ranking is for level window, not person"),
        ({"threshold": "calibrated"}, "calibrated threshold is for plain scores"),
    ],
)
def test_what_does_not_go_together_is_refused(make_store: Any, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Index.open(make_store()).search("p1_0", rerank=RerankConfig(), **settings)


def test_an_inner_product_is_no_distance(make_store: Any) -> None:
    with pytest.raises(ConfigError, match="use cosine or euclidean"):
        Index.open(make_store(), metric="inner-product").search("p1_0", rerank=RerankConfig())
