"""Encoding an archive gives the model's encodings of exactly the windows that were asked for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from sgela_fast.checkpoints.run_folder import write_run
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode, open_encoder
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.errors import CheckpointError, ConfigError, DataError, Interrupted
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording

KINECT = get_layout("kinect-v1")
LENGTHS = {"a": 40, "b": 27, "short": 20, "c": 33}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    rng = np.random.default_rng(0)
    writer = ArchiveWriter(tmp_path / "archive", KINECT, {})
    for name, frames in LENGTHS.items():
        joints = rng.normal(size=(frames, 20, 3)).astype(np.float32)
        if name == "b":
            joints[15, 3] = 0  # a lost head
        writer.add(Recording(name, joints, "kinect-v1", person=name.upper(), extra={"split": "train"}))
    return writer.finish()


@pytest.fixture
def encoder() -> Encoder:
    model = build_model(SGELAConfig(hidden=8), seed=3).eval()
    return Encoder(model, WindowConfig(trim=10), KINECT, "hash", "test")


@pytest.mark.parametrize(("setting", "value"), [("precision", "int8"), ("device", "cuda"), ("backend", "fused")])
def test_settings_that_the_encoder_was_not_loaded_with_are_refused(
    archive: Archive, tmp_path: Path, setting: str, value: str
) -> None:
    encoder = Encoder.untrained("official", "kinect-v1", backend="reference")
    with pytest.raises(ConfigError, match=f"encoding.{setting} is {value} but the encoder computes with"):
        encode(archive, encoder, tmp_path / "store", EncodingConfig(**{setting: value}))
    assert not (tmp_path / "store").exists()


def test_every_window_gets_the_models_own_encoding(archive: Archive, encoder: Encoder, tmp_path: Path) -> None:
    store = encode(archive, encoder, tmp_path / "store", EncodingConfig(batch=5)).store
    table = store.table.to_pylist()
    assert [(row["recording"], row["window_start"]) for row in table] == [
        ("a", 10), ("a", 13), ("a", 16), ("a", 19), ("a", 22), ("b", 10),
        ("c", 10), ("c", 13), ("c", 16),
    ]  # fmt: skip
    for row, values in zip(table, store.values(), strict=True):
        if not row["valid"]:
            continue
        frames = archive[row["recording"]].joints[row["window_start"] :][:6]
        centered = torch.from_numpy(frames - frames[:, :1])[None]
        with torch.no_grad():
            expected = encoder.model.double().ages(centered.double())[0]
        encoder.model.float()
        np.testing.assert_allclose(values, expected.numpy(), atol=2e-6)


def test_the_result_does_not_depend_on_the_batch_size(archive: Archive, encoder: Encoder, tmp_path: Path) -> None:
    one = encode(archive, encoder, tmp_path / "one", EncodingConfig(batch=1)).store
    all_at_once = encode(archive, encoder, tmp_path / "all", EncodingConfig(batch=100)).store
    np.testing.assert_allclose(one.values(), all_at_once.values(), atol=1e-6)
    assert one.table.equals(all_at_once.table)


def test_windows_with_a_lost_joint_are_marked(archive: Archive, encoder: Encoder, tmp_path: Path) -> None:
    result = encode(archive, encoder, tmp_path / "store")
    marked = [(r["recording"], r["window_start"]) for r in result.store.table.to_pylist() if not r["valid"]]
    assert marked == [("b", 10)]
    assert result.invalid == 1
    assert np.isfinite(result.store.values()).all()


def test_windows_with_a_lost_joint_can_be_left_out(archive: Archive, encoder: Encoder, tmp_path: Path) -> None:
    store = encode(archive, encoder, tmp_path / "store", EncodingConfig(drop_invalid=True)).store
    assert "b" not in store.table["recording"].to_pylist()


def test_nan_frames_are_marked_and_encode_to_finite_values(encoder: Encoder) -> None:
    joints = np.random.default_rng(1).normal(size=(40, 20, 3)).astype(np.float32)
    joints[12, 0] = np.nan
    windows, starts, valid = encoder.cut(joints)
    assert [start for start, good in zip(starts, valid, strict=True) if not good] == [10]
    assert np.isfinite(windows).all()


def test_short_recordings_are_named(archive: Archive, encoder: Encoder, tmp_path: Path) -> None:
    assert encode(archive, encoder, tmp_path / "store").short == ("short",)


def test_the_stride_can_be_chosen(archive: Archive, encoder: Encoder, tmp_path: Path) -> None:
    store = encode(archive, encoder, tmp_path / "store", EncodingConfig(stride=6)).store
    starts = [r["window_start"] for r in store.table.to_pylist() if r["recording"] == "a"]
    assert starts == [10, 16, 22]
    assert store.info["window"]["stride"] == 6


def test_pooling_is_the_mean_over_frames(archive: Archive, encoder: Encoder, tmp_path: Path) -> None:
    full = encode(archive, encoder, tmp_path / "full").store.values()
    pooled = encode(archive, encoder, tmp_path / "pooled", EncodingConfig(pooling="mean")).store.values()
    np.testing.assert_allclose(pooled, full.mean(axis=1), atol=1e-6)


def test_one_recording_encodes_as_in_the_archive(archive: Archive, encoder: Encoder, tmp_path: Path) -> None:
    store = encode(archive, encoder, tmp_path / "store").store
    mine = [row["window"] for row in store.table.to_pylist() if row["recording"] == "c"]
    alone = encoder.encode(archive["c"].joints, batch=2)
    np.testing.assert_allclose(alone, store.values(np.array(mine)), atol=1e-6)
    assert np.array_equal(encoder.encode(torch.tensor(archive["c"].joints)), encoder.encode(archive["c"].joints))
    assert encoder.encode(archive["short"].joints).shape == (0, 6, 24)


def test_moving_the_camera_changes_nothing_when_centred(encoder: Encoder, archive: Archive) -> None:
    joints = archive["a"].joints
    moved = joints + np.array([1.0, -2.0, 4.0], np.float32)
    np.testing.assert_allclose(encoder.encode(moved), encoder.encode(joints), atol=1e-5)


def test_another_layout_is_refused(archive: Archive, tmp_path: Path) -> None:
    other = Encoder.untrained("official", get_layout("kinect-v2"))
    with pytest.raises(DataError, match="convert the recordings with --layout kinect-v2"):
        encode(archive, other, tmp_path / "store")
    with pytest.raises(DataError, match="the model reads"):
        other.encode(archive["a"].joints)


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"axes": 1}, "a model of 1 of the 3 axes"),
        ({"joints": 25}, "a model of 25 joints but names layout 'kinect-v1'"),
    ],
)
def test_a_model_that_cannot_read_the_layouts_skeletons_is_refused(
    tmp_path: Path, sizes: dict[str, int], sentence: str
) -> None:
    write_run(tmp_path, build_model(SGELAConfig(hidden=8, **sizes)), window=WindowConfig(), layout="kinect-v1")
    with pytest.raises(CheckpointError, match=sentence):
        Encoder.load(tmp_path)


def test_untrained_weights_follow_from_the_seed() -> None:
    hashes = {Encoder.untrained("official", KINECT, seed=seed).model_hash for seed in (0, 0, 1)}
    assert len(hashes) == 2


@pytest.mark.parametrize(("run", "untrained"), [(None, None), ("run", "official")])
def test_exactly_one_encoder_must_be_named(archive: Archive, run: str | None, untrained: str | None) -> None:
    with pytest.raises(ConfigError, match="either --model RUN or --untrained"):
        open_encoder(archive, run=run, untrained=untrained, seed=0, config=EncodingConfig())  # type: ignore[arg-type]


def test_a_stopped_job_leaves_no_store_and_can_be_started_again(
    archive: Archive, encoder: Encoder, tmp_path: Path
) -> None:
    def stop(units: int = 1, *, note: str = "") -> None:
        os.kill(os.getpid(), signal.SIGINT)

    parts = EncodingConfig(part_mb=0.001)  # a window each
    with pytest.raises(Interrupted, match=r"stopped with \d of 9 parts of .* go on with the same command and --resume"):
        encode(archive, encoder, tmp_path / "store", parts, progress=stop)
    assert not (tmp_path / "store" / "store.json").exists()
    assert len(encode(archive, encoder, tmp_path / "store", parts, resume=True).store) == 9
