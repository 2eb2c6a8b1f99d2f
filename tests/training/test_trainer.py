"""Training from an archive to a run folder: what it leaves, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sgela_fast.checkpoints.run_folder import load_run
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training import trainer
from sgela_fast.training.checkpoint import list_checkpoints
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.trainer import planned_steps, train

Settings = Callable[..., dict[str, Any]]


def history(out: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((out / "history.json").read_text())
    return entries


@pytest.mark.parametrize("preset", ["official", "paper"])
def test_the_loss_goes_down_in_thirty_steps(archive: Archive, out: Path, settings: Settings, preset: str) -> None:
    train(archive, out, **settings(preset, max_steps=30, learning_rate=0.003))
    entries = history(out)
    assert entries[-1]["reconstruction"] < 0.8 * entries[0]["reconstruction"]


def test_a_finished_run_holds_everything(archive: Archive, out: Path, settings: Settings) -> None:
    result = train(archive, out, **settings(tensorboard=True))
    assert (result.state, result.step, result.run) == ("finished", 12, out)
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {"run.json", "model.safetensors", "config.yaml", "history.json", "checkpoints", "tensorboard"}
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    assert [entry["step"] for entry in history(out)] == [1, 3, 6, 9, 12]
    assert [path.name for path in sorted((out / "checkpoints").iterdir())] == ["step-00000008", "step-00000012"]
    info = json.loads((out / "run.json").read_text())
    assert (info["state"], info["step"], info["layout"]) == ("finished", 12, "kinect-v1")
    assert info["archive"]["fingerprint"] == archive.fingerprint
    named = yaml.safe_load((out / "config.yaml").read_text())
    assert {name: info[name] for name in named} == named


def test_tensorboard_holds_the_losses_and_the_heat_maps(archive: Archive, out: Path, settings: Settings) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(archive, out, **settings(tensorboard=True, max_steps=6))
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"total", "reconstruction", "attention", "regularisation", "validation"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("reconstruction")] == [1, 3, 6]
    assert set(tags["images"]) == {"alignment/x", "alignment/y", "alignment/z"}


def test_the_result_is_loadable_and_is_what_was_trained(archive: Archive, out: Path, settings: Settings) -> None:
    result = train(archive, out, **settings())
    run = load_run(out)
    assert run.model_config.hidden == 8
    assert not run.model.training
    assert result.reconstruction == history(out)[-1]["reconstruction"]
    newest = load_file(list_checkpoints(out)[-1] / "model.safetensors")
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, newest[name])


def test_the_result_is_a_function_of_the_seed(archive: Archive, tmp_path: Path, settings: Settings) -> None:
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        train(archive, tmp_path / name, **settings(seed=seed, max_steps=4))
        torch.manual_seed(seed + 5)
    hashes = [load_run(tmp_path / name).model_hash for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_joints_and_frames_follow_archive_and_windows(archive: Archive, out: Path, settings: Settings) -> None:
    chosen = settings(max_steps=1)
    train(archive, out, **{**chosen, "window": WindowConfig(frames=4, trim=0)})
    assert (load_run(out).model_config.frames, load_run(out).model_config.joints) == (4, 20)


@pytest.mark.parametrize("attention", ["las", "mbas", "bas", "none"])
def test_every_attention_trains(archive: Archive, out: Path, settings: Settings, attention: str) -> None:
    result = train(archive, out, **settings(model={"attention": attention}, max_steps=2))
    assert (result.attention > 0) == (attention == "las")


def test_recordings_kept_aside_are_never_trained_on(
    archive: Archive, out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    step = trainer._Job._step

    def spy(job: Any, batch: torch.Tensor) -> Any:
        seen.append(batch)
        return step(job, batch)

    monkeypatch.setattr(trainer._Job, "_step", spy)
    chosen = settings(max_steps=24, validation=0.4, shuffle="epoch", seed=2)
    train(archive, out, **chosen)
    _, aside = trainer.split_rows(archive, chosen["training"])
    held_out = {row.recording for row in aside} | {"walk6"}
    first_frames = {row.recording: archive.frames_of(row) for row in archive.rows}

    def poses(name: str) -> set[bytes]:
        joints = first_frames[name]
        return {frame.tobytes() for frame in joints - joints[:, :1]}

    trained = {frame.numpy().tobytes() for batch in seen for frame in batch.movedim(0, -1).flatten(0, 1)}
    for name in first_frames:
        overlap = trained & poses(name)
        assert bool(overlap) == (name not in held_out), name


def test_validation_is_optional(archive: Archive, out: Path, settings: Settings) -> None:
    result = train(archive, out, **settings(validation=0.0, max_steps=3))
    assert result.validation is None
    assert "validation" not in history(out)[0]


def test_recordings_kept_aside_that_hold_no_window_are_a_note(
    make_archive: Callable[..., Archive], out: Path, settings: Settings
) -> None:
    chosen = settings(max_steps=2)
    probe = make_archive()
    _, aside = trainer.split_rows(probe, chosen["training"])
    spoilt_index = int(aside[0].recording.removeprefix("walk"))

    def lose(index: int, joints: np.ndarray) -> None:
        if index == spoilt_index:
            joints[::5, 0] = 0

    result = train(make_archive(spoil=lose), out, **chosen)
    assert result.validation is None
    assert result.notes == ["the 1 recordings kept aside hold no whole window, so nothing watches the loss"]


def test_spoilt_frames_are_left_out_and_noted(
    make_archive: Callable[..., Archive], out: Path, settings: Settings
) -> None:
    def spoil(index: int, joints: np.ndarray) -> None:
        joints[7, 2] = (np.nan, np.inf, 0)[index % 3]

    result = train(make_archive(count=9, spoil=spoil), out, **settings(validation=0.0, max_steps=5))
    assert result.state == "finished"
    assert np.isfinite(result.reconstruction)
    assert result.notes == ["18 windows with a lost joint were left out"]


def test_nothing_but_spoilt_windows_is_said(
    make_archive: Callable[..., Archive], out: Path, settings: Settings
) -> None:
    def spoil(index: int, joints: np.ndarray) -> None:
        joints[::4, 2] = 0

    spoilt = make_archive(spoil=spoil)
    with pytest.raises(DataError) as caught:
        train(spoilt, out, **settings(validation=0.0))
    assert str(caught.value) == (
        f"{spoilt.path} has no window of 6 frames without a lost joint (42 have one); see which joints are lost with "
        "`sgela-fast inspect`"
    )
    assert not out.exists()


def test_progress_and_plan_count_steps(archive: Archive, out: Path, settings: Settings) -> None:
    planned: list[tuple[int, int]] = []
    notes: list[str] = []
    train(
        archive,
        out,
        **settings(max_steps=5),
        progress=lambda units=1, note="": notes.append(note),
        planned=lambda done, total: planned.append((done, total)),
    )
    assert planned == [(0, 5)]
    assert len(notes) == 5
    assert all(note.startswith("L_R ") for note in notes)


def test_max_steps_cuts_the_epochs() -> None:
    assert planned_steps(TrainingConfig(epochs=3), 10) == 30
    assert planned_steps(TrainingConfig(epochs=3, max_steps=7), 10) == 7
    assert planned_steps(TrainingConfig(epochs=3, max_steps=70), 10) == 30


def test_epochs_end_training(archive: Archive, out: Path, settings: Settings) -> None:
    result = train(archive, out, **settings(epochs=2, max_steps=0))
    assert (result.state, result.epochs) == ("finished", 2.0)
    assert result.step == 2 * (5 * 7 // 8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": SGELAConfig(axes=2)}, ConfigError, "model.axes is 2 but skeletons have 3 axes; leave it at 3"),
        (
            {"model": SGELAConfig(joints=25)},
            ConfigError,
            "model.joints is 25 but the archive's layout 'kinect-v1' has 20; leave it out",
        ),
        (
            {"model": SGELAConfig(frames=8)},
            ConfigError,
            "model.frames is 8 but window.frames is 6; set window.frames alone",
        ),
        (
            {"training": TrainingConfig(device="cpu", precision="fp16")},
            ConfigError,
            "precision fp16 runs on CUDA devices alone; choose fp32 or bf16 on the CPU",
        ),
        (
            {"training": TrainingConfig(batch=64)},
            DataError,
            "the training recordings hold 42 windows but a batch takes 64; lower training.batch or window.stride",
        ),
        ({"window": WindowConfig(trim=30)}, DataError, None),
        ({"window": WindowConfig(trim=0, center="tail")}, DataError, None),
    ],
)
def test_wrong_input_is_refused_before_a_folder_is_made(
    archive: Archive, out: Path, settings: Settings, change: dict[str, Any], error: type[Exception], message: str | None
) -> None:
    with pytest.raises(error) as caught:
        train(archive, out, **{**settings(), **change})
    assert message is None or str(caught.value) == message
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="only where there is no CUDA device")
def test_a_missing_gpu_is_said(archive: Archive, out: Path, settings: Settings) -> None:
    with pytest.raises(ConfigError) as caught:
        train(archive, out, **settings(device="cuda"))
    assert str(caught.value) == ("training.device is cuda but torch sees no CUDA device; use --training.device cpu")
