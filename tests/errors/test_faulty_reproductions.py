"""A reproduction of something at fault, or gone on with otherwise than it was begun, ends as the documentation says."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgela_fast.cli.main import main
from sgela_fast.errors import DataError
from sgela_fast.locking import exclusive

Complains = Callable[..., None]
OURS = ["reproduce", "--data", "walks.sga", "--out", "rerun", "--tables", "size"]


def begun(inputs: Any) -> None:
    """A reproduction of a size in ``rerun``."""
    inputs.take("walks.sga")
    assert main([*OURS, *inputs.quiet]) == 0


def test_table_that_the_paper_does_not_have(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains(*OURS[:-1], "4")


def test_budget_that_is_no_time(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains(*OURS, "--budget", "soon")


def test_seeds_that_are_no_numbers(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains(*OURS, "--seeds", "0;1")


def test_a_seed_twice(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains(*OURS, "--seeds", "1,1")


def test_no_process_at_all(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains(*OURS, "--jobs", "0")


def test_recordings_that_nobody_is_tested_on(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains(*OURS, "--splits", "split_2")


def test_two_data_sets_of_one_name(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("reproduce", "--data", "walks.sga", "walks=walks.sga", "--out", "rerun", "--tables", "size")


def test_reproduction_with_other_settings(inputs: Any, complains: Complains) -> None:
    begun(inputs)
    complains(*OURS, *inputs.quiet, "--model.hidden", "8")


def test_reproduction_with_other_steps(inputs: Any, complains: Complains) -> None:
    begun(inputs)
    complains(*OURS, *inputs.quiet, "--training.max_steps", "3")


def test_reproduction_with_other_recordings(inputs: Any, complains: Complains) -> None:
    begun(inputs)
    inputs.archive("other.sga", frames=30)
    complains("reproduce", "--data", "walks=other.sga", "--out", "rerun", "--tables", "size", *inputs.quiet)


def test_reproduction_whose_head_is_cut_off(inputs: Any, complains: Complains) -> None:
    begun(inputs)
    inputs.cut("rerun/reproduction.json")
    complains(*OURS, *inputs.quiet)


def test_reproduction_of_a_newer_version(inputs: Any, complains: Complains) -> None:
    begun(inputs)
    inputs.edit_json("rerun/reproduction.json", version=2)
    complains(*OURS, *inputs.quiet)


def test_damaged_line_among_the_results(inputs: Any, complains: Complains) -> None:
    begun(inputs)
    results = Path("rerun/results.jsonl")
    results.write_bytes(b'{"cell": 1\n' + results.read_bytes())
    complains(*OURS, *inputs.quiet)


def test_two_reproductions_in_one_folder(inputs: Any, complains: Complains) -> None:
    begun(inputs)
    with exclusive(Path("rerun/.lock"), "taken"):
        complains(*OURS, *inputs.quiet)


def test_a_cell_that_fails(inputs: Any, complains: Complains, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DataError("nobody can count that; count again")

    begun(inputs)
    Path("rerun/results.jsonl").unlink()
    monkeypatch.setattr("sgela_fast.reproduction.measure.count_parameters", fail)
    complains(*OURS, *inputs.quiet, leaves="rerun")


def test_control_c_while_reproducing(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    inputs.before("sgela_fast.training.step.clip_gradients", lambda: signal.raise_signal(signal.SIGINT))
    complains(*OURS[:-1], "3b", *inputs.quiet, leaves="rerun")
