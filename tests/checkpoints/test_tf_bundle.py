"""Bundles are read exactly, and a damaged one is never taken for whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.checkpoints.tf_bundle import TFBundle
from sgela_fast.errors import CheckpointError

TENSORS: dict[str, np.ndarray] = {
    "layer/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "layer/bias": np.array([1.5, -2.0], np.float32),
    "step": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.fixture
def prefix(tmp_path: Path, write_bundle: Callable[..., Path]) -> Path:
    return write_bundle(tmp_path / "run" / "model.ckpt", TENSORS)


def test_tensors_come_back_bit_for_bit(prefix: Path) -> None:
    bundle = TFBundle(prefix)
    assert bundle.names == sorted(TENSORS)
    for name, values in TENSORS.items():
        assert bundle.shape(name) == values.shape
        assert np.array_equal(bundle.tensor(name), values)
        assert bundle.tensor(name).dtype == values.dtype


@pytest.mark.parametrize("form", ["prefix", "index", "meta", "data", "folder"])
def test_the_path_may_be_given_in_any_form(prefix: Path, form: str) -> None:
    forms = {
        "prefix": prefix,
        "index": prefix.with_name("model.ckpt.index"),
        "meta": prefix.with_name("model.ckpt.meta"),
        "data": prefix.with_name("model.ckpt.data-00000-of-00001"),
        "folder": prefix.parent,
    }
    assert TFBundle(forms[form]).prefix == prefix


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no TensorFlow checkpoint"):
        TFBundle(tmp_path)


def test_a_folder_with_two_bundles_is_refused(prefix: Path, write_bundle: Callable[..., Path]) -> None:
    write_bundle(prefix.with_name("other.ckpt"), TENSORS)
    with pytest.raises(CheckpointError, match="holds 2 checkpoints; give one of them"):
        TFBundle(prefix.parent)


def test_an_index_cut_anywhere_is_refused(prefix: Path) -> None:
    index = prefix.with_name("model.ckpt.index")
    whole = index.read_bytes()
    for size in range(len(whole)):
        index.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="is not the index of a TensorFlow checkpoint, or is cut off"):
            TFBundle(prefix)


def test_handles_that_point_anywhere_are_refused(prefix: Path) -> None:
    index = prefix.with_name("model.ckpt.index")
    whole = index.read_bytes()
    for handles in (b"\xff" * 40, b"\x00" * 40, b"\x00\x00" + b"\xff" * 9 + b"\x01" * 29):
        index.write_bytes(whole[:-48] + handles + whole[-8:])
        with pytest.raises(CheckpointError, match=r"model\.ckpt\.index is damaged"):
            TFBundle(prefix)


def test_any_changed_byte_of_the_index_is_found(prefix: Path) -> None:
    index = prefix.with_name("model.ckpt.index")
    whole = index.read_bytes()
    for place in range(len(whole) - 48):
        content = bytearray(whole)
        content[place] ^= 0x10
        index.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.ckpt\.index is (damaged|compressed)"):
            TFBundle(prefix)


def test_a_changed_value_is_found(prefix: Path) -> None:
    data = prefix.with_name("model.ckpt.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"'layer/bias' in .* does not fit its checksum"):
        TFBundle(prefix).tensor("layer/bias")


def test_cut_data_is_named(prefix: Path) -> None:
    data = prefix.with_name("model.ckpt.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="ends within tensor 'layer/kernel'"):
        TFBundle(prefix).tensor("layer/kernel")


def test_missing_data_is_named(prefix: Path) -> None:
    prefix.with_name("model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(CheckpointError, match=r"data-00000-of-00001 cannot be read"):
        TFBundle(prefix).tensor("step")


def test_a_compressed_table_is_refused(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="is compressed, which is not supported"):
        TFBundle(write_bundle(tmp_path / "model.ckpt", TENSORS, compression=1))


def test_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.index").write_bytes(b"\x89PNG" * 100)
    with pytest.raises(CheckpointError, match="is not the index of a TensorFlow checkpoint"):
        TFBundle(tmp_path / "model")


def test_tensors_may_lie_in_several_data_files(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    prefix = write_bundle(tmp_path / "model.ckpt", TENSORS, shards=3)
    tensors = TFBundle(prefix).tensors()
    assert all(np.array_equal(tensors[name], values) for name, values in TENSORS.items())
    prefix.with_name("model.ckpt.data-00001-of-00003").unlink()
    with pytest.raises(CheckpointError, match=r"data-00001-of-00003 cannot be read .* copy it beside its \.index"):
        TFBundle(prefix).tensors()


def test_a_bundle_of_a_big_endian_machine_is_refused(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="is of a big-endian machine"):
        TFBundle(write_bundle(tmp_path / "model.ckpt", TENSORS, endianness=1))


def test_an_index_without_a_header_is_refused(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"is damaged \(its header is missing\); copy the checkpoint again"):
        TFBundle(write_bundle(tmp_path / "model.ckpt", TENSORS, header=False))


def test_a_name_that_is_not_text_is_refused(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="a tensor's name is not text"):
        TFBundle(write_bundle(tmp_path / "model.ckpt", {"\udcff": np.zeros(2, np.float32)}))


@pytest.mark.parametrize("gap", [1, 2**40, 2**63])
def test_a_place_behind_the_data_is_refused(tmp_path: Path, write_bundle: Callable[..., Path], gap: int) -> None:
    bundle = TFBundle(write_bundle(tmp_path / "model.ckpt", TENSORS, gap=gap))
    with pytest.raises(CheckpointError, match="ends within tensor 'step'"):
        bundle.tensor("step")


def test_a_tensor_of_words_is_refused_and_left_out_of_all(tmp_path: Path, write_bundle: Callable[..., Path]) -> None:
    bundle = TFBundle(write_bundle(tmp_path / "model.ckpt", {**TENSORS, "words": np.array([b"gait"])}))
    assert "words" in bundle.names
    assert bundle.tensors().keys() == TENSORS.keys()
    with pytest.raises(CheckpointError, match=r"'words' of .* is not of plain numbers"):
        bundle.tensor("words")
