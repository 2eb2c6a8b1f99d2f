"""Telling formats apart, and the manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.skeletons.readers.files import natural_key
from sgela_fast.skeletons.readers.kgbd import KGBDReader
from sgela_fast.skeletons.readers.manifest import Manifest
from sgela_fast.skeletons.readers.registry import READERS, detect, known_formats, open_source

WriteKGBD = Callable[..., np.ndarray]


def test_every_format_has_a_line_of_its_own() -> None:
    assert len({reader.summary for reader in READERS.values()}) == len(READERS)
    assert all(name in known_formats() and "\n" not in reader.summary for name, reader in READERS.items())


def test_the_content_counts_and_not_the_suffix(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    write_kgbd(tmp_path / "walk.csv")
    assert detect(tmp_path / "walk.csv") is KGBDReader
    assert detect(tmp_path) is KGBDReader
    assert [ref.name for ref in open_source(tmp_path).refs] == ["walk"]


def test_an_unknown_format_names_the_known_ones_and_the_option(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing of interest\n")
    with pytest.raises(DataError, match=r"cannot tell the format of .*; name it with --format\. Known formats:"):
        detect(tmp_path)


def test_several_formats_in_one_place_are_named(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    write_kgbd(tmp_path / "Person001" / "1.txt")
    line = "\t".join(["0.5", *("\t".join([str(joint), "1", "2", "3"]) for joint in range(25))])
    (tmp_path / "human1_normal1_SkeletonData1.csv").write_text(line)
    with pytest.raises(DataError, match=r"looks like kgbd and gist at once; .* with --format\. Known formats:"):
        detect(tmp_path)
    assert [ref.name for ref in open_source(tmp_path, "gist").refs] == ["h01_normal_w01_s1"]


def test_a_missing_path_and_an_unknown_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; check the path"):
        open_source(tmp_path / "none")
    with pytest.raises(DataError, match="does not exist; check the path"):
        open_source(tmp_path / "none", "kgbd")
    with pytest.raises(ConfigError, match=r"unknown format 'kinect'; choose auto or one of: archive, packed-npz"):
        open_source(tmp_path, "kinect")


@pytest.mark.parametrize("name", READERS)
def test_a_stated_format_that_is_not_there_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"holds no recording of format '{name}'|is not an archive"):
        open_source(tmp_path, name)


def test_two_recordings_of_one_name_are_both_named(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    write_kgbd(tmp_path / "day1" / "Person001" / "1.txt")
    write_kgbd(tmp_path / "day2" / "Person001" / "1.txt")
    with pytest.raises(DataError, match=r"day2/Person001/1.txt and day1/Person001/1.txt .* would both be .*'p001_1'"):
        open_source(tmp_path)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("recording,source_file\nfirst,day1/Person001/1.txt\nsecond,day2/Person001/1.txt\n")
    assert [ref.name for ref in open_source(tmp_path, manifest=manifest).refs] == ["first", "second"]


def test_hidden_files_are_passed_over(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    write_kgbd(tmp_path / "Person001" / "1.txt")
    write_kgbd(tmp_path / ".trash" / "Person002" / "1.txt")
    assert len(open_source(tmp_path)) == 1


def test_linked_folders_are_read_and_loops_are_not_followed(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    write_kgbd(tmp_path / "disk" / "Person001" / "1.txt")
    source = tmp_path / "source"
    source.mkdir()
    (source / "Person001").symlink_to(tmp_path / "disk" / "Person001")
    (source / "again").symlink_to(source)
    assert [ref.name for ref in open_source(source).refs] == ["p001_1"]


def test_files_of_other_names_are_not_passed_over(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    write_kgbd(tmp_path / "Person001" / "1.txt")
    write_kgbd(tmp_path / "more" / "guest.txt")
    assert [ref.name for ref in open_source(tmp_path).refs] == ["p001_1", "more_guest"]


def test_a_number_too_large_for_the_archive_is_refused(tmp_path: Path, write_kgbd: WriteKGBD) -> None:
    write_kgbd(tmp_path / "walk.txt")
    lines = (tmp_path / "walk.txt").read_text().splitlines()
    (tmp_path / "walk.txt").write_text("\n".join(["Head;1e300;0;0", *lines[1:]]))
    with pytest.raises(DataError, match=r"has a coordinate that is not finite in frame 0 of recording 'walk'"):
        list(open_source(tmp_path))


def test_natural_order_counts_numbers() -> None:
    names = ["walk10", "walk9", "b", "walk1b2", "walk1a10"]
    assert sorted(names, key=lambda name: natural_key(Path(name))) == ["b", "walk1a10", "walk1b2", "walk9", "walk10"]


@pytest.fixture
def kgbd(tmp_path: Path, write_kgbd: WriteKGBD) -> Path:
    for person, walk in (("001", 1), ("001", 2), ("002", 1)):
        write_kgbd(tmp_path / "kgbd" / f"Person{person}" / f"{walk}.txt")
    return tmp_path / "kgbd"


def test_a_manifest_overrides_what_paths_say(tmp_path: Path, kgbd: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "recording, person ,fps,split,split_2,source_file\n"
        "p001_1,anna,25,train,test,\n"
        "walk_two,,,test,,Data/Person001/2.txt\n"
    )
    source = open_source(kgbd, manifest=manifest)
    first, second, third = source
    assert (first.name, first.person, first.fps, first.extra) == (
        "p001_1",
        "anna",
        25.0,
        {"split": "train", "split_2": "test"},
    )
    assert (second.name, second.person, second.fps, second.extra) == ("walk_two", "p001", 30.0, {"split": "test"})
    assert (third.name, third.extra) == ("p002_1", {})
    assert source.unlisted == ("p002_1",)


@pytest.mark.parametrize("prefix", ["", "kgbd/", "any/where/"])
def test_source_files_may_have_more_or_fewer_folders(tmp_path: Path, kgbd: Path, prefix: str) -> None:
    manifest = tmp_path / "m.csv"
    rows = [f"{prefix}Person001/1.txt,a", f"{prefix}Person001/2.txt,b", f"{prefix}Person002/1.txt,c"]
    manifest.write_text("\n".join(["source_file,person", *rows]))
    assert [ref.person for ref in open_source(kgbd, manifest=manifest).refs] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("person,split\na,train\n", r"has neither a column 'recording' nor 'source_file'; its columns are: person"),
        ("", r"has neither a column 'recording' nor 'source_file'; its columns are: none"),
        ("recording;person\np001_1;a\n", r"has neither a column 'recording' .* its columns are: recording;person"),
        ("recording,person\np001_1,a\np001_1,b\n", r"m\.csv, line 3 names 'p001_1' again; keep one row"),
        ("recording,person\np001_1\n", r"m\.csv, line 2 has another number of cells than the header"),
        ("recording,person\np001_1,a,train\n", r"m\.csv, line 2 has another number of cells than the header"),
        ("recording,fps\np001_1,fast\n", r"m\.csv, line 2 has frames or fps that are not numbers"),
        ("recording,shard\np001_1,1\n", r"m\.csv has a column 'shard', which archives keep for themselves; rename it"),
        ("recording,person\nx,a\n", r"m\.csv mentions none of the 3 recordings, such as 'p001_1'"),
    ],
)
def test_a_manifest_at_fault_is_named(tmp_path: Path, kgbd: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_source(kgbd, manifest=tmp_path / "m.csv")


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest .*none\.csv cannot be read \(No such file or directory\)"):
        Manifest(tmp_path / "none.csv")
    (tmp_path / "m.csv").write_bytes(b"recording\n\xff\n")
    with pytest.raises(DataError, match=r"manifest .*m\.csv is not a CSV text file"):
        Manifest(tmp_path / "m.csv")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "format"), [("kgbd", "kgbd"), ("ucalgary", "ucalgary"), ("gist", "gist"), ("cmu-sample", "cmu")]
)
def test_raw_samples_are_told_apart_and_fit_their_manifest(shared: Path, folder: str, format: str) -> None:
    data = shared / "data" / folder
    source = open_source(data / "raw-sample", manifest=data / "manifest.csv")
    assert source.reader.name == format
    assert not source.unlisted
    assert all(ref.extra["split"] for ref in source.refs)
