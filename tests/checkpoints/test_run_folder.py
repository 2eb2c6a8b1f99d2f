"""The run folder: what is written is what is loaded, and damage is named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgela_fast.checkpoints import run_folder
from sgela_fast.checkpoints.run_folder import load_run, save_weights, write_run
from sgela_fast.errors import CheckpointError, OutputError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.config import WindowConfig

WINDOW = WindowConfig(frames=4, trim=2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = build_model(SGELAConfig(frames=4, joints=20, hidden=3, variant="paper"), seed=5)
    write_run(tmp_path / "run", model, window=WINDOW, layout="kinect-v1", info={"state": "finished"})
    return tmp_path / "run"


def edit(run: Path, **changes: Any) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, **changes}))


def complaint(run: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_run(run)
    return str(caught.value)


def test_what_is_written_is_what_is_loaded(run: Path) -> None:
    loaded = load_run(run)
    original = build_model(SGELAConfig(frames=4, joints=20, hidden=3, variant="paper"), seed=5)
    assert loaded.model_config == original.config
    assert (loaded.window, loaded.layout, loaded.info["state"]) == (WINDOW, "kinect-v1", "finished")
    assert not loaded.model.training
    for name, weight in original.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)


def test_the_hash_is_that_of_the_weights_file(run: Path) -> None:
    assert load_run(run).model_hash == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def test_a_double_model_is_loaded_as_a_single_one(tmp_path: Path) -> None:
    model = build_model(SGELAConfig(hidden=3), dtype=torch.float64)
    write_run(tmp_path, model, window=WindowConfig(), layout="kinect-v1")
    assert load_run(tmp_path).model.output_weight.dtype == torch.float32


def test_a_failed_write_keeps_the_old_weights(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "model.safetensors").read_bytes()

    def full(path: Path, write: object) -> None:
        raise OutputError(f"cannot write {path}: the disk is full; free some space and run the command again")

    monkeypatch.setattr(run_folder, "write_file", full)
    with pytest.raises(OutputError, match="the disk is full"):
        save_weights(run / "model.safetensors", {"a": torch.zeros(3)})
    assert (run / "model.safetensors").read_bytes() == before


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    expected = "is not a run folder: it has no run.json; give the folder made by `train`"
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        assert complaint(path) == f"{path} {expected}"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": "sgela-fast/run", "schema_version": 1}', "\x80"])
def test_a_damaged_index_is_named(run: Path, content: str) -> None:
    (run / "run.json").write_bytes(content.encode("latin-1"))
    message = complaint(run)
    assert message.startswith(f"{run / 'run.json'} is damaged (")
    assert message.endswith("restore it or train again")


@pytest.mark.parametrize(("name", "value"), [("schema", "sgela-fast/store"), ("schema_version", 2)])
def test_another_schema_is_named(run: Path, name: str, value: object) -> None:
    edit(run, **{name: value})
    assert complaint(run).endswith("but this release reads 'sgela-fast/run' version 1; use a matching release")


@pytest.mark.parametrize("section", ["model", "window"])
@pytest.mark.parametrize("value", [{"unheard_of": 1}, {"frames": -2}, [], 3])
def test_settings_that_are_not_known_are_named(run: Path, section: str, value: object) -> None:
    edit(run, **{section: value})
    assert complaint(run).startswith(f"{run / 'run.json'} has settings that this release does not know (")


def test_missing_weights_are_named(run: Path) -> None:
    (run / "model.safetensors").unlink()
    assert complaint(run) == (
        f"{run / 'model.safetensors'} is missing; give a run folder that training has finished at least once"
    )


@pytest.mark.parametrize("keep", [0, 4, 60, -8])
def test_truncated_weights_are_named(run: Path, keep: int) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert complaint(run).startswith(f"{path} is damaged (")


def test_a_pickle_is_not_opened(run: Path) -> None:
    torch.save({"a": torch.zeros(2)}, run / "model.safetensors")
    assert complaint(run).startswith(f"{run / 'model.safetensors'} is damaged (")


def test_weights_of_another_model_are_named(run: Path) -> None:
    path = run / "model.safetensors"
    weights = load_file(path)
    weights["output_weight"] = torch.zeros(3, 25, 3)
    save_file(weights, path)
    assert complaint(run) == (
        f"{path} belongs to another model: 'output_weight' is (3, 25, 3) there but (3, 20, 3) by the settings; give "
        "weights and settings of one run"
    )
    del weights["output_weight"]
    save_file(weights, path)
    assert "'output_weight' is absent there but (3, 20, 3) by the settings" in complaint(run)


def test_weights_that_are_not_finite_are_named(run: Path) -> None:
    path = run / "model.safetensors"
    weights = load_file(path)
    weights["output_weight"][0, 0, 0] = float("nan")
    save_file(weights, path)
    assert complaint(run) == f"{path} holds values that are not finite in 'output_weight'; train again"
