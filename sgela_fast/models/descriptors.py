"""Hand-made descriptors of skeletons: what was used for person re-identification before anything was learned.

All are functions of ``(..., J, 3)`` skeletons in metres with y up, as NumPy arrays or torch tensors, and of the names
of the joints, so that they hold for every layout that has them. They return the same kind of array. None depends on
where the skeleton stands; lengths do not depend on how it is turned, either. Whatever is computed from a lost joint is
NaN, never a plausible length (:class:`sgela_fast.models.body.Body`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.body import AnyArray, Array, Body, as_tensor, distance, like

Variant = Literal["feet", "floor"]

D13_NAMES = (
    "head_height",
    "neck_height",
    "neck_to_left_shoulder",
    "neck_to_right_shoulder",
    "torso_to_right_shoulder",
    "right_arm",
    "left_arm",
    "right_upper_leg",
    "left_upper_leg",
    "torso_length",
    "hip_to_hip",
    "torso_to_right_upper_leg",
    "torso_to_left_upper_leg",
)

_D16_BONES = (
    ("head", "neck"),
    ("neck", "torso"),
    ("torso", "hip_center"),
    ("neck", "shoulder_right"),
    ("shoulder_right", "elbow_right"),
    ("elbow_right", "wrist_right"),
    ("neck", "shoulder_left"),
    ("shoulder_left", "elbow_left"),
    ("elbow_left", "wrist_left"),
    ("hip_center", "hip_right"),
    ("hip_right", "knee_right"),
    ("knee_right", "foot_right"),
    ("hip_center", "hip_left"),
    ("hip_left", "knee_left"),
    ("knee_left", "foot_left"),
)
D16_NAMES = (*(f"{one}_to_{other}" for one, other in _D16_BONES), "head_height")

_FEET = ("foot_left", "foot_right")
_LEAST_LEG = 0.1  # metres; ratios are taken over at least that, so that a collapsed leg gives no infinite ratio


def d13(
    skeletons: Array,
    joints: Sequence[str],
    *,
    variant: Variant = "feet",
    floor: AnyArray | None = None,
    lost: AnyArray | None = None,
) -> Array:
    """The 13 anthropometric features of Munaro et al. (2014), in the order of :data:`D13_NAMES`.

    Two public programs read the paper differently. ``feet`` takes heights over the mean height of both feet, and arms
    as the straight line from shoulder to wrist. ``floor`` takes heights as distances from the floor plane, and arms
    from shoulder over elbow to hand (to the wrist, in layouts without hands). The last two entries are the torso's
    length over that of each upper leg, which counts as at least 0.1 m. All others are metres.

    Args:
        skeletons: ``(..., J, 3)``.
        joints: names of the J joints.
        variant: ``feet`` or ``floor``.
        floor: planes ``(..., 4)`` with a x + b y + c z + d = 0 in the skeletons' coordinates, of any scale; for
            ``floor`` alone. Leading dimensions are broadcast.
        lost: ``(..., J)`` bool, joints that were not seen.

    Returns:
        ``(..., 13)``.

    Raises:
        DataError: a joint is not in ``joints``, a shape does not fit, or the normal of a plane is 0.
        ConfigError: the variant is unknown, or has no floor or one too many.
    """
    if variant not in ("feet", "floor"):
        raise ConfigError(f"variant is {variant!r}; choose feet or floor")
    if (floor is not None) != (variant == "floor"):
        mend = "give floor, the planes (..., 4)" if variant == "floor" else "leave floor out or choose variant floor"
        raise ConfigError(f"variant {variant} {'needs a' if variant == 'floor' else 'takes no'} floor plane; {mend}")
    body = Body(skeletons, joints, lost)
    path = ("shoulder", "wrist") if floor is None else ("shoulder", "elbow", "hand")
    arm = {side: [f"{joint}_{side}" for joint in path] for side in ("left", "right")}
    legs = [f"{joint}_{side}" for joint in ("hip", "knee") for side in ("left", "right")]
    body.require("head", "neck", "torso", *arm["left"], *arm["right"], *legs, *(_FEET if floor is None else ()))
    height = partial(_over_feet, body) if floor is None else partial(_over_floor, body, _checked_planes(floor))
    torso = body.length("neck", "torso")
    upper_leg = {side: body.length(f"hip_{side}", f"knee_{side}") for side in arm}
    features = [
        height("head"),
        height("neck"),
        body.length("neck", "shoulder_left"),
        body.length("neck", "shoulder_right"),
        body.length("torso", "shoulder_right"),
        body.length(*arm["right"]),
        body.length(*arm["left"]),
        upper_leg["right"],
        upper_leg["left"],
        torso,
        body.length("hip_left", "hip_right"),
        torso / upper_leg["right"].clamp_min(_LEAST_LEG),
        torso / upper_leg["left"].clamp_min(_LEAST_LEG),
    ]
    return like(skeletons, torch.stack(features, dim=-1))


def d16(skeletons: Array, joints: Sequence[str], *, lost: AnyArray | None = None) -> Array:
    """15 bone lengths and the head's height over the feet, as Pala et al. (2019) are usually read; metres.

    In the order of :data:`D16_NAMES`. Lower legs reach from knee to foot.

    Args:
        skeletons: ``(..., J, 3)``.
        joints: names of the J joints.
        lost: ``(..., J)`` bool, joints that were not seen.

    Returns:
        ``(..., 16)``.

    Raises:
        DataError: a joint is not in ``joints``, or a shape does not fit.
    """
    body = Body(skeletons, joints, lost)
    body.require(*dict.fromkeys(joint for bone in _D16_BONES for joint in bone))
    lengths: list[Tensor] = [body.length(*bone) for bone in _D16_BONES]
    return like(skeletons, torch.stack([*lengths, _over_feet(body, "head")], dim=-1))


def bone_lengths(
    skeletons: Array, joints: Sequence[str], parents: Sequence[str | None], *, lost: AnyArray | None = None
) -> Array:
    """Length of every bone, from each joint to its parent, metres.

    Args:
        skeletons: ``(..., J, 3)``.
        joints: names of the J joints, such as ``Layout.joints``.
        parents: name of each joint's parent, ``None`` for the root, such as ``Layout.parent_names``.
        lost: ``(..., J)`` bool, joints that were not seen.

    Returns:
        ``(..., bones)``, in the order of the joints without the root.

    Raises:
        DataError: shapes or names do not fit together.
    """
    body = Body(skeletons, joints, lost)
    child, parent = bone_ends(joints, parents)
    return like(skeletons, distance(body.values[..., child, :], body.values[..., parent, :]))


def bone_statistics(
    windows: Array, joints: Sequence[str], parents: Sequence[str | None], *, lost: AnyArray | None = None
) -> Array:
    """Mean and standard deviation of every bone's length over the frames of a window, metres.

    Frames in which a bone's joint is lost do not count; a bone without any frame is NaN.

    Args:
        windows: ``(..., T, J, 3)``.
        joints: names of the J joints.
        parents: name of each joint's parent, ``None`` for the root.
        lost: ``(..., T, J)`` bool, joints that were not seen.

    Returns:
        ``(..., 2 bones)``: all means, then all deviations (over T, not T - 1).

    Raises:
        DataError: shapes or names do not fit together.
    """
    lengths = bone_lengths(as_tensor(windows), joints, parents, lost=lost)  # (..., T, bones)
    mean, deviation = mean_and_deviation(lengths)
    return like(windows, torch.cat([mean, deviation], dim=-1))


def mean_and_deviation(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over T of ``(..., T, D)``, both ``(..., D)``; entries that are NaN do not count."""
    mean = frames.nanmean(dim=-2)
    return mean, (frames - mean.unsqueeze(-2)).square().nanmean(dim=-2).sqrt()


