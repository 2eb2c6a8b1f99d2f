"""KGBD text files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.convert import remap
from sgela_fast.skeletons.readers.kgbd import KGBDReader
from sgela_fast.skeletons.readers.registry import detect, open_source
from sgela_fast.skeletons.recording import Recording

WriteKGBD = Callable[..., np.ndarray]
# The released code's map from the file's order to the Kinect v1 order.
RELEASED_MAP = [11, 10, 1, 0, 2, 4, 6, 8, 3, 5, 7, 9, 12, 14, 16, 18, 13, 15, 17, 19]


def read(path: Path) -> Recording:
    reader = KGBDReader()
    (ref,) = reader.scan(path)
    return reader.read(ref)


def damaged(tmp_path: Path, write_kgbd: WriteKGBD, change: Callable[[list[str]], list[str]]) -> Path:
    """A file of three frames whose lines went through ``change``."""
    path = tmp_path / "Person001" / "1.txt"
    write_kgbd(path, frames=3)
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    return path


def test_persons_and_walks_come_from_the_path(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    for person, walk in (("002", 10), ("002", 9), ("001", 1)):
        write_kgbd(tmp_path / f"Person{person}" / f"{walk}.txt")
    (tmp_path / "README.md").write_text("about; the; data; set\n")
    refs = KGBDReader().scan(tmp_path)
    assert [(ref.name, ref.person, ref.source) for ref in refs] == [
        ("p001_1", "p001", "Person001/1.txt"),
        ("p002_9", "p002", "Person002/9.txt"),
        ("p002_10", "p002", "Person002/10.txt"),
    ]
    assert detect(tmp_path) is KGBDReader


def test_joints_are_placed_by_name(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    values = write_kgbd(tmp_path / "walk.txt", frames=3)
    recording = read(tmp_path / "walk.txt")
    assert (recording.name, recording.person, recording.layout) == ("walk", None, "kinect-v1")
    skeleton = recording.skeleton
    assert np.allclose(recording.joints[:, skeleton.index("head")], values[:, 0])
    assert np.allclose(recording.joints[:, skeleton.index("hip_center")], values[:, 11])
    assert np.allclose(recording.joints[:, skeleton.index("shoulder_right")], values[:, 2])
    assert np.allclose(recording.joints[:, skeleton.index("foot_left")], values[:, 19])


def test_compat_is_the_map_of_the_released_code(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    values = write_kgbd(tmp_path / "walk.txt", frames=3)
    recording = read(tmp_path / "walk.txt")
    assert np.allclose(remap(recording, recording.skeleton, "compat").joints, values[:, RELEASED_MAP])
    assert not np.allclose(recording.joints, values[:, RELEASED_MAP])


def test_another_order_of_the_lines_makes_no_difference(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    plain = damaged(tmp_path, write_kgbd, lambda lines: lines)
    shuffled = tmp_path / "Person001" / "2.txt"
    lines = plain.read_text().splitlines()
    shuffled.write_text("\n".join([*lines[:20][::-1], *lines[20:40], *lines[45:60], *lines[40:45]]))
    assert (read(plain).joints == read(shuffled).joints).all()


def test_a_lost_joint_stays_at_the_origin(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    path = damaged(tmp_path, write_kgbd, lambda lines: ["Head;0;0;0", *lines[1:]])
    assert (read(path).joints[0, 3] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:47], r"1\.txt ends at line 47 within frame 2, after 7 of 20 joints; .* cut off"),
        (
            lambda lines: [x for x in lines if "Foot-Left" not in x],
            r"line 20 begins another frame but frame 0 has 19 of",
        ),
        (lambda lines: ["Nose;1;2;3", *lines[1:]], r"line 1 has an unknown joint 'Nose'; the known ones are: Head"),
        (lambda lines: [x.replace(";", ",") for x in lines], r"line 1 is not 'Name;x;y;z' .* check the delimiter"),
        (lambda lines: [*lines[:5], "Elbow-Left;1;2;oops", *lines[6:]], r"line 6, column 3 is 'oops', not a number"),
        (lambda lines: [*lines[:5], "Elbow-Left;1;2", *lines[6:]], r"line 6 has 2 columns but needs 3 columns"),
        (lambda lines: [*lines[:5], "Elbow-Left;1;2;3;4", *lines[6:]], r"line 6 has 4 columns but needs 3 columns"),
        (lambda lines: [*lines[:5], "Elbow-Left;1;nan;3", *lines[6:]], r"line 6 holds a coordinate that is not finite"),
        (lambda lines: [*lines[:59], "Foot-Left;1;2"], r"line 60 has 2 columns .* the file seems cut off"),
        (lambda lines: [], r"1\.txt is empty; remove it or copy it again"),
    ],
)
def test_a_file_at_fault_is_named_with_its_line(
    tmp_path: Path, write_kgbd: WriteKGBD, change: Callable[[list[str]], list[str]], message: str
) -> None:
    path = damaged(tmp_path, write_kgbd, change)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "Person001" / "1.txt"
    path.parent.mkdir()
    path.write_bytes(b"Head;1;2;3\n\xff\xfe\xfa")
    with pytest.raises(DataError, match=r"1\.txt is not a text file \(byte 11 is not UTF-8\)"):
        read(path)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["p001_1", "p001_2", "p002_1", "p002_2"])
def test_raw_files_equal_the_packed_recordings_to_their_rounding(shared: Path, name: str) -> None:
    source = open_source(shared / "data" / "kgbd" / "raw-sample")
    recordings = {recording.name: recording for recording in source}
    with np.load(shared / "data" / "kgbd" / "kgbd.npz") as packed:
        expected = packed[name]
    assert recordings[name].joints.shape == expected.shape
    assert np.abs(recordings[name].joints - expected).max() <= 1 / 4096
