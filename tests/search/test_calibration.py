"""The threshold keeps the wanted false-match rate, and is used only where it was found."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.search import CalibrationConfig, Index, calibrate
from sgela_fast.search.calibration import _threshold

LEVELS = ("window", "sequence", "recording", "person")


def test_the_threshold_is_the_least_that_keeps_the_rate() -> None:
    scores = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    for rate in (0.001, 0.01, 0.0105, 0.5):
        threshold = np.float32(_threshold(scores, np.ones(1000), rate))
        assert (scores >= threshold).mean() <= rate
        assert (scores >= np.nextafter(threshold, np.float32(-np.inf))).mean() > rate


def test_equal_scores_stand_or_fall_together() -> None:
    scores = np.array([0.9] * 5 + [0.1] * 95, np.float32)
    assert (scores >= np.float32(_threshold(scores, np.ones(100), 0.04))).sum() == 0
    assert (scores >= np.float32(_threshold(scores, np.ones(100), 0.05))).sum() == 5


def test_weights_count_as_repetitions() -> None:
    random = np.random.default_rng(0)
    scores, weights = random.standard_normal(50).astype(np.float32), random.integers(0, 4, 50)
    assert _threshold(scores, weights, 0.1) == _threshold(np.repeat(scores, weights), np.ones(weights.sum()), 0.1)


def test_scores_are_those_of_searches_with_and_without_the_own_person(make_store: Any) -> None:
    store = make_store(persons=6, windows=4, noise=1.0)
    index = Index.open(store)
    found = calibrate(index, "split=test", CalibrationConfig(level="recording", false_match_rate=0.4))
    others, own = [], []
    for person in range(6):
        query = f"p{person}_0"
        others.append(index.search(query, 1, level="recording", where=f"person!=p{person}").scores[0, 0])
        own.append(index.search(query, 1, level="recording", where=f"person=p{person}").scores[0, 0])
    assert (np.array(others) >= np.float32(found.threshold)).mean() == pytest.approx(found.measured_rate) == 2 / 6
    assert (np.array(own) < np.float32(found.threshold)).mean() == pytest.approx(found.miss_rate)
    assert (found.impostors, found.genuine, found.persons) == (6, 6, 6)


@pytest.mark.parametrize("level", LEVELS)
def test_a_calibrated_search_says_unknown_for_strangers(make_store: Any, level: str) -> None:
    store = make_store(persons=8, windows=10, noise=0.1)
    index = Index.open(store)
    config = CalibrationConfig(level=level, false_match_rate=0.13, resamples=50, sequence=3)
    found = calibrate(index, "split=test", config)
    assert found.threshold_interval is not None
    assert found.rate_interval is not None
    assert found.rate_interval[0] <= found.measured_rate <= found.rate_interval[1]
    assert found.measured_rate <= 0.13
    settings = {"level": level, "threshold": "calibrated", "sequence": 3}
    known = index.search("p1_0", 1, **settings)
    assert known.known is not None
    assert known.known.all()
    assert known.false_match_rate == 0.13
    strangers = [index.search(f"p{person}_0", 1, where=f"person!=p{person}", **settings).known for person in range(8)]
    assert np.concatenate(strangers).mean() == pytest.approx(found.measured_rate)


def test_the_threshold_belongs_to_its_settings_and_its_store(make_store: Any) -> None:
    store = make_store(persons=6)
    index = Index.open(store)
    calibrate(index, "split=test", CalibrationConfig(false_match_rate=0.2, resamples=0))
    index.search("p1_0", level="recording", threshold="calibrated")
    with pytest.raises(ConfigError, match="was calibrated with best 1, not 2; calibrate again"):
        index.search("p1_0", level="recording", threshold="calibrated", best=2)
    with pytest.raises(ConfigError, match="was calibrated with metric cosine, not euclidean"):
        Index.open(store, metric="euclidean").search("p1_0", level="recording", threshold="calibrated")
    with pytest.raises(ConfigError, match="no calibrated threshold for level person"):
        index.search("p1_0", level="person", threshold="calibrated")
    path = store.path / "index" / "threshold-recording.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "calibration": {**content["calibration"], "threshold": "high"}}))
    with pytest.raises(DataError, match="is damaged"):
        index.search("p1_0", level="recording", threshold="calibrated")
    path.write_text(json.dumps({**content, "store_hash": "0"}))
    with pytest.raises(DataError, match=r"was made before .* changed; calibrate again"):
        index.search("p1_0", level="recording", threshold="calibrated")


def test_whole_recordings_are_drawn(make_store: Any) -> None:
    store = make_store(persons=6, windows=5)
    config = CalibrationConfig(level="window", queries=12, false_match_rate=0.2, resamples=0)
    assert calibrate(Index.open(store), "split=test", config).impostors == 10


@pytest.mark.parametrize(
    ("validation", "rate", "sentence"),
    [
        ("split=test", 0.01, "5 searches are too few for a false-match rate of 0.01; give at least 100"),
        ("split=none", 0.5, "has no validation window that names its person"),
        ("person=p1", 0.5, "has no two persons to calibrate with"),
    ],
)
def test_too_little_to_calibrate_with_is_refused(make_store: Any, validation: str, rate: float, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        calibrate(Index.open(make_store()), validation, CalibrationConfig(false_match_rate=rate))


@pytest.mark.parametrize("settings", [{"false_match_rate": 0}, {"level": "pair"}, {"best": 0}, {"confidence": 1}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CalibrationConfig(**settings)
