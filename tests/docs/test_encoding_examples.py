"""The example about latency runs and prints a line for every way and number of windows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from sgela_fast.checkpoints.run_folder import write_run
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.config import WindowConfig

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "latency.py"


def test_the_latency_example_measures_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", build_model(SGELAConfig(hidden=8)), window=WindowConfig(), layout="kinect-v1")
    spec = importlib.util.spec_from_file_location("latency_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "ROUNDS", {1: 2, 3: 1})
    monkeypatch.setattr("sys.argv", ["latency.py", str(tmp_path / "run")])
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    example.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("backend ")
    assert [tuple(line.split()[:2]) for line in lines[2:]] == [
        (batch, way) for batch in ("1", "3") for way in ("eager", "encode_windows", "warm")
    ]
