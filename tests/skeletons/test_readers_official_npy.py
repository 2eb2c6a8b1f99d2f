"""The authors' per-axis arrays, and their pickled persons, which must never be unpickled."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.config import ReaderOptions
from sgela_fast.skeletons.readers.official_npy import OfficialNpyReader
from sgela_fast.skeletons.readers.pickled_ids import read_pickled_ids
from sgela_fast.skeletons.readers.registry import detect

IDS = {3: [0, 2], 5: [1]}


def write_set(folder: Path, set_name: str, *, prefix: str = "", windows: int = 3, plain: bool = True) -> np.ndarray:
    """Three windows of six frames of 20 joints; returns ``(windows, 6, 20, 3)``."""
    values = np.random.default_rng(1).normal(size=(windows, 6, 20, 3))
    folder.mkdir(parents=True, exist_ok=True)
    for index, axis in enumerate("xyz"):
        np.save(folder / f"{prefix}source_{axis}_{set_name}_6.npy", values[..., index].reshape(-1, 20))
        np.save(folder / f"{prefix}target_{axis}_{set_name}_6.npy", values[:, ::-1, :, index].reshape(-1, 20))
    if plain:
        np.save(folder / f"frame_id_{set_name}_6.npy", np.array([3, 5, 3])[:windows])
    else:
        np.save(folder / f"ids_{set_name}_6.npy", np.array(IDS, object), allow_pickle=True)
    return values


def test_every_window_of_the_old_layout_is_a_recording(tmp_path: Path) -> None:
    values = write_set(tmp_path / "BIWI_train_npy_data", "BIWI")
    write_set(tmp_path / "BIWI_test_npy_data", "BIWI", prefix="t_")
    reader = OfficialNpyReader()
    refs = reader.scan(tmp_path)
    assert detect(tmp_path) is OfficialNpyReader
    assert [ref.name for ref in refs if ref.extra["split"] == "train"] == [f"BIWI_train_{i:06d}" for i in range(3)]
    assert [ref.person for ref in refs] == ["3", "5", "3"] * 2
    train = [reader.read(ref) for ref in refs if ref.extra["split"] == "train"]
    assert np.allclose([recording.joints for recording in train], values.astype(np.float32))
    assert train[0].layout == "kinect-v1"


@pytest.mark.parametrize(
    ("folder", "set_name", "prefix", "split", "view"),
    [
        ("IAS_test_npy_data", "IAS-A", "t_", "test-a", None),
        ("Datasets/BIWI/6/test_npy_data/Walking", "BIWI", "", "test-walking", None),
        ("Datasets/KGBD/6/test_npy_data/gallery", "KGBD", "", "test-gallery", None),
        ("Datasets/KGBD/6/train_npy_data", "KGBD", "", "train", None),
        ("Datasets/KS20/6/KS20_test_npy_data/view_2", "KS20", "t_", "test", "2"),
    ],
)
def test_folders_tell_split_and_view(
    tmp_path: Path, folder: str, set_name: str, prefix: str, split: str, view: str | None
) -> None:
    write_set(tmp_path / folder, set_name, prefix=prefix)
    ref = OfficialNpyReader().scan(tmp_path)[0]
    assert (ref.extra["split"], ref.extra.get("view"), ref.extra["set"]) == (split, view, set_name.removesuffix("-A"))


def test_pickled_persons_are_read_only_if_asked_for(tmp_path: Path) -> None:
    write_set(tmp_path / "BIWI_train_npy_data", "BIWI", plain=False)
    with pytest.raises(DataError, match=r"persons only in the pickled ids_BIWI_6\.npy; allow .* with --pickled_ids"):
        OfficialNpyReader().scan(tmp_path)
    refs = OfficialNpyReader(ReaderOptions(pickled_ids=True)).scan(tmp_path)
    assert [ref.person for ref in refs] == ["3", "5", "3"]


def test_plain_persons_are_preferred(tmp_path: Path) -> None:
    folder = tmp_path / "BIWI_train_npy_data"
    write_set(folder, "BIWI", plain=False)
    np.save(folder / "frame_id_BIWI_6.npy", np.array([7, 8, 9]))
    assert [ref.person for ref in OfficialNpyReader(ReaderOptions(pickled_ids=True)).scan(tmp_path)] == ["7", "8", "9"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "content",
    [
        IDS,
        {"3": [0, 2], "5": [1]},
        {3: (0, 2), 5: (1,)},
        {np.int64(3): [np.int64(0), np.int32(2)], np.int64(5): [np.int64(1)]},
        {3: np.array([0, 2]), 5: np.array([1], np.uint8)},
        {np.str_("3"): np.array([0, 2], object), np.str_("5"): [1]},
    ],
    ids=["ints", "strings", "tuples", "scalars", "arrays", "numpy text"],
)
def test_all_harmless_ways_to_write_persons_are_understood(tmp_path: Path, protocol: int, content: Any) -> None:
    path = tmp_path / "ids.npy"
    write_pickle(path, pickle.dumps(np.array(content, object), protocol))
    assert read_pickled_ids(path, 3) == ["3", "5", "3"]


def write_pickle(path: Path, content: bytes) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(header.getvalue() + content)


class Call:
    """Pickles as a call of a function, which is how pickles run code."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "victim"
    for call in (Call(Path.touch, victim), Call(eval, f"open({str(victim)!r}, 'w')"), Call(np.save, victim, 1)):
        path = tmp_path / "ids.npy"
        write_pickle(path, pickle.dumps({3: call}, protocol))
        with pytest.raises(DataError, match=r"ids\.npy is not a plain pickled dict .*it was not executed"):
            read_pickled_ids(path, 3)
        assert not list(tmp_path.glob("victim*"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"N.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"]q\x00(K\x01u.",
        b"}(]K\x01u.",
        b"t.",
        b"(lp0\n0.",
        b"\x80\x04\x95",
        b"\xff",
    ],
)
def test_broken_pickles_are_refused(tmp_path: Path, content: bytes) -> None:
    write_pickle(tmp_path / "ids.npy", content)
    with pytest.raises(DataError, match=r"ids\.npy (is not a plain pickled dict|holds a NoneType, not a dict)"):
        read_pickled_ids(tmp_path / "ids.npy", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({3: [0, 2]}, r"gives window 1 of 3 no person; it belongs to other arrays"),
        ({3: [0, 2], 5: [1, 2]}, r"gives person 5 the window 2, which does not exist or has a person already"),
        ({3: [0, 1, 2, 3]}, r"gives person 3 the window 3, which does not exist"),
        ({3: ["0"]}, r"gives person 3 the window '0'"),
        ([1, 2, 3], r"holds a list, not a dict"),
    ],
)
def test_persons_must_fit_the_windows(tmp_path: Path, content: Any, message: str) -> None:
    array = np.empty((), object)
    array[()] = content
    write_pickle(tmp_path / "ids.npy", pickle.dumps(array, 3))
    with pytest.raises(DataError, match=message):
        read_pickled_ids(tmp_path / "ids.npy", 3)


