"""``sgela-fast import-tf`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sgela_fast.checkpoints.run_folder import load_run
from sgela_fast.cli.main import main
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.models.tf_names import axis_tensors
from tests.checkpoints.conftest import write


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three axes of one model, in the working folder."""
    monkeypatch.chdir(tmp_path)
    state = build_model(SGELAConfig(hidden=4), seed=1).state_dict()
    for place, axis in enumerate("xyz"):
        dead = {"lstm_weights_layer_2": np.zeros(16, np.float32)}
        write(Path(f"released/BIWI_LA_{axis}/trained_model.ckpt"), {**axis_tensors(state, place), **dead})
    return Path("released")


def test_it_says_what_was_imported_left_out_and_assumed(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-tf", str(released), "run"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "gait encoder: axes 3, joints 20, hidden 4, layers 2",
        "written to run; left out: 1 copies that nothing reads",
    ]
    assert printed.err.splitlines() == [
        "note: the checkpoint does not say how its windows were cut; this run takes 6 frames of raw camera "
        "coordinates, 10 frames trimmed at each end (--frames, --center, --trim)"
    ]


def test_the_run_takes_the_given_window(released: Path) -> None:
    options = ["--frames", "4", "--trim", "0", "--center", "hip_center", "--layout", "kinect-v1"]
    assert main(["import-tf", str(released), "run", *options]) == 0
    run = load_run("run")
    assert (run.window.frames, run.window.trim, run.window.center) == (4, 0, "hip_center")
    assert run.model.ages(torch.zeros(1, 4, 20, 3)).shape == (1, 4, 12)


@pytest.mark.parametrize("form", ["BIWI_LA_y", "BIWI_LA_y/trained_model.ckpt", "BIWI_LA_y/trained_model.ckpt.index"])
def test_a_single_axis_may_be_given_in_any_form(released: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-tf", str(released / form), "run"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("gait encoder: axes 1, ")
    assert "note: a single axis cannot encode skeletons" in printed.err


def test_a_recognition_network_is_told_from_a_gait_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shapes = {"W1": (12, 4), "b1": (4,), "W": (4, 3), "Variable": (3,), "W1/Adam3": (12, 4), "learning_rate": ()}
    write(Path("released/rn.ckpt"), {name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    assert main(["import-tf", "released", "rn"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "recognition network: width 12, hidden 4, persons 3",
        "written to rn; left out: 2 tensors of the optimiser",
    ]
    assert printed.err == ""
    assert json.loads(Path("rn/recognition.json").read_text())["persons"] == 3


def test_a_damaged_checkpoint_leaves_no_folder(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = released / "BIWI_LA_z" / "trained_model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    assert main(["import-tf", str(released), "run"]) == 1
    (complaint,) = capsys.readouterr().err.splitlines()
    assert complaint.startswith("sgela-fast: tensor '")
    assert complaint.endswith(f" in {data} does not fit its checksum; copy the checkpoint again")
    assert not Path("run").exists()


def test_an_impossible_window_is_an_argument_error(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-tf", str(released), "run", "--frames", "0"]) == 2
    assert "window.frames is 0; it must be at least 1" in capsys.readouterr().err
    assert not Path("run").exists()
