"""Interleaved timing: providers take turns (ABCABC...), so that what else the machine does hits all of them alike."""

from __future__ import annotations

import functools
import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from sgela_fast.benchmarks.harness.suite import Job, Outputs

# A sample lasts about this long: a thousand times the clock's own cost.
SAMPLE_SECONDS = 2e-3
# Calls shorter than this find the caches full of another provider's data; an untimed call comes before each sample.
SHORT_CALL_SECONDS = 1e-2
MIN_ROUNDS, MAX_ROUNDS = 5, 100
# Where one round alone takes longer than the time given.
FEWEST_ROUNDS = 3
# On a GPU each call is preceded by a flush and timed by its own events, so a few make a sample.
MAX_CUDA_CALLS = 10
# What the timed call on a GPU must not find in the L2 cache. Larger than any GPU's.
FLUSH_BYTES = 256 * 2**20


class Sample(NamedTuple):
    """Seconds per call: by the clock on the wall (on CUDA: the device's), and of this process's CPU time."""

    wall: float
    cpu: float


Sampler = Callable[[], Sample]


@dataclass(frozen=True)
class Quantiles:
    """Of the samples' seconds per call."""

    min: float
    p20: float
    median: float
    p80: float


def quantiles(values: Iterable[float]) -> Quantiles:
    """Quantiles with linear interpolation between samples.

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there are no samples to take quantiles of")

    def at(fraction: float) -> float:
        place = fraction * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return Quantiles(ordered[0], at(0.2), at(0.5), at(0.8))


def interleave(
    samplers: Mapping[str, Sampler], rounds: int, failures: dict[str, Exception] | None = None
) -> dict[str, list[Sample]]:
    """Take one sample of every provider in turn, ``rounds`` times over.

    Args:
        samplers: by provider.
        rounds: how often.
        failures: where providers that raise are noted, and left out from then on; without it their errors end the run.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in samplers}
    with _no_garbage_collection():
        for _ in range(rounds):
            for name, sampler in samplers.items():
                if name not in samples:
                    continue
                try:
                    samples[name].append(sampler())
                except Exception as error:
                    if failures is None:
                        raise
                    failures[name] = error
                    del samples[name]
    return samples


def calls_per_sample(call_seconds: float, device: str = "cpu") -> int:
    """How many calls of ``call_seconds`` make one sample."""
    calls = max(1, math.ceil(SAMPLE_SECONDS / max(call_seconds, 1e-9)))
    return min(calls, MAX_CUDA_CALLS) if device == "cuda" else calls


def rounds_within(seconds: float, call_seconds: Sequence[float]) -> int:
    """How many rounds over providers that take ``call_seconds`` a call fit into ``seconds``, within limits."""
    one_round = sum(call * (calls_per_sample(call) + (1 if call < SHORT_CALL_SECONDS else 0)) for call in call_seconds)
    least = FEWEST_ROUNDS if one_round > seconds else MIN_ROUNDS
    return min(MAX_ROUNDS, max(least, int(seconds / max(one_round, 1e-9))))


def sampler_of(job: Job, call_seconds: float, device: str) -> Sampler:
    """The sampler for ``job``, whose call takes about ``call_seconds``."""
    return _cuda_sampler(job, call_seconds) if device == "cuda" else _cpu_sampler(job, call_seconds)


def _cpu_sampler(job: Job, call_seconds: float) -> Sampler:
    calls = calls_per_sample(call_seconds)
    warm = call_seconds < SHORT_CALL_SECONDS

    def sample() -> Sample:
        if warm:
            job()
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        for _ in range(calls):
            job()
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        return Sample(wall * 1e-9 / calls, cpu * 1e-9 / calls)

    return sample


def _cuda_sampler(job: Job, call_seconds: float) -> Sampler:
    # The flush takes the device longer than the host needs to launch a few kernels, so that the events see the device's
    # time alone; a provider of many launches still shows its launches, as it would in use.
    calls = calls_per_sample(call_seconds, "cuda")
    flush = _flush_buffer()
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]

    def sample() -> Sample:
        cpu = 0
        for start, end in pairs:
            flush.zero_()
            start.record()
            began = time.process_time_ns()
            job()
            cpu += time.process_time_ns() - began
            end.record()
        torch.cuda.synchronize()
        return Sample(sum(start.elapsed_time(end) for start, end in pairs) * 1e-3 / calls, cpu * 1e-9 / calls)

    return sample


@functools.cache
def _flush_buffer() -> torch.Tensor:
    return torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")


def cpu_duration(job: Job) -> float:
    """CPU seconds of this process for one call."""
    start = time.process_time()
    job()
    return time.process_time() - start


def duration(job: Job, device: str) -> float:
    """Wall seconds of one call, until the device is done."""
    synchronize(device)
    start = time.perf_counter()
    job()
    synchronize(device)
    return time.perf_counter() - start


def warmed_duration(job: Job, device: str, seconds: float = 0.05) -> float:
    """Call ``job`` for about ``seconds``, at least once, and return the shortest call's wall seconds."""
    shortest = spent = duration(job, device)
    while spent < seconds:
        latest = duration(job, device)
        shortest, spent = min(shortest, latest), spent + latest
    return shortest


def synchronize(device: str) -> None:
    """Wait until ``device`` is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def captured(job: Job) -> Job:
    """A job that replays ``job`` from a CUDA graph; its outputs are overwritten by every call.

    Raises:
        RuntimeError: something in the job cannot be captured.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            job()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = job()

    def replay() -> Outputs:
        graph.replay()
        return outputs

    return replay


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
