"""The history of a run as arrays: what training logged, and nothing from damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.checkpoints.history import read_history
from sgela_fast.errors import CheckpointError

ENTRIES = [
    {"step": 1, "total": 9.0, "reconstruction": 3.5, "attention": 0.5, "regularisation": 2.0, "seconds": 0.25},
    {"step": 5, "total": 8.0, "reconstruction": 3.0, "attention": 0.4, "regularisation": 1.9, "seconds": 1.5}
    | {"gradient_norm": 7.5, "validation": 3.25},
    {"step": 9, "total": 7.0, "reconstruction": 2.0, "attention": 0.3, "regularisation": 1.8, "seconds": 2.5},
]


def write(folder: Path, content: object) -> Path:
    (folder / "history.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_every_value_has_its_array(tmp_path: Path) -> None:
    history = read_history(write(tmp_path, ENTRIES))
    assert len(history) == 3
    assert history.step.tolist() == [1, 5, 9]
    assert history.reconstruction.tolist() == [3.5, 3.0, 2.0]
    assert history.seconds.tolist() == [0.25, 1.5, 2.5]
    np.testing.assert_array_equal(history.validation, [np.nan, 3.25, np.nan])
    np.testing.assert_array_equal(history.gradient_norm, [np.nan, 7.5, np.nan])


def test_curves_are_plain_and_keep_their_ends(tmp_path: Path) -> None:
    history = read_history(write(tmp_path, ENTRIES))
    assert history.curve() == [[1, 3.5, 0.5, None], [5, 3.0, 0.4, 3.25], [9, 2.0, 0.3, None]]
    assert history.curve(2) == [[1, 3.5, 0.5, None], [9, 2.0, 0.3, None]]
    assert read_history(write(tmp_path, [])).curve() == []
    long = [{**ENTRIES[0], "step": step} for step in range(100)]
    steps = [entry[0] for entry in read_history(write(tmp_path, long)).curve(10)]
    assert steps == [*range(0, 100, 10), 99]


@pytest.mark.parametrize("content", ["[", {"step": 1}, [3], [ENTRIES[1], ENTRIES[0]], [{"total": 1.0}], "[[[]]]"])
def test_damaged_histories_are_told(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match=r"history.json is damaged \(.*\); restore it or train again"):
        read_history(write(tmp_path, content))


def test_a_folder_without_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"history.json is missing; give a run folder made by `train`"):
        read_history(tmp_path)
