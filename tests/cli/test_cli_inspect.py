"""``sgela-fast inspect`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.cli.main import main
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.walker import walks, write_walkers

CLEAN = WalkerConfig(persons=2, walks=2, min_frames=40, max_frames=40, noise=0)


@pytest.fixture
def clean(tmp_path: Path) -> str:
    write_walkers(tmp_path / "walks.sga", CLEAN)
    return str(tmp_path / "walks.sga")


@pytest.fixture
def faulty(tmp_path: Path) -> str:
    """A packed folder whose second recording is in millimetres and whose third has a lost joint."""
    folder = tmp_path / "set"
    folder.mkdir()
    first, second, third, _ = walks(CLEAN)
    lost = third.joints.copy()
    lost[12, 9] = 0
    np.savez(folder / "walks.npz", fine=first.joints, large=1000 * second.joints, holed=lost)
    (folder / "manifest.csv").write_text("recording,person,split\nfine,a,train\nlarge,a,test\nholed,b,train\n")
    return str(folder)


def test_the_table_says_what_is_there(clean: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", clean, "--strict"]) == 0
    printed = capsys.readouterr()
    for words in ("archive", "kinect-v1", "160", "metres", "test 2, train 2", "0 recordings"):
        assert words in printed.out
    assert "fault:" not in printed.out
    assert "4 of 4 recordings" in printed.err


def test_faults_and_notes_name_their_recordings(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", faulty]) == 0
    lines = capsys.readouterr().out.splitlines()
    fault = lines.index("fault: units, 1 recording")
    assert lines[fault + 1].strip().startswith("large ")
    note = lines.index("note: lost, 1 recording")
    assert lines[note + 1].strip().startswith("holed ")


def test_strict_makes_a_fault_an_error(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", faulty, "--strict"]) == 1
    printed = capsys.readouterr()
    assert "packed-npz" in printed.out, "the tables are printed all the same"
    assert "1 of 3 recordings at fault (large)" in printed.err


def test_limits_can_be_set(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", faulty, "--limits.lost_frames", "0"]) == 0
    assert "fault: lost, 1 recording" in capsys.readouterr().out


def test_json_holds_every_recording(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", faulty, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["format"], result["recordings"], result["persons"]) == ("packed-npz", 3, 2)
    assert result["units"] == {"metres": 2, "millimetres": 1}
    assert [item["recording"] for item in result["findings"] if item["fault"]] == ["large"]
    assert {item["recording"] for item in result["measures"]} == {"fine", "large", "holed"}


def test_json_is_strict_too(faulty: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", faulty, "--json", "--strict"]) == 1
    assert json.loads(capsys.readouterr().out)["faulty_recordings"] == 1


def test_the_list_can_be_shortened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joints = next(walks(CLEAN)).joints
    np.savez(tmp_path / "walks.npz", **{f"r{index}": joints[:10] + index / 8 for index in range(5)})
    (tmp_path / "manifest.csv").write_text("recording,person\n" + "".join(f"r{index},p\n" for index in range(5)))
    assert main(["inspect", str(tmp_path), "--list", "2"]) == 0
    out = capsys.readouterr().out
    assert "fault: short, 5 recordings" in out
    assert "and 3 more" in out
    assert "r2" not in out


def test_what_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "nothing")]) == 1
    error = capsys.readouterr().err
    assert "does not exist" in error
    assert "Traceback" not in error


@pytest.mark.shared
def test_a_single_raw_file_can_be_inspected(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shared / "data" / "kgbd" / "raw-sample" / "Person001" / "1.txt"
    assert main(["inspect", str(file), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["format"], result["recordings"], result["faulty_recordings"]) == ("kgbd", 1, 0)
