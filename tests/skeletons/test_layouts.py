"""Joint layouts: maps between them, mirror images, trees."""

from __future__ import annotations

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.layouts import convert_joints, get_layout, joint_map, layout_names

V1, V2, V2_18 = get_layout("kinect-v1"), get_layout("kinect-v2"), get_layout("kinect-v2-18")


def numbered(layout_name: str) -> np.ndarray:
    """(2, J, 3) whose entries name frame, joint and axis."""
    joints = len(get_layout(layout_name))
    return np.arange(2 * joints * 3, dtype=np.float32).reshape(2, joints, 3)


@pytest.mark.parametrize("name", layout_names())
def test_mirror_is_an_involution_that_moves_every_sided_joint(name: str) -> None:
    layout = get_layout(name)
    mirror = np.array(layout.mirror)
    assert (mirror[mirror] == np.arange(len(layout))).all()
    for index, joint in enumerate(layout.joints):
        twin = layout.joints[mirror[index]]
        swapped = joint.replace("_left", "_RIGHT").replace("_right", "_left").replace("_RIGHT", "_right")
        assert twin == swapped


@pytest.mark.parametrize("name", layout_names())
def test_bones_form_one_tree_with_the_root_on_top(name: str) -> None:
    layout = get_layout(name)
    assert len(layout.bones) == len(layout) - 1
    assert len(set(layout.joints)) == len(layout)
    for index in range(len(layout)):
        seen, joint = set(), index
        while layout.parents[joint] >= 0:
            assert joint not in seen
            seen.add(joint)
            joint = layout.parents[joint]
        assert layout.joints[joint] == layout.root


@pytest.mark.parametrize("name", layout_names())
def test_mirrored_bones_are_bones(name: str) -> None:
    layout = get_layout(name)
    assert {(layout.mirror[a], layout.mirror[b]) for a, b in layout.bones} == set(layout.bones)


@pytest.mark.parametrize("name", layout_names())
def test_a_layout_maps_to_itself_by_identity(name: str) -> None:
    layout = get_layout(name)
    assert joint_map(layout, layout) == tuple(range(len(layout)))


@pytest.mark.parametrize(("first", "second"), [("kinect-v1", "kinect-v2-18"), ("kinect-v2-18", "kinect-v1")])
def test_there_and_back_is_the_identity_on_shared_joints(first: str, second: str) -> None:
    source, target = get_layout(first), get_layout(second)
    joints = numbered(first)
    back = convert_joints(convert_joints(joints, source, target), target, source)
    for index, joint in enumerate(source.joints):
        if joint in target.joints:
            assert (back[:, index] == joints[:, index]).all(), joint


def test_v2_to_v1_keeps_shared_joints_and_finds_the_trunk() -> None:
    joints = numbered("kinect-v2")
    converted = convert_joints(joints, V2, V1)
    for index, joint in enumerate(V1.joints):
        stand_in = {"hip_center": "spine_base", "spine": "spine_mid", "shoulder_center": "spine_shoulder"}
        assert (converted[:, index] == joints[:, V2.index(stand_in.get(joint, joint))]).all(), joint


def test_a_hand_that_was_not_recorded_becomes_the_wrist_and_the_neck_the_shoulder_center() -> None:
    joints = numbered("kinect-v2-18")
    converted = convert_joints(joints, V2_18, V1)
    assert (converted[:, V1.index("hand_left")] == joints[:, V2_18.index("wrist_left")]).all()
    assert (converted[:, V1.index("hand_right")] == joints[:, V2_18.index("wrist_right")]).all()
    assert (converted[:, V1.index("shoulder_center")] == joints[:, V2_18.index("neck")]).all()


@pytest.mark.parametrize(("first", "second"), [("kinect-v2", "kinect-v1"), ("kinect-v2-18", "kinect-v1")])
def test_mirroring_and_mapping_commute(first: str, second: str) -> None:
    source, target = get_layout(first), get_layout(second)
    joints = numbered(first)
    mapped_then_mirrored = convert_joints(joints, source, target)[:, list(target.mirror)]
    mirrored_then_mapped = convert_joints(joints[:, list(source.mirror)], source, target)
    assert (mapped_then_mirrored == mirrored_then_mapped).all()


def test_a_joint_without_a_substitute_is_named() -> None:
    with pytest.raises(DataError, match=r"'kinect-v1' cannot be mapped to 'kinect-v2': it has no 'hand_tip_left'"):
        joint_map(V1, V2)


def test_data_that_does_not_fit_the_layout_is_refused() -> None:
    with pytest.raises(DataError, match="'kinect-v1' has 20 joints but the data has 25"):
        convert_joints(numbered("kinect-v2"), V1, V2)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"unknown joint layout 'kinect'; known layouts: kinect-v1"):
        get_layout("kinect")
    with pytest.raises(DataError, match=r"has no joint 'nose'; choose one of: hip_center"):
        V1.index("nose")


def test_kinect_v1_has_the_sensor_s_order() -> None:
    assert V1.joints[:5] == ("hip_center", "spine", "shoulder_center", "head", "shoulder_left")
    assert V1.joints[8] == "shoulder_right"
    assert V1.joints[12] == "hip_left"
    assert V1.joints[16:] == ("hip_right", "knee_right", "ankle_right", "foot_right")
