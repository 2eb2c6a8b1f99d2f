"""Energy is counted where the machine counts it, and never made up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sgela_fast.benchmarks.harness.energy import NoCounter, PowercapCounter, find_counter, joules_per_call
from sgela_fast.benchmarks.harness.suite import Outputs


def zone(root: Path, folder: str, name: str, microjoules: int, wraps_at: int = 10**9) -> Path:
    """A RAPL zone as Linux shows it; returns its counter."""
    place = root / folder
    place.mkdir()
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    return place / "energy_uj"


def test_packages_and_memory_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    files = {
        name: zone(tmp_path, folder, name, 1000)
        for folder, name in (
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:0:1", "dram"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:2", "psys"),
        )
    }
    counter = PowercapCounter(tmp_path)
    assert counter.name == "RAPL (package-0, dram, package-1)"
    counter.start()
    for file in files.values():
        file.write_text("3001000")
    assert counter.joules() == pytest.approx(9.0)


def test_a_counter_that_ran_over_is_followed(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 9_500_000, wraps_at=9_999_999)
    counter = PowercapCounter(tmp_path)
    counter.start()
    file.write_text("500000")
    assert counter.joules() == pytest.approx(1.0)


def test_joules_are_those_of_one_call(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0)

    def job() -> Outputs:
        file.write_text(str(int(file.read_text()) + 2_000_000))
        return {}

    assert joules_per_call(job, PowercapCounter(tmp_path), "cpu", seconds=0.01) == pytest.approx(2.0)


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoCounter, match="no RAPL counter"):
        PowercapCounter(tmp_path)
    with pytest.raises(NoCounter, match="no RAPL counter"):
        PowercapCounter(tmp_path / "absent")


def test_a_counter_for_the_administrator_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    read_text = Path.read_text

    def refuse(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(NoCounter, match="administrator"):
        PowercapCounter(tmp_path)


@pytest.mark.gpu
def test_the_gpu_is_counted_or_says_why_not() -> None:
    try:
        counter = find_counter("cuda")
    except NoCounter as error:
        pytest.skip(str(error))
    weight = torch.randn(4096, 4096, device="cuda")
    assert joules_per_call(lambda: {"x": weight @ weight}, counter, "cuda") > 0
