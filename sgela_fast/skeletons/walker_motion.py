"""How a synthetic walker moves: joint angles over the stride, forward kinematics, and the path through the room.

Body frame: x to the walker's left, y up, z ahead. Room frame, as a Kinect has it: x to the camera's left, y up, z away
from the camera; both are right-handed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgela_fast.skeletons.walker_identity import CHANNELS, HARMONICS, LAYOUT, SIDES, Identity

FPS = 30.0
CAMERA_HEIGHT = 0.8
HEEL = 0.06  # how far the heel lies below the ankle, metres
SOLE_SOFTNESS = 0.008
LEAST_BEND = 3.0  # degrees of softness where a knee or elbow is about straight


def stride_curves(angles: np.ndarray, phase: np.ndarray) -> dict[str, np.ndarray]:
    """Every channel over time, radians.

    Args:
        angles: ``(channels, 1 + 2 HARMONICS)`` degrees.
        phase: ``(frames,)`` radians, 0 at each heel strike of the left foot.

    Returns:
        Per channel ``(frames,)``. Knees and elbows never bend the wrong way.
    """
    curves = {}
    for name, coefficients in zip(CHANNELS, angles, strict=True):
        own = phase + np.pi if name.endswith("_right") else phase
        value = fourier(coefficients, own)
        if name.startswith(("knee", "elbow")):
            value = LEAST_BEND * np.logaddexp(0, value / LEAST_BEND)
        curves[name] = np.deg2rad(value)
    return curves


def fourier(coefficients: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Sum of a constant and harmonics, ``(frames,)``."""
    value = np.full(len(phase), float(coefficients[0]))
    for n in range(1, HARMONICS + 1):
        value += coefficients[2 * n - 1] * np.cos(n * phase) + coefficients[2 * n] * np.sin(n * phase)
    return value


def pose_body(bones: np.ndarray, curves: dict[str, np.ndarray], phase: np.ndarray) -> np.ndarray:
    """Joints of a body that walks on the spot, ``(frames, J, 3)`` metres in the body frame, the floor at y = 0.

    Args:
        bones: ``(J,)`` lengths to the parents, metres.
        curves: of :func:`stride_curves`.
        phase: ``(frames,)`` radians.
    """
    joints = np.zeros((len(phase), len(LAYOUT), 3))
    pelvis = rotation(curves["pelvis_turn"], curves["pelvis_list"], np.zeros_like(phase))
    trunk = rotation(curves["trunk_turn"], curves["trunk_sway"], curves["trunk_lean"])
    nod, tilt = curves["head_nod"], curves["head_tilt"]
    directions = {
        "spine": pelvis @ np.array([0, 0.98, -0.2]),
        "shoulder_center": trunk @ np.array([0, 1.0, 0]),
        "head": turn(trunk, np.stack([-np.sin(tilt), np.cos(tilt) * np.cos(nod), np.cos(tilt) * np.sin(nod)], axis=-1)),
    }
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        directions |= _limb_directions(curves, pelvis, trunk, side, sign)
    for index, joint in enumerate(LAYOUT.joints):
        parent = LAYOUT.parents[index]
        if parent >= 0:
            direction = directions[joint]
            joints[:, index] = joints[:, parent] + bones[index] * direction / np.linalg.norm(
                direction, axis=-1, keepdims=True
            )
    # The weight moves over the standing leg, and the lowest sole stands on the floor.
    joints[..., 0] += 0.02 * np.cos(phase - 0.6 * np.pi)[:, None]
    soles = sole_heights(joints)  # (frames, 4)
    lowest = -SOLE_SOFTNESS * np.log(np.exp(-(soles - soles.min()) / SOLE_SOFTNESS).sum(axis=1)) + soles.min()
    joints[..., 1] -= lowest[:, None]
    return joints


def _limb_directions(
    curves: dict[str, np.ndarray], pelvis: np.ndarray, trunk: np.ndarray, side: str, sign: float
) -> dict[str, np.ndarray]:
    """Directions of the eight bones of one side; ``sign`` is 1 on the left."""
    get = {name.removesuffix(f"_{side}"): value for name, value in curves.items() if name.endswith(side)}
    thigh, shank = get["hip"], get["hip"] - get["knee"]
    foot = shank + get["ankle"] + np.deg2rad(62)
    toes = rotation(sign * get["toe_out"], np.zeros_like(foot), np.zeros_like(foot))
    upper_arm = get["shoulder"]
    forearm = upper_arm + get["elbow"]
    return {
        f"hip_{side}": pelvis @ np.array([sign * 0.7, -0.7, 0]),
        f"knee_{side}": hanging(thigh, sign * get["hip_spread"]),
        f"ankle_{side}": hanging(shank, sign * get["hip_spread"]),
        f"foot_{side}": turn(toes, hanging(foot, np.zeros_like(foot))),
        f"shoulder_{side}": trunk @ np.array([sign * 0.8, -0.6, 0]),
        f"elbow_{side}": turn(trunk, hanging(upper_arm, sign * get["shoulder_spread"])),
        f"wrist_{side}": turn(trunk, hanging(forearm, sign * 0.3 * get["shoulder_spread"])),
        f"hand_{side}": turn(trunk, hanging(forearm + get["wrist"], np.zeros_like(forearm))),
    }


def hanging(forwards: np.ndarray, sideways: np.ndarray) -> np.ndarray:
    """Directions of bones that hang down, swung forwards and to the left by angles in radians, ``(frames, 3)``."""
    return np.stack(
        [np.sin(sideways), -np.cos(sideways) * np.cos(forwards), np.cos(sideways) * np.sin(forwards)], axis=-1
    )


