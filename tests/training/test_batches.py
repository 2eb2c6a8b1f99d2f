"""Which windows a batch holds, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sgela_fast.errors import DataError, OutputError
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.windows import index_windows
from sgela_fast.training.batches import Order, Windows, array_in_file, load_windows, split_rows
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.trainer import train

CPU = torch.device("cpu")


def order(windows: int = 23, axes: int = 3, **settings: Any) -> Order:
    return Order(windows, axes, TrainingConfig(**{"batch": 5, **settings}))


def test_windows_are_cut_as_from_each_recording_alone(archive: Archive) -> None:
    rows = archive.rows
    config = WindowConfig(trim=2, stride=4)
    index = index_windows(archive, rows, config)
    batch = Windows(index, config.frames, CPU).gather(torch.arange(len(index)))  # (A, B, T, J)
    expected = []
    for row in rows:
        joints = np.asarray(archive.frames_of(row))
        centred = joints - joints[:, archive.layout.index(archive.layout.root)][:, None]
        expected += [centred[start : start + 6] for start in config.starts(row.frames)]
    np.testing.assert_array_equal(batch.movedim(0, -1).numpy(), np.stack(expected))


def test_each_axis_may_gather_windows_of_its_own(archive: Archive) -> None:
    windows = Windows(index_windows(archive, archive.rows, WindowConfig(trim=0)), 6, CPU)
    chosen = torch.tensor([[0, 5], [3, 3], [9, 1]])
    batch = windows.gather(chosen)
    assert batch.shape == (3, 2, 6, 20)
    for axis in range(3):
        for place in range(2):
            alone = windows.gather(chosen[axis, place : place + 1])
            assert torch.equal(batch[axis, place], alone[axis, 0])


@pytest.mark.parametrize("shuffle", ["once-per-axis", "once", "epoch"])
def test_no_window_comes_twice_and_the_last_incomplete_batch_is_dropped(shuffle: Any) -> None:
    for epoch in range(3):
        batches = order(shuffle=shuffle).epoch(epoch)
        per_axis = batches.movedim(1, 0) if batches.ndim == 3 else batches[None]  # (A or 1, batches, B)
        assert per_axis.shape[1:] == (4, 5)
        for one in per_axis:
            assert len(set(one.flatten().tolist())) == 20


@pytest.mark.parametrize("shuffle", ["once-per-axis", "once", "epoch"])
def test_every_window_comes_once_where_batches_divide_them(shuffle: Any) -> None:
    batches = order(20, shuffle=shuffle).epoch(1)
    per_axis = batches.movedim(1, 0) if batches.ndim == 3 else batches[None]
    for one in per_axis:
        assert sorted(one.flatten().tolist()) == list(range(20))


def test_axes_have_orders_of_their_own_that_are_kept() -> None:
    found = order(shuffle="once-per-axis")
    first = found.epoch(0)
    assert first.shape == (4, 3, 5)
    assert not torch.equal(first[:, 0], first[:, 1])
    assert not torch.equal(first[:, 1], first[:, 2])
    assert torch.equal(first, found.epoch(7))


def test_one_order_for_all_axes_is_kept_or_drawn_anew() -> None:
    assert torch.equal(order(shuffle="once").epoch(0), order(shuffle="once").epoch(4))
    assert not torch.equal(order(shuffle="epoch").epoch(0), order(shuffle="epoch").epoch(1))


@pytest.mark.parametrize("shuffle", ["once-per-axis", "once", "epoch"])
def test_order_is_a_function_of_seed_and_epoch_alone(shuffle: Any) -> None:
    first = order(shuffle=shuffle).epoch(2)
    torch.manual_seed(99)
    assert torch.equal(first, order(shuffle=shuffle).epoch(2))
    assert not torch.equal(first, order(shuffle=shuffle, seed=1).epoch(2))


def test_fewer_windows_than_a_batch_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        order(4)
    assert str(caught.value) == (
        "the training recordings hold 4 windows but a batch takes 5; lower training.batch or window.stride"
    )


def test_recordings_kept_aside_are_training_recordings_and_never_trained_on(archive: Archive) -> None:
    rows, aside = split_rows(archive, TrainingConfig(validation=0.4))
    names, aside_names = ({row.recording for row in some} for some in (rows, aside))
    assert len(aside_names) == 2
    assert not names & aside_names
    assert names | aside_names == {f"walk{index}" for index in range(6)}


def test_recordings_kept_aside_follow_the_seed(archive: Archive) -> None:
    configs = [TrainingConfig(validation=0.4, seed=seed) for seed in range(8)]
    chosen = {tuple(row.recording for row in split_rows(archive, config)[1]) for config in configs}
    assert len(chosen) > 1
    again = split_rows(archive, TrainingConfig(validation=0.4, seed=3))
    assert again == split_rows(archive, TrainingConfig(validation=0.4, seed=3))


def test_without_a_split_all_recordings_are_used(archive: Archive) -> None:
    rows, aside = split_rows(archive, TrainingConfig(split="", validation=0.0))
    assert (len(rows), len(aside)) == (7, 0)


def test_unknown_splits_are_named_with_what_there_is(archive: Archive) -> None:
    with pytest.raises(DataError, match="has no column 'half'; its columns are: split"):
        split_rows(archive, TrainingConfig(split="half"))
    with pytest.raises(DataError, match="never equals 'gallery'; it holds: test, train"):
        split_rows(archive, TrainingConfig(train_value="gallery"))


def test_frames_with_lost_joints_are_in_no_window(make_archive: Callable[..., Archive]) -> None:
    def lose(index: int, joints: np.ndarray) -> None:
        joints[10, 4] = 0 if index else np.nan

    spoilt = make_archive(count=2, spoil=lose)
    index = index_windows(spoilt, spoilt.rows, WindowConfig(trim=0, stride=1))
    windows = Windows(index, 6, CPU)
    batch = windows.gather(torch.arange(len(windows)))
    assert index.skipped_windows == 3 * 6
    assert torch.isfinite(batch).all()
    offsets = torch.from_numpy(index.starts) % 24
    assert not torch.any((offsets <= 10) & (offsets + 6 > 10))


def test_frames_in_a_file_give_the_same_batches_read_ahead(archive: Archive) -> None:
    held, _ = load_windows(archive, archive.rows, WindowConfig(trim=0), CPU)
    filed, index = load_windows(archive, archive.rows, WindowConfig(trim=0), CPU, memory_gb=1e-9)
    assert (held.in_file, filed.in_file) == (False, True)
    assert isinstance(index.frames, np.memmap)
    batches = [torch.tensor([0, 5, 2]), torch.tensor([[1, 0], [4, 4], [9, 1]]), torch.tensor([3])]
    for one, other in zip(held.fetch(batches), filed.fetch(batches), strict=True):
        assert torch.equal(one, other)
    assert list(filed.fetch([])) == []


def test_a_disk_without_room_for_the_frames_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OutputError) as caught:
        array_in_file((4, 20, 3))
    assert str(caught.value).startswith(f"cannot write {tmp_path}: the disk is full; ")
    assert list(tmp_path.iterdir()) == []


def test_training_from_a_file_is_bit_equal(archive: Archive, tmp_path: Path, settings: Any) -> None:
    lines: list[str] = []
    train(archive, tmp_path / "held", **settings(max_steps=4))
    train(archive, tmp_path / "filed", **settings(max_steps=4, memory_gb=1e-9), announce=lines.append)
    assert lines[1].endswith("; frames in a temporary file")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("held", "filed")]
    assert weights[0] == weights[1]
