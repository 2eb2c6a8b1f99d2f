"""University of Calgary CSV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.layouts import convert_joints, get_layout
from sgela_fast.skeletons.readers.registry import detect, open_source
from sgela_fast.skeletons.readers.ucalgary import UCalgaryReader
from sgela_fast.skeletons.recording import Recording

JOINTS = [
    "Foot Left",
    "Ankle Left",
    "Knee Left",
    "Hip Left",
    "Foot Right",
    "Ankle Right",
    "Knee Right",
    "Hip Right",
    "Spine Base",
    "Spine Mid",
    "Neck",
    "Head",
    "ShouldL",
    "ShouldR",
    "WristLeft",
    "WristRight",
    "ElbowLeft",
    "ElbowRight",
]
HEADER = ", ".join(f"{joint} X, Y, Z" for joint in JOINTS) + ",SholdD,LSHD,HipDX "
NAME = "subject7_Seq_4_Gen_F_GeometricPositions_AR.csv"


def rows(frames: int = 3) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(frames, 57)).round(4)


def write(folder: Path, header: str = HEADER, lines: list[str] | None = None) -> Path:
    path = folder / NAME
    lines = [",".join(map(str, row)) for row in rows().tolist()] if lines is None else lines
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def read(path: Path) -> Recording:
    reader = UCalgaryReader()
    return reader.read(reader.scan(path)[0])


def test_columns_are_found_by_name_and_distances_dropped(tmp_path: Path) -> None:
    recording = read(write(tmp_path))
    values = rows()
    assert recording.layout == "kinect-v2-18"
    assert recording.joints.shape == (3, 18, 3)
    for joint, column in (("foot_left", 0), ("spine_base", 24), ("shoulder_right", 39), ("elbow_right", 51)):
        index = recording.skeleton.index(joint)
        assert np.allclose(recording.joints[:, index], values[:, column : column + 3]), joint


def test_person_run_and_gait_come_from_the_file_name(tmp_path: Path) -> None:
    recording = read(write(tmp_path))
    assert (recording.name, recording.person) == ("s07_r4", "s07")
    assert recording.extra == {"gait": "abnormal-right", "run": "4", "sex": "F"}
    assert detect(tmp_path) is UCalgaryReader


def test_columns_in_another_order_are_still_found(tmp_path: Path) -> None:
    order = list(range(18))[::-1]
    header = ",".join(f"{JOINTS[index]} X,Y,Z" for index in order)
    values = rows()[:, :54].reshape(3, 18, 3)
    lines = [",".join(map(str, frame[order].ravel())) for frame in values]
    turned = tmp_path / "turned"
    turned.mkdir()
    assert np.allclose(read(write(turned, header, lines)).joints, read(write(tmp_path)).joints)


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        (HEADER.replace("Head X", "Haed X"), None, r"line 1 is a header with 17 of 18 joints \(no head\)"),
        (HEADER.replace(",", ";"), None, r"line 1 is a header with 0 of 18 joints"),
        (HEADER, [",".join(["1"] * 57), ",".join(["1"] * 54)], r"line 3 has 54 columns but needs 57 .* cut off"),
        (HEADER, [";".join(["1"] * 57)], r"line 2 is not 57 columns separated by commas; check the delimiter"),
        (HEADER, [",".join(["1"] * 56 + ["x"])], r"line 2, column 57 is 'x', not a number"),
        (HEADER, [",".join(["1"] * 57), ",".join(["nan"] * 57)], r"line 3 holds a coordinate that is not finite"),
        (HEADER, [], r"has no row of numbers; remove it or copy it again"),
        ("", [], r"is empty; remove it or copy it again"),
    ],
)
def test_a_file_at_fault_is_named_with_its_line(
    tmp_path: Path, header: str, lines: list[str] | None, message: str
) -> None:
    path = write(tmp_path, header, lines)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.shared
def test_raw_files_equal_the_packed_recordings_to_their_rounding(shared: Path) -> None:
    recordings = list(open_source(shared / "data" / "ucalgary" / "raw-sample"))
    assert len(recordings) == 2
    with np.load(shared / "data" / "ucalgary" / "ucalgary.npz") as packed:
        for recording in recordings:
            joints = convert_joints(recording.joints, recording.skeleton, get_layout("kinect-v1"))
            assert np.abs(joints - packed[recording.name]).max() <= 1 / 4096
