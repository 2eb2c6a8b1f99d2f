"""Tables, plots and comparisons, made from results files alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sgela_fast.benchmarks import compare, report
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
    assert compare.main([str(before), str(before)]) == 0
    assert compare.main([str(before), str(after)]) == 1
    assert compare.main([str(before), str(after), "--threshold", "1.3"]) == 0
    assert compare.main([str(after), str(before)]) == 0
    assert compare.main([str(before), str(after), "--statistic", "min"]) == 0


def test_the_ratio_names_case_and_provider(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = copy.deepcopy(content)
    slower["records"][3]["seconds"]["median"] *= 1.2
    compare.main([str(write(tmp_path / "a.json", content)), str(write(tmp_path / "b.json", slower))])
    assert "| B=64 | fused | 1.20 | REGRESSION" in capsys.readouterr().out


def test_a_time_that_is_lost_is_a_regression(content: dict[str, Any]) -> None:
    wrong = copy.deepcopy(content)
    wrong["records"][0] |= {"seconds": None, "status": "refused", "reason": "context is not finite"}
    found = {change[:2]: change for change in compare.compare(content, wrong, threshold=1.1)}
    assert found["B=8", "fused"].regression
    assert "context is not finite" in found["B=8", "fused"].remark
    assert not found["B=64", "fused"].regression


def test_a_slower_machine_is_no_regression_beside_a_provider_that_slowed_as_much(content: dict[str, Any]) -> None:
    slower = copy.deepcopy(content)
    for entry in slower["records"]:
        if entry["seconds"]:
            entry["seconds"]["median"] *= 3
    assert any(change.regression for change in compare.compare(content, slower, threshold=1.1))
    relative = compare.compare(content, slower, threshold=1.1, relative_to="compile")
    assert [change.ratio for change in relative if change.case == "B=8"] == [pytest.approx(1.0)]
    assert not any(change.regression for change in relative)


def test_the_report_is_made_from_the_file(content: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "sums.json", content)
    report.main([str(path), "--plot", "svg"])
    assert (tmp_path / "sums.md").read_text() == render(content)
    assert (tmp_path / "sums.svg").stat().st_size > 1000


def test_plots_show_throughput_of_what_was_measured(content: dict[str, Any]) -> None:
    assert panels(content) == {
        "forward": (
            "B",
            {"fused": [(8, 4e4), (64, 1.6e5)], "compile": [(8, pytest.approx(8 / 3e-4))], "eager": [(64, 6.4e4)]},
        )
    }


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no benchmark results"):
        report.main([str(write(tmp_path / "x.json", {"format": 7}))])
    with pytest.raises(SystemExit, match="cannot read"):
        report.main([str(tmp_path / "absent.json")])
