"""Flesh on a skeleton: capsules about its bones, by a person's build, clothes and bag.

Lengths are metres on a body of typical size. Body frame: x to the walker's left, y up, z ahead. The numbers are those
of a slender adult, from the circumferences that tailors use, and set by eye against the outline of the whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgela_fast.skeletons.layouts import get_layout

Floats = NDArray[np.float64]
LAYOUT = get_layout("kinect-v1")
BAGS = ("backpack", "shoulder bag", "handbag")
HAIR = ("short", "full", "long", "bun")
TYPICAL_SIZE = 1.52  # head to ankle along the bones
_SPREADS = {"girth": 0.10, "head": 0.05, "chest": 0.08, "waist": 0.14, "hips": 0.09, "arms": 0.10, "legs": 0.09}


@dataclass(frozen=True)
class Build:
    """What a person adds to the bones.

    Attributes:
        girth: of everything, relative to a typical person; so are ``head``, ``chest``, ``waist``, ``hips``, ``arms``
            and ``legs``.
        shoulders: how far they stand out beyond their joints.
        heel: height of the soles.
        hair: one of ``HAIR``.
        coat_length: of a coat, from the hips (0) to the ankles (1); ``coat_width`` how far it stands off.
        bag: one of ``BAGS``; ``bag_size`` relative, ``bag_side`` 1 for the left, -1 for the right.
    """

    girth: float
    head: float
    chest: float
    waist: float
    hips: float
    arms: float
    legs: float
    shoulders: float
    heel: float
    hair: str
    coat_length: float
    coat_width: float
    bag: str
    bag_size: float
    bag_side: float


def draw_build(person: str, seed: int = 0, spread: float = 1.0) -> Build:
    """The build of a person, from the name and the seed alone."""
    words = np.frombuffer(hashlib.sha256(f"{seed}/{person}".encode()).digest(), np.uint32)
    generator = np.random.default_rng(words)
    sizes = {name: float(np.exp(spread * share * generator.normal())) for name, share in _SPREADS.items()}
    shoulders, heel, length, width, size = generator.uniform(-1, 1, 5) * spread
    hair, bag = generator.integers(len(HAIR)), generator.integers(len(BAGS))
    return Build(
        **sizes,
        shoulders=0.010 + 0.012 * shoulders,
        heel=0.030 + 0.015 * heel,
        hair=HAIR[hair if spread else 0],
        coat_length=0.36 + 0.14 * length,
        coat_width=0.045 + 0.02 * width,
        bag=BAGS[bag if spread else 0],
        bag_size=1 + 0.25 * size,
        bag_side=float(generator.choice([-1.0, 1.0])) if spread else 1.0,
    )


class Capsules(NamedTuple):
    """Convex hulls of two spheres each, P of them in every frame.

    Attributes:
        start: ``(T, P, 3)``, centre of the first sphere.
        end: ``(T, P, 3)``, centre of the second.
        start_radius: ``(P,)``.
        end_radius: ``(P,)``.
    """

    start: Floats
    end: Floats
    start_radius: Floats
    end_radius: Floats


def dress(joints: Floats, build: Build, variant: str = "nm") -> Capsules:
    """Put flesh and clothes on a skeleton.

    Args:
        joints: ``(T, 20, 3)``, layout ``kinect-v1``, facing z.
        build: the person's.
        variant: ``nm`` normal, ``bg`` with a bag, ``cl`` in a coat.
    """
    size = _size(joints) / TYPICAL_SIZE
    figure = _Figure(joints, size)
    _trunk(figure, build)
    _head(figure, build)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        _arm(figure, build, side, 0.016 if variant == "cl" else 0.0)
        _leg(figure, build, side, sign)
    if variant == "cl":
        _coat(figure, build)
    if variant == "bg":
        _bag(figure, build)
    return figure.capsules()


def _size(joints: Floats) -> float:
    """Head to ankle along the bones, the median over frames, mean of both legs."""

    def length(*names: str) -> Floats:
        chain = np.stack([joints[:, LAYOUT.index(name)] for name in names], axis=1)
        return np.linalg.norm(np.diff(chain, axis=1), axis=-1).sum(axis=1)

    legs = [length(f"hip_{side}", f"knee_{side}", f"ankle_{side}") for side in ("left", "right")]
    return float(np.median(length("head", "shoulder_center", "hip_center") + (legs[0] + legs[1]) / 2))


class _Figure:
    """Collects capsules; lengths given to it are those of a typical body and are scaled."""

    def __init__(self, joints: Floats, size: float) -> None:
        self.joints, self.size = joints, size
        self._parts: list[tuple[Floats, Floats, float, float]] = []
        # Left, up and ahead of the trunk as it turns and leans: (T, 3) each.
        across = self("shoulder_left") - self("shoulder_right") + self("hip_left") - self("hip_right")
        up = self("shoulder_center") - self("hip_center")
        self.up = up / np.linalg.norm(up, axis=-1, keepdims=True)
        across = across - (across * self.up).sum(axis=-1, keepdims=True) * self.up
        self.left = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9)
        self.ahead = np.cross(self.left, self.up)

    def __call__(self, joint: str, *, left: float = 0.0, up: float = 0.0, ahead: float = 0.0) -> Floats:
        """A place beside a joint in the trunk's own directions, ``(T, 3)``."""
        place: Floats = self.joints[:, LAYOUT.index(joint)]
        if left or up or ahead:
            place = place + self.size * (left * self.left + up * self.up + ahead * self.ahead)
        return place

    def add(self, start: Floats, end: Floats, start_radius: float, end_radius: float | None = None) -> None:
        """Another capsule; one radius stands for both."""
        end_radius = start_radius if end_radius is None else end_radius
        self._parts.append((start, end, self.size * start_radius, self.size * end_radius))

    def capsules(self) -> Capsules:
        """All of them."""
        starts, ends, start_radii, end_radii = zip(*self._parts, strict=True)
        return Capsules(np.stack(starts, axis=1), np.stack(ends, axis=1), np.array(start_radii), np.array(end_radii))


