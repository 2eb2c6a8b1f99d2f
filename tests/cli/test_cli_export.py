"""`sgela-fast export` writes the encoder of a run folder as one file and says what it takes and gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sgela_fast.checkpoints.run_folder import write_run
from sgela_fast.cli.main import main
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.config import WindowConfig


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = build_model(SGELAConfig(frames=2, hidden=4, layers=1))
    write_run(tmp_path / "run", model, window=WindowConfig(frames=2), layout="kinect-v1")
    return tmp_path / "run"


def test_a_program_is_written_and_described(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "encoder.pt2"
    assert main(["export", str(run), "--out", str(out), "--pooling", "mean"]) == 0
    printed = capsys.readouterr().out
    assert "windows  (batch, 2, 20, 3) float32, metres, layout kinect-v1" in printed
    assert "ages     (batch, 12) float32" in printed
    windows = np.random.default_rng(0).normal(size=(3, 2, 20, 3)).astype(np.float32)
    found = torch.export.load(out).module()(torch.from_numpy(windows)).detach().numpy()
    expected = Encoder.load(run, "reference", "cpu").encode_windows(windows, pooling="mean")
    assert np.array_equal(found, expected)


def test_an_unknown_format_gets_one_sentence(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--out", str(tmp_path / "x"), "--format", "tflite"]) == 2
    assert "format is 'tflite'" in capsys.readouterr().err
