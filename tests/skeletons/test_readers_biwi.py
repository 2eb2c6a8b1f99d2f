"""BIWI frame folders: slots, tracking states, floor planes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.skeletons.config import ReaderOptions
from sgela_fast.skeletons.readers.biwi import BIWIReader
from sgela_fast.skeletons.readers.registry import detect
from sgela_fast.skeletons.recording import Recording


def frame_table(seed: int = 0, user: int = 1) -> np.ndarray:
    """(20, 14): one user slot with all joints tracked."""
    rows = np.zeros((20, 14))
    rows[:, 0] = user
    rows[:, 1:4] = np.random.default_rng(seed).normal(size=(20, 3)).round(5)
    rows[:, 6] = 2
    return rows


def write_frame(folder: Path, number: int, slots: list[np.ndarray], subject: str = "001", plane: str = "") -> Path:
    """Write the two text files of a frame; their time stamps differ, as in the real data."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{subject}_{number:06d}-d_{number * 33}_skel.txt"
    path.write_text("\n".join(",".join(map(str, row)) for row in np.concatenate(slots).tolist()))
    if plane:
        (folder / f"{subject}_{number:06d}-e_{number * 33 + 1}_groundCoeff.txt").write_text(plane + "\n")
    return path


EMPTY = np.zeros((20, 14))


def read(path: Path, **options: Any) -> Recording:
    reader = BIWIReader(ReaderOptions(**options))
    (ref,) = reader.scan(path)
    return reader.read(ref)


def test_folders_tell_person_and_split(tmp_path: Path) -> None:
    for place in ("Training/001", "Testing/Still/022b", "Testing/Walking/022b"):
        write_frame(tmp_path / place, 0, [frame_table(), EMPTY], Path(place).name)
        (tmp_path / place / "000_000000-b_1_depth.pgm").write_bytes(b"P5\0")
    refs = BIWIReader().scan(tmp_path)
    assert [(ref.name, ref.person, ref.extra["split"], ref.source) for ref in refs] == [
        ("test-still_022", "022", "test-still", "Testing/Still/022b"),
        ("test-walking_022", "022", "test-walking", "Testing/Walking/022b"),
        ("train_001", "001", "train", "Training/001"),
    ]
    assert detect(tmp_path) is BIWIReader


def test_frames_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write_frame(tmp_path / "001", number, [frame_table(number), EMPTY])
    recording = read(tmp_path / "001")
    assert recording.layout == "kinect-v1"
    assert np.allclose(recording.joints, np.stack([frame_table(number)[:, 1:4] for number in (0, 2, 10)]))
    assert recording.tracking is not None
    assert (recording.tracking == 2).all()


def test_frames_with_an_untracked_joint_are_dropped_and_inferred_joints_kept(tmp_path: Path) -> None:
    for number, state in enumerate((2, 1, 0)):
        table = frame_table(number)
        table[5, 6] = state
        write_frame(tmp_path / "001", number, [table, EMPTY])
    recording = read(tmp_path / "001")
    assert recording.frames == 2
    assert recording.extra["dropped_frames"] == "1"
    assert recording.tracking is not None
    assert recording.tracking[1, 5] == 1


def test_kept_untracked_joints_are_marked_as_lost(tmp_path: Path) -> None:
    table = frame_table()
    table[5, 6] = 0
    write_frame(tmp_path / "001", 0, [table, EMPTY])
    recording = read(tmp_path / "001", keep_untracked=True)
    assert (recording.joints[0, 5] == 0).all()
    assert (recording.joints[0, 6] != 0).all()


@pytest.mark.parametrize(("slot", "seed"), [("0", 1), ("1", 101), ("auto", 101)])
def test_the_user_slot_is_chosen(tmp_path: Path, slot: str, seed: int) -> None:
    # Slot 1 is tracked in three frames, slot 0 in one.
    for number in range(3):
        first = frame_table(1) if number == 0 else EMPTY
        write_frame(tmp_path / "001", number, [first, frame_table(101)])
    assert np.allclose(read(tmp_path / "001", slot=slot).joints[0], frame_table(seed)[:, 1:4])


def test_an_unknown_slot_is_refused() -> None:
    with pytest.raises(ConfigError, match="slot is '2'; choose one of: 0, 1, auto"):
        ReaderOptions(slot="2")


def test_the_floor_is_paired_by_frame_number_and_its_median_kept(tmp_path: Path) -> None:
    untracked = frame_table()
    untracked[0, 6] = 0
    for number, (table, plane) in enumerate(
        [(frame_table(), "0,1,0,1.2"), (frame_table(), "0,1,0,1.3"), (untracked, "0,1,0,9"), (frame_table(), "")]
    ):
        write_frame(tmp_path / "001", number, [table, EMPTY], plane=plane)
    ground = read(tmp_path / "001").ground
    assert ground is not None
    assert np.allclose(ground, [0, 1, 0, 1.25])


def test_without_floor_files_the_floor_is_unknown(tmp_path: Path) -> None:
    write_frame(tmp_path / "001", 0, [frame_table(), EMPTY])
    assert read(tmp_path / "001").ground is None


def edit(text: str, row: int, column: int, value: str) -> str:
    lines = [line.split(",") for line in text.split("\n")]
    lines[row][column] = value
    return "\n".join(",".join(line) for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: "\n".join(text.split("\n")[:19]),
            r"skel\.txt has 19 rows but a frame has 40, one for each joint",
        ),
        (lambda text: "\n".join(text.split("\n")[:20]), r"skel\.txt has 20 rows but a frame has 40"),
        (lambda text: text[:-5], r"line 40 has \d+ columns but needs 14 columns .* the file seems cut off"),
        (lambda text: edit(text, 4, 2, "nan"), r"line 5 holds a coordinate that is not finite"),
        (lambda text: edit(text, 4, 2, "up"), r"line 5, column 3 is 'up', not a number"),
        (lambda text: edit(text, 6, 6, "5"), r"line 7 has the tracking state 5; it must be 0, 1 or 2"),
        (lambda text: text.replace(",", ";"), r"line 1 is not 14 columns separated by commas; check the delimiter"),
        (lambda _: "", r"skel\.txt is empty; remove it or copy it again"),
    ],
)
def test_a_frame_at_fault_is_named(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = write_frame(tmp_path / "001", 7, [frame_table(), EMPTY])
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "001")
    assert str(path) in str(caught.value)


def test_a_floor_plane_at_fault_is_named(tmp_path: Path) -> None:
    write_frame(tmp_path / "001", 0, [frame_table(), EMPTY], plane="0,1,0")
    with pytest.raises(DataError, match=r"groundCoeff\.txt, line 1 has 3 columns but needs 4 columns"):
        read(tmp_path / "001")


def test_a_walk_without_a_usable_frame_says_what_to_try(tmp_path: Path) -> None:
    write_frame(tmp_path / "001", 0, [EMPTY, frame_table()])
    with pytest.raises(DataError, match=r"no frame with all 20 joints tracked in user slot 0; try --slot auto"):
        read(tmp_path / "001")


def test_a_single_frame_is_no_walk(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "001", 0, [frame_table(), EMPTY])
    with pytest.raises(DataError, match=r"is one frame; give the folder that holds a walk's frames"):
        BIWIReader().scan(path)
