"""One walk of one person: what every reader returns and every archive holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.layouts import Layout, get_layout


@dataclass(frozen=True)
class Recording:
    """A skeleton sequence and what is known about it.

    Attributes:
        name: unique within its data set.
        joints: ``(frames, J, 3)`` float32, metres, right-handed, y up. A lost joint stands as (0, 0, 0).
        layout: name of the joint layout.
        fps: frames per second of the sensor (nominal where the format has no times).
        person: identity, ``None`` if unknown.
        source: the file it came from, relative to the folder that was read.
        extra: further columns: ``split`` and its alternatives (``split_2`` ...), ``sensor``, ``view``, ``gait`` ...
        tracking: ``(frames, J)`` uint8, 2 tracked, 1 inferred, 0 lost; ``None`` if the format has no such column.
        ground: ``(4,)`` floor plane a, b, c, d with ax + by + cz + d = 0, metres; ``None`` if unknown.
    """

    name: str
    joints: np.ndarray
    layout: str
    fps: float = 30.0
    person: str | None = None
    source: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    tracking: np.ndarray | None = None
    ground: np.ndarray | None = None

    def __post_init__(self) -> None:
        layout = get_layout(self.layout)
        if self.joints.ndim != 3 or self.joints.shape[1:] != (len(layout), 3):
            raise DataError(
                f"recording {self.name!r} has the shape {self.joints.shape} but layout {self.layout!r} needs "
                f"(frames, {len(layout)}, 3); check the layout"
            )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.joints)

    @property
    def skeleton(self) -> Layout:
        """The joint layout itself."""
        return get_layout(self.layout)


def lost_joints(joints: np.ndarray) -> np.ndarray:
    """Which joints are lost: not finite, or exactly at the sensor's origin.

    Args:
        joints: ``(..., J, 3)``.

    Returns:
        ``(..., J)`` bool.
    """
    return ~np.isfinite(joints).all(axis=-1) | (joints == 0).all(axis=-1)