def test_arrays_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "BIWI_train_npy_data"
    write_set(folder, "BIWI")
    (folder / "source_z_BIWI_6.npy").unlink()
    with pytest.raises(DataError, match=r"source_z_BIWI_6\.npy is missing; each set needs its x, y and z axis"):
        OfficialNpyReader().scan(tmp_path)
    np.save(folder / "source_z_BIWI_6.npy", np.zeros((17, 20)))
    with pytest.raises(
        DataError, match=r"source_z_BIWI_6\.npy is float64 \(17, 20\), which does not fold into windows"
    ):
        OfficialNpyReader().scan(tmp_path)
    np.save(folder / "source_z_BIWI_6.npy", np.zeros((12, 20)))
    with pytest.raises(DataError, match=r"source_z_BIWI_6\.npy has the shape \(12, 20\), another than the x axis"):
        OfficialNpyReader().scan(tmp_path)
    np.save(folder / "source_z_BIWI_6.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"source_z_BIWI_6\.npy cannot be read as plain numbers"):
        OfficialNpyReader().scan(tmp_path)


def test_persons_that_do_not_fit_or_lack_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "BIWI_train_npy_data"
    write_set(folder, "BIWI")
    np.save(folder / "frame_id_BIWI_6.npy", np.zeros(5))
    with pytest.raises(DataError, match=r"frame_id_BIWI_6\.npy has the shape \(5,\) but .* has 3 windows"):
        OfficialNpyReader().scan(tmp_path)
    (folder / "frame_id_BIWI_6.npy").unlink()
    with pytest.raises(DataError, match=r"has neither frame_id_\*\.npy nor ids_\*\.npy beside it"):
        OfficialNpyReader().scan(tmp_path)


def test_a_number_of_joints_that_no_layout_has_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "BIWI_train_npy_data"
    write_set(folder, "BIWI")
    for axis in "xyz":
        np.save(folder / f"source_{axis}_BIWI_6.npy", np.zeros((18, 19)))
    reader = OfficialNpyReader()
    with pytest.raises(DataError, match=r"window 0 of .* is float64 \(6, 19, 3\) but must be numbers"):
        reader.read(reader.scan(tmp_path)[0])
