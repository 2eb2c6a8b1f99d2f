"""Training that is stopped, resumed, starved or led astray."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sgela_fast.atomic import output_error
from sgela_fast.checkpoints.run_folder import load_run, write_run
from sgela_fast.errors import (
    CheckpointError,
    DivergenceError,
    Interrupted,
    MissingDependencyError,
    OutputError,
    SgelaError,
)
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training import journal, step, trainer
from sgela_fast.training.checkpoint import list_checkpoints
from sgela_fast.training.trainer import train

Settings = Callable[..., dict[str, Any]]


def state_of(out: Path) -> Any:
    return json.loads((out / "run.json").read_text())["state"]


def after(steps: int, action: Callable[[], None]) -> Callable[..., None]:
    """A progress callback that acts once ``steps`` steps are taken."""
    taken = 0

    def progress(units: int = 1, note: str = "") -> None:
        nonlocal taken
        taken += units
        if taken == steps:
            action()

    return progress


def outcome(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights, optimiser state and history (but for the clock) that a run ended with."""
    newest = list_checkpoints(out)[-1]
    history = json.loads((out / "history.json").read_text())
    for entry in history:
        del entry["seconds"]
    return load_file(out / "model.safetensors"), load_file(newest / "optimiser.safetensors"), history


def assert_same_outcome(one: Path, other: Path) -> None:
    weights, optimiser, history = outcome(one)
    other_weights, other_optimiser, other_history = outcome(other)
    for found, wanted in [(weights, other_weights), (optimiser, other_optimiser)]:
        assert found.keys() == wanted.keys()
        for name in found:
            assert torch.equal(found[name], wanted[name]), name
    assert history == other_history


