"""Joint layouts by name: which joint stands at which index, its parent, its mirror twin.

A layout is data, not code: to add one, add a :class:`Layout` to ``_LAYOUTS``. Joint names are shared between layouts
wherever the joint is the same, so that maps between layouts follow from the names. Sensors disagree on the names of
the trunk joints; ``SUBSTITUTES`` lists what may stand in for what, nearest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sgela_fast.errors import DataError


@dataclass(frozen=True)
class Layout:
    """An ordered set of joints.

    Attributes:
        name: how files and the command line refer to it.
        joints: joint names, in the order of the data's joint axis.
        parent_names: for each joint its parent towards the root, ``None`` for the root itself.
        root: the joint that skeletons are centred on by default.
    """

    name: str
    joints: tuple[str, ...]
    parent_names: tuple[str | None, ...]
    root: str

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Index of ``joint``.

        Raises:
            DataError: the layout has no such joint.
        """
        try:
            return self._indices[joint]
        except KeyError:
            names = ", ".join(self.joints)
            raise DataError(f"layout {self.name!r} has no joint {joint!r}; choose one of: {names}") from None

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {joint: index for index, joint in enumerate(self.joints)}

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """For each joint the index of its parent, -1 for the root."""
        return tuple(-1 if parent is None else self.index(parent) for parent in self.parent_names)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """Pairs (joint, parent), one for each joint but the root."""
        return tuple((joint, parent) for joint, parent in enumerate(self.parents) if parent >= 0)

    @cached_property
    def left_right_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs (left joint, right joint) of joints that are mirror twins."""
        pairs = []
        for index, joint in enumerate(self.joints):
            twin = joint.removesuffix("_left") + "_right"
            if joint.endswith("_left") and twin in self._indices:
                pairs.append((index, self._indices[twin]))
        return tuple(pairs)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """The permutation that exchanges every left joint with its right twin."""
        order = list(range(len(self)))
        for left, right in self.left_right_pairs:
            order[left], order[right] = right, left
        return tuple(order)


def _layout(name: str, root: str, tree: str) -> Layout:
    """Build a layout from ``joint<parent`` words; a word without ``<`` is the root."""
    joints: list[str] = []
    parents: list[str | None] = []
    for word in tree.split():
        joint, _, parent = word.partition("<")
        joints.append(joint)
        parents.append(parent or None)
    return Layout(name, tuple(joints), tuple(parents), root)


_ARMS = """
shoulder_left<{chest} elbow_left<shoulder_left wrist_left<elbow_left hand_left<wrist_left
shoulder_right<{chest} elbow_right<shoulder_right wrist_right<elbow_right hand_right<wrist_right
"""
_LEGS = """
hip_left<{root} knee_left<hip_left ankle_left<knee_left foot_left<ankle_left
hip_right<{root} knee_right<hip_right ankle_right<knee_right foot_right<ankle_right
"""

_LAYOUTS = {
    layout.name: layout
    for layout in (
        _layout(
            "kinect-v1",
            "hip_center",
            "hip_center spine<hip_center shoulder_center<spine head<shoulder_center"
            + _ARMS.format(chest="shoulder_center")
            + _LEGS.format(root="hip_center"),
        ),
        _layout(
            "kinect-v2",
            "spine_base",
            "spine_base spine_mid<spine_base neck<spine_shoulder head<neck"
            + _ARMS.format(chest="spine_shoulder")
            + _LEGS.format(root="spine_base")
            + "spine_shoulder<spine_mid hand_tip_left<hand_left thumb_left<hand_left "
            "hand_tip_right<hand_right thumb_right<hand_right",
        ),
        # What the University of Calgary recorded of a Kinect v2: no hands, no spine_shoulder.
        _layout(
            "kinect-v2-18",
            "spine_base",
            "spine_base spine_mid<spine_base neck<spine_mid head<neck "
            "shoulder_left<neck elbow_left<shoulder_left wrist_left<elbow_left "
            "shoulder_right<neck elbow_right<shoulder_right wrist_right<elbow_right" + _LEGS.format(root="spine_base"),
        ),
        # OpenPose key points lifted to three dimensions, as used with CASIA-B.
        _layout(
            "openpose-14",
            "neck",
            "head<neck neck shoulder_right<neck elbow_right<shoulder_right wrist_right<elbow_right "
            "shoulder_left<neck elbow_left<shoulder_left wrist_left<elbow_left "
            "hip_right<neck knee_right<hip_right ankle_right<knee_right "
            "hip_left<neck knee_left<hip_left ankle_left<knee_left",
        ),
    )
}

SUBSTITUTES = {
    "hip_center": ("spine_base",),
    "spine_base": ("hip_center",),
    "spine": ("spine_mid",),
    "spine_mid": ("spine",),
    "shoulder_center": ("spine_shoulder", "neck"),
    "spine_shoulder": ("shoulder_center", "neck"),
    "neck": ("shoulder_center", "spine_shoulder"),
    "hand_left": ("wrist_left",),
    "hand_right": ("wrist_right",),
}


def layout_names() -> tuple[str, ...]:
    """Names of all known layouts."""
    return tuple(_LAYOUTS)


def get_layout(name: str) -> Layout:
    """The layout called ``name``.

    Raises:
        DataError: there is no such layout.
    """
    try:
        return _LAYOUTS[name]
    except KeyError:
        raise DataError(f"unknown joint layout {name!r}; known layouts: {', '.join(_LAYOUTS)}") from None


def joint_map(source: Layout, target: Layout) -> tuple[int, ...]:
    """For each joint of ``target`` the index in ``source`` that supplies it.

    A joint that ``source`` lacks is supplied by its first available substitute (``SUBSTITUTES``); so a hand that was
    not recorded becomes a copy of the wrist.

    Raises:
        DataError: a joint of ``target`` has neither a namesake nor a substitute in ``source``.
    """
    indices = []
    for joint in target.joints:
        candidates = (joint, *SUBSTITUTES.get(joint, ()))
        found = next((name for name in candidates if name in source._indices), None)
        if found is None:
            raise DataError(
                f"layout {source.name!r} cannot be mapped to {target.name!r}: it has no {joint!r} and nothing that "
                "may stand in for it; keep the recordings' own layout"
            )
        indices.append(source.index(found))
    return tuple(indices)


def convert_joints(joints: np.ndarray, source: Layout, target: Layout) -> np.ndarray:
    """Reorder the joint axis from ``source`` to ``target``.

    Args:
        joints: ``(..., J_source, C)``.

    Returns:
        ``(..., J_target, C)``, a copy.

    Raises:
        DataError: the joint axis does not fit ``source``, or the layouts cannot be mapped.
    """
    if joints.shape[-2] != len(source):
        raise DataError(f"layout {source.name!r} has {len(source)} joints but the data has {joints.shape[-2]}")
    return joints[..., list(joint_map(source, target)), :]
