"""IAS-Lab frame folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.readers.ias import IASReader
from sgela_fast.skeletons.readers.registry import detect


def write_frame(folder: Path, number: int, slots: int = 1, rows: int = 20) -> np.ndarray:
    table = np.zeros((rows, 14))
    table[:, 1:4] = np.random.default_rng(number).normal(size=(rows, 3)).round(5)
    table[:, 6] = 2
    unused = np.zeros(((slots - 1) * 20, 14))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:06d}_{number * 33}_skel.txt"
    path.write_text("\n".join(",".join(map(str, row)) for row in np.concatenate([table, unused]).tolist()))
    return table[:, 1:4]


def test_the_folder_number_is_the_person_in_every_split(tmp_path: Path) -> None:
    for split in ("TestingB", "Training", "TestingA"):
        for person in ("010", "003"):
            write_frame(tmp_path / split / person, 0)
    refs = IASReader().scan(tmp_path)
    assert {(ref.name, ref.person, ref.extra["split"]) for ref in refs} == {
        (f"{split}_{person}", person, split) for split in ("train", "test-a", "test-b") for person in ("003", "010")
    }
    assert detect(tmp_path) is IASReader


@pytest.mark.parametrize("slots", [1, 2])
def test_frames_may_have_one_slot_or_two(tmp_path: Path, slots: int) -> None:
    expected = [write_frame(tmp_path / "003", number, slots) for number in range(3)]
    reader = IASReader()
    recording = reader.read(reader.scan(tmp_path / "003")[0])
    assert np.allclose(recording.joints, expected)


def test_another_number_of_rows_is_named(tmp_path: Path) -> None:
    write_frame(tmp_path / "003", 0, rows=19)
    reader = IASReader()
    with pytest.raises(DataError, match=r"skel\.txt has 19 rows but a frame has 20 or 40, one for each joint"):
        reader.read(reader.scan(tmp_path / "003")[0])


def test_a_folder_without_frames_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no recording of format 'ias'"):
        IASReader().scan(tmp_path)
