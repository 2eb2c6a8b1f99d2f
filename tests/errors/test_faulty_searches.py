"""Searching with something at fault ends as the documentation says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.cli.main import main

Complains = Callable[..., None]
SEARCH = ["search", "walks.store", "--query", "p0_0"]
CALIBRATE = ["index", "walks.store", "--calibrate", "split=test", "--calibration.resamples", "0"]


def indexed(inputs: Any, *settings: str) -> None:
    inputs.take("walks.store")
    assert main(["index", "walks.store", *settings]) == 0


def test_index_made_before_the_store_changed(inputs: Any, complains: Complains) -> None:
    indexed(inputs)
    inputs.edit_json("walks.store/store.json", origin="somewhere else")
    complains(*SEARCH)


def test_damaged_head_of_an_index(inputs: Any, complains: Complains) -> None:
    indexed(inputs)
    inputs.cut("walks.store/index/index.json")
    complains(*SEARCH)


def test_index_of_a_newer_schema_version(inputs: Any, complains: Complains) -> None:
    indexed(inputs)
    inputs.edit_json("walks.store/index/index.json", schema_version=2)
    complains(*SEARCH)


def test_rows_of_an_index_cut_off(inputs: Any, complains: Complains) -> None:
    indexed(inputs)
    inputs.cut("walks.store/index/rows.npy")
    complains(*SEARCH)


def test_faiss_index_cut_off(inputs: Any, complains: Complains) -> None:
    indexed(inputs, "--kind", "ivf", "--lists", "1")
    inputs.cut("walks.store/index/index.faiss")
    complains(*SEARCH)


def test_faiss_is_not_installed(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.monkeypatch.setitem(sys.modules, "faiss", None)
    complains("index", "walks.store", "--kind", "hnsw")


def test_another_metric_than_the_index_has(inputs: Any, complains: Complains) -> None:
    indexed(inputs)
    complains(*SEARCH, "--metric", "euclidean")


def test_recording_that_the_store_does_not_have(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains("search", "walks.store", "--query", "p7_0")


def test_query_file_that_is_no_array(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    Path("query.npy").write_text("0.5")
    complains("search", "walks.store", "--query", "query.npy")


def test_query_with_nan(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    np.save("query.npy", np.full((2, 12), np.nan))
    complains("search", "walks.store", "--query", "query.npy")


def test_query_of_another_width(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    np.save("query.npy", np.ones((2, 5)))
    complains("search", "walks.store", "--query", "query.npy")


def test_query_of_another_model(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store", "walks.sga")
    assert main(["encode", "walks.sga", "--untrained", "official", "--out", "other.store"]) == 0
    complains(*SEARCH, "--query_store", "other.store")


def test_query_of_another_feature(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store", "walks.sga", "run")
    states = ["--out", "states.store", "--encoding.feature", "states"]
    assert main(["encode", "walks.sga", "--model", "run", *states]) == 0
    complains(*SEARCH, "--query_store", "states.store")


def test_condition_on_a_column_that_the_store_does_not_have(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*SEARCH, "--where", "camera=1")


def test_condition_that_cannot_be_read(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*SEARCH, "--where", "sensor")


def test_condition_that_compares_a_number_with_a_word(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*SEARCH, "--where", "window_start=early")


def test_re_ranked_persons(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*SEARCH, "--rerank", "--level", "person")


def test_unknown_without_a_calibrated_threshold(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*SEARCH, "--unknown")


def test_threshold_made_before_the_store_changed(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    assert main([*CALIBRATE, "--calibration.false_match_rate", "0.5"]) == 0
    inputs.edit_json("walks.store/index/threshold-recording.json", store_hash="0")
    complains(*SEARCH, "--level", "recording", "--unknown")


def test_both_unknown_and_threshold(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*SEARCH, "--unknown", "--threshold", "0.5")


def test_too_few_searches_to_calibrate_with(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*CALIBRATE, leaves="walks.store/index")