@pytest.mark.parametrize("preset", ["official", "paper"])
@pytest.mark.parametrize("first_part", [4, 7])
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(
    archive: Archive, tmp_path: Path, settings: Settings, preset: str, first_part: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(archive, whole, **settings(preset))
    train(archive, parts, **settings(preset, max_steps=first_part))
    result = train(archive, parts, **settings(preset), resume=True)
    assert (result.state, result.step) == ("finished", 12)
    assert_same_outcome(parts, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_the_run_goes_on_bit_equal(
    archive: Archive, tmp_path: Path, settings: Settings, number: signal.Signals
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(archive, whole, **settings())
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        train(archive, parts, **settings(), progress=after(5, lambda: os.kill(os.getpid(), number)))
    assert str(caught.value) == f"stopped after step 5; go on with the same command and --resume ({parts})"
    assert caught.value.exit_code == 130
    assert signal.getsignal(number) is handler
    assert state_of(parts) == "interrupted"
    assert list_checkpoints(parts)[-1].name == "step-00000005"
    assert load_run(parts).info["step"] == 5
    planned: list[tuple[int, int]] = []
    train(archive, parts, **settings(), resume=True, planned=lambda done, total: planned.append((done, total)))
    assert planned == [(5, 12)]
    assert state_of(parts) == "finished"
    assert_same_outcome(parts, whole)


def test_a_crash_goes_on_from_the_last_checkpoint_bit_equal(
    archive: Archive, tmp_path: Path, settings: Settings
) -> None:
    def crash() -> None:
        raise RuntimeError("power cut")

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(archive, whole, **settings())
    with pytest.raises(RuntimeError, match="power cut"):
        train(archive, parts, **settings(), progress=after(10, crash))
    assert state_of(parts) == "training"
    train(archive, parts, **settings(), resume=True)
    assert_same_outcome(parts, whole)


def test_a_crash_in_the_first_step_is_resumable_too(archive: Archive, out: Path, settings: Settings) -> None:
    def crash() -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(archive, out, **settings(), progress=after(1, crash))
    assert train(archive, out, **settings(), resume=True).step == 12


def test_a_second_signal_stops_at_once(archive: Archive, out: Path, settings: Settings) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(archive, out, **settings(), progress=after(6, twice))
    assert train(archive, out, **settings(), resume=True).state == "finished"


def test_a_signal_in_the_last_step_changes_nothing(archive: Archive, out: Path, settings: Settings) -> None:
    result = train(archive, out, **settings(), progress=after(12, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert result.state == state_of(out) == "finished"


def test_a_spent_budget_ends_cleanly_and_a_larger_one_goes_on(archive: Archive, out: Path, settings: Settings) -> None:
    result = train(archive, out, **settings(budget_minutes=1e-9))
    assert (result.state, result.step) == ("out of budget", 1)
    assert state_of(out) == "out of budget"
    assert train(archive, out, **settings(budget_minutes=1e-9), resume=True).step == 1
    assert train(archive, out, **settings(), resume=True).state == "finished"


def test_resuming_a_finished_run_changes_nothing_unless_there_is_more_to_do(
    archive: Archive, out: Path, settings: Settings
) -> None:
    first = train(archive, out, **settings(max_steps=7))
    weights = load_run(out).model_hash
    again = train(archive, out, **settings(max_steps=7), resume=True)
    assert (again.step, again.state, again.reconstruction) == (7, "finished", first.reconstruction)
    assert load_run(out).model_hash == weights
    assert train(archive, out, **settings(max_steps=8), resume=True).step == 8


def test_a_second_run_into_the_folder_is_refused(archive: Archive, out: Path, settings: Settings) -> None:
    train(archive, out, **settings(max_steps=1))
    with pytest.raises(OutputError) as caught:
        train(archive, out, **settings(max_steps=1))
    assert str(caught.value) == f"{out} already holds a run; choose another --out or go on with --resume"
    (out / "run.json").unlink()
    with pytest.raises(OutputError) as caught:
        train(archive, out, **settings(max_steps=1))
    assert str(caught.value) == (
        f"{out} holds weights of a run whose run.json is gone; choose another --out or remove the folder"
    )


def test_a_run_that_another_process_trains_is_left_alone(archive: Archive, out: Path, settings: Settings) -> None:
    train(archive, out, **settings(max_steps=1))
    with (out / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError) as caught:
            train(archive, out, **settings(), resume=True)
    assert str(caught.value) == (f"another process is training into {out}; wait for it or choose another --out")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"training": {"learning_rate": 0.01}}, "training.learning_rate = 0.0005, not 0.01"),
        ({"training": {"seed": 4}}, "training.seed = 0, not 4"),
        ({"model": {"attention": "bas"}}, "model.attention = 'las', not 'bas'"),
        ({"trim": 1}, "window.trim = 0, not 1"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    archive: Archive, out: Path, settings: Settings, change: dict[str, Any], named: str
) -> None:
    train(archive, out, **settings(max_steps=1))
    others = {name: value for name, value in change.items() if name != "training"}
    changed = settings(**others, **change.get("training", {}))
    with pytest.raises(CheckpointError) as caught:
        train(archive, out, **changed, resume=True)
    assert str(caught.value) == f"{out} was made with {named}; resume with the settings in its config.yaml"


def test_resuming_on_another_archive_is_refused(
    archive: Archive, make_archive: Callable[..., Archive], out: Path, settings: Settings
) -> None:
    train(archive, out, **settings(max_steps=1))
    other = make_archive(first_seed=50)
    with pytest.raises(CheckpointError) as caught:
        train(other, out, **settings(), resume=True)
    assert str(caught.value) == (
        f"{out} was trained on another archive than {other.path}; resume with the same archive"
    )


def test_resuming_nothing_is_refused(archive: Archive, out: Path, settings: Settings) -> None:
    with pytest.raises(CheckpointError) as caught:
        train(archive, out, **settings(), resume=True)
    assert str(caught.value) == (f"{out} is not a run folder: it has no run.json; give the folder made by `train`")


def test_resuming_a_run_that_was_not_trained_here_is_refused(archive: Archive, out: Path, settings: Settings) -> None:
    write_run(out, build_model(SGELAConfig(hidden=8)), window=WindowConfig(), layout="kinect-v1")
    with pytest.raises(CheckpointError) as caught:
        train(archive, out, **settings(), resume=True)
    assert str(caught.value) == (f"{out} was not made by `train`, so it cannot be resumed; train into another --out")


def test_a_truncated_newest_checkpoint_is_named_and_the_run_stays(
    archive: Archive, out: Path, settings: Settings
) -> None:
    train(archive, out, **settings(max_steps=8))
    newest = list_checkpoints(out)[-1] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(CheckpointError) as caught:
        train(archive, out, **settings(), resume=True)
    message = str(caught.value)
    assert message.startswith(f"{newest} is damaged (")
    assert message.endswith(f"; remove {newest.parent} to resume from an older checkpoint")
    assert state_of(out) == "finished"


def diverge(archive: Archive, out: Path, chosen: dict[str, Any]) -> str:
    with pytest.raises(DivergenceError) as caught:
        train(archive, out, **chosen)
    assert state_of(out) == "diverged"
    for path in (out / "model.safetensors", list_checkpoints(out)[-1] / "model.safetensors"):
        assert all(torch.isfinite(weight).all() for weight in load_file(path).values())
    assert load_run(out).info["state"] == "diverged"
    return str(caught.value)


def test_an_infinite_loss_keeps_the_weights_of_the_step_before(
    archive: Archive, out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = trainer.Windows.gather
    monkeypatch.setattr(
        trainer.Windows, "gather", lambda self, windows: gather(self, windows) * (math.inf if marked(windows) else 1)
    )
    calls = iter(range(1000))

    def marked(windows: torch.Tensor) -> bool:
        return next(calls) == 5

    message = diverge(archive, out, settings(validation=0.0))
    assert message == (
        "training diverged at step 6 (loss nan, gradient norm nan); the weights of step 5 are kept in "
        f"{out}; lower training.learning_rate or set training.clip"
    )
    assert list_checkpoints(out)[-1].name == "step-00000005"


def test_a_step_into_infinity_goes_back_to_the_last_good_weights(
    archive: Archive, out: Path, settings: Settings
) -> None:
    message = diverge(archive, out, settings("paper", learning_rate=3e38, clip=0.0))
    assert message == (
        "training diverged at step 1 (a weight is infinite or NaN); the weights of step 0 are kept in "
        f"{out}; lower training.learning_rate or set training.clip"
    )


def test_a_learning_rate_far_too_high_never_leaves_bad_weights(archive: Archive, out: Path, settings: Settings) -> None:
    message = diverge(archive, out, settings("paper", learning_rate=1e4, clip=0.0, max_steps=200, log_every=100))
    assert message.startswith("training diverged at step ")


def test_bad_weights_between_two_log_entries_reach_no_checkpoint(
    archive: Archive, out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1000))

    def spoil(parameters: Iterable[torch.Tensor], bound: float) -> None:
        if next(calls) == 1:
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad.fill_(math.inf)

    monkeypatch.setattr(step, "clip_gradients", spoil)
    message = diverge(archive, out, settings("paper", checkpoint_every=1, log_every=100))
    assert message.startswith("training diverged at step 2 (a weight is infinite or NaN); the weights of step 1 are")


def test_bad_weights_at_the_very_end_are_no_result(archive: Archive, out: Path, settings: Settings) -> None:
    diverge(archive, out, settings("paper", learning_rate=3e38, clip=0.0, max_steps=1, log_every=100))


def test_a_full_disk_at_a_checkpoint_keeps_the_previous_one(
    archive: Archive, out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = journal.save_checkpoint

    def full(run: Path, model: Any, optimiser: Any, state: dict[str, Any], keep: int) -> Path:
        if state["step"] == 8:
            raise output_error(run / "checkpoints", OSError(28, "No space left on device"))
        return save(run, model, optimiser, state, keep)

    monkeypatch.setattr(journal, "save_checkpoint", full)
    with pytest.raises(OutputError, match=r"the disk is full; free some space and run the command again$"):
        train(archive, out, **settings())
    assert list_checkpoints(out)[-1].name == "step-00000004"
    monkeypatch.undo()
    assert train(archive, out, **settings(), resume=True).state == "finished"


def test_a_place_that_cannot_be_written_is_named(archive: Archive, tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").write_text("here first")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SgelaError) as caught:
            train(archive, out, **settings())
        assert str(caught.value).startswith(f"cannot write {out}: ")
        assert str(caught.value).endswith("choose another output path")


def test_a_read_only_place_is_named(
    archive: Archive, out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError) as caught:
        train(archive, out, **settings())
    assert str(caught.value) == f"cannot write {out}: the file system is read-only; choose another output path"


def test_a_missing_tensorboard_is_said_before_a_folder_is_made(
    archive: Archive, out: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError) as caught:
        train(archive, out, **settings(tensorboard=True))
    assert str(caught.value) == (
        'training.tensorboard needs the package tensorboard; install it with pip install "sgela_fast[train]", or '
        "set it to false"
    )
    assert not out.exists()
