"""Training checkpoints: exact, whole or absent, and clear about damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sgela_fast.checkpoints import run_folder
from sgela_fast.errors import CheckpointError, OutputError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.reference.sgela import SGELA
from sgela_fast.training import checkpoint
from sgela_fast.training.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.optimiser import build_optimiser

Pair = tuple[SGELA, torch.optim.Optimizer]


def make(preset: Any = "official", seed: int = 0, steps: int = 0, **training: Any) -> Pair:
    model = build_model(SGELAConfig(hidden=4, joints=3, frames=2, variant=preset), "reference", seed=seed)
    optimiser = build_optimiser(model, TrainingConfig(preset=preset, **training))
    for _ in range(steps):
        step(model, optimiser)
    return model, optimiser


def step(model: SGELA, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    model.loss(model(torch.ones(3, 2, 2, 3))).total.backward()
    optimiser.step()


def state(at: int) -> dict[str, Any]:
    return {"step": at, "seconds": 1.5, "history": [{"step": 1, "total": 0.1}], "off_beat": None}


def save(run: Path, pair: Pair, at: int, keep: int = 2) -> Path:
    return save_checkpoint(run, *pair, state(at), keep)


@pytest.mark.parametrize("preset", ["official", "paper"])
def test_the_next_step_after_loading_is_bit_equal(tmp_path: Path, preset: Any) -> None:
    model, optimiser = make(preset, steps=3)
    save(tmp_path, (model, optimiser), 3)
    other, other_optimiser = make(preset, seed=9)
    assert load_checkpoint(tmp_path, other, other_optimiser) == state(3)
    for _ in range(2):
        step(model, optimiser)
        step(other, other_optimiser)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_a_checkpoint_before_the_first_step_is_one(tmp_path: Path) -> None:
    model, optimiser = make()
    save(tmp_path, (model, optimiser), 0)
    other, other_optimiser = make(seed=9)
    assert load_checkpoint(tmp_path, other, other_optimiser)["step"] == 0
    assert torch.equal(model.output_weight, other.output_weight)
    assert not other_optimiser.state


def test_sgd_without_momentum_has_nothing_to_keep(tmp_path: Path) -> None:
    save(tmp_path, make("paper", steps=2, momentum=0.0), 2)
    assert load_checkpoint(tmp_path, *make("paper", momentum=0.0))["step"] == 2


def test_only_the_newest_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    pair = make(steps=1)
    for at in (500, 1000, 99_999_999, 100_000_000):
        save(tmp_path, pair, at, keep=3)
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["step-00001000", "step-99999999", "step-100000000"]
    assert load_checkpoint(tmp_path, *make())["step"] == 100_000_000


def test_a_folder_left_by_a_crash_is_no_checkpoint(tmp_path: Path) -> None:
    pair = make(steps=1)
    save(tmp_path, pair, 4)
    crashed = tmp_path / "checkpoints" / ".step-00000008.tmp"
    crashed.mkdir()
    (crashed / "model.safetensors").write_bytes(b"half")
    assert load_checkpoint(tmp_path, *make())["step"] == 4
    save(tmp_path, pair, 8)
    assert not crashed.exists()
    assert load_checkpoint(tmp_path, *make())["step"] == 8


def test_saving_a_step_again_leaves_it_alone(tmp_path: Path) -> None:
    pair = make(steps=1)
    first = save(tmp_path, pair, 4)
    content = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    save(tmp_path, pair, 4)
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == content


@pytest.mark.parametrize("fails_at", ["model.safetensors", "optimiser.safetensors", "state.json"])
def test_a_full_disk_keeps_the_previous_checkpoint_and_leaves_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    pair = make(steps=1)
    save(tmp_path, pair, 4)

    def fill(module: Any, name: str) -> None:
        write = getattr(module, name)

        def full(path: Path, *rest: Any) -> None:
            if path.name == fails_at:
                raise OSError(28, "No space left on device")
            write(path, *rest)

        monkeypatch.setattr(module, name, full)

    fill(run_folder, "write_file")
    fill(checkpoint, "write_json")
    with pytest.raises(OutputError) as caught:
        save(tmp_path, pair, 8, keep=1)
    folder = tmp_path / "checkpoints"
    assert str(caught.value) == (
        f"cannot write {folder / 'step-00000008'}: the disk is full; free some space and run the command again"
    )
    assert [path.name for path in folder.iterdir()] == ["step-00000004"]
    assert load_checkpoint(tmp_path, *make())["step"] == 4


def test_nothing_to_resume_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, *make())
    assert str(caught.value) == (
        f"{tmp_path} has no checkpoint to resume from; train without --resume into another --out"
    )


@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed"])
def test_a_damaged_newest_checkpoint_is_named_with_the_way_out(tmp_path: Path, name: str, damage: str) -> None:
    pair = make(steps=1)
    save(tmp_path, pair, 4)
    newest = save(tmp_path, pair, 8)
    content = (newest / name).read_bytes()
    if damage == "removed":
        (newest / name).unlink()
    else:
        (newest / name).write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, *make())
    message = str(caught.value)
    assert message.startswith(f"{newest / name} is {'missing' if damage == 'removed' else 'damaged'}")
    assert message.endswith(f"remove {newest} to resume from an older checkpoint")
    shutil.rmtree(newest)
    assert load_checkpoint(tmp_path, *make())["step"] == 4


def test_where_no_older_checkpoint_is_left_none_is_offered(tmp_path: Path) -> None:
    only = save(tmp_path, make(steps=1), 4)
    (only / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"no older checkpoint is left, so train again into another --out$"):
        load_checkpoint(tmp_path, *make())


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"step": -1, "seconds": 0, "history": []}', '{"step": 4, "seconds": 0, "history": 3}']
)
def test_a_state_of_another_shape_is_damage(tmp_path: Path, content: str) -> None:
    only = save(tmp_path, make(steps=1), 4)
    (only / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        load_checkpoint(tmp_path, *make())


def test_another_optimiser_is_refused(tmp_path: Path) -> None:
    model, optimiser = make(steps=1)
    save(tmp_path, (model, optimiser), 4)
    sgd = build_optimiser(model, TrainingConfig(preset="paper"))
    with pytest.raises(CheckpointError, match=r"optimiser.safetensors was made by another optimiser or model: it "):
        load_checkpoint(tmp_path, model, sgd)


def test_an_optimiser_without_state_after_the_first_step_is_refused(tmp_path: Path) -> None:
    pair = make(steps=1)
    newest = save(tmp_path, pair, 4)
    run_folder.save_weights(newest / "optimiser.safetensors", {})
    with pytest.raises(CheckpointError, match=r"it lacks '.*'; resume with the settings of that run"):
        load_checkpoint(tmp_path, *pair)


def test_another_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path, make(steps=1), 4)
    with pytest.raises(CheckpointError, match="belongs to another model: "):
        load_checkpoint(tmp_path, *make("paper"))


def test_the_state_is_plain_json(tmp_path: Path) -> None:
    folder = save(tmp_path, make(steps=1), 4)
    assert json.loads((folder / "state.json").read_text()) == state(4)
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.safetensors",
        "optimiser.safetensors",
        "state.json",
    ]
