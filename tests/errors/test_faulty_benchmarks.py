"""Benchmarks that cannot be run or compared.

Each test is named after its row in ``docs/errors.md``, which holds the exit status and the message.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Complains = Callable[..., None]


def results(path: Path, **other: Any) -> dict[str, Any]:
    """A results file of one case, in the working folder."""
    environment = {"device": "Abacus", "precision": "ieee", "threads": 1, "torch": "2.13"}
    times = {"min": 1.0, "p20": 1.0, "median": 1.0, "p80": 1.0}
    record = {"case": {"name": "B=1"}, "provider": "fused", "seconds": times}
    content = {"format": 1, "environment": environment, "records": [record], **other}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return content


@pytest.fixture(autouse=True)
def _where_results_go(inputs: Any) -> None:
    """Tests work in a folder of their own."""


def test_unknown_benchmark_suite(complains: Complains) -> None:
    complains("bench", "speed")


def test_benchmark_of_no_windows(complains: Complains) -> None:
    complains("bench", "encoding", "--sizes", "0")


def test_tf32_on_the_cpu(complains: Complains) -> None:
    complains("bench", "encoding", "--precision", "tf32")


def test_selection_that_is_no_regular_expression(complains: Complains) -> None:
    complains("bench", "encoding", "--select", "(")


def test_selection_without_a_case(complains: Complains, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgela_fast.benchmarks.harness.environment.set_up", lambda *_: None)
    complains("bench", "encoding", "--select", "nothing of this name")


def test_results_file_that_does_not_exist(complains: Complains) -> None:
    complains("bench", "--report", "gone.json")


def test_file_without_benchmark_results(complains: Complains) -> None:
    Path("other.json").write_text("{}")
    complains("bench", "--report", "other.json")


def test_compared_results_that_do_not_exist(complains: Complains) -> None:
    Path("old").mkdir()
    complains("bench", "--compare", "gone", "old")


def test_comparison_relative_to_nobody(complains: Complains) -> None:
    results(Path("old.json"))
    complains("bench", "--compare", "old.json", "old.json", "--relative_to", "eeger")


def test_comparison_of_nobody(complains: Complains) -> None:
    results(Path("old.json"))
    complains("bench", "--compare", "old.json", "old.json", "--provider", "fussed")


def test_threshold_that_is_no_ratio(complains: Complains) -> None:
    results(Path("old.json"))
    complains("bench", "--compare", "old.json", "old.json", "--threshold", "0.1")


def test_file_compared_with_a_folder(complains: Complains) -> None:
    Path("old").mkdir()
    results(Path("new.json"))
    complains("bench", "--compare", "old", "new.json")


def test_folders_without_common_results(complains: Complains) -> None:
    results(Path("old", "a.json"))
    results(Path("new", "b.json"))
    complains("bench", "--compare", "old", "new")


def test_slower_than_before(complains: Complains) -> None:
    content = copy.deepcopy(results(Path("old.json")))
    content["records"][0]["seconds"]["median"] = 2.0
    results(Path("new.json"), records=content["records"])
    complains("bench", "--compare", "old.json", "new.json")
