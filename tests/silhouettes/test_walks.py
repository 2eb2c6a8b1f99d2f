"""Walks of an archive are turned to face the way they go, whatever the sensor made of the trunk."""

from __future__ import annotations

import numpy as np

from sgela_fast.silhouettes.body import LAYOUT
from sgela_fast.silhouettes.config import RenderConfig
from sgela_fast.silhouettes.walks import WalkerWalks, find_headings, moving_mean, stand_and_face, without_gaps
from sgela_fast.skeletons.walker_motion import rotation

CONFIG = RenderConfig(persons=4, frames=150, conditions=("nm-01",))
TRUNK = [LAYOUT.index(name) for name in LAYOUT.joints if not name.startswith(("knee", "ankle", "foot"))]


def turned(joints: np.ndarray, degrees: float) -> np.ndarray:
    """About the vertical."""
    angle = np.full(len(joints), np.deg2rad(degrees))
    matrices = rotation(angle, 0 * angle, 0 * angle)
    return np.asarray(np.einsum("fij,fkj->fki", matrices, joints))


def test_the_heading_is_found_from_any_side() -> None:
    walks = WalkerWalks(CONFIG)
    for walk, degrees in zip(walks.walks, (0, 80, 175, -100), strict=True):
        found, trunk = find_headings(turned(walks.joints(walk), degrees))
        for heading in (found, trunk):
            off = np.angle(np.exp(1j * (heading - np.deg2rad(degrees))))
            assert np.abs(np.rad2deg(off))[31:-31].max() < 12


def test_a_trunk_that_the_sensor_turned_is_turned_back() -> None:
    walks = WalkerWalks(CONFIG)
    right = walks.joints(walks.walks[0])
    right = right - right[:, LAYOUT.index("hip_center"), None] * [1, 0, 1]
    seen = turned(right, 70)
    seen[:, TRUNK] = turned(right, 25)[:, TRUNK]  # by 45 degrees towards the sensor
    faced, expected = stand_and_face(seen), stand_and_face(right)
    middle = slice(31, -31)
    assert np.linalg.norm(faced - expected, axis=-1)[middle].max() < 0.1
    assert np.linalg.norm(turned(seen, -70) - expected, axis=-1)[middle, TRUNK].max() > 0.1


def test_a_walk_stands_on_the_floor_and_goes_ahead() -> None:
    walks = WalkerWalks(CONFIG)
    joints = walks.joints(walks.walks[0])
    ankles = joints[:, [LAYOUT.index("ankle_left"), LAYOUT.index("ankle_right")]]
    assert 0 < ankles[..., 1].min() < 0.12
    hips = joints[:, LAYOUT.index("hip_center")]
    assert np.all(np.diff(moving_mean(hips[:, 2], 15)) >= 0)
    assert abs(hips[0, 2] + hips[-1, 2]) < 0.2
    assert np.abs(hips[:, 2]).max() <= 0.5 * CONFIG.distance + 0.05


def test_lost_joints_are_put_between_the_frames_that_have_them() -> None:
    joints = np.arange(1.0, 11)[:, None, None] * np.ones((1, 20, 3))
    lost = joints.copy()
    lost[3:6, 7] = 0
    lost[9, 2] = 0
    filled = without_gaps(lost)
    np.testing.assert_allclose(filled[:9], joints[:9])
    assert filled[9, 2].tolist() == [9, 9, 9]


def test_a_moving_mean_is_narrower_at_the_ends() -> None:
    np.testing.assert_allclose(moving_mean(np.array([1.0, 2, 6, 3, 8]), 3), [1.5, 3, 11 / 3, 17 / 3, 5.5])
    np.testing.assert_allclose(moving_mean(np.array([1.0, 2, 6]), 1), [1, 2, 6])
