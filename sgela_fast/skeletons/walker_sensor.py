"""How a Kinect sees a body: slipping joint centres, drift, jitter, leaps and lost joints.

Sizes follow what the Kinect v1 recordings of KGBD show: hip-centred joints whose second differences lie at 11 mm (hips)
to 57 mm (feet), bone lengths that spread by about 2.5 cm within a recording, and leaps in 1.4 to 4 % of the frames.
"""

from __future__ import annotations

import numpy as np

from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.walker_identity import LAYOUT, STRAY_REACH, Identity, draw_slips, joint_kind
from sgela_fast.skeletons.walker_motion import rotation

JITTER = {
    "hip_center": 0.002,
    "spine": 0.002,
    "shoulder_center": 0.004,
    "head": 0.004,
    "shoulder": 0.005,
    "elbow": 0.006,
    "wrist": 0.008,
    "hand": 0.010,
    "hip": 0.003,
    "knee": 0.008,
    "ankle": 0.009,
    "foot": 0.012,
}
JITTER_REACH = np.array([JITTER[joint_kind(joint)] for joint in LAYOUT.joints])
# Shares of a joint's stray: bound to the stride, the same in this walk only, wandering, fixed for a walk.
SLIP, WALK_SLIP, DRIFT, BIAS = 0.9, 0.5, 0.5, 0.6
CARRY = 0.8  # how much of its parent's error a joint shares
DRIFT_FRAMES = 12.0  # after how many frames a drift is forgotten
HELD_FRAMES = 4  # a leap or a loss lasts at most as long, less one


def sense(
    generator: np.random.Generator,
    joints: np.ndarray,
    identity: Identity,
    phase: np.ndarray,
    heading: np.ndarray,
    config: WalkerConfig,
) -> np.ndarray:
    """What the sensor makes of true joints.

    Args:
        generator: source of the errors.
        joints: ``(frames, J, 3)`` true positions in the camera's frame, metres.
        identity: whose joint centres slip in the person's own way.
        phase: ``(frames,)`` of the stride, radians.
        heading: ``(frames,)`` radians.
        config: ``noise``, ``variation``, ``jump_rate`` and ``lost_rate`` count.

    Returns:
        ``(frames, J, 3)``; lost joints are (0, 0, 0).
    """
    reach = STRAY_REACH[:, None]
    slips = SLIP * identity.slips + WALK_SLIP * config.variation * draw_slips(generator)
    waves = np.stack([np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)])
    stray = np.einsum("kjw,wf->fkj", slips, waves)
    stray += BIAS * config.variation * reach * generator.normal(size=joints.shape[1:])
    level = np.zeros_like(heading)
    stray = np.einsum("fij,fkj->fki", rotation(heading, level, level), stray)
    stray += DRIFT * reach * drifting(generator, joints.shape, DRIFT_FRAMES)
    for joint, parent in LAYOUT.bones:
        stray[:, joint] += CARRY * stray[:, parent]
    stray += JITTER_REACH[:, None] * generator.normal(size=joints.shape)
    # The side that is turned away from the camera is seen worse.
    behind = np.clip((joints[..., 2] - joints[:, :1, 2]) / 0.15, 0, 1)[..., None]
    seen = joints + config.noise * (0.8 + 0.4 * behind) * stray
    leap(generator, seen, config.jump_rate * config.noise)
    lose(generator, seen, config.lost_rate * config.noise)
    return seen


def drifting(generator: np.random.Generator, shape: tuple[int, ...], memory: float) -> np.ndarray:
    """Noise of unit variance along axis 0 that forgets itself after ``memory`` frames (autoregressive)."""
    keep = np.exp(-1 / memory)
    steps = generator.normal(size=shape)
    steps[1:] *= np.sqrt(1 - keep**2)
    for frame in range(1, len(steps)):
        steps[frame] += keep * steps[frame - 1]
    return steps


def leap(generator: np.random.Generator, joints: np.ndarray, rate: float) -> None:
    """Throw a joint far off for a few frames, in place, so that a fraction ``rate`` of the frames holds a leap."""
    reach = JITTER_REACH / JITTER_REACH.sum()
    for start in _events(generator, len(joints), rate / 2):  # each event leaps twice: off and back
        joint = generator.choice(len(LAYOUT), p=reach)
        direction = generator.normal(size=3)
        offset = generator.uniform(0.4, 0.7) * direction / np.linalg.norm(direction)
        joints[start : start + generator.integers(1, HELD_FRAMES), joint] += offset


def lose(generator: np.random.Generator, joints: np.ndarray, rate: float) -> None:
    """Set a joint to (0, 0, 0) for a few frames, in place, so that a fraction ``rate`` of the frames lacks one."""
    for start in _events(generator, len(joints), rate / 2):  # an event lasts two frames on average
        joints[start : start + generator.integers(1, HELD_FRAMES), generator.integers(len(LAYOUT))] = 0


def _events(generator: np.random.Generator, frames: int, rate: float) -> list[int]:
    return [int(frame) for frame in np.flatnonzero(generator.random(frames) < rate)]
