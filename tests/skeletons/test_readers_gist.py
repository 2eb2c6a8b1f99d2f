"""GIST tab-separated files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.layouts import convert_joints, get_layout
from sgela_fast.skeletons.readers.gist import GISTReader, longest_piece
from sgela_fast.skeletons.readers.registry import detect, open_source
from sgela_fast.skeletons.recording import Recording

NAME = "human3_stiff_legged17_SkeletonData6.csv"


def table(frames: int = 8) -> np.ndarray:
    """(frames, 101): time, then number, x, y, z of each joint."""
    values = np.zeros((frames, 101))
    values[:, 0] = 12.0 + np.arange(frames) / 30
    values[:, 1::4] = np.arange(25)
    for axis in (2, 3, 4):
        values[:, axis::4] = np.random.default_rng(axis).normal(size=(frames, 25)).round(4)
    return values


def write(folder: Path, values: np.ndarray, delimiter: str = "\t") -> Path:
    path = folder / NAME
    path.write_text("".join(delimiter.join(map(str, row)) + "\n" for row in values.tolist()))
    return path


def read(path: Path) -> Recording:
    reader = GISTReader()
    return reader.read(reader.scan(path)[0])


def test_the_z_axis_becomes_up(tmp_path: Path) -> None:
    values = table()
    joints = read(write(tmp_path, values)).joints
    assert np.allclose(joints[..., 0], values[:, 2::4])
    assert np.allclose(joints[..., 1], values[:, 4::4])
    assert np.allclose(joints[..., 2], -values[:, 3::4])


def test_the_file_name_tells_person_gait_walk_and_sensor(tmp_path: Path) -> None:
    recording = read(write(tmp_path, table()))
    assert (recording.name, recording.person) == ("h03_stiff_legged_w17_s6", "h03")
    assert recording.extra == {"gait": "stiff_legged", "walk": "17", "sensor": "6", "cut_frames": "0"}
    assert recording.layout == "kinect-v2"
    assert detect(tmp_path) is GISTReader


def test_the_longest_piece_between_gaps_is_kept(tmp_path: Path) -> None:
    values = table(10)
    values[3:, 0] += 0.25  # frames 0-2 | 3-9
    values[8, 2:5] = 0  # a joint at the origin: 3-7 | 9
    recording = read(write(tmp_path, values))
    assert recording.frames == 5
    assert recording.extra["cut_frames"] == "5"
    assert np.allclose(recording.joints[0, :, 0], values[3, 2::4])


@pytest.mark.parametrize("word", ["nan", "NaN", "-1.#IND", "-nan(ind)", "", "inf"])
def test_frames_with_a_value_that_is_no_number_are_cut_out(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, table(6))
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    lines[1][50] = word
    path.write_text("\n".join("\t".join(line) for line in lines))
    assert read(path).frames == 4


def test_the_first_of_equally_long_pieces_is_kept() -> None:
    whole = np.array([True, True, False, True, True])
    assert longest_piece(np.arange(5) / 30, whole) == (0, 2)
    assert longest_piece(np.array([0, 0.2, 0.5, 0.7, 0.8]), np.ones(5, bool)) == (2, 5)


def test_joints_must_be_numbered_in_order(tmp_path: Path) -> None:
    values = table()
    values[4, 9] = 7
    with pytest.raises(DataError, match=r"line 5 does not number its joints 0 to 24; mend the line"):
        read(write(tmp_path, values))


def test_a_wrong_number_of_joints_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1 has 77 columns but needs 101 columns separated by tabs"):
        read(write(tmp_path, table()[:, : 1 + 19 * 4]))


def test_another_delimiter_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1 is not 101 columns separated by tabs; check the delimiter"):
        read(write(tmp_path, table(), ","))


def test_a_word_is_not_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, table())
    path.write_text(path.read_text().replace("\t24.0\t", "\tlots\t", 1))
    with pytest.raises(DataError, match=r"line 1, column 98 is 'lots', not a number"):
        read(path)


def test_a_cut_off_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, table())
    path.write_text(path.read_text()[:-400])
    with pytest.raises(DataError, match=r"line 8 has \d+ columns but needs 101 .* the file seems cut off"):
        read(path)


def test_a_file_without_a_whole_frame_is_named(tmp_path: Path) -> None:
    values = table()
    values[:, 2:5] = 0
    with pytest.raises(DataError, match=r"SkeletonData6\.csv has no frame with all 25 joints; leave it out"):
        read(write(tmp_path, values))


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"SkeletonData6\.csv is empty"):
        read(write(tmp_path, np.empty((0, 101))))


@pytest.mark.shared
def test_raw_files_equal_the_packed_recordings_to_their_rounding(shared: Path) -> None:
    recordings = list(open_source(shared / "data" / "gist" / "raw-sample"))
    assert len(recordings) == 6
    with np.load(shared / "data" / "gist" / "gist.npz") as packed:
        for recording in recordings:
            joints = convert_joints(recording.joints, recording.skeleton, get_layout("kinect-v1"))
            assert joints.shape == packed[recording.name].shape
            assert np.abs(joints - packed[recording.name]).max() <= 1 / 4096
