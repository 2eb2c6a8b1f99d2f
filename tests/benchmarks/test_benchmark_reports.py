"""Tables, plots and comparisons, made from results files alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sgela_fast.benchmarks.compare import compare
from sgela_fast.benchmarks.harness import roofline
from sgela_fast.benchmarks.harness.command import call
from sgela_fast.benchmarks.harness.markdown import render, significant
from sgela_fast.benchmarks.harness.plots import panels

ENVIRONMENT = {
    "date": "2026-01-01 00:00 UTC",
    "device": "Abacus",
    "precision": "ieee",
    "cpu": "Abacus",
    "cpu_flags": ["beads"],
    "kernel_isa": None,
    "cores": 2,
    "pinned_to": [1],
    "threads": 1,
    "governor": None,
    "load_average": 0.1,
    "python": "3.11",
    "torch": "2.13.0",
    "triton": None,
    "cuda": None,
    "commit": "0123456789abcdef",
    "dirty": True,
}


def record(batch: int, provider: str, seconds: float | None, status: str = "measured", **more: Any) -> dict[str, Any]:
    times = None if seconds is None else {"min": 0.9 * seconds, "p20": seconds, "median": seconds, "p80": seconds}
    case = {"name": f"B={batch}", "group": "forward", "axes": {"B": batch}, "items": batch, "dtype": "float32"}
    return {
        "case": {**case, "device": "cpu", "flop": 1e6, "bytes": 2.5e6},
        "provider": provider,
        "note": "",
        "compiles": provider == "compile",
        "status": status,
        "reason": None,
        "deviations": None,
        "first_call_seconds": 12.5,
        "clock": "wall" if times else None,
        "seconds": times,
        "wall_seconds": times,
        "cpu_seconds": times,
        "ratio_to_subject": None,
        "items_per_second": batch / seconds if seconds else None,
        "bound": {"seconds": 1e-4, "kind": "memory"},
        "fraction_of_bound": 1e-4 / seconds if seconds else None,
        "peak_bytes": None,
        "peak_reason": None,
        **more,
    }


@pytest.fixture
def content() -> dict[str, Any]:
    """Two cases, three providers, one of them wrong and one absent at the second."""
    return {
        "format": 1,
        "name": "sums",
        "title": "Sums",
        "unit": "sequences",
        "subject": "fused",
        "environment": ENVIRONMENT,
        "limits": {
            "copy": [{"name": "DRAM", "capacity": None, "copied": 1 << 27, "bytes_per_second": 2.5e10}],
            "flop_per_second": {"float32": 1e11},
        },
        "settings": {"seconds_per_case": 2.0, "quick": False, "run_seconds": 61.2},
        "records": [
            record(8, "fused", 2e-4, peak_bytes=1.5e6),
            record(8, "compile", 3e-4, ratio_to_subject={"median": 1.47}),
            record(8, "eager", None, "refused", reason="loss is off by 1.0e-02, more than 1e-05"),
            record(64, "fused", 4e-4),
            record(64, "compile", None, "unavailable", reason="no compiler"),
            record(64, "eager", 1e-3),
        ],
    }


def bench(*arguments: str | Path) -> int:
    """Exit status of the command line."""
    return call([str(argument) for argument in arguments], "bench", "results")


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_summary_has_the_subjects_figures_and_ratios(content: dict[str, Any]) -> None:
    text = render(content)
    header, first, second = row(text, "| B |"), row(text, "| 8 |"), row(text, "| 64 |")
    assert dict(zip(header, first, strict=True)) == {
        "B": "8",
        "bytes": "2.50 MB",
        "limit": "0.100 (memory)",
        "fused ms": "0.200",
        "sequences/s": "40,000",
        "of limit": "50 %",
        "peak": "1.50 MB",
        "compile": "1.47×",
        "eager": "wrong",
    }
    assert second[-2:] == ["", "2.50×"]


def test_every_absent_time_has_its_reason_in_the_report(content: dict[str, Any]) -> None:
    text = render(content)
    assert "wrong: loss is off by 1.0e-02, more than 1e-05" in text
    assert "No time for compile: no compiler (B=64)" in text
    assert "Abacus" in text
    assert "0123456789 with uncommitted changes" in text


def test_disturbed_times_are_marked(content: dict[str, Any]) -> None:
    content["records"][0] |= {"cpu_seconds": {"median": 2e-4}, "wall_seconds": {"median": 2.4e-4}}
    assert row(render(content), "| 8 |")[3] == "0.200\\*"


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"), (0.00123, "0.00123")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_a_slower_provider_is_a_regression(content: dict[str, Any], tmp_path: Path) -> None:
    slower = copy.deepcopy(content)
    slower["records"][3]["seconds"]["median"] *= 1.2
    before, after = write(tmp_path / "a.json", content), write(tmp_path / "b.json", slower)
    assert bench("--compare", before, before) == 0
    assert bench("--compare", before, after) == 1
    assert bench("--compare", before, after, "--threshold", "1.3") == 0
    assert bench("--compare", after, before) == 0
    assert bench("--compare", before, after, "--statistic", "min") == 0
    assert bench("--compare", before, after, "--provider", "eager") == 0


def test_a_change_within_the_runs_own_noise_is_no_regression(content: dict[str, Any]) -> None:
    slower = copy.deepcopy(content)
    slower["records"][3]["seconds"]["median"] *= 1.2
    for run in (content, slower):
        run["records"][3]["seconds"]["p80"] *= 1.3
    (change,) = [c for c in compare(content, slower, threshold=1.1) if c[:2] == ("B=64", "fused")]
    assert change.ratio == pytest.approx(1.2)
    assert change.limit > 1.3
    assert not change.regression


def test_folders_are_compared_by_file_name(content: dict[str, Any], tmp_path: Path) -> None:
    slower = copy.deepcopy(content)
    slower["records"][3]["seconds"]["median"] *= 1.5
    for name, run in (("old", content), ("new", slower)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "sums.json", run)
        (tmp_path / name / "other.json").write_text("{}")
    assert bench("--compare", tmp_path / "old", tmp_path / "new") == 1
    assert bench("--compare", tmp_path / "old", tmp_path / "old") == 0
    assert bench("--compare", tmp_path / "old", tmp_path / "old" / "sums.json") == 1


def test_the_ratio_names_case_and_provider(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = copy.deepcopy(content)
    slower["records"][3]["seconds"]["median"] *= 1.2
    bench("--compare", write(tmp_path / "a.json", content), write(tmp_path / "b.json", slower))
    printed = capsys.readouterr()
    assert "| B=64 | fused | 1.20 | 1.10 | REGRESSION" in printed.out
    assert "bench: 1 of 4 figures became slower" in printed.err


def test_notes_stand_apart_from_the_table_and_count_what_was_not_measured_again(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy.deepcopy(content)
    other["environment"]["kernel_isa"] = "avx512"
    del other["records"][-1]
    assert bench("--compare", write(tmp_path / "a.json", content), write(tmp_path / "b.json", other)) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block for block in blocks if "kernel_isa" in block] == ["note: kernel_isa differs: None, then avx512"]
    assert "note: 1 of 4 figures were not measured again and are left out" in blocks
    assert sum(block.startswith("| case | provider |") for block in blocks) == 1


def test_a_time_that_is_lost_is_a_regression(content: dict[str, Any]) -> None:
    wrong = copy.deepcopy(content)
    wrong["records"][0] |= {"seconds": None, "status": "refused", "reason": "context is not finite"}
    found = {change[:2]: change for change in compare(content, wrong, threshold=1.1)}
    assert found["B=8", "fused"].regression
    assert "context is not finite" in found["B=8", "fused"].remark
    assert not found["B=64", "fused"].regression


def test_a_slower_machine_is_no_regression_beside_a_provider_that_slowed_as_much(content: dict[str, Any]) -> None:
    slower = copy.deepcopy(content)
    for entry in slower["records"]:
        if entry["seconds"]:
            entry["seconds"]["median"] *= 3
    assert any(change.regression for change in compare(content, slower, threshold=1.1))
    relative = compare(content, slower, threshold=1.1, relative_to="compile")
    assert [change.ratio for change in relative if change.case == "B=8"] == [pytest.approx(1.0)]
    assert not any(change.regression for change in relative)


def test_the_report_is_made_from_the_file(content: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "sums.json", content)
    assert bench("--report", path, "--plot", "svg") == 0
    assert (tmp_path / "sums.md").read_text() == render(content)
    assert (tmp_path / "sums.svg").stat().st_size > 1000
    assert (tmp_path / "sums_roofline.svg").stat().st_size > 1000


def test_the_roofline_has_all_that_was_measured_under_the_measured_roofs(content: dict[str, Any]) -> None:
    content["limits"]["flop_per_second"] |= {"bfloat16": 1e9, "int8": 4e11}
    content["records"][1] |= {"flop": 5e6, "bytes": 1e6, "precision": "int8"}
    points = {point[:2]: point[2:] for point in roofline.points(content)}
    assert set(points) == {("fused", "B=8"), ("compile", "B=8"), ("fused", "B=64"), ("eager", "B=64")}
    assert points["fused", "B=8"] == (pytest.approx(0.4), pytest.approx(1e6 / 2e-4))
    assert points["compile", "B=8"] == (pytest.approx(5.0), pytest.approx(5e6 / 3e-4))
    roofs = roofline.roofs(content)
    assert roofs.compute == {"float32": 1e11, "int8": 4e11}  # nobody need compute in a slower dtype
    assert max(roofs.memory.values()) == 2.5e10


def test_energy_and_stages_stand_in_the_report_where_there_are_any(content: dict[str, Any]) -> None:
    assert "J per million" not in render(content)
    content["energy"] = {"counter": "RAPL (package-0)", "reason": None}
    content["records"][0] |= {
        "joules": 0.5,
        "joules_per_million": 62500.0,
        "details": {"read ms": 12.0, "write ms": 3.0},
    }
    text = render(content)
    assert "| energy | RAPL (package-0) |" in text
    assert "J per million sequences" in text
    assert "62,500" in text
    assert "| B=8 | fused | 12.0 | 3.00 |" in text


def test_plots_show_throughput_of_what_was_measured(content: dict[str, Any]) -> None:
    assert panels(content) == {
        "forward": (
            "B",
            {"fused": [(8, 4e4), (64, 1.6e5)], "compile": [(8, pytest.approx(8 / 3e-4))], "eager": [(64, 6.4e4)]},
        )
    }


def test_files_of_another_kind_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--report", write(tmp_path / "x.json", {"format": 7})) == 1
    assert "holds no benchmark results" in capsys.readouterr().err
    assert bench("--report", write(tmp_path / "x.json", {"format": 1})) == 1
    assert "holds no benchmark results" in capsys.readouterr().err
    assert bench("--report", tmp_path / "absent.json") == 1
    assert "cannot read" in capsys.readouterr().err
