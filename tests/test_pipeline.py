"""The pipeline does each stage once, goes on where it was stopped, and never mixes two configurations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sgela_fast.cli.main import main
from sgela_fast.errors import OutputError
from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig
from sgela_fast.models.config import SGELAConfig
from sgela_fast.pipeline import PipelineConfig, run_pipeline
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.training.config import TrainingConfig


def small(**changes: object) -> PipelineConfig:
    settings: dict[str, object] = {
        "walkers": WalkerConfig(persons=3, walks=3),
        "model": SGELAConfig(hidden=8),
        "training": TrainingConfig(max_steps=4, batch=16, tensorboard=False, validation=0.0, threads=1),
        "evaluation": EvaluationConfig(resamples=20, recognition=RecognitionConfig(max_epochs=2), threads=1),
    }
    return PipelineConfig(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pipeline") / "out"
    run_pipeline(small(), out)
    return out


def test_every_stage_leaves_its_result(finished: Path) -> None:
    for name in ("archive/archive.json", "run/run.json", "store/store.json", "untrained/store.json"):
        assert (finished / name).exists(), name
    results = json.loads((finished / "evaluation" / "results.json").read_text())
    assert [store["store"] for store in results["stores"]] == ["store", "untrained"]
    assert list((finished / "evaluation").glob("cmc_*.png"))


def test_a_second_run_repeats_only_the_evaluation(finished: Path) -> None:
    kept = [finished / "run" / "model.safetensors", finished / "store" / "part-00000.npy"]
    before = [path.stat().st_mtime_ns for path in kept]
    said: list[str] = []
    run_pipeline(small(), finished, announce=said.append)
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert sum("is there already" in line for line in said) == 4


def test_a_missing_stage_is_made_again(finished: Path) -> None:
    shutil.rmtree(finished / "untrained")
    assert len(run_pipeline(small(), finished).stores) == 2
    assert (finished / "untrained" / "store.json").exists()


def test_other_settings_are_refused(finished: Path) -> None:
    with pytest.raises(OutputError, match="with other settings"):
        run_pipeline(small(untrained=False), finished)


def test_a_foreign_folder_is_not_touched_even_when_overwriting(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(OutputError, match="is not empty and holds no pipeline"):
        run_pipeline(small(), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "keep me"


def test_the_command_takes_a_file_overrides_and_an_archive(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        f"source: {finished / 'archive'}\nuntrained: false\nmodel: {{hidden: 8}}\n"
        "training: {max_steps: 9, batch: 16, tensorboard: false, threads: 1}\n"
        "evaluation: {protocol: G, resamples: 20, threads: 1}\n"
    )
    out = tmp_path / "out"
    assert main(["run", str(file), "--out", str(out), "--training.max_steps", "3"]) == 0
    assert json.loads((out / "run" / "run.json").read_text())["step"] == 3
    assert not (out / "archive").exists()
    printed = capsys.readouterr().out
    assert "Rank-1" in printed
    assert str(out / "evaluation" / "results.json") in printed