def rotation(turning: np.ndarray, leaning_left: np.ndarray, leaning_ahead: np.ndarray) -> np.ndarray:
    """Rotation matrices ``(frames, 3, 3)``: lean ahead about x, then lean left, then turn left about y; radians."""
    (ct, st), (cl, sl), (ca, sa) = ((np.cos(angle), np.sin(angle)) for angle in (turning, -leaning_left, leaning_ahead))
    zero, one = np.zeros_like(ct), np.ones_like(ct)
    about_y = np.stack([ct, zero, st, zero, one, zero, -st, zero, ct], axis=-1).reshape(-1, 3, 3)
    about_z = np.stack([cl, -sl, zero, sl, cl, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    about_x = np.stack([one, zero, zero, zero, ca, -sa, zero, sa, ca], axis=-1).reshape(-1, 3, 3)
    return np.asarray(about_y @ about_z @ about_x)


def turn(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rotate one vector by each matrix: ``(frames, 3, 3)``, ``(frames, 3)`` to ``(frames, 3)``."""
    return np.einsum("fij,fj->fi", matrices, vectors)


def sole_heights(joints: np.ndarray) -> np.ndarray:
    """Heights of heel and toes, left then right, ``(frames, 4)``."""
    points = [joints[:, LAYOUT.index(f"{part}_{side}"), 1] for side in SIDES for part in ("ankle", "foot")]
    return np.stack(points, axis=-1) - np.array([HEEL, 0, HEEL, 0])


def forward_speed(joints: np.ndarray) -> np.ndarray:
    """Speed at which the body must go ahead so that the standing foot stays where it is, ``(frames,)`` m/s."""
    soles = sole_heights(joints).reshape(-1, 2, 2).min(axis=2)  # (frames, side)
    weight = np.exp(-(soles - soles.min(axis=1, keepdims=True)) / 0.02)
    weight /= weight.sum(axis=1, keepdims=True)
    ankles = joints[:, [LAYOUT.index(f"ankle_{side}") for side in SIDES], 2]
    back = -np.gradient(ankles, 1 / FPS, axis=0) if len(joints) > 1 else np.zeros_like(ankles)
    return np.asarray((weight * back).sum(axis=1))


@dataclass(frozen=True)
class Path:
    """Where the walker is in the camera's frame, ``(frames,)`` metres and radians; heading 0 is away from it."""

    x: np.ndarray
    z: np.ndarray
    heading: np.ndarray


def arc_path(generator: np.random.Generator, speed: np.ndarray, variation: float) -> Path:
    """A half circle round a camera on a turntable that follows a little late, as KGBD was recorded."""
    radius = 2.7 + variation * (0.12 * generator.normal() + wander(generator, len(speed), 0.05))
    bearing = generator.choice([-1.0, 1.0]) * np.cumsum(speed / FPS / radius)
    lag, camera = 20.0, np.zeros_like(bearing)
    for frame in range(1, len(bearing)):
        camera[frame] = camera[frame - 1] + (bearing[frame - 1] - camera[frame - 1]) / lag
    aim = variation * (np.deg2rad(3) * generator.normal() + wander(generator, len(speed), np.deg2rad(3)))
    seen = bearing - camera - (bearing[-1] - camera[-1]) / 2 + aim
    ahead = np.sign(bearing[-1]) * np.pi / 2 + seen
    sideways = variation * (np.deg2rad(5) * generator.normal() + wander(generator, len(speed), np.deg2rad(4)))
    return Path(radius * np.sin(seen), radius * np.cos(seen), ahead + sideways)


def corridor_path(generator: np.random.Generator, speed: np.ndarray, variation: float) -> Path:
    """Up and down before a fixed camera: straight stretches of 2.4 m and turns of 0.4 m radius."""
    straight, radius = 2.4, 0.4
    half = straight + np.pi * radius
    way = np.cumsum(speed / FPS) + generator.uniform(0, 2 * half)
    laps, rest = np.divmod(way, half)
    heading = np.pi * laps + np.clip(rest - straight, 0, None) / radius
    heading += variation * wander(generator, len(speed), np.deg2rad(2))
    heading += np.deg2rad(10) * generator.normal()
    x, z = np.cumsum(speed / FPS * np.sin(heading)), np.cumsum(speed / FPS * np.cos(heading))
    centre = 2.7 + variation * 0.12 * generator.normal()
    return Path(x - (x.max() + x.min()) / 2, z - (z.max() + z.min()) / 2 + centre, heading)


def wander(generator: np.random.Generator, frames: int, reach: float) -> np.ndarray:
    """A slow, smooth drift of standard deviation ``reach``, with periods of 3 to 12 s, ``(frames,)``."""
    time = np.arange(frames) / FPS
    periods = generator.uniform(3, 12, size=4)
    phases = generator.uniform(0, 2 * np.pi, size=4)
    waves = np.cos(2 * np.pi * time[:, None] / periods + phases)
    return np.asarray(reach * waves.sum(axis=1) / np.sqrt(2))


def place_in_room(joints: np.ndarray, path: Path, camera_height: float = CAMERA_HEIGHT) -> np.ndarray:
    """Turn and move a body from its own frame to the camera's, ``(frames, J, 3)``."""
    level = np.zeros_like(path.heading)
    placed: np.ndarray = np.einsum("fij,fkj->fki", rotation(path.heading, level, level), joints)
    placed += np.stack([path.x, np.full_like(path.x, -camera_height), path.z], axis=-1)[:, None]
    return placed


def walk_on_the_spot(identity: Identity, angles: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """The identity's body with the walk's own ``angles``, ``(frames, J, 3)`` in the body frame."""
    return pose_body(identity.bones, stride_curves(angles, phase), phase)
