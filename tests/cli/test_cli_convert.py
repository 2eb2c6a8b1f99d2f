"""``sgela-fast convert`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.cli.main import main
from sgela_fast.skeletons.readers.base import RecordingRef
from sgela_fast.skeletons.readers.packed_npz import PackedNPZReader
from sgela_fast.skeletons.recording import Recording


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    np.savez(folder / "walks.npz", a=np.ones((30, 25, 3), np.float32), b=np.ones((8, 25, 3), np.float32))
    (folder / "manifest.csv").write_text("recording,person,split\na,p1,train\nb,p2,test\n")
    return folder


def test_the_result_goes_to_stdout_and_progress_to_stderr(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(packed), str(tmp_path / "out"), "--layout", "kinect-v1", "--min_frames", "10"]) == 0
    printed = capsys.readouterr()
    lines = [line.split(maxsplit=2) for line in printed.out.splitlines()]
    assert ["recordings", "1"] in lines
    assert ["persons", "1"] in lines
    assert ["frames", "30"] in lines
    assert "b: has 8 frames, fewer than min_frames = 10" in printed.out
    assert "Converting: 2 of 2 recordings" in printed.err


def test_json_holds_the_same(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(packed), str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["recordings"], result["persons"], result["frames"]) == (2, 2, 38)
    assert (result["format"], result["layout"], result["left_out"]) == ("packed-npz", "kinect-v2", [])


def test_a_fault_is_one_sentence_without_a_traceback(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(packed / "walks.npz", a=np.ones((30, 19, 3), np.float32), b=np.ones((8, 25, 3), np.float32))
    assert main(["convert", str(packed), str(tmp_path / "out"), "--strict"]) == 1
    error = capsys.readouterr().err
    assert "array 'a' of" in error
    assert "(30, 19, 3) but must be numbers (frames, joints, 3)" in error
    assert "Traceback" not in error


def test_an_unknown_format_is_an_argument_error(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(packed), str(tmp_path / "out"), "--format", "kinect"]) == 2
    assert "unknown format 'kinect'; choose auto or one of: archive, packed-npz" in capsys.readouterr().err


def test_control_c_says_how_to_go_on_and_the_same_command_does(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["convert", str(packed), str(tmp_path / "out"), "--frames_per_shard", "30"]
    real = PackedNPZReader.read

    def stop_at_b(self: PackedNPZReader, ref: RecordingRef) -> Recording:
        if ref.name == "b":
            raise KeyboardInterrupt
        return real(self, ref)

    with monkeypatch.context() as patched:
        patched.setattr(PackedNPZReader, "read", stop_at_b)
        assert main(command) == 130
    assert "stopped; 1 of 2 recordings are in whole shards in" in capsys.readouterr().err
    assert main(command) == 0
    assert "resumed behind 1 recordings of an interrupted conversion" in capsys.readouterr().out
