"""``sgela-fast walkers`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgela_fast.cli.main import main
from sgela_fast.skeletons.archive import Archive

SMALL = ["--persons", "2", "--walks", "2", "--min_frames", "30", "--max_frames", "40"]


def test_the_archive_is_written_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walkers", str(tmp_path / "walks.sga"), *SMALL]) == 0
    printed = capsys.readouterr()
    archive = Archive(tmp_path / "walks.sga")
    archive.verify()
    assert (len(archive), len(archive.persons)) == (4, 2)
    assert ["recordings", "4"] in [line.split() for line in printed.out.splitlines()]
    assert "4 of 4 recordings" in printed.err


def test_json_holds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walkers", str(tmp_path / "walks.sga"), *SMALL, "--seed", "7", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["recordings"], result["persons"], result["seed"]) == (4, 2, 7)
    assert result["frames"] == Archive(tmp_path / "walks.sga").info["frames"]


def test_the_same_command_writes_the_same_archive(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["walkers", str(tmp_path / name), *SMALL]) == 0
    assert Archive(tmp_path / "a").fingerprint == Archive(tmp_path / "b").fingerprint


def test_settings_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "walkers.yaml").write_text("persons: 3\nwalks: 2\nmin_frames: 30\nmax_frames: 30\npath: corridor\n")
    assert main(["walkers", str(tmp_path / "walks.sga"), "--config", str(tmp_path / "walkers.yaml")]) == 0
    archive = Archive(tmp_path / "walks.sga")
    assert archive.info["frames"] == 3 * 2 * 30
    assert archive.info["plan"]["settings"]["path"] == "corridor"


def test_a_place_that_is_taken_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walkers", str(tmp_path / "walks.sga"), *SMALL]) == 0
    capsys.readouterr()
    assert main(["walkers", str(tmp_path / "walks.sga"), *SMALL]) == 1
    assert "already holds an archive" in capsys.readouterr().err


def test_a_setting_out_of_range_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walkers", str(tmp_path / "walks.sga"), "--walks", "1"]) == 2
    error = capsys.readouterr().err
    assert "walks is 1" in error
    assert "Traceback" not in error
    assert not (tmp_path / "walks.sga").exists()
