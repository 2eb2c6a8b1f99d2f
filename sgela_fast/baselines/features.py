"""What the baselines look at: a vector for a window, or one for each of its frames."""

from __future__ import annotations

import torch
from torch import Tensor

from sgela_fast.baselines.windows import CutWindows
from sgela_fast.errors import DataError
from sgela_fast.models.descriptors import bone_lengths, bone_statistics, d13, d16, mean_and_deviation
from sgela_fast.models.pose_features import pose, pose_features


def d13_means(cut: CutWindows) -> Tensor:
    """D13 (reading ``feet``, which needs no floor plane), the mean over the window's frames; ``(B, 13)``."""
    return d13(cut.joints, cut.layout.joints, lost=cut.lost).nanmean(dim=1)


def d16_means(cut: CutWindows) -> Tensor:
    """D16, the mean over the window's frames; ``(B, 16)``."""
    return d16(cut.joints, cut.layout.joints, lost=cut.lost).nanmean(dim=1)


def bone_means(cut: CutWindows) -> Tensor:
    """Every bone's mean length; ``(B, bones)``."""
    return bone_lengths(cut.joints, cut.layout.joints, cut.layout.parent_names, lost=cut.lost).nanmean(dim=1)


def bones_and_pose(cut: CutWindows) -> Tensor:
    """Mean and deviation of bone lengths and of the centred pose without its root; ``(B, 2 bones + 6 (J - 1))``."""
    bones = bone_statistics(cut.joints, cut.layout.joints, cut.layout.parent_names, lost=cut.lost)
    root = cut.layout.index(cut.layout.root)
    poses = pose(cut.joints, cut.layout.joints, cut.layout.root, lost=cut.lost)  # (B, T, 3J)
    others = torch.cat([poses[..., : 3 * root], poses[..., 3 * root + 3 :]], dim=-1)
    return torch.cat([bones, *mean_and_deviation(others)], dim=-1)


def hip_position(cut: CutWindows) -> Tensor:
    """Where the body's root was seen, the mean over the window's frames; ``(B, 3)``. There is no gait in it.

    Raises:
        DataError: the recordings are centred already.
    """
    root = cut.joints[:, :, cut.layout.index(cut.layout.root)]  # (B, T, 3)
    if not root.any():
        raise DataError(
            f"the joint {cut.layout.root!r} is at the origin throughout a recording, so there is no position to look "
            "at; leave the baseline position out or convert recordings in camera coordinates"
        )
    return root.mean(dim=1)


def centred_frames(cut: CutWindows) -> Tensor:
    """The coordinates that the gait encoder reads, frame by frame; ``(B, T, 3 J)``."""
    if cut.window.center == "none":
        return cut.joints.flatten(-2)
    root = cut.layout.root if cut.window.center == "root" else cut.window.center
    return pose(cut.joints, cut.layout.joints, root, lost=cut.lost)


def pose_features_v1(cut: CutWindows) -> Tensor:
    """Pose features v1, frame by frame; ``(B, T, D)``."""
    return pose_features(cut.joints, cut.layout.joints, cut.layout.parent_names, lost=cut.lost)
