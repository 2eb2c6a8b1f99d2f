"""The windows that baselines see, and what they see of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from sgela_fast.baselines import features
from sgela_fast.baselines.windows import ArchiveWindows, CutWindows, ExtractFeatures
from sgela_fast.errors import DataError
from sgela_fast.models.descriptors import d13
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.windows import index_windows


@pytest.mark.parametrize("window", [WindowConfig(), WindowConfig(frames=5, stride=4, trim=3, center="spine")])
def test_the_network_reads_what_the_encoder_is_trained_on(walkers: Archive, window: WindowConfig) -> None:
    index = index_windows(walkers, walkers.rows, window)
    store = ArchiveWindows(walkers, window, features.centred_frames)
    valid = np.flatnonzero(store.table["valid"].to_numpy())
    assert 0 < len(store) - len(valid) == index.skipped_windows
    cut = index.frames[index.starts[:, None] + np.arange(window.frames)]  # (windows, T, J, 3)
    np.testing.assert_allclose(store.values(valid), cut.reshape(len(cut), window.frames, -1), atol=1e-6)
    names = [index.rows[owner].recording for owner in index.recording]
    assert store.table["recording"].take(valid).to_pylist() == names


def test_the_table_has_what_the_archive_knows_of_each_window(walkers: Archive) -> None:
    table = ArchiveWindows(walkers, WindowConfig(), features.d13_means).table
    for name, person, split, start in zip(
        *(table[column].to_pylist() for column in ("recording", "person", "split", "window_start")), strict=True
    ):
        row = walkers.row(name)
        assert (row.person, row.extra["split"]) == (person, split)
        assert start in WindowConfig().starts(row.frames)


def test_values_come_in_the_order_that_is_asked_for(walkers: Archive) -> None:
    store = ArchiveWindows(walkers, WindowConfig(), features.hip_position)
    everything = store.values()
    rows = np.random.default_rng(0).permutation(len(store))[:50]
    np.testing.assert_array_equal(store.values(rows), everything[rows])


def test_a_window_descriptor_is_the_mean_over_its_frames(walkers: Archive) -> None:
    store = ArchiveWindows(walkers, WindowConfig(), features.d13_means)
    place = int(np.flatnonzero(store.table["valid"].to_numpy())[7])
    row = store.table.slice(place, 1).to_pylist()[0]
    joints = walkers[row["recording"]].joints[row["window_start"] : row["window_start"] + 6]
    expected = d13(joints, walkers.layout.joints).mean(axis=0)
    np.testing.assert_allclose(store.values(np.array([place]))[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("extract", "shape"),
    [
        (features.d13_means, (13,)),
        (features.d16_means, (16,)),
        (features.bone_means, (19,)),
        (features.bones_and_pose, (2 * 19 + 6 * 19,)),
        (features.hip_position, (3,)),
        (features.centred_frames, (6, 60)),
        (features.pose_features_v1, (6, 6 * 20 + 4 * 19)),
    ],
)
def test_features_are_finite_where_no_joint_is_lost(
    walkers: Archive, extract: ExtractFeatures, shape: tuple[int, ...]
) -> None:
    store = ArchiveWindows(walkers, WindowConfig(), extract)
    found = store.values(np.flatnonzero(store.table["valid"].to_numpy()))
    assert found.shape[1:] == shape
    assert np.isfinite(found).all()


def test_only_the_position_tells_where_somebody_walks(walkers: Archive) -> None:
    for name in ("d13_means", "d16_means", "bone_means", "bones_and_pose", "centred_frames", "pose_features_v1"):
        extract = getattr(features, name)

        def shifted(cut: CutWindows, extract: ExtractFeatures = extract) -> Tensor:
            return extract(cut._replace(joints=cut.joints + 1))

        store, other = (ArchiveWindows(walkers, WindowConfig(), one) for one in (extract, shifted))
        rows = np.flatnonzero(store.table["valid"].to_numpy())[:20]
        np.testing.assert_allclose(other.values(rows), store.values(rows), atol=1e-4)


def test_centred_recordings_have_no_position(walkers: Archive, tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path / "centred.sga", walkers.layout, {})
    joints = walkers[walkers.rows[0].recording].joints
    writer.add(Recording("walk", joints - joints[:, :1], "kinect-v1", person="p"))
    store = ArchiveWindows(writer.finish(), WindowConfig(), features.hip_position)
    with pytest.raises(DataError, match=r"'hip_center' is at the origin .* leave the baseline position out"):
        store.values()


def test_recordings_without_a_whole_window_are_refused(walkers: Archive) -> None:
    with pytest.raises(DataError, match=r"window of 90 frames .* lower window\.trim or window\.frames"):
        ArchiveWindows(walkers, WindowConfig(frames=90), features.d13_means)
