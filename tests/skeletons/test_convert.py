"""Conversion: selection, layouts, faults, interruption and resuming."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, DataError, Interrupted, OutputError
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import ConvertConfig
from sgela_fast.skeletons.convert import convert, open_configured, remap
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.readers.registry import open_source
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.shards import rows_table

WriteNPZ = Callable[..., Path]
WALKS = {f"w{index}": (20 + index, f"p{index % 3}", "train" if index % 2 else "test") for index in range(9)}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_packed_set_becomes_an_archive(tmp_path: Path, write_npz: WriteNPZ) -> None:
    result = convert(write_npz(tmp_path / "set", WALKS), tmp_path / "archive")
    assert result.summary() == {
        "archive": str(tmp_path / "archive"),
        "format": "packed-npz",
        "layout": "kinect-v1",
        "recordings": 9,
        "persons": 3,
        "frames": 20 * 9 + sum(range(9)),
        "left_out": [],
        "not_in_manifest": [],
        "resumed": 0,
    }
    assert [row.recording for row in result.archive.select("split", "train")] == ["w1", "w3", "w5", "w7"]
    assert result.archive.info["plan"]["settings"]["joint_map"] == "anatomical"


def test_a_target_layout_is_applied(tmp_path: Path, write_npz: WriteNPZ) -> None:
    folder = write_npz(tmp_path / "set", WALKS, joints=25)
    kept = convert(folder, tmp_path / "kept").archive
    mapped = convert(folder, tmp_path / "mapped", ConvertConfig(layout="kinect-v1")).archive
    assert (kept.layout.name, mapped.layout.name) == ("kinect-v2", "kinect-v1")
    hip, base = mapped.layout.index("hip_center"), kept.layout.index("spine_base")
    assert (mapped["w0"].joints[:, hip] == kept["w0"].joints[:, base]).all()


def test_a_layout_that_cannot_be_reached_stops_the_job_and_leaves_nothing(tmp_path: Path, write_npz: WriteNPZ) -> None:
    folder = write_npz(tmp_path / "set", WALKS)
    with pytest.raises(DataError, match="layout 'kinect-v1' cannot be mapped to 'kinect-v2'"):
        convert(folder, tmp_path / "archive", ConvertConfig(layout="kinect-v2"))
    assert not (tmp_path / "archive").exists()
    with pytest.raises(DataError, match="unknown joint layout 'mocap'; known layouts:"):
        convert(folder, tmp_path / "archive", ConvertConfig(layout="mocap"))


def test_compat_mirrors_and_twice_compat_is_anatomical(tmp_path: Path, write_npz: WriteNPZ) -> None:
    folder = write_npz(tmp_path / "set", WALKS)
    plain = convert(folder, tmp_path / "plain").archive
    compat = convert(folder, tmp_path / "compat", ConvertConfig(joint_map="compat")).archive
    again = convert(compat.path, tmp_path / "again", ConvertConfig(joint_map="compat")).archive
    left, right = plain.layout.index("knee_left"), plain.layout.index("knee_right")
    assert (compat["w3"].joints[:, left] == plain["w3"].joints[:, right]).all()
    assert (compat["w3"].joints[:, plain.layout.index("head")] == plain["w3"].joints[:, 3]).all()
    assert again.fingerprint == plain.fingerprint


def test_tracking_states_move_with_their_joints(make_recording: Callable[..., Recording]) -> None:
    recording = make_recording("a", 2, tracking=np.arange(40, dtype=np.uint8).reshape(2, 20))
    turned = remap(recording, get_layout("kinect-v1"), "compat")
    assert turned.tracking is not None
    assert (turned.tracking[:, turned.skeleton.index("foot_left")] == [19, 39]).all()


def test_mixed_layouts_need_a_target(tmp_path: Path, write_npz: WriteNPZ) -> None:
    folder = write_npz(tmp_path / "set", {"a": (30, "p", "train"), "b": (30, "q", "train")})
    np.savez(folder / "walks.npz", a=np.ones((30, 20, 3), np.float32), b=np.ones((30, 25, 3), np.float32))
    with pytest.raises(DataError, match=r"mixes recordings of layout 'kinect-v1' and 'kinect-v2' \('b'\); .* --layout"):
        convert(folder, tmp_path / "archive")
    result = convert(folder, tmp_path / "archive", ConvertConfig(layout="kinect-v1"))
    assert len(result.archive) == 2


def faulty(folder: Path, write_kgbd: Callable[..., np.ndarray]) -> Path:
    for walk in range(1, 5):
        write_kgbd(folder / "Person001" / f"{walk}.txt", frames=5)
    (folder / "Person001" / "2.txt").write_text("")
    (folder / "Person001" / "3.txt").write_text((folder / "Person001" / "1.txt").read_text()[:1000])
    return folder


def test_recordings_at_fault_are_left_out_and_listed(tmp_path: Path, write_kgbd: Callable[..., np.ndarray]) -> None:
    result = convert(faulty(tmp_path / "kgbd", write_kgbd), tmp_path / "archive")
    assert [row.recording for row in result.archive.rows] == ["p001_1", "p001_4"]
    assert [item.recording for item in result.left_out] == ["p001_2", "p001_3"]
    assert "is empty" in result.left_out[0].reason
    assert "cut off" in result.left_out[1].reason
    listed = json.loads((tmp_path / "archive" / "archive.json").read_text())["left_out"]
    assert [(item["recording"], item["source"]) for item in listed] == [
        ("p001_2", "Person001/2.txt"),
        ("p001_3", "Person001/3.txt"),
    ]


def test_strict_stops_at_the_first_fault(tmp_path: Path, write_kgbd: Callable[..., np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"2\.txt is empty"):
        convert(faulty(tmp_path / "kgbd", write_kgbd), tmp_path / "archive", ConvertConfig(strict=True))
    assert not (tmp_path / "archive").exists()


def test_a_source_without_a_usable_recording_says_why(tmp_path: Path, write_kgbd: Callable[..., np.ndarray]) -> None:
    write_kgbd(tmp_path / "kgbd" / "Person001" / "1.txt", frames=5)
    file = tmp_path / "kgbd" / "Person001" / "1.txt"
    with pytest.raises(DataError, match=r"none of the 1 recordings .* first fault: has 5 frames, fewer than"):
        convert(tmp_path / "kgbd", tmp_path / "archive", ConvertConfig(min_frames=6))
    file.write_text(file.read_text()[:-200])
    for layout in ("keep", "kinect-v1"):
        with pytest.raises(DataError, match=r"none of the 1 recordings .* the first fault: .*1\.txt ends at line"):
            convert(tmp_path / "kgbd", tmp_path / "archive", ConvertConfig(layout=layout))
        assert not (tmp_path / "archive").exists()


def test_short_recordings_are_left_out_even_if_strict(tmp_path: Path, write_npz: WriteNPZ) -> None:
    folder = write_npz(tmp_path / "set", WALKS)
    result = convert(folder, tmp_path / "archive", ConvertConfig(min_frames=22, strict=True))
    assert [item.recording for item in result.left_out] == ["w0", "w1"]
    assert result.left_out[0].reason == "has 20 frames, fewer than min_frames = 22"


def test_recordings_that_the_manifest_does_not_mention_are_told(tmp_path: Path, write_npz: WriteNPZ) -> None:
    (tmp_path / "m.csv").write_text("recording,split\nw0,probe\n")
    result = convert(
        write_npz(tmp_path / "set", WALKS), tmp_path / "a", ConvertConfig(manifest=str(tmp_path / "m.csv"))
    )
    assert result.unlisted == tuple(f"w{index}" for index in range(1, 9))
    assert result.archive.row("w0").extra["split"] == "probe"


def test_progress_counts_every_recording_once(tmp_path: Path, write_npz: WriteNPZ) -> None:
    counted: list[int] = []
    convert(write_npz(tmp_path / "set", WALKS), tmp_path / "archive", advance=counted.append)
    assert sum(counted) == len(WALKS)


@pytest.mark.parametrize("stop_after", [1, 3, 5, 8])
def test_an_interrupted_conversion_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, write_npz: WriteNPZ, stop_after: int
) -> None:
    folder = write_npz(tmp_path / "set", WALKS)
    config = ConvertConfig(frames_per_shard=50, min_frames=21)
    whole = convert(folder, tmp_path / "whole", config)
    seen = 0

    def stop(units: int) -> None:
        nonlocal seen
        seen += units
        if seen == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"stopped; \d of 9 recordings are in whole shards .* run the same command"):
        convert(folder, tmp_path / "parts", config, advance=stop)
    with pytest.raises(DataError, match="unfinished conversion"):
        Archive(tmp_path / "parts")
    resumed = convert(folder, tmp_path / "parts", config)
    assert resumed.resumed <= stop_after
    assert resumed.left_out == whole.left_out
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_an_interruption_while_a_shard_is_written_costs_that_shard_only(
    tmp_path: Path, write_npz: WriteNPZ, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_npz(tmp_path / "set", WALKS)
    config = ConvertConfig(frames_per_shard=50)
    whole = convert(folder, tmp_path / "whole", config)
    calls = []

    def fail_at_the_second(recordings: Sequence[Recording], shard: int) -> object:
        calls.append(shard)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rows_table(recordings, shard)

    with monkeypatch.context() as patched:
        patched.setattr("sgela_fast.skeletons.archive.rows_table", fail_at_the_second)
        with pytest.raises(Interrupted, match="stopped; 3 of 9 recordings"):
            convert(folder, tmp_path / "parts", config)
    assert (tmp_path / "parts" / "frames-00001.npy").exists()
    assert convert(folder, tmp_path / "parts", config).resumed == 3
    assert contents(tmp_path / "parts") == contents(whole.archive.path)


def test_other_settings_or_another_source_do_not_resume(tmp_path: Path, write_npz: WriteNPZ) -> None:
    folder = write_npz(tmp_path / "set", WALKS)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        convert(folder, tmp_path / "archive", ConvertConfig(frames_per_shard=10), advance=stop)
    with pytest.raises(OutputError, match="unfinished conversion of other recordings or with other settings"):
        convert(folder, tmp_path / "archive", ConvertConfig(frames_per_shard=10, joint_map="compat"))
    write_npz(folder, {**WALKS, "more": (30, "p9", "train")})
    with pytest.raises(OutputError, match="unfinished conversion of other recordings or with other settings"):
        convert(folder, tmp_path / "archive", ConvertConfig(frames_per_shard=10))


def test_a_finished_archive_is_never_overwritten(tmp_path: Path, write_npz: WriteNPZ) -> None:
    folder = write_npz(tmp_path / "set", WALKS)
    before = contents(convert(folder, tmp_path / "archive").archive.path)
    with pytest.raises(OutputError, match="already holds an archive"):
        convert(folder, tmp_path / "archive", ConvertConfig(joint_map="compat"))
    assert contents(tmp_path / "archive") == before


def test_a_source_may_be_opened_beforehand(tmp_path: Path, write_npz: WriteNPZ) -> None:
    config = ConvertConfig(format="packed-npz")
    source = open_configured(write_npz(tmp_path / "set", WALKS), config)
    assert len(convert(source, tmp_path / "archive", config).archive) == len(source)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"joint_map": "mirror"}, "joint_map is 'mirror'; choose one of: anatomical, compat"),
        ({"min_frames": 0}, "min_frames is 0; it must be at least 1"),
        ({"frames_per_shard": 0}, "frames_per_shard is 0; it must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConvertConfig(**settings)


@pytest.mark.shared
def test_a_raw_set_and_its_packed_form_make_equal_archives(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "gist"
    config = ConvertConfig(layout="kinect-v1", manifest=str(data / "manifest.csv"))
    raw = convert(data / "raw-sample", tmp_path / "raw", config).archive
    packed = {recording.name: recording for recording in list(open_source(data))[: len(raw)]}
    for recording in raw:
        assert recording.extra.items() >= packed[recording.name].extra.items()
        assert recording.person == packed[recording.name].person
        assert np.abs(recording.joints - packed[recording.name].joints).max() <= 1 / 4096
