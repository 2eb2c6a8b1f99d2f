"""Folders of images: recognised by their names, brought to 64 x 64 as GaitSet does, read when they are needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.images import normalise, read_image, resize
from sgela_fast.silhouettes.layouts import find_sequences
from sgela_fast.silhouettes.sequences import Sequences
from sgela_fast.silhouettes.splits import labelled, sides, split, split_subjects

Folder = Callable[..., Path]
CASIA = ["/".join(names) for names in itertools.product(("001", "005"), ("nm-01", "bg-02"), ("000", "090"))]


def figure(height: int = 120, left: int = 100) -> np.ndarray:
    pixels = np.zeros((240, 320), np.uint8)
    pixels[60 : 60 + height, left : left + height // 4] = 255
    return pixels


def table_of(
    subjects: int, conditions: tuple[str, ...] = ("nm-01", "nm-02"), first: int = 1, digits: int = 3
) -> Sequences:
    names = [f"{first + subject:0{digits}d}" for subject in range(subjects)]
    return Sequences.of((name, condition, "000", 30) for name in names for condition in conditions)


@pytest.mark.parametrize(
    ("layout", "folders", "expected"),
    [
        (
            "casia-b",
            ["001/nm-01/090", "001/cl-02/180", "124/bg-01/000"],
            ["001/cl-02/180", "001/nm-01/090", "124/bg-01/000"],
        ),
        ("ou-mvlp", ["Silhouette_000-01/00003", "Silhouette_195-00/00003"], ["00003/00/195", "00003/01/000"]),
        ("ou-mvlp-prepared", ["00003/00/195", "00002/01/000"], ["00002/01/000", "00003/00/195"]),
    ],
)
def test_a_layout_is_told_by_its_names(images: Folder, layout: str, folders: list[str], expected: list[str]) -> None:
    path = images("set", folders)
    (path / "readme").mkdir()
    (path / "notes.txt").write_text("not an image")
    found = find_sequences(path)
    assert found[0] == layout
    assert [sequence.key for sequence in found[1]] == expected
    assert found[1][0].files == ("001.png", "002.png", "003.png")


def test_pickled_sequences_are_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "001" / "nm-01" / "000"
    folder.mkdir(parents=True)
    (folder / "000.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match="holds pickled sequences, which are never opened"):
        find_sequences(tmp_path)


def test_a_frame_is_filled_by_the_figure_and_centred_by_its_mass() -> None:
    frame = normalise(figure(height=120, left=100))
    assert frame is not None
    assert frame.shape == (64, 64)
    assert np.all(frame.any(axis=1))
    columns = np.flatnonzero(frame.max(axis=0) > 127)
    assert (columns[0], columns[-1]) == (24, 39)  # 16 wide; the ninth, which is beyond one half, stands in column 32
    far_left = normalise(figure(left=0))
    assert far_left is not None
    np.testing.assert_array_equal(far_left[:, 24:40] > 127, frame[:, 24:40] > 127)


def test_the_heavy_side_decides_where_the_middle_is() -> None:
    pixels = figure()
    pixels[60:100, 130:230] = 255
    frame = normalise(pixels)
    assert frame is not None
    mass = frame.sum(axis=0, dtype=int).cumsum()
    whole = normalise(pixels[:, ::-1].copy())
    assert whole is not None
    assert frame[:, :32].max() == 255
    # The window may cut off some of the figure, so the halves are those of the picture before that.
    assert abs(int(mass[32]) - int(mass[-1]) / 2) < 0.25 * mass[-1]


def test_frames_of_the_right_size_stay_and_empty_ones_are_dropped() -> None:
    right = np.zeros((64, 64), np.uint8)
    right[:, 20:30] = 200
    assert normalise(right) is right
    faint = np.zeros((240, 320), np.uint8)
    faint[100, 100:139] = 255  # 9,945
    assert normalise(faint) is None
    faint[101, 100] = 255  # 10,200
    assert normalise(faint) is not None
    assert normalise(np.zeros((64, 64), np.uint8)) is None


def test_interpolation_is_cubic_with_four_taps() -> None:
    line = np.array([[0, 0, 100, 200, 200, 0]], np.uint8)
    doubled = resize(np.repeat(line, 4, axis=0), 4, 12)[0]
    # The sixth lies a quarter behind the third old one: the cubic of slope -0.75 at distances 1.25, 0.25, 0.75, 1.75.
    weights = np.array([-0.10546875, 0.87890625, 0.26171875, -0.03515625])
    assert doubled[5] == round(float(weights @ [0, 100, 200, 200]))
    np.testing.assert_array_equal(resize(np.full((90, 70), 137, np.uint8), 64, 50), 137)


def test_images_are_read_when_they_are_asked_for_and_held(images: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def counting(file: Path) -> np.ndarray:
        reads.append(file)
        return read_image(file)

    monkeypatch.setattr("sgela_fast.silhouettes.sources.read_image", counting)
    path = images("set", CASIA)
    silhouettes = SilhouetteSet.open(path, cache_mb=3 * 3 * 64 * 64 / 2**20)
    assert not reads
    assert silhouettes.sequences.key.tolist() == sorted(CASIA)
    assert silhouettes.sequences.frames.tolist() == [3] * 8
    frames = silhouettes.load(2)
    assert frames.shape == (3, 64, 64)
    assert frames.dtype == np.uint8
    assert not frames.flags.writeable
    silhouettes.load(2)
    assert len(reads) == 3
    for index in (3, 4, 5, 2):  # three sequences fit
        silhouettes.load(index)
    assert len(reads) == 3 + 9 + 3
    part = silhouettes.select(np.array([5, 2]))
    assert part.sequences.key.tolist() == [sorted(CASIA)[5], sorted(CASIA)[2]]
    np.testing.assert_array_equal(part.load(1), frames)
    assert len(reads) == 15


def test_a_frame_at_fault_is_passed_over_and_a_sequence_without_any_is_named(images: Folder) -> None:
    path = images("set", ["001/nm-01/000", "001/nm-02/000"])
    (path / "001/nm-01/000/002.png").write_bytes(b"no image")
    for file in (path / "001/nm-02/000").iterdir():
        Image.fromarray(np.zeros((240, 320), np.uint8)).save(file)
    silhouettes = SilhouetteSet.open(path)
    assert len(silhouettes.load(0)) == 2
    with pytest.raises(DataError, match=r"no frame of sequence 001/nm-02/000 .* empty frame"):
        silhouettes.load(1)


def test_one_bit_palette_and_colour_images_are_read_alike(tmp_path: Path) -> None:
    pixels = figure()
    picture = Image.fromarray(pixels)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        picture.convert(mode).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    Image.fromarray(pixels.astype(np.uint16) * 256).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="save it again as 8-bit PNG"):
        read_image(tmp_path / "deep.png")


def test_the_standard_splits() -> None:
    casia = table_of(124)
    for name, count in (("casia-b-74", 74), ("casia-b-62", 62)):
        sides = split(casia, name)
        assert casia[sides.train].subjects == [f"{subject:03d}" for subject in range(1, count + 1)]
        assert len(casia[sides.test].subjects) == 124 - count
    ou_mvlp = split(table_of(10_307, ("00",), digits=5), "ou-mvlp")
    assert (len(ou_mvlp.train), len(ou_mvlp.test)) == (5153, 5154)
    assert ou_mvlp.train[0] == 0
    assert ou_mvlp.test[-1] == 10_306
    with pytest.raises(ConfigError, match="choose one of: casia-b-74"):
        split(casia, "half")
    with pytest.raises(DataError, match="leaves no sequence to test on"):
        split(table_of(20), "casia-b-74")
    assert [len(side) for side in split_subjects(table_of(5), 2)] == [4, 6]


def test_a_subject_that_is_missing_moves_nobody_to_the_other_side() -> None:
    casia = table_of(124)
    lacking = casia[np.flatnonzero(casia.subject != "005")]
    sides = split(lacking, "casia-b-74")
    assert lacking[sides.train].subjects[-1] == "074"
    assert lacking[sides.test].subjects[0] == "075"
    with pytest.raises(DataError, match="subject 'anna' is no number, which split casia-b-74 goes by"):
        split(Sequences.of([("anna", "nm-01", "000", 5)]), "casia-b-74")


def test_the_released_split_cuts_the_sorted_list_and_skips_one_subject() -> None:
    table = table_of(10, ("nm-01", "bg-01", "cl-01"))  # 30 sequences, 27 without subject 005
    train, test = split(table, "released")
    assert "005" not in table[train].subjects + table[test].subjects
    assert (len(train), len(test)) == (21, 6)
    assert max(table[train].key.tolist()) < min(table[test].key.tolist())


def test_label_fractions_nest_and_are_shares_of_subjects_or_of_each_subjects_sequences() -> None:
    table = table_of(20, tuple(f"nm-{walk:02d}" for walk in range(1, 21)))
    for unit in ("subjects", "sequences"):
        chosen = [set(labelled(table, fraction, unit, seed=3).tolist()) for fraction in (0.1, 0.2, 0.5, 1.0)]
        assert all(small < large for small, large in itertools.pairwise(chosen))
        assert [len(rows) for rows in chosen] == [40, 80, 200, 400]
    assert len(table[labelled(table, 0.3)].subjects) == 6
    per_subject = labelled(table, 0.3, "sequences")
    assert np.bincount(np.unique(table.subject[per_subject], return_inverse=True)[1]).tolist() == [6] * 20
    assert len(table[labelled(table, 0.01)].subjects) == 2
    assert set(labelled(table, 0.5, seed=1).tolist()) != set(labelled(table, 0.5, seed=2).tolist())
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        labelled(table, 0)


def test_the_sides_of_a_set_are_told_where_they_can_be() -> None:
    casia = table_of(80)
    assert sides(casia, "casia-b-74") == ["train"] * 148 + ["test"] * 12
    tested = casia[split(casia, "casia-b-74").test]
    assert sides(tested, "casia-b-74", same=False) == ["test"] * 12  # numbers are the same in every copy
    mvlp = table_of(4, ("00", "01"), digits=5)
    assert sides(mvlp, "ou-mvlp") == ["train", "train", "test", "test"] * 2
    assert sides(mvlp, "casia-b-74") is None  # numbers of other data
    assert sides(table_of(10), "released", same=False) is None
    released = sides(table_of(10), "released") or []
    assert [released.count(side) for side in ("train", "test", "none")] == [14, 4, 2]
    assert sides(table_of(4), "", 3) == ["train"] * 6 + ["test"] * 2
    assert sides(table_of(4), "") is None
