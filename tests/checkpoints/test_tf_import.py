"""Checkpoints of the released code become run folders that compute the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sgela_fast.checkpoints.run_folder import load_run
from sgela_fast.checkpoints.tf_import import describe_left_out, import_checkpoint
from sgela_fast.errors import CheckpointError, DataError, OutputError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.models.tf_names import axis_state, axis_tensors, gait_shape
from sgela_fast.reference.sgela import SGELA
from sgela_fast.skeletons.config import WindowConfig

SLOTS = {
    "memory_layer/kernel/Adam": np.zeros((8, 8), np.float32),
    "optimization/beta1_power": np.array(0.9, np.float32),
    "lstm_weights_layer_2": np.zeros(32, np.float32),
}


@pytest.fixture
def model() -> SGELA:
    return build_model(SGELAConfig(variant="official", hidden=8), seed=5)


@pytest.fixture
def folder(tmp_path: Path, model: SGELA, write_bundle: Callable[..., Path]) -> Path:
    """Three axes as the released code saves them."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.uniform_(-0.5, 0.5, generator=generator)
    for place, axis in enumerate("xyz"):
        tensors = {**axis_tensors(model.state_dict(), place), **SLOTS}
        write_bundle(tmp_path / "models" / f"KGBD_LA_{axis}" / "trained_model.ckpt", tensors)
    return tmp_path / "models"


def test_names_and_layout_survive_the_round_trip(model: SGELA) -> None:
    tensors = axis_tensors(model.state_dict(), 1)
    shape = gait_shape({name: value.shape for name, value in tensors.items()}, "here")
    assert shape == (20, 8, 2)
    for name, value in axis_state(tensors, shape).items():
        assert torch.equal(value[0], model.state_dict()[name][1]), name


def test_three_axes_compute_as_the_model_they_came_from(folder: Path, model: SGELA, tmp_path: Path) -> None:
    result = import_checkpoint(folder, tmp_path / "run")
    assert result.sizes == {"axes": 3, "joints": 20, "hidden": 8, "layers": 2}
    run = load_run(tmp_path / "run")
    windows = torch.randn(4, 6, 20, 3)
    with torch.no_grad():
        assert torch.equal(run.model.ages(windows), model.ages(windows))
    assert run.layout == "kinect-v1"
    assert run.window.center == "none"
    assert describe_left_out(result.left_out) == "2 tensors of the optimiser, 1 copies that nothing reads"


def test_one_axis_makes_a_model_of_one_axis(folder: Path, model: SGELA, tmp_path: Path) -> None:
    result = import_checkpoint(folder / "KGBD_LA_y", tmp_path / "run")
    assert result.sizes["axes"] == 1
    assert result.notes[1] == "a single axis cannot encode skeletons; import a folder with *_x, *_y and *_z"
    for name, value in load_run(tmp_path / "run").model.state_dict().items():
        assert torch.equal(value[0], model.state_dict()[name][1]), name


def test_a_checkpoint_of_the_journal_extension_is_a_gait_encoder(
    tmp_path: Path, model: SGELA, write_bundle: Callable[..., Path]
) -> None:
    shapes = {"W1": (48, 8), "b1": (8,), "W": (8, 8), "Variable": (8,), "W1/Adam": (48, 8), "learning_rate_1": ()}
    head = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    prefix = write_bundle(tmp_path / "model.ckpt", {**axis_tensors(model.state_dict()), **head, **SLOTS})
    result = import_checkpoint(prefix, tmp_path / "run")
    assert result.kind == "gait encoder"
    assert describe_left_out(result.left_out) == (
        "4 tensors of the optimiser, 1 copies that nothing reads, 4 tensors of the projection head"
    )
    assert load_run(tmp_path / "run").model.state_dict().keys() == model.state_dict().keys()


def test_the_settings_that_a_checkpoint_does_not_hold_are_noted_and_kept(folder: Path, tmp_path: Path) -> None:
    window = WindowConfig(frames=8, trim=3, center="root")
    (note,) = import_checkpoint(folder, tmp_path / "run", window=window).notes
    assert "8 frames of coordinates centred on root, 3 frames trimmed at each end" in note
    run = load_run(tmp_path / "run")
    assert run.window == window
    assert run.model_config.frames == 8


