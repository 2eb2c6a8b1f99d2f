"""Timing chooses between configurations only where it is asked for, and once for each kind of call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sgela_fast.kernels import locality_attention_autotune as autotune

SECONDS = {"slow": 3.0, "fast": 1.0, "middling": 2.0}


class Stopwatch:
    """Runs a launch and answers with the time that its name stands for."""

    def __init__(self) -> None:
        self.launched: list[str] = []

    def run(self, name: str) -> None:
        self.launched.append(name)

    def measure(self, run: Callable[[], None]) -> float:
        run()
        return SECONDS[self.launched[-1]]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "_FASTEST", {})


def test_without_being_asked_nothing_is_timed_and_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(autotune.ENVIRONMENT, raising=False)
    watch = Stopwatch()
    assert autotune.fastest(["slow", "fast"], watch.run, "kind", watch.measure) == "slow"
    assert not watch.launched


def test_the_fastest_is_found_and_kept_for_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(autotune.ENVIRONMENT, "1")
    watch = Stopwatch()
    candidates = ["slow", "fast", "middling"]
    assert autotune.fastest(candidates, watch.run, "kind", watch.measure) == "fast"
    assert autotune.fastest(candidates, watch.run, "kind", watch.measure) == "fast"
    assert watch.launched == candidates
    autotune.fastest(candidates, watch.run, "another kind", watch.measure)
    assert watch.launched == candidates * 2


def test_a_single_candidate_needs_no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(autotune.ENVIRONMENT, "1")
    watch = Stopwatch()
    assert autotune.fastest(["slow"], watch.run, "kind", watch.measure) == "slow"
    assert not watch.launched


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (2, 2), (3, 4), (128, 128), (129, 256)])
def test_sizes_are_rounded_up_to_powers_of_two(size: int, expected: int) -> None:
    assert autotune.bucket(size) == expected
