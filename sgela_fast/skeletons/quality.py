"""Quality of one recording: what is lost, what jumps, whether units, axes and sides are what they should be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sgela_fast.skeletons.config import QualityConfig
from sgela_fast.skeletons.layouts import Layout
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.windows import origin_joint

# Metres to one unit, and the body heights (head to foot along the bones) from which the unit is guessed.
UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}
LEAST_HEIGHT, MOST_HEIGHT, USUAL_HEIGHT = 0.8, 2.4, 1.6
AXES = ("x", "y", "z")
SLOW = 0.2  # metres per second: below, the way somebody goes says nothing about where they face


@dataclass(frozen=True)
class Finding:
    """Something to know about a recording.

    Attributes:
        kind: ``unreadable``, ``damaged``, ``nan``, ``units``, ``axes``, ``sides``, ``bones``, ``jumps``, ``lost``,
            ``short``, ``duplicate``, ``centred``.
        recording: its name, or the archive's path.
        source: the file it came from.
        text: what is wrong, without the name.
        fault: whether it is a fault, or only worth knowing.
    """

    kind: str
    recording: str
    source: str
    text: str
    fault: bool = True


@dataclass(frozen=True)
class Quality:
    """Measures of one recording; lengths in metres, by the guessed unit.

    Attributes:
        units: ``metres``, ``centimetres``, ``millimetres``, ``pixels`` (flat), ``unknown``.
        height: head to foot along the bones, in the recording's own unit.
        up: the axis on which the head is above the feet, such as ``y`` or ``-z``.
        before_camera: whether the body stays at z > 0; ``None`` if it is centred.
        nan_joints: joints with a coordinate that is not finite, over all frames.
        lost_frames: frames with a joint at (0, 0, 0).
        lost_joints: such joints over all frames.
        jumping_frames: frames in which a joint jumps.
        largest_jump: metres.
        bone_means: mean length of every bone.
        bone_spread: mean over the bones of the standard deviation within the recording.
        sides_agree: fraction of frames in which left joints are on the left of where the body faces; ``None`` if
            that cannot be told.
        centred_on: joint at the origin of every frame, ``None`` in camera coordinates.
        digest: SHA-256 of the frames.
    """

    recording: str
    person: str | None
    source: str
    layout: str
    frames: int
    fps: float
    units: str
    height: float
    up: str
    before_camera: bool | None
    nan_joints: int
    lost_frames: int
    lost_joints: int
    jumping_frames: int
    largest_jump: float
    bone_means: tuple[float, ...]
    bone_spread: float
    sides_agree: float | None
    centred_on: str | None
    digest: str


def measure(recording: Recording, config: QualityConfig | None = None) -> Quality:
    """Measure one recording; only ``config.jump`` counts here."""
    jump_limit = (config or QualityConfig()).jump
    layout = recording.skeleton
    joints = recording.joints.astype(np.float64)  # (frames, J, 3)
    finite = np.isfinite(joints).all(axis=-1)
    lost = (joints == 0).all(axis=-1)
    origin = origin_joint(joints)
    if origin is not None:
        lost[:, origin] = False
    joints[~finite | lost] = np.nan  # every measure below leaves such joints out
    lengths = _bone_lengths(joints, layout)  # (frames, bones)
    means = _mean(lengths)
    height = _body_height(layout, means)
    units = guess_units(height, joints)
    scale = UNITS.get(units) or (USUAL_HEIGHT / height if height > 0 else 1.0)
    up, axis = up_axis(joints, layout)
    moves = scale * np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    jumps = np.nan_to_num(moves) > jump_limit
    return Quality(
        recording=recording.name,
        person=recording.person,
        source=recording.source,
        layout=layout.name,
        frames=recording.frames,
        fps=recording.fps,
        units=units,
        height=height,
        up=up,
        before_camera=None if origin is not None else bool(np.median(np.nan_to_num(joints[..., 2])) > 0),
        nan_joints=int((~finite).sum()),
        lost_frames=int(lost.any(axis=1).sum()),
        lost_joints=int(lost.sum()),
        jumping_frames=int(jumps.any(axis=1).sum()),
        largest_jump=float(np.nan_to_num(moves).max(initial=0.0)),
        bone_means=tuple(float(value) for value in scale * means),
        bone_spread=float(scale * np.sqrt(_mean((lengths - means) ** 2)).mean()),
        sides_agree=sides_agree(joints, layout, axis, scale, recording.fps),
        centred_on=None if origin is None else layout.joints[origin],
        digest=hashlib.sha256(np.ascontiguousarray(recording.joints, np.float32).data).hexdigest(),
    )


def guess_units(height: float, joints: np.ndarray) -> str:
    """Guess the unit of length.

    Args:
        height: head to foot along the bones, in that unit.
        joints: ``(frames, J, 3)``; flat ones are taken for pixels.
    """
    depth = joints[..., 2][np.isfinite(joints[..., 2])]
    if height > 20 and (len(depth) == 0 or np.ptp(depth) < 1e-3 * height):
        return "pixels"
    for name, scale in UNITS.items():
        if LEAST_HEIGHT <= height * scale <= MOST_HEIGHT:
            return name
    return "unknown"


def up_axis(joints: np.ndarray, layout: Layout) -> tuple[str, np.ndarray]:
    """The axis along which the head is above the feet.

    Returns:
        Its name, such as ``-z``, ``?`` if there is nothing to see; and the unit vector ``(3,)``.
    """
    feet = [layout.index(name) for name in layout.joints if name.startswith("ankle_")]
    trunk = joints[:, layout.index("head")] - joints[:, feet].mean(axis=1)  # (frames, 3)
    whole = trunk[np.isfinite(trunk).all(axis=1)]
    if not len(whole):
        return "?", np.array([0.0, 1.0, 0.0])
    middle = np.median(whole, axis=0)
    axis = int(np.argmax(np.abs(middle)))
    sign = 1.0 if middle[axis] > 0 else -1.0
    return ("" if sign > 0 else "-") + AXES[axis], sign * np.eye(3)[axis]


def sides_agree(joints: np.ndarray, layout: Layout, up: np.ndarray, scale: float, fps: float) -> float | None:
    """Fraction of the frames in which left shoulder and hip are to the left of where the body faces.

    It faces where its feet point, or, in layouts without feet, where it walks.

    Args:
        joints: ``(frames, J, 3)``, missing ones not a number.
        up: ``(3,)`` unit vector.
        scale: metres to one unit.
    """
    across = sum(
        joints[:, layout.index(f"{name}_left")] - joints[:, layout.index(f"{name}_right")]
        for name in ("shoulder", "hip")
    )
    if "foot_left" in layout.joints:
        facing = sum(
            joints[:, layout.index(f"foot_{side}")] - joints[:, layout.index(f"ankle_{side}")]
            for side in ("left", "right")
        )
        least = 0.02 / scale
    else:
        facing = velocity(joints[:, layout.index(layout.root)], fps)
        least = SLOW / scale
    facing = facing - (facing @ up)[:, None] * up
    left = np.cross(up, facing)
    told = (np.linalg.norm(facing, axis=1) > least) & np.isfinite(across).all(axis=1)
    if not told.any():
        return None
    return float(((across * left).sum(axis=1)[told] > 0).mean())


def velocity(positions: np.ndarray, fps: float) -> np.ndarray:
    """Of a point ``(frames, 3)``, per second; zero in a single frame."""
    if len(positions) < 2:
        return np.zeros_like(positions)
    return np.asarray(np.gradient(positions, 1 / fps, axis=0))


def findings(quality: Quality, config: QualityConfig | None = None) -> Iterator[Finding]:
    """What is wrong with, or worth knowing of, one recording."""
    config = config or QualityConfig()

    def found(kind: str, text: str, fault: bool = True) -> Finding:
        return Finding(kind, quality.recording, quality.source, text, fault)

    if quality.nan_joints:
        yield found("nan", f"{counted(quality.nan_joints, 'joint')} with a coordinate that is not finite")
    if quality.units != "metres":
        yield found("units", f"the body is {quality.height:.4g} units high, so the unit is not metres: {quality.units}")
    if quality.up != "y":
        yield found("axes", f"up is {quality.up}, not y")
    if quality.sides_agree is not None and quality.sides_agree < 0.5:
        yield found(
            "sides",
            f"left joints are on the right in {1 - quality.sides_agree:.0%} of the frames: sides exchanged or an axis "
            "mirrored",
        )
    if quality.bone_spread > config.bone_spread:
        yield found("bones", f"bone lengths spread by {100 * quality.bone_spread:.1f} cm")
    if quality.frames < config.min_frames:
        yield found("short", f"{counted(quality.frames, 'frame')}, fewer than {config.min_frames}")
    if quality.jumping_frames:
        yield found(
            "jumps",
            f"{counted(quality.jumping_frames, 'frame')} with a jump, the farthest {quality.largest_jump:.2f} m",
            quality.jumping_frames > config.jumping_frames * quality.frames,
        )
    if quality.lost_frames:
        yield found(
            "lost",
            f"{counted(quality.lost_joints, 'joint')} lost in {counted(quality.lost_frames, 'frame')}",
            quality.lost_frames > config.lost_frames * quality.frames,
        )
    if quality.centred_on:
        yield found("centred", f"centred on {quality.centred_on} already", fault=False)


def counted(number: int, noun: str) -> str:
    """Such as ``1 frame`` or ``2,000 frames``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _bone_lengths(joints: np.ndarray, layout: Layout) -> np.ndarray:
    ends = np.array(layout.bones)
    return np.asarray(np.linalg.norm(joints[:, ends[:, 0]] - joints[:, ends[:, 1]], axis=-1))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of what is a number, 0 where nothing is."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _body_height(layout: Layout, bone_means: np.ndarray) -> float:
    """From the head to the lower end of the legs along the bones; the mean of both legs."""
    length = {joint: mean for (joint, _), mean in zip(layout.bones, bone_means, strict=True)}

    def way_to_root(joint: int) -> dict[int, float]:
        way = {}
        while layout.parents[joint] >= 0:
            way[joint] = float(length[joint])
            joint = layout.parents[joint]
        return way

    end = "foot" if "foot_left" in layout.joints else "ankle"
    head = way_to_root(layout.index("head"))
    legs = [way_to_root(layout.index(f"{end}_{side}")) for side in ("left", "right")]
    return sum(sum((head | leg).values()) for leg in legs) / 2
