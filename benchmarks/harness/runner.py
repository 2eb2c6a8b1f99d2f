"""Run a suite: verify every provider, time the right ones in turns, measure memory, write the file after each case."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sgela_fast.atomic import make_folder, write_json
from sgela_fast.benchmarks.harness import energy, environment
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
from sgela_fast.errors import SgelaError

# A provider whose call takes longer is not timed: five rounds of it would cost more than the figure is worth.
LONGEST_CALL_SECONDS = 20.0
LONG_FIRST_CALL_SECONDS = 0.5

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
    settings: Mapping[str, Any] | None = None,
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
        settings: further entries of the file's settings, such as the command that was given.

    Returns:
        What was written.
    """
    make_folder(path.parent)
    began = time.perf_counter()
    dtypes = {case.dtype for case in suite.cases} | {provider.precision for provider in suite.providers} - {""}
    limits = measure_limits(device, dtypes, quick=quick)
    counter, reason = _counter(device)
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": suite.name,
        "title": suite.title,
        "unit": suite.unit,
        "subject": suite.subject,
        "environment": environment.describe(device, precision),
        "limits": limits.as_json(),
        "energy": energy.describe(counter, reason),
        "settings": {"seconds_per_case": seconds, "quick": quick, **(settings or {})},
        "records": [],
    }
    for case in suite.cases:
        records = run_case(suite, case, limits, seconds=seconds, memory=memory, counter=counter)
        content["records"] += [record.as_json() for record in records]
        content["settings"]["run_seconds"] = round(time.perf_counter() - began, 1)
        write_json(path, content)
        if report is not None:
            report(case, records)
    return content


def run_case(
    suite: Suite,
    case: Case,
    limits: Limits,
    *,
    seconds: float,
    memory: bool = True,
    counter: energy.Counter | None = None,
) -> list[Record]:
    """Verify, time and weigh every provider at one case."""
    answers: dict[str, Outputs] = {}
    jobs: dict[str, Job] = {}
    records: dict[str, Record] = {}
    for provider in _with_graphs(suite.providers, case):
        bound = limits.bound(case.cost_of(provider), case.precision_of(provider))
        record = records[provider.name] = Record(case, provider, bound)
        try:
            job = provider.prepare(case)
            if provider.answer not in answers:
                answers[provider.answer] = suite.expected(case, provider.answer)
            _verify_first_call(job, record, answers[provider.answer], suite)
        except (Unavailable, SgelaError) as error:
            record.reason = str(error)
        except WrongAnswer as error:
            record.status, record.reason = "refused", str(error)
        except Exception as error:  # one provider's failure is a line in the report, not the end of the run
            record.reason = failure(error)
        else:
            jobs[provider.name] = job
    answers.clear()
    _time(jobs, records, case, suite.subject, seconds)
    timed = {name: job for name, job in jobs.items() if records[name].status == "measured"}
    for name, job in timed.items():
        if counter is not None:
            records[name].joules = energy.joules_per_call(job, counter, case.device, min(seconds, energy.LEAST_SECONDS))
        details = getattr(job, "details", None)
        records[name].details = details() if details is not None else None
    if memory and case.memory:
        _weigh(timed, records, case, suite)
    return list(records.values())


def _weigh(jobs: dict[str, Job], records: dict[str, Record], case: Case, suite: Suite) -> None:
    preload = ["torch", suite.expected.__module__]
    if any(provider.compiles for provider in suite.providers):
        preload.append("torch._inductor.compile_fx")
    for name, job in jobs.items():
        try:
            records[name].peak_bytes = peak_bytes(records[name].provider, case, job, preload)
        except Unavailable as error:
            records[name].peak_reason = str(error)


def _verify_first_call(job: Job, record: Record, expected: Outputs, suite: Suite) -> None:
    case = record.case
    synchronize(case.device)
    start = time.perf_counter()
    outputs = job()
    synchronize(case.device)
    record.first_call_seconds = time.perf_counter() - start
    record.deviations = verify(outputs, expected, suite.tolerance(case, case.precision_of(record.provider)))
    limit = LONGEST_CALL_SECONDS
    if record.first_call_seconds > limit and (latest := duration(job, case.device)) > limit:
        raise Unavailable(f"one call takes {latest:.0f} s; longer than {limit:.0f} s is not timed")


def _time(jobs: dict[str, Job], records: dict[str, Record], case: Case, subject: str, seconds: float) -> None:
    failures: dict[str, Exception] = {}
    calls: dict[str, float] = {}
    for name, job in jobs.items():
        try:
            calls[name] = _call_seconds(job, records[name])
        except Exception as error:
            failures[name] = error
    samplers = {name: sampler_of(jobs[name], calls[name], case.device) for name in calls}
    rounds = rounds_within(seconds, list(calls.values()))
    taken = interleave(samplers, rounds, failures)
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
    for name, met in failures.items():
        records[name].reason = f"failed while it was timed: {failure(met)}"


def _call_seconds(job: Job, record: Record) -> float:
    """About how long a call takes. A long first call was warm enough, unless it compiled something."""
    first = record.first_call_seconds or 0.0
    if first > LONG_FIRST_CALL_SECONDS and not record.provider.compiles:
        return first
    return warmed_duration(job, record.case.device)


def _counter(device: str) -> tuple[energy.Counter | None, str | None]:
    try:
        return energy.find_counter(device), None
    except energy.NoCounter as error:
        return None, f"no counter: {error}"


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
            raise Unavailable(f"it cannot be captured: {first_line(error)}") from error

    note = f"{provider.note}; replayed from a CUDA graph" if provider.note else "replayed from a CUDA graph"
    return replace(provider, name=f"{provider.name}, graph", note=note, prepare=prepare, graph=False)


def failure(error: Exception) -> str:
    """One line that says what went wrong."""
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """The first line of a message that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