def test_a_missing_axis_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "KGBD_LA_z").rename(folder / "elsewhere")
    with pytest.raises(CheckpointError, match=r"has 0 folders \*_z where one is needed for each"):
        import_checkpoint(folder, tmp_path / "run")


def test_axes_of_two_models_are_refused(folder: Path, tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    other = build_model(SGELAConfig(variant="official", hidden=4))
    write_bundle(folder / "KGBD_LA_z" / "trained_model.ckpt", axis_tensors(other.state_dict()))
    with pytest.raises(CheckpointError, match=r"has 20 joints, 4 units and 2 layers but .* give the axes of one model"):
        import_checkpoint(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("axis", "xyz")
def test_a_recognition_network_is_no_axis(
    folder: Path, tmp_path: Path, write_bundle: Callable[..., Path], axis: str
) -> None:
    network = {"W1": np.ones((8, 4)), "b1": np.ones(4), "W": np.ones((4, 3)), "Variable": np.ones(3)}
    prefix = write_bundle(folder / f"KGBD_LA_{axis}" / "trained_model.ckpt", network)
    with pytest.raises(CheckpointError, match=f"^{prefix} is not an axis of a gait encoder of the released code"):
        import_checkpoint(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_any_missing_tensor_is_named(tmp_path: Path, model: SGELA, write_bundle: Callable[..., Path]) -> None:
    whole = axis_tensors(model.state_dict())
    for name in whole:
        tensors = {other: values for other, values in whole.items() if other != name}
        prefix = write_bundle(tmp_path / "model.ckpt", tensors)
        with pytest.raises(CheckpointError, match=f"^{prefix} lacks the tensor '{name}'; give a gait encoder"):
            import_checkpoint(prefix, tmp_path / "run")


def test_a_misshapen_tensor_is_named(tmp_path: Path, model: SGELA, write_bundle: Callable[..., Path]) -> None:
    tensors = {**axis_tensors(model.state_dict()), "memory_layer/kernel": np.zeros((8, 9), np.float32)}
    prefix = write_bundle(tmp_path / "model.ckpt", tensors)
    with pytest.raises(CheckpointError, match=r"'memory_layer/kernel' in the shape \(8, 9\) where \(8, 8\)"):
        import_checkpoint(prefix, tmp_path / "run")


def test_a_foreign_checkpoint_is_refused(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    prefix = write_bundle(tmp_path / "model.ckpt", {"conv1/kernel": np.zeros((3, 3), np.float32)})
    with pytest.raises(CheckpointError, match="neither a gait encoder nor a recognition network"):
        import_checkpoint(prefix, tmp_path / "run")


def test_a_joint_count_that_no_layout_has_is_refused(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    odd = build_model(SGELAConfig(variant="official", hidden=4, joints=7))
    prefix = write_bundle(tmp_path / "model.ckpt", axis_tensors(odd.state_dict()))
    with pytest.raises(CheckpointError, match="7 joints, as no known layout has"):
        import_checkpoint(prefix, tmp_path / "run")


def test_a_layout_of_other_joints_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="20 joints but layout 'kinect-v2' has 25; choose --layout kinect-v1"):
        import_checkpoint(folder, tmp_path / "run", layout="kinect-v2")
    with pytest.raises(DataError, match="unknown joint layout 'kinect'"):
        import_checkpoint(folder, tmp_path / "run", layout="kinect")
    with pytest.raises(DataError, match="has no joint 'tail'"):
        import_checkpoint(folder, tmp_path / "run", window=WindowConfig(center="tail"))
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, model: SGELA, write_bundle: Callable[..., Path]
) -> None:
    tensors = {**axis_tensors(model.state_dict()), "memory_layer/kernel": np.full((8, 8), np.nan, np.float32)}
    prefix = write_bundle(tmp_path / "model.ckpt", tensors)
    with pytest.raises(CheckpointError, match="not finite in 'memory_layer/kernel'"):
        import_checkpoint(prefix, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="exists already"):
        import_checkpoint(folder, tmp_path / "run")


def test_a_recognition_network_is_imported(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    shapes = {"W1": (24, 8), "b1": (8,), "W": (8, 3), "Variable": (3,), "W1/Adam3": (24, 8)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    result = import_checkpoint(write_bundle(tmp_path / "rn.ckpt", tensors), tmp_path / "rn")
    assert result.kind == "recognition network"
    assert json.loads((tmp_path / "rn" / "recognition.json").read_text())["persons"] == 3
