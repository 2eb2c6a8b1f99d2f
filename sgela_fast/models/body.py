"""Joints of skeletons by what they are, for descriptors that mean the same in every layout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from sgela_fast.errors import DataError

Array = TypeVar("Array", np.ndarray, Tensor)
AnyArray: TypeAlias = np.ndarray | Tensor

# What sensors call the joints of the trunk, and what stands in for a hand that was not recorded; nearest first.
NAMES = {
    "neck": ("shoulder_center", "spine_shoulder", "neck"),
    "torso": ("spine", "spine_mid"),
    "hip_center": ("hip_center", "spine_base"),
    "hand_left": ("hand_left", "wrist_left"),
    "hand_right": ("hand_right", "wrist_right"),
}

_BODY_REACH = 1.2  # metres: a body's middle is nearer to each of its joints than that, and farther from a camera


class Body:
    """Skeletons whose joints are asked for by name; whatever is computed from a lost joint is NaN.

    Args:
        skeletons: ``(..., J, 3)``, metres, y up; converted to at least float32.
        joints: names of the J joints in the order of the data, such as ``Layout.joints``.
        lost: ``(..., J)`` bool; joints that are not finite are lost in any case. Without it joints exactly at the
            origin are lost as well (:func:`joints_at_origin`).

    Raises:
        DataError: shapes and names do not fit together.
    """

    def __init__(self, skeletons: AnyArray, joints: Sequence[str], lost: AnyArray | None = None) -> None:
        values = as_tensor(skeletons)
        if values.ndim < 2 or tuple(values.shape[-2:]) != (len(joints), 3):
            raise DataError(
                f"skeletons have the shape {tuple(values.shape)} but {len(joints)} joints are named; give an array "
                f"(..., {len(joints)}, 3) or the names of its joints"
            )
        self.names = tuple(joints)
        missing = joints_at_origin(values) if lost is None else as_tensor(lost, torch.bool)
        if missing.shape != values.shape[:-1]:
            raise DataError(
                f"lost has the shape {tuple(missing.shape)} but the skeletons ask for {tuple(values.shape[:-1])}; give "
                "one value for each joint"
            )
        missing = missing | ~torch.isfinite(values).all(dim=-1)
        self.values = torch.where(missing[..., None], torch.nan, values)  # (..., J, 3)

    def require(self, *wanted: str) -> None:
        """Raise DataError unless the body has every joint in ``wanted``, and name all that it lacks."""
        missing = [" or ".join(_candidates(joint)) for joint in wanted if self._index(joint) is None]
        if missing:
            raise DataError(
                f"the skeletons lack the joint {', '.join(missing)} (they have: {', '.join(self.names)}); use a "
                "descriptor without it or recordings of another layout"
            )

    def at(self, joint: str) -> Tensor:
        """Position of a joint, ``(..., 3)``."""
        index = self._index(joint)
        if index is None:
            self.require(joint)
        return self.values[..., index, :]

    def length(self, *joints: str) -> Tensor:
        """Length of the line through the joints, ``(...,)``."""
        pieces = [distance(self.at(one), self.at(other)) for one, other in pairwise(joints)]
        return torch.stack(pieces).sum(dim=0)

    def _index(self, joint: str) -> int | None:
        return next((self.names.index(name) for name in _candidates(joint) if name in self.names), None)


def joints_at_origin(skeletons: Tensor) -> Tensor:
    """Which joints of ``(..., J, 3)`` are exactly at (0, 0, 0), where sensors put those that they lost; ``(..., J)``.

    Of a skeleton that was centred on one of its joints that one is not lost: if a single joint is at the origin and the
    others stand about it, their middle within 1.2 m, it is the centre. A sensor is farther from a body than that.
    """
    at_origin = (skeletons == 0).all(dim=-1)
    others = (~at_origin)[..., None]
    count = others.sum(dim=-2).clamp_min(1)
    middle = torch.where(others, torch.nan_to_num(skeletons), 0).sum(dim=-2) / count  # (..., 3)
    centred = (at_origin.sum(dim=-1) == 1) & (middle.norm(dim=-1) < _BODY_REACH)
    return at_origin & ~centred[..., None]


def distance(one: Tensor, other: Tensor) -> Tensor:
    """Euclidean distance between points ``(..., 3)``, ``(...,)``."""
    return torch.linalg.vector_norm(one - other, dim=-1)


def as_tensor(values: AnyArray, dtype: torch.dtype | None = None) -> Tensor:
    """The values as a tensor; half precision and whole numbers become float32 unless ``dtype`` is named."""
    if isinstance(values, Tensor):
        tensor = values
    else:
        # Frames of an archive are mapped read-only, of which torch warns.
        tensor = torch.from_numpy(np.require(values, requirements=["C", "W"]))
    if dtype is None:
        dtype = tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32
    return tensor.to(dtype)


def like(given: Array, result: Tensor) -> Array:
    """``result`` as an array of NumPy if ``given`` is one."""
    return result.numpy() if isinstance(given, np.ndarray) else result


def _candidates(joint: str) -> tuple[str, ...]:
    return NAMES.get(joint, (joint,))
