"""Who a synthetic walker is: bone lengths, cadence, and how each joint swings over a stride.

An identity is a draw around a typical adult. Typical curves follow what gait textbooks plot over the stride, from heel
strike to heel strike of the left foot; persons differ from it by Fourier coefficients. The numbers were chosen so that
simple descriptors tell the persons apart about as well as they do on real Kinect recordings, see
``benchmarks/walker_difficulty.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.layouts import get_layout

LAYOUT = get_layout("kinect-v1")
HARMONICS = 3
SIDES = ("left", "right")


@dataclass(frozen=True)
class Channel:
    """One angle of the body over the stride, in degrees.

    Attributes:
        typical: constant, then cosine and sine of each harmonic, ``(1 + 2 HARMONICS,)``.
        posture: standard deviation of the constant between persons.
        motion: standard deviation of the first harmonic's coefficients between persons; the n-th has an n-th of it.
    """

    typical: tuple[float, ...]
    posture: float
    motion: float

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of every coefficient between persons."""
        return np.array([self.posture, *(self.motion / n for n in range(1, HARMONICS + 1) for _ in range(2))])


def _swing(constant: float, amplitude: float = 0.0, peak: float = 0.0, harmonic: int = 1) -> tuple[float, ...]:
    """Coefficients of one cosine that peaks at the fraction ``peak`` of its own period."""
    values = np.zeros(1 + 2 * HARMONICS)
    values[0] = constant
    values[2 * harmonic - 1] = amplitude * np.cos(2 * np.pi * peak)
    values[2 * harmonic] = amplitude * np.sin(2 * np.pi * peak)
    return tuple(values)


def _curve(*tenths: float) -> tuple[float, ...]:
    """Coefficients of a curve given at every tenth of the stride."""
    spectrum = np.fft.rfft(tenths) / len(tenths)
    pairs = [(2 * value.real, -2 * value.imag) for value in spectrum[1 : HARMONICS + 1]]
    return (float(spectrum[0].real), *(float(part) for pair in pairs for part in pair))


# Of the left side; the right one does the same half a stride later, but for the asymmetry. Flexion is forwards.
LIMB_CHANNELS = {
    "hip": Channel(_curve(26, 24, 15, 5, -4, -9, -4, 12, 25, 29), 3.1, 2.5),
    "knee": Channel(_curve(6, 17, 18, 10, 7, 14, 38, 60, 52, 20), 3.5, 4.2),
    "ankle": Channel(_curve(0, -4, 3, 7, 9, 7, -14, -8, 0, 2), 5.5, 2.8),
    "hip_spread": Channel(_swing(1.5, 1.0, 0.3), 1.7, 1.1),
    "toe_out": Channel(_swing(7), 5.5, 0.7),
    "shoulder": Channel(_swing(2, 17, 0.5), 5.5, 7.0),
    "shoulder_spread": Channel(_swing(14, 1.5, 0.0, harmonic=2), 5.0, 1.4),
    "elbow": Channel(_swing(24, 9, 0.55), 8.5, 5.0),
    "wrist": Channel(_swing(8), 5.5, 1.4),
}
TRUNK_CHANNELS = {
    "pelvis_turn": Channel(_swing(0, 5, 0.5), 1.4, 1.7),
    "pelvis_list": Channel(_swing(0, 3.5, 0.15), 1.0, 1.3),
    "trunk_turn": Channel(_swing(0, 5, 0.0), 2.1, 2.1),
    "trunk_lean": Channel(_swing(4, 1.2, 0.2, harmonic=2), 3.4, 0.8),
    "trunk_sway": Channel(_swing(0, 2, 0.8), 1.4, 1.3),
    "head_nod": Channel(_swing(8, 1.5, 0.4, harmonic=2), 5.6, 1.0),
    "head_tilt": Channel(_swing(0, 1, 0.3), 2.2, 0.7),
}
CHANNELS = {
    **{f"{name}_{side}": channel for name, channel in LIMB_CHANNELS.items() for side in SIDES},
    **TRUNK_CHANNELS,
}
TYPICAL = np.array([channel.typical for channel in CHANNELS.values()])  # (channels, 1 + 2 HARMONICS)
SPREAD = np.array([channel.spread for channel in CHANNELS.values()])

