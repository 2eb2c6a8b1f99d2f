"""KS20 frames as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.readers.ks20 import KS20Reader
from sgela_fast.skeletons.readers.registry import detect


def write_frame(folder: Path, take: int, body: int, time: int, rows: int = 25, delimiter: str = ",") -> np.ndarray:
    values = np.random.default_rng([take, body, time]).normal(size=(rows, 3)).round(4)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [delimiter.join([str(index), *map(str, row), "2"]) for index, row in enumerate(values.tolist())]
    (folder / f"gc{take}_body{body}_{time}.txt").write_text("\n".join(lines) + "\n")
    return values


def test_a_recording_is_what_shares_view_take_and_body(tmp_path: Path) -> None:
    for view in ("frontal", "left_lateral"):
        for take, body in ((1, 2), (2, 2), (1, 24)):
            write_frame(tmp_path / view, take, body, 100)
    refs = KS20Reader().scan(tmp_path)
    assert len({ref.name for ref in refs}) == 6
    found = {(ref.name, ref.person, ref.extra["view"], ref.extra["take"]) for ref in refs}
    assert ("body24_left_lateral_gc1", "body24", "left_lateral", "1") in found
    assert detect(tmp_path) is KS20Reader


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
def test_frames_are_ordered_by_time_and_bodies_kept_apart(tmp_path: Path, delimiter: str) -> None:
    expected = [write_frame(tmp_path / "frontal", 1, 2, time, delimiter=delimiter) for time in (9, 10, 100)]
    write_frame(tmp_path / "frontal", 1, 24, 50, delimiter=delimiter)
    reader = KS20Reader()
    recording = reader.read(reader.scan(tmp_path)[0])
    assert recording.layout == "kinect-v2"
    assert np.allclose(recording.joints, expected)


def test_a_wrong_number_of_joints_is_named(tmp_path: Path) -> None:
    write_frame(tmp_path / "frontal", 1, 2, 9, rows=19)
    reader = KS20Reader()
    with pytest.raises(DataError, match=r"gc1_body2_9\.txt has 19 lines but a frame has 25, one for each joint"):
        reader.read(reader.scan(tmp_path)[0])


@pytest.mark.parametrize("content", [b"MATLAB 5.0 MAT-file, Platform: PCWIN64", b"\x89HDF\r\n\x1a\n"])
def test_a_matlab_file_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "KS20.mat").write_bytes(content)
    assert detect(tmp_path) is KS20Reader
    with pytest.raises(DataError, match=r"KS20\.mat is a MATLAB file.*; write each frame as text VIEW/gcN_bodyID_TIME"):
        KS20Reader().scan(tmp_path)
