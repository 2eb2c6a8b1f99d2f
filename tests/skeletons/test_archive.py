"""The archive: round trip, reading without the package, damage, resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sgela_fast.errors import DataError, OutputError
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording

Make = Callable[..., Recording]
V1 = get_layout("kinect-v1")


def write(path: Path, recordings: list[Recording], frames_per_shard: int = 50) -> Archive:
    writer = ArchiveWriter(path, V1, {"source": "test"}, frames_per_shard=frames_per_shard)
    for recording in recordings:
        writer.add(recording)
    return writer.finish(left_out=[])


@pytest.fixture
def recordings(make_recording: Make) -> list[Recording]:
    return [
        make_recording("a1", 30, person="a", fps=25.0, source="a/1.txt", extra={"split": "train"}),
        make_recording("a2", 40, person="a", extra={"split": "test", "sensor": "2"}),
        make_recording("b1", 1, person="b"),
        make_recording("u1", 20),
    ]


def test_what_goes_in_comes_out(tmp_path: Path, recordings: list[Recording]) -> None:
    archive = write(tmp_path / "archive", recordings)
    assert len(archive) == 4
    assert archive.info["shards"] == 2
    assert archive.persons == ["a", "b"]
    for recording, found in zip(recordings, archive, strict=True):
        assert (found.joints == recording.joints).all()
        assert found.joints.dtype == np.float32
        for field in ("name", "layout", "fps", "person", "source", "extra"):
            assert getattr(found, field) == getattr(recording, field)


def test_numpy_and_pyarrow_alone_read_it(tmp_path: Path, recordings: list[Recording]) -> None:
    folder = write(tmp_path / "archive", recordings).path
    info = json.loads((folder / "archive.json").read_text())
    assert info["schema"] == "sgela-fast/archive"
    assert info["layout"]["joints"][0] == "hip_center"
    assert (info["recordings"], info["frames"], info["persons"]) == (4, 91, 2)
    found = {}
    for shard in range(info["shards"]):
        frames = np.load(folder / f"frames-{shard:05d}.npy")
        for row in pq.read_table(folder / f"recordings-{shard:05d}.parquet").to_pylist():
            assert row["shard"] == shard
            found[row["recording"]] = frames[row["first_frame"] : row["first_frame"] + row["frames"]]
    assert all((found[recording.name] == recording.joints).all() for recording in recordings)


def test_lost_joints_are_counted(tmp_path: Path, make_recording: Make) -> None:
    recording = make_recording("a", 10)
    recording.joints[3, 4] = 0
    recording.joints[5, :2] = 0
    assert write(tmp_path / "archive", [recording]).row("a").lost_joints == 3


def test_select_finds_a_split_and_explains_what_there_is(tmp_path: Path, recordings: list[Recording]) -> None:
    archive = write(tmp_path / "archive", recordings)
    assert [row.recording for row in archive.select("split", "train")] == ["a1"]
    with pytest.raises(DataError, match=r"has no column 'view'; its columns are: sensor, split"):
        archive.select("view", "1")
    with pytest.raises(DataError, match=r"column 'split' of .* never equals 'probe'; it holds: test, train"):
        archive.select("split", "probe")
    with pytest.raises(DataError, match="has no recording 'zz'"):
        archive.row("zz")


def test_the_same_recordings_give_the_same_bytes_and_fingerprint(tmp_path: Path, recordings: list[Recording]) -> None:
    first = write(tmp_path / "first", recordings)
    second = write(tmp_path / "second", recordings)
    for file in sorted(first.path.iterdir()):
        assert file.read_bytes() == (second.path / file.name).read_bytes(), file.name
    assert first.fingerprint == second.fingerprint
    recordings[0].joints[0, 0, 0] += 1
    assert write(tmp_path / "third", recordings).fingerprint != first.fingerprint


def test_an_unfinished_archive_is_no_archive_until_it_is_finished(tmp_path: Path, recordings: list[Recording]) -> None:
    writer = ArchiveWriter(tmp_path / "a", V1, {"source": "test"}, frames_per_shard=50)
    for recording in recordings[:3]:
        writer.add(recording)  # the first two fill a shard, the third is lost with this writer
    with pytest.raises(DataError, match="is an unfinished conversion; run the same"):
        Archive(tmp_path / "a")
    again = ArchiveWriter(tmp_path / "a", V1, {"source": "test"}, frames_per_shard=50)
    assert [row.recording for row in again.done] == ["a1", "a2"]
    for recording in recordings[2:]:
        again.add(recording)
    resumed = again.finish(left_out=[])
    whole = write(tmp_path / "whole", recordings)
    names = sorted(file.name for file in resumed.path.iterdir())
    assert names == sorted(file.name for file in whole.path.iterdir())
    assert all((resumed.path / name).read_bytes() == (whole.path / name).read_bytes() for name in names)


def test_another_plan_does_not_continue_an_unfinished_archive(tmp_path: Path) -> None:
    ArchiveWriter(tmp_path / "a", V1, {"source": "one"})
    with pytest.raises(OutputError, match="holds an unfinished conversion of other recordings or with other settings"):
        ArchiveWriter(tmp_path / "a", V1, {"source": "two"})


def test_places_that_are_taken_are_left_alone(tmp_path: Path, recordings: list[Recording]) -> None:
    write(tmp_path / "a", recordings)
    with pytest.raises(OutputError, match="already holds an archive; choose another output path"):
        ArchiveWriter(tmp_path / "a", V1, {})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("dear")
    with pytest.raises(OutputError, match="is not empty and holds no archive"):
        ArchiveWriter(tmp_path / "b", V1, {})


def test_a_cut_off_shard_is_named(tmp_path: Path, recordings: list[Recording]) -> None:
    archive = write(tmp_path / "a", recordings)
    file = archive.path / "frames-00001.npy"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"frames-00001\.npy cannot be read .*; convert the source again"):
        Archive(archive.path)["u1"]


def test_a_shard_of_another_shape_is_named(tmp_path: Path, recordings: list[Recording]) -> None:
    archive = write(tmp_path / "a", recordings)
    np.save(archive.path / "frames-00000.npy", np.zeros((5, 20, 3), np.float32))
    with pytest.raises(DataError, match=r"frames-00000\.npy holds float32 \(5, 20, 3\) where float32 \(70, 20, 3\)"):
        Archive(archive.path)["a1"]


def test_a_cut_off_table_is_named(tmp_path: Path, recordings: list[Recording]) -> None:
    archive = write(tmp_path / "a", recordings)
    file = archive.path / "recordings-00001.parquet"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match=r"recordings-00001\.parquet cannot be read"):
        Archive(archive.path)


def test_resuming_on_a_cut_off_shard_is_refused(tmp_path: Path, recordings: list[Recording]) -> None:
    writer = ArchiveWriter(tmp_path / "a", V1, {}, frames_per_shard=10)
    writer.add(recordings[0])
    (tmp_path / "a" / "frames-00000.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"frames-00000\.npy cannot be read"):
        ArchiveWriter(tmp_path / "a", V1, {}, frames_per_shard=10)


def test_verify_notices_a_changed_number(tmp_path: Path, recordings: list[Recording]) -> None:
    archive = write(tmp_path / "a", recordings)
    archive.verify()
    file = archive.path / "frames-00000.npy"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"frames-00000\.npy is damaged: the frames of 'a2' do not fit"):
        Archive(archive.path).verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "other"}, "is of kind 'other', not 'sgela-fast/archive'"),
        ({"schema_version": 9}, "has schema version 9 but this release reads version 1"),
        ({"layout": {"name": "kinect-v1", "joints": ["head"]}}, "lists other joints for layout 'kinect-v1'"),
        ({"layout": None}, "is damaged"),
        ({"recordings": 7}, "lists 7 recordings but its tables hold 4"),
    ],
)
def test_an_index_at_fault_is_explained(
    tmp_path: Path, recordings: list[Recording], change: dict[str, object], message: str
) -> None:
    index = write(tmp_path / "a", recordings).path / "archive.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(DataError, match=message):
        Archive(index.parent)


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder; give the folder that `sgela-fast convert` made"):
        Archive(tmp_path / "none")
    with pytest.raises(DataError, match=r"is not an archive: it has no archive\.json"):
        Archive(tmp_path)
    (tmp_path / "archive.json").write_text("{")
    with pytest.raises(DataError, match=r"archive\.json is damaged"):
        Archive(tmp_path)


def test_recordings_that_do_not_fit_are_refused(tmp_path: Path, make_recording: Make) -> None:
    writer = ArchiveWriter(tmp_path / "a", V1, {})
    writer.add(make_recording("a"))
    with pytest.raises(DataError, match="two recordings are called 'a'"):
        writer.add(make_recording("a"))
    with pytest.raises(DataError, match=r"has layout 'kinect-v2' but the archive has 'kinect-v1'.*--layout"):
        writer.add(make_recording("b", layout="kinect-v2"))
    with pytest.raises(DataError, match=r"recording 'c' .* has no frames; leave it out"):
        writer.add(make_recording("c", 0))
    with pytest.raises(DataError, match="has a further column called 'shard', which the archive keeps for itself"):
        writer.add(make_recording("d", extra={"shard": "1"}))


def test_an_archive_of_nothing_is_not_written(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path / "a", V1, {})
    with pytest.raises(DataError, match="the source has no usable recording"):
        writer.finish()
    writer.discard()
    assert not (tmp_path / "a").exists()


def test_a_recording_must_fit_its_layout() -> None:
    with pytest.raises(DataError, match=r"recording 'x' has the shape \(5, 19, 3\) but layout 'kinect-v1' needs"):
        Recording("x", np.zeros((5, 19, 3), np.float32), "kinect-v1")