def _trunk(figure: _Figure, build: Build) -> None:
    """A slab wider than deep: five columns side by side, shoulders on top, hips below."""
    chest = 0.106 * build.girth * build.chest
    waist = 0.097 * build.girth * build.waist
    hips = 0.110 * build.girth * build.hips
    neck, pelvis = figure("shoulder_center", up=-0.12), figure("hip_center", up=-0.02)
    middle = (neck + pelvis) / 2
    belly = figure.size * 0.35 * (waist - 0.097) * figure.ahead
    figure.add(neck, middle + belly, chest, waist)
    figure.add(middle + belly, pelvis, waist, hips)
    for sign in (1.0, -1.0):
        side = figure.size * sign * figure.left
        top, waistline = neck + side * 0.085, middle + belly + side * 0.06
        bottom = pelvis + side * 0.075
        figure.add(top, waistline, chest * 0.95, waist)
        figure.add(waistline, bottom, waist, hips)
        shoulder = figure("shoulder_left" if sign > 0 else "shoulder_right", left=sign * build.shoulders)
        figure.add(figure("shoulder_center", up=-0.02), shoulder, 0.062 * build.girth, 0.060 * build.girth * build.arms)
        figure.add(top, shoulder, chest * 0.85, 0.058 * build.girth)


def _head(figure: _Figure, build: Build) -> None:
    skull = 0.092 * build.head
    crown = figure("head", up=0.035)
    figure.add(figure("shoulder_center", up=-0.03), figure("head", up=-0.04), 0.068 * build.girth, 0.060 * build.girth)
    figure.add(crown, figure("head", up=-0.05, ahead=0.025), skull, 0.071 * build.head)
    if build.hair != "short":
        figure.add(crown, figure("head", up=0.03, ahead=-0.02), skull + 0.009)
    if build.hair == "long":
        figure.add(figure("head", ahead=-0.035), figure("shoulder_center", up=-0.06, ahead=-0.07), skull, 0.06)
    if build.hair == "bun":
        figure.add(figure("head", up=0.07, ahead=-0.09), figure("head", up=0.08, ahead=-0.10), 0.045)


def _arm(figure: _Figure, build: Build, side: str, sleeve: float) -> None:
    thick = build.girth * build.arms
    shoulder, elbow, wrist, hand = (figure(f"{joint}_{side}") for joint in ("shoulder", "elbow", "wrist", "hand"))
    figure.add(shoulder, elbow, 0.053 * thick + sleeve, 0.041 * thick + sleeve)
    figure.add(elbow, wrist, 0.041 * thick + sleeve, 0.031 * thick + sleeve)
    figure.add(wrist, hand + 0.3 * (hand - wrist), 0.036, 0.032)