# Bone to the parent: typical length in metres and the standard deviation of the person's own share, as a fraction.
BONES = {
    "spine": (0.085, 0.09),
    "shoulder_center": (0.385, 0.06),
    "head": (0.192, 0.06),
    "shoulder": (0.200, 0.06),
    "elbow": (0.280, 0.05),
    "wrist": (0.252, 0.045),
    "hand": (0.080, 0.07),
    "hip": (0.078, 0.10),
    "knee": (0.465, 0.055),
    "ankle": (0.390, 0.035),
    "foot": (0.098, 0.05),
}
STATURE_SPREAD = 0.045
ASYMMETRY = 0.35
CADENCE, CADENCE_SPREAD = 0.85, 0.05


@dataclass(frozen=True)
class Identity:
    """A person, as far as a skeleton tells.

    Attributes:
        name: the person's name in the archive.
        bones: ``(J,)`` lengths to each joint's parent, metres; 0 at the root.
        cadence: strides per second.
        angles: ``(channels, 1 + 2 HARMONICS)`` degrees, rows in the order of ``CHANNELS``.
        slips: ``(J, 3, 4)`` metres: where the sensor sees each joint beside the place that its parent's error leaves
            it, as cosine and sine of two harmonics of the stride; clothes and self-occlusion make it, so part of it
            goes with the person.
    """

    name: str
    bones: np.ndarray
    cadence: float
    angles: np.ndarray
    slips: np.ndarray


def joint_kind(joint: str) -> str:
    """The joint's name without its side."""
    return joint.removesuffix("_left").removesuffix("_right")


# How far each joint strays from where its parent's error puts it, metres: about the spread of its bone's length.
STRAY = {
    "hip_center": 0.004,
    "spine": 0.006,
    "shoulder_center": 0.018,
    "head": 0.014,
    "shoulder": 0.020,
    "elbow": 0.020,
    "wrist": 0.024,
    "hand": 0.016,
    "hip": 0.016,
    "knee": 0.030,
    "ankle": 0.030,
    "foot": 0.010,
}
OWN_SLIP, COMMON_SLIP = 0.3, 0.9  # shares of the slips that go with the person, and that everybody has
STRAY_REACH = np.array([STRAY[joint_kind(joint)] for joint in LAYOUT.joints])


def make_identity(config: WalkerConfig, person: int) -> Identity:
    """Draw person number ``person``; depends on ``config.seed`` and the spreads only, not on the number of persons."""
    generator = np.random.default_rng([config.seed, 1, person])
    angles = TYPICAL + config.motion_spread * _angle_deviation(generator)
    cadence = CADENCE + config.motion_spread * CADENCE_SPREAD * generator.normal()
    slips = OWN_SLIP * draw_slips(generator) + COMMON_SLIP * draw_slips(np.random.default_rng([config.seed, 0]))
    return Identity(
        name=f"walker{person + 1:04d}",
        bones=_bone_lengths(generator, config.shape_spread),
        cadence=float(max(cadence, 0.5)),
        angles=angles,
        slips=slips,
    )


def draw_slips(generator: np.random.Generator) -> np.ndarray:
    """Random slips that stray by ``STRAY_REACH`` in each direction, ``(J, 3, 4)`` metres."""
    return np.asarray(STRAY_REACH[:, None, None] * generator.normal(size=(len(LAYOUT), 3, 4)) / np.sqrt(2))


def _angle_deviation(generator: np.random.Generator) -> np.ndarray:
    """Of all channels; the two sides of a person share most of it."""
    deviation: np.ndarray = SPREAD * generator.normal(size=SPREAD.shape)
    names = list(CHANNELS)
    for name in LIMB_CHANNELS:
        left, right = (names.index(f"{name}_{side}") for side in SIDES)
        deviation[right] = (deviation[left] + ASYMMETRY * deviation[right]) / np.hypot(1, ASYMMETRY)
    return deviation


def _bone_lengths(generator: np.random.Generator, spread: float) -> np.ndarray:
    stature = STATURE_SPREAD * generator.normal()
    own = {kind: share * generator.normal() for kind, (_, share) in BONES.items()}
    lengths = np.zeros(len(LAYOUT))
    for index, joint in enumerate(LAYOUT.joints):
        kind = joint_kind(joint)
        if kind in BONES:
            asymmetry = 0.01 * generator.normal() if kind != joint else 0.0
            lengths[index] = BONES[kind][0] * np.exp(spread * (stature + own[kind] + asymmetry))
    return lengths
