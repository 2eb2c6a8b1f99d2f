"""Pose features v1: poses, joint angles, limb lengths and motion of a window, frame by frame.

A layout of this package. It follows the families of features that PoseGait (Liao et al., 2020) names, without a claim
to be that method's 81 features, which are not public.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgela_fast.models.body import AnyArray, Array, Body, like
from sgela_fast.models.descriptors import bone_ends


def pose(windows: Array, joints: Sequence[str], root: str, *, lost: AnyArray | None = None) -> Array:
    """Positions of all joints relative to ``root``, ``(..., J, 3)`` to ``(..., 3J)``; x, y, z of each joint.

    Args:
        windows: ``(..., J, 3)``, metres.
        joints: names of the J joints.
        root: the joint that becomes the origin.
        lost: ``(..., J)`` bool, joints that were not seen; their entries are NaN.

    Raises:
        DataError: shapes or names do not fit together.
    """
    body = Body(windows, joints, lost)
    return like(windows, (body.values - body.at(root).unsqueeze(-2)).flatten(-2))


def pose_features(
    windows: Array, joints: Sequence[str], parents: Sequence[str | None], *, lost: AnyArray | None = None
) -> Array:
    """Pose features v1 of every frame of a window; D = 6 J + 4 bones, 196 with the 20 joints of a Kinect v1.

    ========== ========= ==================================================================================
    family     entries   what
    ========== ========= ==================================================================================
    pose       3 J       x, y, z of each joint, relative to the root, metres
    angles     3 bones   all cos of the azimuth, all sin of the azimuth, all elevations. A limb vector d, from
                         parent to joint, has the azimuth arctan(dy / dx) of its own quadrant, given as cos and
                         sin because it jumps by 2 pi where a limb passes the axis, and the elevation
                         arctan(dz / sqrt(dx^2 + dy^2)), radians. A limb of no length has azimuth and elevation 0
    lengths    bones     length of each limb, metres
    motion     3 J       the pose minus that of the frame before, metres a frame; 0 in the first frame, so that
                         nothing outside of the window is used
    ========== ========= ==================================================================================

    Args:
        windows: ``(..., T, J, 3)``, metres, y up.
        joints: names of the J joints.
        parents: name of each joint's parent, ``None`` for the root, from which poses are taken.
        lost: ``(..., T, J)`` bool, joints that were not seen; what depends on them is NaN.

    Returns:
        ``(..., T, D)``.

    Raises:
        DataError: shapes or names do not fit together.
    """
    body = Body(windows, joints, lost)
    child, parent = bone_ends(joints, parents)
    root = joints[list(parents).index(None)]
    poses = pose(body.values, joints, root, lost=torch.zeros_like(body.values[..., 0], dtype=torch.bool))
    limbs = body.values[..., child, :] - body.values[..., parent, :]  # (..., T, bones, 3)
    across, up, depth = limbs.unbind(dim=-1)
    azimuth, elevation = torch.atan2(up, across), torch.atan2(depth, torch.hypot(across, up))
    motion = torch.diff(poses, dim=-2, prepend=poses[..., :1, :])  # (..., T, 3J)
    families: list[Tensor] = [poses, azimuth.cos(), azimuth.sin(), elevation, limbs.norm(dim=-1), motion]
    return like(windows, torch.cat(families, dim=-1))