def _leg(figure: _Figure, build: Build, side: str, sign: float) -> None:
    thick = build.girth * build.legs
    # The joint of a Kinect lies nearer to the middle than that of the thigh bone.
    hip = figure(f"hip_{side}", left=sign * 0.025)
    knee, ankle, foot = (figure(f"{joint}_{side}") for joint in ("knee", "ankle", "foot"))
    calf = knee + 0.3 * (ankle - knee) - figure.size * 0.012 * figure.ahead
    figure.add(hip, knee, 0.088 * thick, 0.057 * thick)
    figure.add(knee, calf, 0.055 * thick, 0.056 * thick)
    figure.add(calf, ankle, 0.056 * thick, 0.040 * thick)
    toes = foot - ankle
    toes = toes / np.maximum(np.linalg.norm(toes, axis=-1, keepdims=True), 1e-9)
    shank = ankle - knee
    shank = shank / np.maximum(np.linalg.norm(shank, axis=-1, keepdims=True), 1e-9)
    heel = ankle + figure.size * ((0.025 + build.heel) * shank - 0.035 * toes)
    figure.add(ankle, heel, 0.040 * thick, 0.036)
    figure.add(heel, foot + figure.size * 0.075 * toes, 0.036, 0.030)
    figure.add(ankle, foot, 0.040, 0.036)


def _coat(figure: _Figure, build: Build) -> None:
    """Thicker about the trunk, and a skirt that follows both thighs."""
    off = build.coat_width
    chest, waist, hips = (0.100 * build.girth * part + off for part in (build.chest, build.waist, build.hips))
    top, hem = figure("shoulder_center", up=-0.14), []
    figure.add(figure("shoulder_center", up=-0.05), figure("shoulder_center", up=0.02), 0.085, 0.075)  # the collar
    for side, sign in (("left", 1.0), ("right", -1.0)):
        edge = figure.size * sign * figure.left
        hip, knee, ankle = (figure(f"{joint}_{side}") for joint in ("hip", "knee", "ankle"))
        above = figure("hip_center", up=0.02) + edge * 0.08
        figure.add(top + edge * 0.09, (top + above) / 2 + edge * 0.03, chest, waist)
        figure.add((top + above) / 2 + edge * 0.03, above, waist, hips)
        reach = build.coat_length
        low = hip + 2 * reach * (knee - hip) if reach <= 0.5 else knee + (2 * reach - 1) * (ankle - knee)
        # Cloth swings less than the thigh beneath it.
        low = 0.75 * low + 0.25 * (figure("hip_center") * [1, 0, 1] + low * [0, 1, 0]) + edge * 0.03
        figure.add(above, low, hips, 0.115 * build.girth + off)
        hem.append(low)
    figure.add(hem[0], hem[1], 0.09 * build.girth + off)


def _bag(figure: _Figure, build: Build) -> None:
    size, sign = build.bag_size, build.bag_side
    side = "left" if sign > 0 else "right"
    if build.bag == "backpack":
        for across in (-0.07, 0.07):
            high = figure("shoulder_center", up=-0.10, ahead=-0.17, left=across)
            low = figure("shoulder_center", up=-0.10 - 0.27 * size, ahead=-0.19, left=across)
            figure.add(high, low, 0.085 * size, 0.105 * size)
    elif build.bag == "shoulder bag":
        strap = figure("shoulder_center", left=sign * 0.10, up=-0.02)
        for up in (0.05, -0.07):
            front, back = (figure("hip_center", left=sign * 0.20, up=up, ahead=ahead * size) for ahead in (0.10, -0.14))
            figure.add(front, back, 0.07 * size)
        figure.add(strap, (front + back) / 2, 0.02)
    else:
        hand = figure(f"hand_{side}")
        below = hand - figure.size * np.array([0.0, 0.20, 0.0])
        along = figure.size * 0.10 * size * figure.ahead
        figure.add(hand, below, 0.02)
        figure.add(below + along, below - along, 0.085 * size)
        deep = below - figure.size * np.array([0.0, 0.09, 0.0])
        figure.add(deep + along, deep - along, 0.085 * size)
