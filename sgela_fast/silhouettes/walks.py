"""Walks to be drawn: skeletons on a straight path past the camera, from synthetic walkers or from an archive."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.silhouettes.body import LAYOUT, Build, Floats, draw_build
from sgela_fast.silhouettes.config import RenderConfig
from sgela_fast.skeletons.archive import Archive, Row
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.layouts import convert_joints
from sgela_fast.skeletons.recording import lost_joints
from sgela_fast.skeletons.walker import walk_body
from sgela_fast.skeletons.walker_identity import SIDES, make_identity
from sgela_fast.skeletons.walker_motion import FPS, forward_speed, sole_heights

_STRIDE = 31  # frames over which a heading is averaged, about a stride
_UPPER = [LAYOUT.index(name) for name in LAYOUT.joints if not name.startswith(("knee", "ankle", "foot"))]
_LEAST_SWING = 0.05  # metres: below that legs do not say where somebody goes
_FARTHEST = 0.5  # of the camera's distance: how far a walk gets from the middle of the path


@dataclass(frozen=True)
class Walk:
    """One walk that is to be seen from all views.

    Attributes:
        subject: the person's name.
        condition: such as ``nm-01``.
        frames: T.
        source: number of a walk, or the row of an archive.
    """

    subject: str
    condition: str
    frames: int
    source: int | Row


class WalkerWalks:
    """Walks of synthetic walkers, each on joints that no sensor has blurred."""

    def __init__(self, config: RenderConfig) -> None:
        self.config = config
        self._walker = WalkerConfig(
            persons=config.persons,
            walks=max(2, len(config.conditions)),
            min_frames=config.frames,
            max_frames=config.frames,
            seed=config.seed,
        )
        self.walks = [
            Walk(f"{person + 1:03d}", condition, config.frames, number)
            for person in range(config.persons)
            for number, condition in enumerate(config.conditions)
        ]

    def joints(self, walk: Walk) -> Floats:
        """``(T, 20, 3)`` metres, facing z, going along z through the origin, the floor at y = 0."""
        person = int(walk.subject) - 1
        identity = make_identity(self._walker, person)
        generator = np.random.default_rng([self.config.seed, 2, person, int(walk.source)])  # type: ignore[arg-type]
        body, _ = walk_body(self._walker, identity, generator)
        return go_ahead(body, self.config.distance)

    def build(self, walk: Walk) -> Build:
        """What the walker adds to the bones."""
        return draw_build(walk.subject, self.config.seed, self.config.shape_spread)


class ArchiveWalks:
    """Walks of an archive: the k-th recording of a person is walked under the k-th condition.

    Recordings of nobody in particular, too short ones and those beyond the conditions are left out.

    Raises:
        DataError: the archive's layout lacks joints of ``kinect-v1``, or no recording can be drawn.
    """

    def __init__(self, archive: Archive, config: RenderConfig) -> None:
        self.archive, self.config = archive, config
        convert_joints(np.zeros((len(archive.layout), 3)), archive.layout, LAYOUT)  # says what lacks
        walks: dict[str, list[Walk]] = defaultdict(list)
        for row in archive.rows:
            mine = walks[row.person or ""]
            if row.person and row.frames >= 2 and len(mine) < len(config.conditions):
                condition = config.conditions[len(mine)]
                mine.append(Walk(row.person, condition, min(row.frames, config.frames), row))
        self.walks = [walk for person in sorted(walks) for walk in walks[person]]
        self.left_out = len(archive.rows) - len(self.walks)
        if not self.walks:
            raise DataError(f"{archive.path} names no person in its recordings; convert it with persons")

    def joints(self, walk: Walk) -> Floats:
        """As :meth:`WalkerWalks.joints`."""
        assert isinstance(walk.source, Row)
        found = convert_joints(self.archive.frames_of(walk.source), self.archive.layout, LAYOUT).astype(np.float64)
        first = (len(found) - walk.frames) // 2
        # The joints about the part that is drawn help to average it.
        margin = slice(max(0, first - _STRIDE), first + walk.frames + _STRIDE)
        whole = moving_mean(without_gaps(found[margin]), self.config.smooth)
        body = stand_and_face(whole)[first - margin.start :][: walk.frames]
        return go_ahead(body, self.config.distance)

    def build(self, walk: Walk) -> Build:
        """What the person adds to the bones: drawn, as a skeleton does not tell."""
        return draw_build(walk.subject, self.config.seed, self.config.shape_spread)


def without_gaps(joints: Floats) -> Floats:
    """Lost joints ``(T, J, 3)`` put on the straight line between the frames where they are seen."""
    lost = lost_joints(joints)
    filled, time = joints.copy(), np.arange(len(joints))
    for joint in np.flatnonzero(lost.any(axis=0)):
        seen = ~lost[:, joint]
        for axis in range(3) if seen.any() else ():
            filled[~seen, joint, axis] = np.interp(time[~seen], time[seen], joints[seen, joint, axis])
    return np.nan_to_num(filled)


def moving_mean(values: Floats, frames: int) -> Floats:
    """Mean over ``frames`` frames about each one, fewer at the ends: ``(T, ...)`` to ``(T, ...)``."""
    total = np.concatenate([np.zeros_like(values[:1]), values.cumsum(axis=0)])
    middle = np.arange(len(values))
    low, high = np.maximum(middle - frames // 2, 0), np.minimum(middle + (frames + 1) // 2, len(values))
    count = (high - low).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((total[high] - total[low]) / count)


def stand_and_face(joints: Floats) -> Floats:
    """Turn every frame ``(T, 20, 3)`` so that the walker faces z, hips at the origin, lowest sole on the floor.

    A depth camera that sees somebody from the side has the trunk turned towards itself (in KGBD by 45 degrees): trunk,
    arms and head are turned back as a whole, as far as that lasts longer than a stride.
    """
    heading, trunk = find_headings(joints)
    joints = joints - joints[:, LAYOUT.index("hip_center"), None] * [1, 0, 1]
    turned = _turn_back(joints, heading)
    turned[:, _UPPER] = _turn_back(joints[:, _UPPER], trunk)
    turned[..., 1] -= moving_mean(sole_heights(turned).min(axis=1), 5)[:, None]
    return turned


def find_headings(joints: Floats) -> tuple[Floats, Floats]:
    """Where the walker goes and where the trunk faces, ``(T,)`` radians each: 0 along z, a quarter turn along x.

    Legs swing along the way: the first principal axis of one ankle relative to the other, over two strides. The line of
    hips and shoulders, with the toes, says which end is ahead, and is all that is left where the legs do not swing.
    """
    level = joints[..., [0, 2]]

    def pair(name: str) -> Floats:
        left, right = (level[:, LAYOUT.index(f"{name}_{side}")] for side in SIDES)
        return np.asarray(left - right)

    swing = pair("ankle")
    swing = swing - moving_mean(swing, 2 * _STRIDE)
    xx, zz, xz = (moving_mean(part, 2 * _STRIDE) for part in (swing[:, 0] ** 2, swing[:, 1] ** 2, swing.prod(axis=1)))
    across = moving_mean(pair("hip") + pair("shoulder"), _STRIDE)
    facing = np.stack([-across[:, 1], across[:, 0]], axis=-1)  # left of somebody who faces z is x
    toes = [level[:, LAYOUT.index(f"foot_{side}")] - level[:, LAYOUT.index(f"ankle_{side}")] for side in SIDES]
    ahead = _unit(facing) + _unit(moving_mean(toes[0] + toes[1], _STRIDE))
    axis = np.arctan2(2 * xz, zz - xx) / 2
    axis = np.where(np.sin(axis) * ahead[:, 0] + np.cos(axis) * ahead[:, 1] < 0, axis + np.pi, axis)
    swings = np.hypot(zz - xx, 2 * xz) > np.maximum(0.4 * (xx + zz), _LEAST_SWING**2)
    trunk = np.arctan2(facing[:, 0], facing[:, 1])
    return np.where(swings, axis, trunk), trunk


def _turn_back(joints: Floats, heading: Floats) -> Floats:
    """Turn each frame ``(T, J, 3)`` about the vertical so that what faced ``heading`` faces z."""
    cos, sin = np.cos(heading)[:, None], np.sin(heading)[:, None]
    x, y, z = np.moveaxis(joints, -1, 0)
    return np.stack([cos * x - sin * z, y, sin * x + cos * z], axis=-1)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def go_ahead(body: Floats, distance: float) -> Floats:
    """Let a body that walks on the spot go along z at its own mean speed, the origin midway."""
    speed = float(np.mean(forward_speed(body)))
    way = speed / FPS * (np.arange(len(body)) - (len(body) - 1) / 2)
    limit = _FARTHEST * distance
    return np.asarray(body + np.stack([0 * way, 0 * way, np.clip(way, -limit, limit)], axis=-1)[:, None])


Walks = WalkerWalks | ArchiveWalks