def bone_ends(joints: Sequence[str], parents: Sequence[str | None]) -> tuple[list[int], list[int]]:
    """Indices of the joint and of the parent of every bone.

    Raises:
        DataError: parents and joints do not fit together.
    """
    if len(parents) != len(joints):
        raise DataError(
            f"{len(parents)} parents are given for {len(joints)} joints; give one for each, None for the root"
        )
    unknown = sorted({parent for parent in parents if parent is not None} - set(joints))
    if unknown:
        raise DataError(f"parents name {', '.join(unknown)}, which is not among the joints; give names of joints")
    bones = [(index, list(joints).index(parent)) for index, parent in enumerate(parents) if parent is not None]
    return [child for child, _ in bones], [parent for _, parent in bones]


def _over_feet(body: Body, joint: str) -> Tensor:
    left, right = (body.at(foot) for foot in _FEET)
    return (body.at(joint) - (left + right) / 2)[..., 1]


def _over_floor(body: Body, planes: Tensor, joint: str) -> Tensor:
    planes = planes.to(body.values)
    return ((body.at(joint) * planes[..., :3]).sum(dim=-1) + planes[..., 3]).abs()


def _checked_planes(floor: AnyArray) -> Tensor:
    """The planes with normals of length 1."""
    planes = as_tensor(floor)
    if planes.ndim < 1 or planes.shape[-1] != 4:
        raise DataError(f"floor has the shape {tuple(planes.shape)}; give planes (..., 4)")
    size = torch.linalg.vector_norm(planes[..., :3], dim=-1, keepdim=True)
    if not (size > 0).all():
        raise DataError("floor has a plane whose normal is 0; leave such frames out or take variant feet")
    return planes / size
