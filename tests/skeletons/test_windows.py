"""Windows lie inside their recordings, between trimmed ends, centred, without lost joints."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.windows import center_frames, index_windows, origin_joint, usable_frames, valid_windows

LAYOUT = get_layout("kinect-v1")


@pytest.fixture
def archive_of(tmp_path: Path) -> Callable[..., Archive]:
    """Writes arrays ``(frames, 20, 3)`` into an archive, as recordings r0, r1 ..."""

    def make(*arrays: np.ndarray) -> Archive:
        writer = ArchiveWriter(tmp_path / "walks.sga", LAYOUT, {"source": "test"}, frames_per_shard=50)
        for index, joints in enumerate(arrays):
            writer.add(Recording(f"r{index}", joints, LAYOUT.name, person="p"))
        return writer.finish()

    return make


def frames_of(count: int, seed: int = 0) -> np.ndarray:
    """Joints about a place 3 m before the camera."""
    joints = np.random.default_rng(seed).normal(scale=0.3, size=(count, 20, 3))
    return (joints + np.array([0.2, 0.1, 3.0])).astype(np.float32)


def test_the_defaults_are_the_papers() -> None:
    config = WindowConfig()
    assert (config.frames, config.step, config.trim) == (6, 3, 10)


@pytest.mark.parametrize(("frames", "step"), [(6, 3), (7, 3), (8, 4), (1, 1)])
def test_stride_0_is_half_a_window(frames: int, step: int) -> None:
    assert WindowConfig(frames=frames).step == step


@pytest.mark.parametrize("config", [WindowConfig(), WindowConfig(8, 5, 0), WindowConfig(1, 1, 2)])
@pytest.mark.parametrize("length", [0, 1, 5, 25, 26, 27, 40])
def test_windows_fill_what_is_between_the_trimmed_ends(config: WindowConfig, length: int) -> None:
    starts = config.starts(length)
    expected = max(0, (length - 2 * config.trim - config.frames) // config.step + 1)
    assert len(starts) == expected
    if len(starts):
        assert starts[0] == config.trim
        assert starts[-1] + config.frames <= length - config.trim
        assert starts[-1] + config.step + config.frames > length - config.trim, "one more would not fit"


@pytest.mark.parametrize(("name", "value"), [("frames", 0), ("stride", -1), ("trim", -1)])
def test_settings_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"window\.{name} is {value}"):
        WindowConfig(**{name: value})


@pytest.mark.parametrize("center", ["root", "head"])
def test_the_centre_is_the_origin_and_differences_stay(center: str) -> None:
    joints = frames_of(5)
    centred = center_frames(joints, LAYOUT, center)
    index = 0 if center == "root" else LAYOUT.index("head")
    assert (centred[:, index] == 0).all()
    assert np.allclose(np.diff(centred, axis=1), np.diff(joints, axis=1), atol=1e-6)


def test_an_unknown_centre_is_refused_with_the_joints_names() -> None:
    with pytest.raises(DataError, match="hip_center, spine"):
        center_frames(frames_of(1), LAYOUT, "tail")


def test_windows_of_an_archive_are_slices_of_its_centred_recordings(archive_of: Callable[..., Archive]) -> None:
    arrays = [frames_of(40, 1), frames_of(30, 2), frames_of(33, 3)]
    archive = archive_of(*arrays)
    config = WindowConfig()
    index = index_windows(archive, archive.rows, config)
    expected = [
        (owner, array[start : start + 6] - array[start : start + 6, :1])
        for owner, array in enumerate(arrays)
        for start in config.starts(len(array))
    ]
    assert len(index) == len(expected)
    for start, owner, (expected_owner, window) in zip(index.starts, index.recording, expected, strict=True):
        assert owner == expected_owner
        assert np.array_equal(index.frames[start : start + 6], window)
    assert (index.skipped_windows, index.short_recordings) == (0, ())


def test_only_the_rows_asked_for_are_cut(archive_of: Callable[..., Archive]) -> None:
    archive = archive_of(frames_of(40, 1), frames_of(30, 2))
    index = index_windows(archive, archive.rows[1:], WindowConfig())
    assert len(index.frames) == 30
    assert set(index.recording) == {0}
    assert index.rows[0].recording == "r1"


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_windows_with_a_lost_joint_are_left_out(value: float, archive_of: Callable[..., Archive]) -> None:
    joints = frames_of(40)
    joints[20, 4] = value
    archive = archive_of(joints)
    index = index_windows(archive, archive.rows, WindowConfig())
    kept = [start for start in WindowConfig().starts(40) if not start <= 20 < start + 6]
    assert index.starts.tolist() == kept
    assert index.skipped_windows == len(WindowConfig().starts(40)) - len(kept) == 2
    for start in index.starts:
        assert np.isfinite(index.frames[start : start + 6]).all()


def test_a_short_recording_is_named(archive_of: Callable[..., Archive]) -> None:
    archive = archive_of(frames_of(25), frames_of(26))
    index = index_windows(archive, archive.rows, WindowConfig())
    assert index.short_recordings == ("r0",)
    assert index.recording.tolist() == [1]


def test_no_window_at_all_is_an_error_that_names_the_settings(archive_of: Callable[..., Archive]) -> None:
    archive = archive_of(frames_of(25))
    with pytest.raises(DataError, match=r"lower window\.trim or window\.frames"):
        index_windows(archive, archive.rows, WindowConfig())


def test_camera_coordinates_are_taken_as_they_are_with_a_warning(archive_of: Callable[..., Archive]) -> None:
    joints = frames_of(30)
    archive = archive_of(joints)
    with pytest.warns(UserWarning, match="not centred"):
        index = index_windows(archive, archive.rows, WindowConfig(center="none"))
    assert np.array_equal(index.frames, joints)


def test_centring_gives_no_warning(archive_of: Callable[..., Archive]) -> None:
    archive = archive_of(frames_of(30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index_windows(archive, archive.rows, WindowConfig())


def test_valid_windows_hold_usable_frames_only() -> None:
    usable = np.array([1, 1, 0, 1, 1, 1, 1, 0], bool)
    assert valid_windows(usable, np.arange(6), 3).tolist() == [False, False, False, True, True, False]


@pytest.mark.parametrize("joint", ["hip_center", "head"])
def test_a_joint_that_recordings_are_centred_on_is_not_lost(joint: str) -> None:
    index = LAYOUT.index(joint)
    joints = frames_of(30)
    joints -= joints[:, index : index + 1]
    assert origin_joint(joints) == index
    assert usable_frames(joints).all()
    joints[3, 5] = 0
    assert np.flatnonzero(~usable_frames(joints)).tolist() == [3]


def test_a_joint_that_is_lost_throughout_is_lost() -> None:
    joints = frames_of(30)
    joints[:, 7] = 0
    assert origin_joint(joints) is None
    assert not usable_frames(joints).any()


def test_two_joints_at_the_origin_are_lost_even_in_centred_recordings() -> None:
    joints = frames_of(30)
    joints -= joints[:, :1]
    joints[:, 7] = 0
    assert not usable_frames(joints).any()
