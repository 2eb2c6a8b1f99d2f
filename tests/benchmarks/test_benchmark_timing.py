"""Timing of the benchmark harness: turns, quantiles, and how much is sampled."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from sgela_fast.benchmarks.harness.timing import (
    FEWEST_ROUNDS,
    MAX_ROUNDS,
    MIN_ROUNDS,
    SAMPLE_SECONDS,
    Sample,
    Sampler,
    calls_per_sample,
    interleave,
    quantiles,
    rounds_within,
    sampler_of,
)


def test_providers_take_turns() -> None:
    order: list[str] = []

    def sampler(name: str) -> Sampler:
        def sample() -> Sample:
            order.append(name)
            return Sample(1.0, 1.0)

        return sample

    samples = interleave({name: sampler(name) for name in "ABC"}, 4)
    assert "".join(order) == "ABC" * 4
    assert [len(taken) for taken in samples.values()] == [4, 4, 4]


def test_no_garbage_is_collected_between_samples() -> None:
    states: list[bool] = []

    def sample() -> Sample:
        states.append(gc.isenabled())
        return Sample(1.0, 1.0)

    interleave({"A": sample}, 2)
    assert states == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize("count", [1, 2, 5, 98])
def test_quantiles_are_numpys(count: int) -> None:
    values = np.random.default_rng(count).exponential(size=count)
    found = quantiles(values.tolist())
    expected = np.quantile(values, [0, 0.2, 0.5, 0.8])
    np.testing.assert_allclose([found.min, found.p20, found.median, found.p80], expected, rtol=1e-12)


def test_quantiles_of_nothing_are_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        quantiles([])


@pytest.mark.parametrize("call", [1e-7, 1e-5, 3e-3, 2.0])
def test_a_sample_is_long_enough_for_the_clock(call: float) -> None:
    assert calls_per_sample(call) * call >= SAMPLE_SECONDS * (1 - 1e-9)
    assert (calls_per_sample(call) - 1) * call < SAMPLE_SECONDS


def test_rounds_fill_the_time_within_limits() -> None:
    assert rounds_within(2.0, [1e-6, 1e-6]) == MAX_ROUNDS
    assert rounds_within(2.0, [0.5]) == MIN_ROUNDS
    assert rounds_within(2.0, [5.0]) == FEWEST_ROUNDS
    assert rounds_within(2.0, [0.05, 0.05]) == 20


def test_a_sample_is_per_call_and_knows_cpu_time_from_waiting() -> None:
    def job() -> dict[str, object]:
        time.sleep(1e-3)
        return {}

    sample = sampler_of(job, 1e-4, "cpu")()  # type: ignore[arg-type]
    assert sample.wall >= 1e-3
    assert sample.cpu < 0.8 * sample.wall
