"""Exported files give the encoder's own encodings of raw windows, whatever the batch, and say what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgela_fast.checkpoints.run_folder import write_run
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.export import METADATA, export
from sgela_fast.errors import ConfigError, DataError, MissingDependencyError, OutputError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model, choose_backend
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout

BATCHES = (1, 2, 3, 7, 64)


def make_encoder(frames: int = 3, **model: Any) -> Encoder:
    settings = {"frames": frames, "hidden": 8, "layers": 1, **model}
    window = WindowConfig(frames=frames)
    made = build_model(SGELAConfig(**settings), "reference", seed=3).eval()
    return Encoder(made, window, get_layout("kinect-v1"), "abc123", "test")


def raw_windows(batch: int, frames: int = 3) -> np.ndarray:
    windows = np.random.default_rng(batch).normal(size=(batch, frames, 20, 3)).astype(np.float32) + np.float32(2)
    windows[0, 0, 3] = 0
    windows[-1, 1, 5, 2] = np.nan
    windows[-1, 2, 0] = np.inf
    return windows


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder()


@pytest.fixture(scope="module")
def torch_file(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(encoder, tmp_path_factory.mktemp("exports") / "encoder.pt2")


@pytest.fixture(scope="module")
def onnx_file(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    return export(encoder, tmp_path_factory.mktemp("exports") / "encoder.onnx", pooling="mean")


def run_onnx(path: Path, windows: np.ndarray) -> np.ndarray:
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    return session.run(None, {"windows": windows})[0]


def test_the_torch_program_gives_the_encoders_bits(encoder: Encoder, torch_file: Path) -> None:
    program = torch.export.load(torch_file).module()
    for batch in BATCHES:
        windows = raw_windows(batch)
        with torch.no_grad():
            found = program(torch.from_numpy(windows)).numpy()
        assert np.array_equal(found, encoder.encode_windows(windows)), batch


@pytest.mark.slow
def test_the_torch_program_needs_torch_alone(torch_file: Path, tmp_path: Path, encoder: Encoder) -> None:
    windows = raw_windows(5)
    np.save(tmp_path / "windows.npy", windows)
    code = (
        "import sys; sys.modules['sgela_fast'] = None\n"
        "import numpy, torch\n"
        f"program = torch.export.load({str(torch_file)!r}).module()\n"
        "numpy.save('ages.npy', program(torch.from_numpy(numpy.load('windows.npy'))).detach().numpy())\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert np.array_equal(np.load(tmp_path / "ages.npy"), encoder.encode_windows(windows))


def test_the_torch_file_says_what_it_is(encoder: Encoder, torch_file: Path) -> None:
    files = {METADATA: ""}
    torch.export.load(torch_file, extra_files=files)
    info = json.loads(files[METADATA])
    assert info["schema"] == "sgela-fast/export"
    assert {name: info[name] for name in ("model_hash", "layout", "frames", "dim")} == {
        "model_hash": "abc123", "layout": "kinect-v1", "frames": 3, "dim": 24,
    }  # fmt: skip
    assert (info["center"], info["pooling"], info["graph"]) == ("hip_center", "none", "reference")
    assert info["joints"] == list(encoder.layout.joints)


def test_the_onnx_model_agrees_with_the_encoder(encoder: Encoder, onnx_file: Path) -> None:
    for batch in BATCHES:
        windows = raw_windows(batch)
        expected = encoder.encode_windows(windows, pooling="mean")
        np.testing.assert_allclose(run_onnx(onnx_file, windows), expected, atol=2e-7, err_msg=str(batch))


def test_the_onnx_model_is_valid_and_says_what_it_is(onnx_file: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    info = {entry.key: entry.value for entry in model.metadata_props}
    assert (info["model_hash"], info["layout"], info["pooling"]) == ("abc123", "kinect-v1", "mean")
    assert json.loads(info["window"])["frames"] == 3
    (given,), (made,) = model.graph.input, model.graph.output
    assert (given.name, made.name) == ("windows", "ages")
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["batch", 3, 20, 3]
    assert [d.dim_param or d.dim_value for d in made.type.tensor_type.shape.dim] == ["batch", 24]


@pytest.mark.parametrize(("variant", "attention"), [("paper", "las"), ("official", "mbas"), ("official", "none")])
def test_every_kind_of_model_can_be_exported(tmp_path: Path, variant: str, attention: str) -> None:
    encoder = make_encoder(2, variant=variant, attention=attention)
    windows = raw_windows(3)[:, 1:]
    feature: Any = "states" if attention == "none" else "ages"
    program = torch.export.load(export(encoder, tmp_path / "encoder.pt2", feature=feature)).module()
    with torch.no_grad():
        found = program(torch.from_numpy(windows)).numpy()
    assert np.array_equal(found, encoder.encode_windows(windows, feature=feature))


@pytest.mark.skipif(choose_backend("auto").name != "fused", reason="the compiled kernels are not there")
@pytest.mark.parametrize(("variant", "attention"), [("paper", "las"), ("official", "none")])
def test_a_program_of_fused_ops_gives_the_fused_encoders_bits(tmp_path: Path, variant: str, attention: str) -> None:
    config = SGELAConfig(frames=3, hidden=8, variant=variant, attention=attention)  # type: ignore[arg-type]
    fused = build_model(config, "fused", seed=3).eval().freeze()
    encoder = Encoder(fused, WindowConfig(frames=3), get_layout("kinect-v1"), "abc123", "test")
    feature: Any = "states" if attention == "none" else "ages"
    program = torch.export.load(export(encoder, tmp_path / "encoder.pt2", backend="fused", feature=feature))
    assert any("sgela_fast" in str(node.target) for node in program.graph.nodes)
    for batch in (1, 2, 7):
        windows = raw_windows(batch)
        found = program.module()(torch.from_numpy(windows)).numpy()
        assert np.array_equal(found, encoder.encode_windows(windows, feature=feature)), batch


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_a_model_of_the_papers_size_runs_in_onnxruntime(tmp_path: Path, variant: str) -> None:
    encoder = make_encoder(6, variant=variant, hidden=256, layers=2)
    path = export(encoder, tmp_path / "encoder.onnx")
    for batch in (1, 5):
        windows = raw_windows(batch, 6)
        np.testing.assert_allclose(run_onnx(path, windows), encoder.encode_windows(windows), atol=1e-6)


def test_a_run_folder_can_be_exported(encoder: Encoder, tmp_path: Path) -> None:
    write_run(tmp_path / "run", encoder.model, window=encoder.window, layout="kinect-v1")
    path = export(tmp_path / "run", tmp_path / "new" / "encoder.bin", format="torch", origin="spine")
    files = {METADATA: ""}
    windows = raw_windows(2)
    windows -= windows[:, :, 1:2]
    with torch.no_grad():
        found = torch.export.load(path, extra_files=files).module()(torch.from_numpy(windows))
    assert np.array_equal(found.numpy(), encoder.encode_windows(windows, origin="spine"))
    assert json.loads(files[METADATA])["centered_before_on"] == "spine"


def test_what_cannot_be_exported_is_refused_with_a_mend(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot tell the format of .*walk\.bin; name it \.onnx or \.pt2"):
        export(encoder, tmp_path / "walk.bin")
    with pytest.raises(ConfigError, match="format is 'tflite'; choose onnx or torch"):
        export(encoder, tmp_path / "walk.bin", format="tflite")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ONNX has no fused ops"):
        export(encoder, tmp_path / "walk.onnx", backend="fused")
    with pytest.raises(ConfigError, match="an export takes reference or fused"):
        export(encoder, tmp_path / "walk.pt2", backend="auto")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no joint 'tail'"):
        export(encoder, tmp_path / "walk.pt2", origin="tail")
    assert not list(tmp_path.iterdir())


def test_onnx_that_is_not_installed_is_named(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"sgela_fast\[export\]"):
        export(encoder, tmp_path / "walk.onnx")


def test_a_file_that_cannot_be_written_leaves_the_old_one(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError, match=r"cannot write .*; choose another output path"):
        export(encoder, tmp_path / "file" / "encoder.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"
