"""Run a suite: verify every provider, time the right ones in turns, measure memory, write the file after each case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sgela_fast.atomic import make_folder, write_json
from sgela_fast.benchmarks.harness import environment
from sgela_fast.benchmarks.harness.limits import Limits, measure_limits
from sgela_fast.benchmarks.harness.memory import peak_bytes
from sgela_fast.benchmarks.harness.results import FORMAT, Record
from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Suite, Unavailable
from sgela_fast.benchmarks.harness.timing import (
    calls_per_sample,
    captured,
    duration,
    interleave,
    quantiles,
    rounds_within,
    sampler_of,
    synchronize,
    warmed_duration,
)
from sgela_fast.benchmarks.harness.verification import WrongAnswer, verify

# A provider whose call takes longer is not timed: five rounds of it would cost more than the figure is worth.
LONGEST_CALL_SECONDS = 10.0

Report = Callable[[Case, Sequence[Record]], None]


def run(
    suite: Suite,
    path: Path,
    *,
    device: str,
    precision: str,
    seconds: float,
    memory: bool = True,
    quick: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Run ``suite`` and keep ``path`` up to date.

    Args:
        suite: what to measure.
        path: JSON file, written anew after each case, so that a run which is stopped leaves what it has.
        device: ``cpu`` or ``cuda``; :func:`benchmarks.harness.environment.set_up` has been called.
        precision: of float32 products, as set up.
        seconds: to spend on the timed rounds of one case.
        memory: measure peak memory where cases ask for it.
        quick: measure the limits with small sizes.
        report: called after each case.

    Returns:
        What was written.
    """
    make_folder(path.parent)
    began = time.perf_counter()
    limits = measure_limits(device, suite.cases, quick=quick)
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": suite.name,
        "title": suite.title,
        "unit": suite.unit,
        "subject": suite.subject,
        "environment": environment.describe(device, precision),
        "limits": limits.as_json(),
        "settings": {"seconds_per_case": seconds, "quick": quick},
        "records": [],
    }
    for case in suite.cases:
        records = run_case(suite, case, limits, seconds=seconds, memory=memory)
        content["records"] += [record.as_json() for record in records]
        content["settings"]["run_seconds"] = round(time.perf_counter() - began, 1)
        write_json(path, content)
        if report is not None:
            report(case, records)
    return content


def run_case(suite: Suite, case: Case, limits: Limits, *, seconds: float, memory: bool = True) -> list[Record]:
    """Verify, time and weigh every provider at one case."""
    bound = limits.bound(case.cost, case.dtype)
    answers: dict[str, Outputs] = {}
    jobs: dict[str, Job] = {}
    records: dict[str, Record] = {}
    for provider in _with_graphs(suite.providers, case):
        record = records[provider.name] = Record(case, provider, bound)
        try:
            job = provider.prepare(case)
            if provider.answer not in answers:
                answers[provider.answer] = suite.expected(case, provider.answer)
            _verify_first_call(job, record, answers[provider.answer], suite)
        except Unavailable as error:
            record.reason = str(error)
        except WrongAnswer as error:
            record.status, record.reason = "refused", str(error)
        except Exception as error:  # one provider's failure is a line in the report, not the end of the run
            record.reason = f"{type(error).__name__}: {_first_line(error)}"
        else:
            jobs[provider.name] = job
    answers.clear()
    _time(jobs, records, case, suite.subject, seconds)
    if memory and case.memory:
        preload = ["torch", suite.expected.__module__]
        if any(provider.compiles for provider in suite.providers):
            preload.append("torch._inductor.compile_fx")
        for name, job in jobs.items():
            try:
                records[name].peak_bytes = peak_bytes(
                    records[name].provider, case, job, ["torch", suite.expected.__module__]
                )
            except Unavailable as error:
                records[name].peak_reason = str(error)
    return list(records.values())


def _verify_first_call(job: Job, record: Record, expected: Outputs, suite: Suite) -> None:
    case = record.case
    synchronize(case.device)
    start = time.perf_counter()
    outputs = job()
    synchronize(case.device)
    record.first_call_seconds = time.perf_counter() - start
    record.deviations = verify(outputs, expected, suite.tolerance(case))
    limit = LONGEST_CALL_SECONDS
    if record.first_call_seconds > limit and (latest := duration(job, case.device)) > limit:
        raise Unavailable(f"one call takes {latest:.0f} s; longer than {limit:.0f} s is not timed")


def _time(jobs: dict[str, Job], records: dict[str, Record], case: Case, subject: str, seconds: float) -> None:
    if not jobs:
        return
    calls = {name: warmed_duration(job, case.device) for name, job in jobs.items()}
    samplers = {name: sampler_of(job, calls[name], case.device) for name, job in jobs.items()}
    rounds = rounds_within(seconds, list(calls.values()))
    taken = interleave(samplers, rounds)
    clock = clock_of(case)
    seconds_of = {name: [sample.cpu if clock == "cpu" else sample.wall for sample in taken[name]] for name in taken}
    for name, samples in taken.items():
        record = records[name]
        record.status = "measured"
        record.rounds, record.calls = rounds, calls_per_sample(calls[name], case.device)
        record.clock, record.seconds = clock, quantiles(seconds_of[name])
        record.wall_seconds = quantiles(sample.wall for sample in samples)
        record.cpu_seconds = quantiles(sample.cpu for sample in samples)
        if subject in taken:
            pairs = zip(seconds_of[name], seconds_of[subject], strict=True)
            record.ratio_to_subject = quantiles(own / base for own, base in pairs)


def clock_of(case: Case) -> str:
    """What the times of ``case`` are taken by. CPU time adds up over threads, so that it is for one thread alone."""
    if case.device == "cuda":
        return "device"
    return "cpu" if case.clock == "cpu" and torch.get_num_threads() == 1 else "wall"


def _with_graphs(providers: Sequence[Provider], case: Case) -> list[Provider]:
    """On CUDA, each provider that can be captured is followed by its variant replayed from a CUDA graph."""
    found: list[Provider] = []
    for provider in providers:
        found.append(provider)
        if provider.graph and case.device == "cuda":
            found.append(_graphed(provider))
    return found


def _graphed(provider: Provider) -> Provider:
    def prepare(case: Case) -> Job:
        try:
            return captured(provider.prepare(case))
        except RuntimeError as error:
            torch.cuda.synchronize()
            raise Unavailable(f"it cannot be captured: {_first_line(error)}") from error

    note = f"{provider.note}; replayed from a CUDA graph" if provider.note else "replayed from a CUDA graph"
    return replace(provider, name=f"{provider.name}, graph", note=note, prepare=prepare, graph=False)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
