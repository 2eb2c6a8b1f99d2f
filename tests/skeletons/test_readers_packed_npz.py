"""Packed data sets, archives as a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.convert import convert
from sgela_fast.skeletons.readers.archive import ArchiveReader
from sgela_fast.skeletons.readers.packed_npz import PackedNPZReader
from sgela_fast.skeletons.readers.registry import detect, open_source

WriteNPZ = Callable[..., Path]
WALKS = {"a_1": (30, "a", "train"), "a_2": (40, "a", "test"), "b_1": (20, "b", "train")}


def test_the_manifest_says_who_walks(tmp_path: Path, write_npz: WriteNPZ) -> None:
    folder = write_npz(tmp_path / "set", WALKS)
    assert detect(folder) is PackedNPZReader
    recordings = list(open_source(folder))
    assert [(r.name, r.person, r.extra["split"], r.frames) for r in recordings] == [
        (name, person, split, frames) for name, (frames, person, split) in WALKS.items()
    ]
    with np.load(folder / "walks.npz") as packed:
        assert all((recording.joints == packed[recording.name]).all() for recording in recordings)


def test_raw_samples_below_do_not_make_it_ambiguous(
    tmp_path: Path, write_npz: WriteNPZ, write_kgbd: Callable[..., np.ndarray]
) -> None:
    write_npz(tmp_path, WALKS)
    write_kgbd(tmp_path / "raw-sample" / "Person001" / "1.txt")
    assert detect(tmp_path) is PackedNPZReader


def test_without_a_manifest_persons_are_unknown(tmp_path: Path, write_npz: WriteNPZ) -> None:
    (write_npz(tmp_path, WALKS) / "manifest.csv").unlink()
    assert [ref.person for ref in open_source(tmp_path / "walks.npz").refs] == [None] * 3


@pytest.mark.parametrize(("joints", "layout"), [(18, "kinect-v2-18"), (20, "kinect-v1"), (25, "kinect-v2")])
def test_the_number_of_joints_tells_the_layout(tmp_path: Path, write_npz: WriteNPZ, joints: int, layout: str) -> None:
    recording = next(iter(open_source(write_npz(tmp_path, WALKS, joints=joints))))
    assert recording.layout == layout


def test_nineteen_joints_are_refused(tmp_path: Path, write_npz: WriteNPZ) -> None:
    with pytest.raises(DataError, match=r"array 'a_1' of .*walks\.npz is float32 \(30, 19, 3\) but must be numbers"):
        list(open_source(write_npz(tmp_path, WALKS, joints=19)))


def test_rows_and_arrays_must_match(tmp_path: Path, write_npz: WriteNPZ) -> None:
    manifest = write_npz(tmp_path, WALKS) / "manifest.csv"
    whole = manifest.read_text()
    manifest.write_text(whole + "c_1,c,5,30,train\n")
    source = open_source(tmp_path)
    with pytest.raises(DataError, match=r"walks\.npz has no array 'c_1', which its manifest lists"):
        source.reader.read(source.refs[-1])
    manifest.write_text(whole.replace("b_1,b,20,30,train\n", ""))
    with pytest.raises(DataError, match=r"manifest\.csv has no row for 'b_1' of walks\.npz"):
        open_source(tmp_path)
    manifest.write_text(whole.replace("a_2,a,40", "a_2,a,41"))
    with pytest.raises(DataError, match=r"array 'a_2' of .* has 40 frames but its manifest says 41"):
        list(open_source(tmp_path))


def test_a_coordinate_that_is_not_finite_is_named(tmp_path: Path, write_npz: WriteNPZ) -> None:
    write_npz(tmp_path, {"a_1": (3, "a", "train")})
    joints = np.ones((3, 20, 3), np.float32)
    joints[1, 4, 2] = np.nan
    np.savez(tmp_path / "walks.npz", a_1=joints)
    with pytest.raises(DataError, match=r"has a coordinate that is not finite in frame 1 of recording 'a_1'"):
        list(open_source(tmp_path))


def test_objects_and_damage_are_refused(tmp_path: Path, write_npz: WriteNPZ) -> None:
    write_npz(tmp_path, {"a_1": (3, "a", "train")})
    np.savez(tmp_path / "walks.npz", a_1=np.array([{}], object))
    with pytest.raises(DataError, match=r"array 'a_1' of .*walks\.npz cannot be read"):
        list(open_source(tmp_path))
    (tmp_path / "walks.npz").write_bytes((tmp_path / "walks.npz").read_bytes()[:-40])
    with pytest.raises(DataError, match=r"walks\.npz is not a readable npz file"):
        open_source(tmp_path, "packed-npz")


def test_an_archive_is_a_source(tmp_path: Path, write_npz: WriteNPZ) -> None:
    first = convert(write_npz(tmp_path / "set", WALKS), tmp_path / "first").archive
    assert detect(first.path) is ArchiveReader
    second = convert(first.path, tmp_path / "second").archive
    assert second.fingerprint == first.fingerprint
    assert [row.extra for row in second.rows] == [row.extra for row in first.rows]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "recordings", "persons"), [("kgbd", 617, 123), ("ucalgary", 117, 20), ("gist", 1119, 7)]
)
def test_the_shared_sets_are_listed_whole(shared: Path, name: str, recordings: int, persons: int) -> None:
    source = open_source(shared / "data" / name)
    assert source.reader.name == "packed-npz"
    assert len(source) == recordings
    assert len({ref.person for ref in source.refs}) == persons
    assert all("split" in ref.extra for ref in source.refs)
