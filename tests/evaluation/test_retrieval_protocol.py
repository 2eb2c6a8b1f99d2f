"""Protocol G on stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sgela_fast.encoding.store import Store
from sgela_fast.evaluation.config import EvaluationConfig, RetrievalConfig
from sgela_fast.evaluation.results import Outcome
from sgela_fast.evaluation.retrieval_protocol import Distances, run_retrieval
from sgela_fast.evaluation.sides import divide

MakeStore = Callable[..., Store]


def retrieved(store: Store, **retrieval: Any) -> tuple[Outcome, Distances]:
    config = EvaluationConfig(resamples=50, retrieval=RetrievalConfig(**retrieval))
    return run_retrieval(divide(store, "split", config), "split", config)


@pytest.mark.parametrize("feature", ["mean", "concat"])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_separate_persons_give_one_everywhere(make_store: MakeStore, feature: str, distance: str) -> None:
    found, _ = retrieved(make_store(noise=0.01), feature=feature, distance=distance)
    figures = found.windows
    assert figures.rank[1] == figures.window_rank[1] == figures.nauc_cmc == figures.nauc_roc == 1.0
    assert figures.mean_average_precision == figures.mean_inverse_negative_penalty == 1.0
    assert found.recordings.rank[1] == found.recordings.nauc_roc == 1.0
    assert (found.probe_windows, found.gallery_windows, found.persons) == (36, 72, 6)


def test_shuffled_labels_land_at_chance(make_store: MakeStore) -> None:
    def shuffle(columns: dict[str, list[Any]]) -> None:
        columns["person"] = np.random.default_rng(0).permutation(columns["person"]).tolist()

    found, _ = retrieved(make_store(persons=8, windows=60, noise=3.0, change=shuffle))
    assert found.chance == pytest.approx(1 / 8, abs=0.01)
    assert abs(found.windows.rank[1] - found.chance) < 0.06


def test_chance_is_the_share_of_right_gallery_windows(make_store: MakeStore) -> None:
    # Person 0 keeps one gallery window of twelve.
    def thin(columns: dict[str, list[Any]]) -> None:
        columns["split"] = ["spare" if 7 <= i < 18 else entry for i, entry in enumerate(columns["split"])]

    found, _ = retrieved(make_store(persons=2, change=thin))
    assert found.chance == pytest.approx((1 / 13 + 12 / 13) / 2)


def test_rank_1_over_persons_and_over_windows_agree(make_store: MakeStore) -> None:
    figures = retrieved(make_store(noise=2.0))[0].windows
    assert 0 < figures.rank[1] < 1
    assert figures.rank[1] == figures.window_rank[1] == figures.cmc[0] == figures.window_cmc[0]
    # Five nearest windows hold at most five persons.
    assert figures.window_rank[5] <= figures.rank[5]


def test_recordings_score_the_mean_of_their_windows(make_store: MakeStore) -> None:
    store = make_store(noise=2.0)
    found, distances = retrieved(store)
    assert found.recordings.probes == 6
    assert found.recordings.mean_average_precision is None
    assert distances.same.shape == (36,)
    assert distances.other.shape == (36, 5)


def test_pooled_store_gives_the_same_as_pooling_here(make_store: MakeStore) -> None:
    frames = make_store(noise=1.0)
    values, table = frames.values().mean(axis=1), frames.table
    columns = {name: table[name].to_pylist() for name in table.column_names}
    pooled = make_store("pooled", pooling="mean", change=lambda c: c.update({n: columns[n] for n in c}))
    np.save(pooled.path / "part-00000.npy", values)
    assert retrieved(Store(pooled.path))[0] == retrieved(frames)[0]
