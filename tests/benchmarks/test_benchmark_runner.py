"""The benchmark harness times right answers alone, and survives providers that fail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sgela_fast.benchmarks.harness.limits import Bound, Level, Limits
from sgela_fast.benchmarks.harness.results import Record
from sgela_fast.benchmarks.harness.runner import run, run_case
from sgela_fast.benchmarks.harness.suite import Case, Cost, Job, Outputs, Provider, Suite, Unavailable
from sgela_fast.benchmarks.harness.verification import WrongAnswer, verify

LIMITS = Limits((Level("DRAM", None, 1, 1e10),), {"float32": 1e11})
TOLERANCE = {"float32": 1e-6, "int8": 1e-2}
CASE = Case("n=7", "squares", {"n": 7}, items=7, cost=Cost(flop=7, bytes=56))


def squares(case: Case, _answer: str = "full") -> Outputs:
    return {"squares": torch.arange(case.items, dtype=torch.float64) ** 2}


def provider(name: str, wrong: Callable[[Outputs], Outputs] = lambda outputs: outputs) -> Provider:
    def prepare(case: Case) -> Job:
        return lambda: wrong({"squares": squares(case)["squares"].float()})

    return Provider(name, prepare)


def unavailable(_case: Case) -> Job:
    raise Unavailable("it needs a quantum computer")


def broken(_case: Case) -> Job:
    raise RuntimeError("\n  out of luck\nand more")


def suite(*providers: Provider, cases: tuple[Case, ...] = (CASE,)) -> Suite:
    return Suite(
        "squares",
        "Squares",
        "numbers",
        cases,
        providers,
        squares,
        lambda _case, precision: {"squares": TOLERANCE[precision]},
        subject="good",
    )


def records_of(*providers: Provider) -> dict[str, Record]:
    return {record.provider.name: record for record in run_case(suite(*providers), CASE, LIMITS, seconds=0.01)}


def test_a_right_provider_gets_a_time_and_its_share_of_the_limit() -> None:
    good = records_of(provider("good"))["good"]
    assert good.status == "measured"
    assert good.seconds is not None
    assert 0 < good.seconds.min <= good.seconds.p20 <= good.seconds.median <= good.seconds.p80
    assert good.deviations == {"squares": 0.0}
    assert good.as_json()["fraction_of_bound"] == pytest.approx(5.6e-9 / good.seconds.median)
    assert good.as_json()["items_per_second"] == pytest.approx(7 / good.seconds.median)


def test_a_reduced_precision_has_its_own_tolerance_cost_and_limit() -> None:
    off = provider("rounded", lambda outputs: {"squares": torch.as_tensor(outputs["squares"]) * 1.001})
    limits = Limits(LIMITS.levels, {"float32": 1e11, "int8": 1e12})
    case = replace(CASE, cost=Cost(1e6, 56), costs={"int8": Cost(1e6, 14)})
    given = suite(off, replace(off, name="int8", precision="int8"))
    exact, rounded = run_case(given, case, limits, seconds=0.01)
    assert exact.status == "refused"
    assert rounded.status == "measured"
    assert rounded.bound == Bound(1e-6, "compute")
    assert exact.bound == Bound(1e-5, "compute")
    assert rounded.as_json()["bytes"] == 14
    assert rounded.as_json()["precision"] == "int8"


def test_parts_of_an_output_count_as_stacked() -> None:
    rows = torch.arange(6.0).view(2, 3)
    assert verify({"x": [rows[0], rows[1]]}, {"x": rows.double()}, {"x": 0.0}) == {"x": 0.0}
    with pytest.raises(WrongAnswer, match="off by"):
        verify({"x": [rows[1], rows[0]]}, {"x": rows.double()}, {"x": 1e-6})


def test_a_provider_that_fails_while_it_is_timed_says_so_and_stops_nobody() -> None:
    def twice(_case: Case) -> Job:
        calls = iter(range(2))

        def job() -> Outputs:
            if next(calls, None) is None:
                raise RuntimeError("worn out")
            time.sleep(0.06)  # one call is enough to know how long it takes
            return squares(CASE)

        return job

    records = records_of(Provider("twice", twice), provider("good"))
    assert records["twice"].seconds is None
    assert records["twice"].reason == "failed while it was timed: RuntimeError: worn out"
    assert records["good"].seconds is not None


def test_what_a_job_tells_is_kept(tmp_path: Path) -> None:
    class Told:
        def __call__(self) -> Outputs:
            return squares(CASE)

        def details(self) -> dict[str, float]:
            return {"read ms": 1.5}

    (record,) = run_case(suite(Provider("told", lambda _case: Told())), CASE, LIMITS, seconds=0.01)
    assert record.as_json()["details"] == {"read ms": 1.5}


def test_energy_is_measured_where_there_is_a_counter() -> None:
    class Counter:
        name = "meter"

        def start(self) -> None:
            self.calls = 0

        def joules(self) -> float:
            return 3.0 * self.calls

    counter = Counter()

    def prepare(_case: Case) -> Job:
        def job() -> Outputs:
            counter.calls = getattr(counter, "calls", 0) + 1
            return squares(CASE)

        return job

    (record,) = run_case(suite(Provider("hot", prepare)), CASE, LIMITS, seconds=0.01, counter=counter)
    assert record.joules == 3.0
    assert record.as_json()["joules_per_million"] == pytest.approx(3e6 / 7)


def test_ratios_are_those_within_a_round() -> None:
    def slow(outputs: Outputs) -> Outputs:
        time.sleep(2e-3)
        return outputs

    records = records_of(provider("slow", slow), provider("good"))
    slow_record, good = records["slow"], records["good"]
    assert good.ratio_to_subject is not None
    assert good.ratio_to_subject.min == good.ratio_to_subject.p80 == 1
    assert slow_record.ratio_to_subject is not None
    assert slow_record.ratio_to_subject.median > 2
    assert records_of(provider("slow", slow))["slow"].ratio_to_subject is None


def test_cpu_time_counts_where_a_case_asks_for_it_and_one_thread_runs() -> None:
    def asleep(_case: Case) -> Job:
        def job() -> Outputs:
            time.sleep(2e-3)
            return squares(CASE)

        return job

    sleeper = suite(Provider("asleep", asleep))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (wall,) = run_case(sleeper, CASE, LIMITS, seconds=0.01)
        (cpu,) = run_case(sleeper, replace(CASE, clock="cpu"), LIMITS, seconds=0.01)
        torch.set_num_threads(2)
        (both,) = run_case(sleeper, replace(CASE, clock="cpu"), LIMITS, seconds=0.01)
    finally:
        torch.set_num_threads(threads)
    assert [record.clock for record in (wall, cpu, both)] == ["wall", "cpu", "wall"]
    assert wall.seconds == wall.wall_seconds
    assert cpu.seconds == cpu.cpu_seconds != cpu.wall_seconds
    assert both.seconds == both.wall_seconds


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda outputs: {"squares": outputs["squares"] * 1.001}, "squares is off by 1.0e-03, more than 1e-06"),
        (lambda outputs: {"squares": outputs["squares"] * torch.nan}, "squares is not finite"),
        (lambda outputs: {"squares": outputs["squares"][:-1]}, "squares has shape (6,), not (7,)"),
        (lambda _outputs: {}, "it returns no squares"),
    ],
)
def test_a_wrong_provider_gets_no_time(wrong: Callable[[Outputs], Outputs], reason: str) -> None:
    records = records_of(provider("good"), provider("wrong", wrong))
    assert records["good"].seconds is not None
    assert records["wrong"].seconds is None
    assert records["wrong"].status == "refused"
    assert records["wrong"].reason == reason


def test_one_wrong_entry_of_many_is_found() -> None:
    expected = torch.ones(1000, dtype=torch.float64)
    found = expected.clone()
    found[123] += 2e-6
    assert verify({"x": found}, {"x": expected}, {"x": 3e-6}) == {"x": pytest.approx(2e-6)}
    with pytest.raises(WrongAnswer, match="off by 2"):
        verify({"x": found}, {"x": expected}, {"x": 1e-6})


@pytest.mark.parametrize(
    ("prepare", "reason"), [(unavailable, "it needs a quantum computer"), (broken, "RuntimeError: out of luck")]
)
def test_a_provider_that_cannot_run_says_why_and_stops_nobody(prepare: Callable[[Case], Job], reason: str) -> None:
    records = records_of(Provider("absent", prepare), provider("good"))
    assert records["absent"].status == "unavailable"
    assert records["absent"].reason == reason
    assert records["absent"].seconds is None
    assert records["good"].seconds is not None


def test_the_file_is_complete_after_every_case(tmp_path: Path) -> None:
    cases = tuple(Case(f"n={n}", "squares", {"n": n}, items=n, cost=Cost(n, 8 * n)) for n in (3, 5))
    path = tmp_path / "results" / "squares.json"
    seen: list[int] = []

    def count(_case: Case, _records: Any) -> None:
        seen.append(len(json.loads(path.read_text())["records"]))

    content = run(
        suite(provider("good"), Provider("absent", unavailable), cases=cases),
        path,
        device="cpu",
        precision="ieee",
        seconds=0.01,
        quick=True,
        report=count,
    )
    assert seen == [2, 4]
    assert content == json.loads(path.read_text())
    assert content["environment"]["torch"] == torch.__version__
    assert content["environment"]["threads"] == torch.get_num_threads()
    assert all(level["bytes_per_second"] > 1e7 for level in content["limits"]["copy"])


def test_the_larger_bound_counts_at_the_level_that_holds_the_bytes() -> None:
    limits = Limits((Level("L2", 1000, 1, 1e12), Level("DRAM", None, 1, 1e10)), {"float32": 1e11, "bfloat16": 1e9})
    assert limits.bound(Cost(flop=1, bytes=1000), "float32") == Bound(1e-9, "memory")
    assert limits.bound(Cost(flop=1, bytes=1001), "float32") == Bound(1.001e-7, "memory")
    # Products of a dtype that is slower than float32 may be computed in float32.
    assert limits.bound(Cost(flop=1e6, bytes=1000), "bfloat16") == Bound(1e-5, "compute")
