"""``sgela-fast train`` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sgela_fast.checkpoints.run_folder import load_run
from sgela_fast.cli.main import main
from sgela_fast.skeletons.archive import ArchiveWriter
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording

SMALL = ["--model.hidden", "4", "--training.batch", "4", "--training.max_steps", "2", "--training.threads", "1"]
SMALL += ["--window.trim", "0", "--training.tensorboard", "false", "--training.device", "cpu"]


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> str:
    generator = np.random.default_rng(0)
    writer = ArchiveWriter(tmp_path_factory.mktemp("archive") / "walks.sga", get_layout("kinect-v1"), {"by": "tests"})
    for index in range(3):
        joints = generator.normal(size=(20, 20, 3)).astype(np.float32)
        writer.add(Recording(f"walk{index}", joints, "kinect-v1", person=f"p{index}", extra={"split": "train"}))
    return str(writer.finish().path)


def run_info(out: Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((out / "run.json").read_text())
    return info


def test_the_result_goes_to_stdout_and_remarks_to_stderr(
    walks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", walks, "--out", str(out), *SMALL]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "finished after 2 steps (0.67 epochs)"
    assert lines[1].startswith("L_R ")
    assert lines[2] == f"run folder: {out}"
    assert re.search(
        r"backend (fused \(auto: compiled kernels, .*, cpu\)|reference \(auto: the compiled .*\))", printed.err
    )
    assert "3 recordings, 15 windows, 3 steps an epoch; 0 recordings kept aside to watch the loss" in printed.err
    assert "Training: 2 of 2 steps" in printed.err
    assert load_run(out).model_config.hidden == 4


def test_the_config_of_a_run_makes_the_same_run(walks: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    chosen = ["--preset", "paper", "--model.fusion", "linear", "--training.clip", "0.5", "--window.stride", "2"]
    assert main(["train", walks, "--out", str(first), *SMALL, *chosen]) == 0
    assert main(["train", walks, "--out", str(second), "--config", str(first / "config.yaml")]) == 0
    for section in ("model", "window", "training"):
        assert run_info(first)[section] == run_info(second)[section]
    assert load_run(first).model_hash == load_run(second).model_hash
    assert (first / "config.yaml").read_text() == (second / "config.yaml").read_text()


def test_an_argument_behind_the_config_outranks_it(walks: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"model": {"hidden": 3, "attention": "bas"}, "training": {"seed": 5}}))
    out = tmp_path / "run"
    assert main(["train", walks, "--out", str(out), "--config", str(file), *SMALL]) == 0
    info = run_info(out)
    assert (info["model"]["hidden"], info["model"]["attention"], info["training"]["seed"]) == (4, "bas", 5)


@pytest.mark.parametrize(("preset", "optimiser", "fusion"), [("official", "adam", "linear"), ("paper", "sgd", "tanh")])
def test_preset_sets_variant_and_training_together(
    walks: str, tmp_path: Path, preset: str, optimiser: str, fusion: str
) -> None:
    out = tmp_path / "run"
    assert main(["train", walks, "--out", str(out), "--preset", preset, *SMALL]) == 0
    info = run_info(out)
    assert (info["model"]["variant"], info["training"]["preset"]) == (preset, preset)
    assert (info["model"]["fusion"], info["training"]["optimiser"]) == (fusion, optimiser)


def test_a_preset_against_a_spelled_out_config_is_refused(
    walks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    assert main(["train", walks, "--out", str(first), *SMALL]) == 0
    capsys.readouterr()
    again = ["train", walks, "--out", str(tmp_path / "second"), "--config", str(first / "config.yaml")]
    assert main([*again, "--preset", "paper"]) == 2
    assert capsys.readouterr().err == (
        "sgela-fast: --preset paper contradicts the configuration file, which spells out another variant; leave "
        "--preset or the file's model section out\n"
    )
    assert main([*again, "--preset", "official"]) == 0


def test_resume_goes_on(walks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", walks, "--out", str(tmp_path / "run"), *SMALL]
    assert main(command) == 0
    assert main([*command, "--resume", "--training.max_steps", "5"]) == 0
    assert "finished after 5 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "status", "sentence"),
    [
        (["--model.hidden", "0"], 2, "model.hidden is 0; it must be a finite number of at least 1"),
        (["--training.learning_rate", "-1"], 2, "training.learning_rate is -1.0; it must be a finite number above 0"),
        (["--window.frames", "0"], 2, "window.frames is 0; it must be at least 1"),
        (["--model.frames", "8"], 2, "model.frames is 8 but window.frames is 6; set window.frames alone"),
        (["--training.split", "side"], 1, "{walks} has no column 'side'; its columns are: split"),
    ],
)
def test_a_bad_value_gets_one_sentence_and_leaves_nothing(
    walks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], status: int, sentence: str
) -> None:
    assert main(["train", walks, "--out", str(tmp_path / "run"), *SMALL, *wrong]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1] == f"sgela-fast: {sentence.format(walks=walks)}"
    assert not (tmp_path / "run").exists()


def test_a_missing_archive_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "none.sga"), "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == (
        f"sgela-fast: {tmp_path / 'none.sga'} is not a folder; give the folder that `sgela-fast convert` made\n"
    )
