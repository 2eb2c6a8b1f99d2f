"""Inspection names every planted fault and its recording, and finds nothing in clean walkers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import QualityConfig, WalkerConfig
from sgela_fast.skeletons.inspection import Inspection, inspect, open_for_inspection
from sgela_fast.skeletons.layouts import convert_joints, get_layout
from sgela_fast.skeletons.quality import findings, measure
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.walker import walks

LAYOUT = get_layout("kinect-v1")
CLEAN = tuple(walks(WalkerConfig(persons=2, walks=2, min_frames=60, max_frames=60, noise=0)))
VICTIM = CLEAN[1]

Change = Callable[[np.ndarray], np.ndarray]


def spoilt(change: Change) -> Recording:
    return replace(VICTIM, joints=np.ascontiguousarray(change(VICTIM.joints.copy()), np.float32))


def write(path: Path, recordings: Iterable[Recording]) -> Path:
    writer = ArchiveWriter(path, LAYOUT, {"source": "test"})
    for item in recordings:
        writer.add(item)
    writer.finish()
    return path


def inspected(path: Path, config: QualityConfig | None = None) -> Inspection:
    return inspect(open_for_inspection(path), config)


def with_nan(joints: np.ndarray) -> np.ndarray:
    joints[5, 3, 1] = np.nan
    return joints


def with_lost_joint(joints: np.ndarray) -> np.ndarray:
    joints[7:9, 11] = 0
    return joints


def with_jump(joints: np.ndarray) -> np.ndarray:
    joints[20, 7] += [0.0, 0.5, 0.0]
    return joints


def in_millimetres(joints: np.ndarray) -> np.ndarray:
    return joints * 1000


def in_centimetres(joints: np.ndarray) -> np.ndarray:
    return joints * 100


def in_pixels(joints: np.ndarray) -> np.ndarray:
    return joints * [100, 100, 0]


def with_sides_exchanged(joints: np.ndarray) -> np.ndarray:
    return joints[:, list(LAYOUT.mirror)]


def mirrored(joints: np.ndarray) -> np.ndarray:
    return joints * [-1, 1, 1]


def z_up(joints: np.ndarray) -> np.ndarray:
    return np.stack([joints[..., 0], -joints[..., 2], joints[..., 1]], axis=-1)


def upside_down(joints: np.ndarray) -> np.ndarray:
    return joints * [-1, -1, 1]


def cut_off(joints: np.ndarray) -> np.ndarray:
    return joints[:25]


def with_wobbling_bones(joints: np.ndarray) -> np.ndarray:
    return joints + 0.15 * np.random.default_rng(0).normal(size=joints.shape)


FAULTS: list[tuple[Change, str, str]] = [
    (with_nan, "nan", "1 joint with a coordinate that is not finite"),
    (in_millimetres, "units", "millimetres"),
    (in_centimetres, "units", "centimetres"),
    (in_pixels, "units", "pixels"),
    (with_sides_exchanged, "sides", "left joints are on the right in 100% of the frames"),
    (mirrored, "sides", "an axis mirrored"),
    (z_up, "axes", "up is z, not y"),
    (upside_down, "axes", "up is -y, not y"),
    (cut_off, "short", "25 frames, fewer than 26"),
    (with_wobbling_bones, "bones", "bone lengths spread by"),
]
REMARKS: list[tuple[Change, str, str]] = [
    (with_lost_joint, "lost", "2 joints lost in 2 frames"),
    (with_jump, "jumps", "2 frames with a jump, the farthest 0.5"),
]


def test_nothing_is_found_in_clean_walkers(tmp_path: Path) -> None:
    result = inspected(write(tmp_path / "walks.sga", CLEAN))
    assert result.findings == ()
    assert result.listed == len(result.recordings) == 4


@pytest.mark.parametrize("path", ["arc", "corridor"])
def test_nothing_is_at_fault_in_walkers_as_the_sensor_sees_them(path: str) -> None:
    for item in walks(WalkerConfig(persons=5, walks=2, path=path)):
        assert [finding for finding in findings(measure(item)) if finding.fault] == []


@pytest.mark.parametrize(("plant", "kind", "text"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_is_found_and_named(plant: Change, kind: str, text: str, tmp_path: Path) -> None:
    recordings = [spoilt(plant) if item is VICTIM else item for item in CLEAN]
    result = inspected(write(tmp_path / "walks.sga", recordings))
    assert {item.recording for item in result.faults} == {VICTIM.name}
    matching = [item for item in result.faults if item.kind == kind]
    assert len(matching) == 1
    assert text in matching[0].text


@pytest.mark.parametrize("plant", [in_millimetres, in_centimetres, z_up, with_sides_exchanged, cut_off])
def test_a_fault_is_found_alone(plant: Change) -> None:
    found = list(findings(measure(spoilt(plant))))
    assert len(found) == 1, "units, axes, sides and length do not disturb each other's measures"


@pytest.mark.parametrize(("plant", "kind", "text"), REMARKS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_few_jumps_and_lost_joints_are_named_but_no_fault(plant: Change, kind: str, text: str) -> None:
    found = list(findings(measure(spoilt(plant))))
    named = [item for item in found if item.kind == kind]
    assert [item.recording for item in named] == [VICTIM.name]
    assert text in named[0].text
    assert not any(item.fault for item in found)


def test_limits_turn_them_into_faults() -> None:
    strict = QualityConfig(jumping_frames=0, lost_frames=0)
    assert [item.kind for item in findings(measure(spoilt(with_lost_joint)), strict) if item.fault] == ["lost"]
    assert [item.kind for item in findings(measure(spoilt(with_jump)), strict) if item.fault] == ["jumps"]


def test_a_lost_joint_is_no_jump() -> None:
    assert measure(spoilt(with_lost_joint)).jumping_frames == 0


def test_jumps_count_in_metres_whatever_the_unit() -> None:
    metres, millimetres = measure(spoilt(with_jump)), measure(spoilt(lambda joints: 1000 * with_jump(joints)))
    assert millimetres.jumping_frames == metres.jumping_frames == 2
    assert millimetres.largest_jump == pytest.approx(metres.largest_jump, rel=1e-5)
    assert millimetres.bone_spread == pytest.approx(metres.bone_spread, rel=1e-3)


def test_a_duplicate_is_named_with_its_twin(tmp_path: Path) -> None:
    twin = replace(VICTIM, name="copy", person="somebody else")
    result = inspected(write(tmp_path / "walks.sga", [*CLEAN, twin]))
    assert [(item.kind, item.recording) for item in result.findings] == [("duplicate", "copy")]
    assert VICTIM.name in result.findings[0].text


def test_a_centred_recording_has_no_lost_joint() -> None:
    quality = measure(spoilt(lambda joints: joints - joints[:, :1]))
    assert quality.lost_joints == 0
    assert quality.centred_on == "hip_center"
    assert [item.kind for item in findings(quality)] == ["centred"]


def test_sides_are_told_from_the_way_where_there_are_no_feet() -> None:
    target = get_layout("openpose-14")
    source = next(walks(WalkerConfig(persons=1, walks=2, min_frames=60, max_frames=60, noise=0, path="corridor")))
    joints = convert_joints(source.joints, LAYOUT, target)
    right = measure(Recording("r", joints, target.name, person="p"))
    wrong = measure(Recording("w", joints[:, list(target.mirror)], target.name, person="p"))
    assert right.sides_agree is not None
    assert wrong.sides_agree is not None
    assert right.sides_agree > 0.8, "but for the turns"
    assert wrong.sides_agree < 0.2


def test_a_recording_with_nothing_in_it_is_measured_without_warnings() -> None:
    for value in (0.0, np.nan):
        quality = measure(Recording("empty", np.full((30, 20, 3), value, np.float32), "kinect-v1"))
        assert quality.units == "unknown"
        assert quality.up == "?"
        assert quality.sides_agree is None
        assert list(findings(quality))


def test_a_single_frame_is_measured() -> None:
    assert [item.kind for item in findings(measure(replace(VICTIM, joints=VICTIM.joints[:1])))] == ["short"]


def test_the_summary_counts(tmp_path: Path) -> None:
    summary = inspected(write(tmp_path / "walks.sga", CLEAN)).summary()
    assert (summary["format"], summary["layouts"]) == ("archive", {"kinect-v1": 4})
    assert (summary["recordings"], summary["persons"], summary["frames"]) == (4, 2, 240)
    assert summary["columns"]["split"] == {"train": 2, "test": 2}
    assert summary["bone_spread_within_recordings"] < 1e-3 < summary["bone_spread_between_persons"]
    assert summary["sides_agree"] == 1.0
    assert summary["before_camera"] == {"yes": 4}


def test_what_cannot_be_read_is_named_and_the_rest_is_inspected(tmp_path: Path) -> None:
    arrays = {item.name: item.joints for item in CLEAN}
    arrays[VICTIM.name] = with_nan(VICTIM.joints.copy())
    np.savez(tmp_path / "walks.npz", **arrays)
    rows = "".join(f"{item.name},{item.person}\n" for item in CLEAN)
    (tmp_path / "manifest.csv").write_text("recording,person\n" + rows)
    result = inspected(tmp_path)
    assert [(item.kind, item.recording) for item in result.faults] == [("unreadable", VICTIM.name)]
    assert (result.listed, len(result.recordings)) == (4, 3)


def test_damaged_frames_of_an_archive_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "walks.sga", CLEAN)
    frames = np.load(path / "frames-00000.npy", mmap_mode="r+")
    frames[70, 3, 0] += 0.01
    frames.flush()
    del frames
    damaged = [item for item in inspected(path).faults if item.kind == "damaged"]
    assert len(damaged) == 1
    assert VICTIM.name in damaged[0].text


def test_one_recording_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    original = Archive.__getitem__

    def watched(archive: Archive, name: str) -> Recording:
        order.append(f"read {name}")
        return original(archive, name)

    monkeypatch.setattr(Archive, "__getitem__", watched)
    source = open_for_inspection(write(tmp_path / "walks.sga", CLEAN))
    inspect(source, advance=lambda _: order.append("done"))
    assert order == [step for item in CLEAN for step in (f"read {item.name}", "done")]


def test_an_unfinished_archive_is_said_to_be_one(tmp_path: Path) -> None:
    ArchiveWriter(tmp_path / "walks.sga", LAYOUT, {"source": "test"})
    with pytest.raises(DataError, match="unfinished"):
        open_for_inspection(tmp_path / "walks.sga")


def test_negative_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="jump"):
        QualityConfig(jump=-0.1)


@pytest.mark.shared
def test_the_kgbd_samples_have_nothing_at_fault(shared: Path) -> None:
    result = inspected(shared / "data" / "kgbd" / "raw-sample")
    assert (result.format, result.listed, len(result.faults)) == ("kgbd", 4, 0)
    assert result.summary()["units"] == {"metres": 4}


@pytest.mark.shared
def test_a_kgbd_copy_is_a_duplicate(shared: Path, tmp_path: Path) -> None:
    text = (shared / "data" / "kgbd" / "raw-sample" / "Person001" / "1.txt").read_text()
    for name in ("Person064/4.txt", "Person064/5.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = [(item.kind, item.source) for item in inspected(tmp_path).faults]
    assert found == [("duplicate", "Person064/5.txt")]
