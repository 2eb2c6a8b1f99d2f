"""Hand-made descriptors, against skeletons that can be reckoned by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.body import joints_at_origin
from sgela_fast.models.descriptors import (
    D13_NAMES,
    D16_NAMES,
    bone_lengths,
    bone_statistics,
    d13,
    d16,
)
from sgela_fast.models.pose_features import pose, pose_features
from sgela_fast.skeletons.layouts import get_layout

V1, V2 = get_layout("kinect-v1"), get_layout("kinect-v2")
PLACES = {
    "hip_center": (0, 1, 2),
    "spine": (0, 1.2, 2),
    "shoulder_center": (0, 1.5, 2),
    "head": (0, 1.62, 1.95),
    "shoulder_left": (-0.16, 1.38, 2),
    "elbow_left": (-0.16, 1.14, 2),
    "wrist_left": (-0.16, 1.14, 1.9),
    "hand_left": (-0.16, 1.14, 1.86),
    "shoulder_right": (0.4, 1.5, 2),
    "elbow_right": (0.4, 1.2, 2),
    "wrist_right": (0.4, 1.2, 1.6),
    "hand_right": (0.4, 1.2, 1.5),
    "hip_left": (-0.06, 0.92, 2.05),
    "knee_left": (-0.06, 0.52, 2.05),
    "ankle_left": (-0.06, 0.1, 2.2),
    "foot_left": (-0.06, 0.04, 2.25),
    "hip_right": (0.06, 0.92, 2),
    "knee_right": (0.06, 0.56, 2.15),
    "ankle_right": (0.06, 0.1, 2.05),
    "foot_right": (0.06, 0.08, 2.01),
}
IN_V2 = {"spine_base": "hip_center", "spine_mid": "spine", "spine_shoulder": "shoulder_center"}
FEET = {
    "head_height": 1.56,
    "neck_height": 1.44,
    "neck_to_left_shoulder": 0.2,
    "neck_to_right_shoulder": 0.4,
    "torso_to_right_shoulder": 0.5,
    "right_arm": 0.5,
    "left_arm": 0.26,
    "right_upper_leg": 0.39,
    "left_upper_leg": 0.4,
    "torso_length": 0.3,
    "hip_to_hip": 0.13,
    "torso_to_right_upper_leg": 0.3 / 0.39,
    "torso_to_left_upper_leg": 0.75,
}
FLOOR = FEET | {"head_height": 1.72, "neck_height": 1.6, "right_arm": 0.8, "left_arm": 0.38}
D16 = {
    "head_to_neck": 0.13,
    "neck_to_torso": 0.3,
    "torso_to_hip_center": 0.2,
    "neck_to_shoulder_right": 0.4,
    "shoulder_right_to_elbow_right": 0.3,
    "elbow_right_to_wrist_right": 0.4,
    "neck_to_shoulder_left": 0.2,
    "shoulder_left_to_elbow_left": 0.24,
    "elbow_left_to_wrist_left": 0.1,
    "hip_center_to_hip_right": 0.1,
    "hip_right_to_knee_right": 0.39,
    "knee_right_to_foot_right": 0.5,
    "hip_center_to_hip_left": math.sqrt(0.0125),
    "hip_left_to_knee_left": 0.4,
    "knee_left_to_foot_left": 0.52,
    "head_height": 1.56,
}
GROUND = np.array([0.0, 2.0, 0.0, 0.2])  # y = -0.1, on another scale


def skeleton(joints: tuple[str, ...] = V1.joints) -> np.ndarray:
    """The skeleton above with ``joints`` in their order; what it has no place for is somewhere."""
    return np.array([PLACES.get(IN_V2.get(name, name), (9, 9, 9)) for name in joints], np.float64)


def turned(skeletons: np.ndarray, angle: float = 0.7) -> np.ndarray:
    """Turned about the vertical."""
    c, s = math.cos(angle), math.sin(angle)
    return skeletons @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T


@pytest.mark.parametrize("name", D13_NAMES)
@pytest.mark.parametrize("joints", [V1.joints, V2.joints, V1.joints[::-1]], ids=["v1", "v2", "backwards"])
@pytest.mark.parametrize(("variant", "expected"), [("feet", FEET), ("floor", FLOOR)])
def test_every_entry_of_d13_in_both_readings(name: str, joints: tuple[str, ...], variant: Any, expected: Any) -> None:
    found = d13(skeleton(joints), joints, variant=variant, floor=GROUND if variant == "floor" else None)
    assert found[D13_NAMES.index(name)] == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize("name", D16_NAMES)
@pytest.mark.parametrize("joints", [V1.joints, V2.joints], ids=["v1", "v2"])
def test_every_entry_of_d16(name: str, joints: tuple[str, ...]) -> None:
    assert d16(skeleton(joints), joints)[D16_NAMES.index(name)] == pytest.approx(D16[name], abs=1e-12)


def test_heights_are_distances_from_a_tilted_floor_from_either_side() -> None:
    both = np.array([[0, 3, 4, 0.5], [0, -3, -4, -0.5]])
    found = d13(np.stack([skeleton(), skeleton()]), V1.joints, variant="floor", floor=both)
    assert found[:, 0] == pytest.approx((0.6 * 1.62 + 0.8 * 1.95 + 0.1) * np.ones(2))


def test_one_floor_serves_many_frames() -> None:
    many = np.broadcast_to(skeleton(), (2, 4, 20, 3)).copy()
    assert d13(many, V1.joints, variant="floor", floor=GROUND).shape == (2, 4, 13)


DESCRIPTORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "d13": lambda x: d13(x, V1.joints),
    "d16": lambda x: d16(x, V1.joints),
    "bones": lambda x: bone_lengths(x, V1.joints, V1.parent_names),
    "statistics": lambda x: bone_statistics(x, V1.joints, V1.parent_names),
    "pose": lambda x: pose_features(x, V1.joints, V1.parent_names),
}


@pytest.fixture
def walk() -> np.ndarray:
    """Six frames of a shaking body, ``(6, 20, 3)``."""
    return skeleton() + 0.05 * np.random.default_rng(3).standard_normal((6, 20, 3))


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_it_does_not_matter_where_somebody_stands(name: str, walk: np.ndarray) -> None:
    descriptor = DESCRIPTORS[name]
    np.testing.assert_allclose(descriptor(walk + np.array([1.0, -0.4, 2.0])), descriptor(walk), atol=1e-12)


@pytest.mark.parametrize("name", ["d13", "d16", "bones", "statistics"])
def test_it_does_not_matter_where_somebody_looks(name: str, walk: np.ndarray) -> None:
    descriptor = DESCRIPTORS[name]
    np.testing.assert_allclose(descriptor(turned(walk)), descriptor(walk), atol=1e-12)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_arrays_and_tensors_give_their_own_kind_and_the_same_numbers(name: str, walk: np.ndarray) -> None:
    array, tensor = DESCRIPTORS[name](walk), DESCRIPTORS[name](torch.from_numpy(walk))  # type: ignore[arg-type]
    assert isinstance(array, np.ndarray)
    assert isinstance(tensor, torch.Tensor)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, tensor.numpy())
    assert DESCRIPTORS[name](walk.astype(np.float16)).dtype == np.float32


def test_a_tensor_takes_gradients() -> None:
    leaf = torch.from_numpy(skeleton()).requires_grad_()
    d13(leaf, V1.joints).sum().backward()
    assert leaf.grad is not None
    assert bool(leaf.grad.abs().sum() > 0)


def test_a_collapsed_leg_gives_a_ratio_over_ten_centimetres() -> None:
    body = skeleton()
    body[V1.index("knee_left")] = body[V1.index("hip_left")]
    found = dict(zip(D13_NAMES, d13(body, V1.joints), strict=True))
    assert found["left_upper_leg"] == 0
    assert found["torso_to_left_upper_leg"] == pytest.approx(3.0)


@pytest.mark.parametrize("mark", ["mask", "zero", "nan"])
def test_what_depends_on_a_lost_joint_is_not_a_number(mark: str) -> None:
    body, knee = skeleton(), V1.index("knee_left")
    lost = np.arange(20) == knee if mark == "mask" else None
    if mark != "mask":
        body[knee] = 0 if mark == "zero" else np.nan
    missing = {name for name, value in zip(D13_NAMES, d13(body, V1.joints, lost=lost), strict=True) if np.isnan(value)}
    assert missing == {"left_upper_leg", "torso_to_left_upper_leg"}
    gone = {name for name, value in zip(D16_NAMES, d16(body, V1.joints, lost=lost), strict=True) if np.isnan(value)}
    assert gone == {"hip_left_to_knee_left", "knee_left_to_foot_left"}


def test_the_joint_that_a_skeleton_is_centred_on_is_not_lost() -> None:
    seen = torch.from_numpy(skeleton())
    centred = seen - seen[V1.index("hip_center")]
    assert not joints_at_origin(centred).any()
    np.testing.assert_allclose(d16(centred.numpy(), V1.joints), d16(seen.numpy(), V1.joints), atol=1e-12)
    seen[0] = 0
    assert joints_at_origin(seen).nonzero().tolist() == [[0]]


def test_bones_go_from_each_joint_to_its_parent() -> None:
    found = bone_lengths(skeleton(), V1.joints, V1.parent_names)
    expected = [math.dist(PLACES[V1.joints[child]], PLACES[V1.joints[parent]]) for child, parent in V1.bones]
    assert found == pytest.approx(expected)


def test_statistics_are_mean_and_deviation_of_the_frames_in_which_a_bone_was_seen() -> None:
    joints, parents = ("root", "tip"), (None, "root")
    frames = np.array([[[0, 0, 5], [0, length, 5]] for length in (1.0, 2.0, 9.0)])
    assert bone_statistics(frames, joints, parents) == pytest.approx([4, math.sqrt((9 + 4 + 25) / 3)])
    lost = np.array([[False, False], [False, False], [False, True]])
    assert bone_statistics(frames, joints, parents, lost=lost) == pytest.approx([1.5, 0.5])


def test_pose_features_are_pose_angles_lengths_and_motion() -> None:
    joints, parents = ("root", "tip", "end"), (None, "root", "tip")
    first = [[1, 1, 5], [1, 3, 5], [1, 3, 6]]  # up by 2, then away by 1
    second = [[2, 1, 5], [-1, 1, 5], [-1, 1, 5]]  # across by -3, then nothing
    found = pose_features(np.array([first, second], np.float64), joints, parents)
    assert found.shape == (2, 6 * 3 + 4 * 2)
    half = math.pi / 2
    assert found[0] == pytest.approx([0, 0, 0, 0, 2, 0, 0, 2, 1, 0, 1, 1, 0, 0, half, 2, 1, *[0] * 9])
    motion = [0, 0, 0, -3, -2, 0, -3, -2, -1]
    assert found[1] == pytest.approx([0, 0, 0, -3, 0, 0, -3, 0, 0, -1, 1, 0, 0, 0, 0, 3, 0, *motion], abs=1e-12)


def test_poses_are_relative_to_the_root() -> None:
    found = pose(skeleton(), V1.joints, "spine").reshape(20, 3)
    np.testing.assert_allclose(found, skeleton() - np.array(PLACES["spine"]))


def test_missing_joints_are_named_all_at_once() -> None:
    openpose = get_layout("openpose-14").joints
    with pytest.raises(DataError, match=r"lack the joint spine or spine_mid, foot_left, foot_right \(they have: head"):
        d13(np.ones((14, 3)), openpose)
    with pytest.raises(DataError, match=r"lack the joint spine or spine_mid, hip_center or spine_base"):
        d16(np.ones((14, 3)), openpose)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: d13(skeleton(), V1.joints, variant="knees"), ConfigError, "choose feet or floor"),  # type: ignore[arg-type]
        (lambda: d13(skeleton(), V1.joints, variant="floor"), ConfigError, "needs a floor plane; give floor"),
        (lambda: d13(skeleton(), V1.joints, floor=GROUND), ConfigError, "leave floor out or choose"),
        (lambda: d13(skeleton(), V1.joints, variant="floor", floor=GROUND[:3]), DataError, "give planes"),
        (lambda: d13(skeleton(), V1.joints, variant="floor", floor=0 * GROUND), DataError, "normal is 0; leave such"),
        (lambda: d16(skeleton(), V2.joints), DataError, r"give an array \(\.\.\., 25, 3\) or the names"),
        (lambda: d16(skeleton(), V1.joints, lost=np.zeros(3)), DataError, "give one value for each joint"),
        (lambda: bone_lengths(skeleton(), V1.joints, [None]), DataError, "give one for each, None for the root"),
        (lambda: bone_lengths(skeleton(), V1.joints, ["tail"] * 20), DataError, "tail, which is not among"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
