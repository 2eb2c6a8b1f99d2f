"""Synthetic walkers are reproducible, walk like people, and differ as persons do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, Interrupted, OutputError
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording, lost_joints
from sgela_fast.skeletons.walker import SPLITS, walks, write_walkers
from sgela_fast.skeletons.walker_identity import make_identity

LAYOUT = get_layout("kinect-v1")
SIDES = ("left", "right")
SMALL = {"persons": 3, "walks": 2, "min_frames": 90, "max_frames": 120}
CLEAN = WalkerConfig(**{**SMALL, "persons": 6}, noise=0)


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    """``(frames, bones)``."""
    ends = np.array(LAYOUT.bones)
    return np.linalg.norm(joints[:, ends[:, 0]] - joints[:, ends[:, 1]], axis=-1)


def heights(recording: Recording, *names: str) -> np.ndarray:
    """Above the lowest foot of the recording, ``(frames, joints)``."""
    y = recording.joints[..., 1]
    feet = [LAYOUT.index("foot_left"), LAYOUT.index("foot_right")]
    return y[:, [LAYOUT.index(name) for name in names]] - y[:, feet].min()


def facing(joints: np.ndarray) -> np.ndarray:
    """Where the feet point, horizontally, ``(frames, 3)`` unit vectors."""
    ahead = sum(joints[:, LAYOUT.index(f"foot_{side}")] - joints[:, LAYOUT.index(f"ankle_{side}")] for side in SIDES)
    ahead = ahead * np.array([1, 0, 1])
    return ahead / np.linalg.norm(ahead, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def clean() -> list[Recording]:
    return list(walks(CLEAN))


def test_the_same_seed_gives_the_same_bits() -> None:
    for first, second in zip(walks(WalkerConfig(**SMALL)), walks(WalkerConfig(**SMALL)), strict=True):
        assert first.name == second.name
        assert first.extra == second.extra
        assert first.joints.tobytes() == second.joints.tobytes()


def test_another_seed_gives_other_walkers() -> None:
    first, second = (next(walks(WalkerConfig(**SMALL, seed=seed))) for seed in (0, 1))
    assert first.joints[:50].tobytes() != second.joints[:50].tobytes()


def test_a_person_does_not_depend_on_how_many_there_are() -> None:
    few = {item.name: item for item in walks(WalkerConfig(**SMALL))}
    for item in walks(WalkerConfig(**{**SMALL, "persons": 5})):
        if item.name in few:
            assert item.joints.tobytes() == few.pop(item.name).joints.tobytes()
    assert not few


def test_frames_persons_and_layout_are_as_asked() -> None:
    found = list(walks(WalkerConfig(**SMALL)))
    assert len(found) == 6
    assert len({item.name for item in found}) == 6
    assert len({item.person for item in found}) == 3
    for item in found:
        assert item.layout == "kinect-v1"
        assert item.joints.dtype == np.float32
        assert 90 <= item.frames <= 120


def test_each_split_tests_one_walk_of_every_person() -> None:
    found = list(walks(WalkerConfig(persons=3, walks=4, min_frames=10, max_frames=10)))
    for column in SPLITS:
        tested = [item.person for item in found if item.extra[column] == "test"]
        assert tested == sorted({item.person for item in found if item.person})
        assert {item.extra[column] for item in found} == {"train", "test"}
    for person in {item.person for item in found}:
        tests = {c: [item.name for item in found if item.person == person and item.extra[c] == "test"] for c in SPLITS}
        assert len({names[0] for names in tests.values()}) == 4, "four splits leave out four different walks"


def test_bones_stay_constant_without_noise(clean: list[Recording]) -> None:
    for item in clean:
        lengths = bone_lengths(item.joints)
        # Positions are rounded to 1/4096 m, so a length is off by at most sqrt(3) / 4096.
        assert np.ptp(lengths, axis=0).max() < 2 * np.sqrt(3) / 4096


def test_the_bones_are_the_identitys(clean: list[Recording]) -> None:
    identity = make_identity(CLEAN, 0)
    assert bone_lengths(clean[0].joints).mean(axis=0) == pytest.approx(identity.bones[1:], abs=5e-4)


def test_bones_are_those_of_people(clean: list[Recording]) -> None:
    for item in clean:
        head = heights(item, "head")
        assert 1.2 < head.mean() < 1.9


def test_feet_alternate(clean: list[Recording]) -> None:
    for item in clean:
        left, right = heights(item, "ankle_left", "ankle_right").T
        assert np.corrcoef(left, right)[0, 1] < -0.2, "one foot is up while the other stands"
        ahead = facing(item.joints)
        reach = item.joints[:, LAYOUT.index("ankle_left")] - item.joints[:, LAYOUT.index("ankle_right")]
        crossings = np.diff(np.sign((reach * ahead).sum(axis=1))) != 0
        seconds = item.frames / item.fps
        assert 1.0 < crossings.sum() / seconds < 2.6, "steps per second"


def test_one_foot_is_on_the_floor_and_none_below(clean: list[Recording]) -> None:
    for item in clean:
        feet = heights(item, "foot_left", "foot_right", "ankle_left", "ankle_right") - np.array([0, 0, 0.06, 0.06])
        assert feet.min(axis=1).max() < 0.04
        assert feet.min() > -0.04


def test_knees_bend_backwards_and_elbows_forwards(clean: list[Recording]) -> None:
    for item in clean:
        ahead = facing(item.joints)
        for bend, (upper, middle, lower), sign in (
            ("knee", ("hip", "knee", "ankle"), 1),
            ("elbow", ("shoulder", "elbow", "wrist"), -1),
        ):
            for side in SIDES:
                a, b, c = (item.joints[:, LAYOUT.index(f"{name}_{side}")] for name in (upper, middle, lower))
                # The middle joint lies on one side of the line between its neighbours, in the sagittal plane.
                along = (c - a) / np.linalg.norm(c - a, axis=1, keepdims=True)
                off = (b - a) - ((b - a) * along).sum(axis=1, keepdims=True) * along
                assert (sign * (off * ahead).sum(axis=1)).min() > -0.03, bend


def test_left_is_left_of_where_the_feet_point(clean: list[Recording]) -> None:
    for item in clean:
        left = np.cross([0, 1, 0], facing(item.joints))
        for name in ("hip", "shoulder"):
            across = item.joints[:, LAYOUT.index(f"{name}_left")] - item.joints[:, LAYOUT.index(f"{name}_right")]
            assert ((across * left).sum(axis=1) > 0).all()


def test_walkers_go_where_their_feet_point() -> None:
    for item in walks(WalkerConfig(persons=3, walks=2, min_frames=90, max_frames=90, noise=0, path="corridor")):
        moves = np.diff(item.joints[:, 0], axis=0) * item.fps
        pace = (moves * facing(item.joints)[1:]).sum(axis=1)
        assert 0.4 < pace.mean() < 2
        assert np.median(pace) > 0.4


@pytest.mark.parametrize("path", ["arc", "corridor"])
def test_walkers_stay_before_the_camera(path: str) -> None:
    for item in walks(WalkerConfig(persons=4, walks=2, noise=0, path=path)):
        hip = item.joints[:, 0]
        assert hip[:, 2].min() > 0.8
        assert hip[:, 2].max() < 4.6
        assert np.abs(hip[:, 0]).max() < 2


def test_an_arc_walker_passes_sideways_in_both_directions() -> None:
    ways = {
        float(np.sign(np.median(facing(item.joints)[:, 0])))
        for item in walks(WalkerConfig(persons=6, walks=2, min_frames=60, max_frames=60, noise=0))
    }
    assert ways == {-1.0, 1.0}


def test_walks_of_one_person_are_nearer_in_bones_than_persons_are() -> None:
    means: dict[str, list[np.ndarray]] = {}
    for item in walks(WalkerConfig(persons=10, walks=2, min_frames=120, max_frames=120, jump_rate=0)):
        means.setdefault(str(item.person), []).append(bone_lengths(item.joints).mean(axis=0))
    first, second = np.array([pair[0] for pair in means.values()]), np.array([pair[1] for pair in means.values()])
    distances = np.abs(first[:, None] - second[None]).mean(axis=2)
    own = np.diagonal(distances).mean()
    others = distances[~np.eye(len(distances), dtype=bool)].mean()
    assert own < 0.8 * others


def test_without_shape_spread_all_have_the_same_bones() -> None:
    lengths = [bone_lengths(item.joints).mean(axis=0) for item in walks(WalkerConfig(**SMALL, noise=0, shape_spread=0))]
    assert np.ptp(lengths, axis=0).max() < 1e-3


def test_without_motion_spread_all_have_the_same_angles() -> None:
    first, second = (make_identity(WalkerConfig(motion_spread=0), person) for person in (0, 1))
    assert np.array_equal(first.angles, second.angles)
    assert first.cadence == second.cadence
    assert not np.array_equal(first.bones, second.bones)


def test_sensor_errors_have_the_sizes_of_a_kinects() -> None:
    spreads, jumps, frames, lost = [], 0, 0, 0
    for item in walks(WalkerConfig(persons=10, walks=2, lost_rate=0.01)):
        missing = lost_joints(item.joints).any(axis=1)
        lost += int(missing.sum())
        whole = item.joints[~missing]
        spreads.append(bone_lengths(whole).std(axis=0).mean())
        moves = np.linalg.norm(np.diff(whole.astype(np.float64), axis=0), axis=-1)
        jumps += int((moves > 0.3).any(axis=1).sum())
        frames += item.frames
    assert 0.020 < np.mean(spreads) < 0.030
    assert 0.014 < jumps / frames < 0.040
    assert 0.004 < lost / frames < 0.020


def test_noise_leaves_the_walk_as_it_is() -> None:
    clean, noisy = (next(walks(WalkerConfig(**SMALL, noise=noise, jump_rate=0, lost_rate=0))) for noise in (0, 1))
    off = np.linalg.norm(clean.joints - noisy.joints, axis=-1)
    assert 0.005 < np.median(off) < 0.10


def test_an_archive_holds_the_same_recordings(tmp_path: Path) -> None:
    config = WalkerConfig(**SMALL)
    counted: list[int] = []
    archive = write_walkers(tmp_path / "walks.sga", config, advance=counted.append)
    assert sum(counted) == 6
    for item in walks(config):
        stored = archive[item.name]
        assert stored.joints.tobytes() == item.joints.tobytes()
        assert stored.extra == item.extra
        assert stored.person == item.person


def test_archives_of_one_seed_have_one_fingerprint(tmp_path: Path) -> None:
    prints = {write_walkers(tmp_path / name, WalkerConfig(**SMALL)).fingerprint for name in ("a", "b")}
    assert len(prints) == 1


def test_an_archive_is_not_overwritten(tmp_path: Path) -> None:
    write_walkers(tmp_path / "walks.sga", WalkerConfig(**SMALL))
    with pytest.raises(OutputError, match="already holds an archive"):
        write_walkers(tmp_path / "walks.sga", WalkerConfig(**SMALL))
    assert len(Archive(tmp_path / "walks.sga")) == 6


def test_an_interrupted_archive_is_finished_by_the_same_settings(tmp_path: Path) -> None:
    config, steps = WalkerConfig(**SMALL), iter(range(3))

    def stop(_: int) -> None:
        if next(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="run the same command again"):
        write_walkers(tmp_path / "walks.sga", config, advance=stop)
    with pytest.raises(OutputError, match="other settings"):
        write_walkers(tmp_path / "walks.sga", WalkerConfig(**SMALL, seed=1))
    finished = write_walkers(tmp_path / "walks.sga", config)
    assert finished.fingerprint == write_walkers(tmp_path / "whole.sga", config).fingerprint


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("persons", 0),
        ("walks", 1),
        ("seed", -1),
        ("min_frames", 400),
        ("path", "circle"),
        ("noise", -1.0),
        ("variation", float("nan")),
        ("jump_rate", 1.5),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=setting):
        WalkerConfig(**{setting: value})  # type: ignore[arg-type]
