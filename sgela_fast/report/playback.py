"""Walks to play back: a probe beside its best and worst match, small enough to travel inside the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import DataError
from sgela_fast.report.config import STILL_PROBES, ReportConfig
from sgela_fast.report.inputs import Inputs
from sgela_fast.report.matches import Match, Ranking
from sgela_fast.report.page import Section, evenly
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.layouts import Layout
from sgela_fast.skeletons.windows import missing_joints

LOST = -32768  # stands for a joint that is not drawn
SMOOTHED = 15  # frames over which the direction of a body is averaged
STILLS = 6
STILL_WIDTH, STILL_HEIGHT = 70, 110


@dataclass(frozen=True)
class Walk:
    """A recording as it is drawn.

    Attributes:
        name: of the recording.
        person: of it, empty if unknown.
        rate: frames a second that were kept.
        points: ``(frames, J, 3)`` int16 millimetres: to the body's left, up from its lowest point, ahead; the root
            stays at the origin on the ground, the body faces ahead, a lost joint is :data:`LOST`.
    """

    name: str
    person: str
    rate: float
    points: NDArray[np.int16]

    def as_json(self) -> dict[str, Any]:
        """Plain data; the points as base64 of little-endian numbers."""
        packed = base64.b64encode(np.ascontiguousarray(self.points, "<i2").tobytes()).decode("ascii")
        return {
            "name": self.name,
            "person": self.person,
            "rate": round(self.rate, 3),
            "frames": len(self.points),
            "points": packed,
        }


def playback(inputs: Inputs, ranked: Sequence[Ranking], config: ReportConfig) -> Section:
    """Probes with what they were found to be like."""
    title = "Walks"
    if inputs.archive is None:
        return Section("walks", title, missing=f"There are no recordings to play back: {inputs.why_no_archive}.")
    archive = inputs.archive
    if not ranked:
        why = (
            inputs.why_no_store or f"{'the store' if inputs.store is None else inputs.store.path.name} names no persons"
        )
        return Section("walks", title, missing=f"There is nothing to compare walks by: {why}.")
    chosen = choose(ranked, config.probes)
    names = {match.recording for item in chosen for match in _shown(item)} | {item.probe for item in chosen}
    try:
        walks = {name: draw(archive, name, config) for name in sorted(names)}
    except DataError as error:
        return Section("walks", title, missing=f"{str(error)[0].upper()}{str(error)[1:]}.")
    keys = {name: place for place, name in enumerate(walks)}
    probes = [
        {
            "text": f"{item.probe} ({item.person}): {'recognised' if item.known else f'taken for {item.best.person}'}",
            "walks": [
                {"title": heading, "walk": keys[match.recording], "remark": remark}
                for heading, match, remark in _panels(item)
            ],
        }
        for item in chosen
    ]
    known = sum(item.known for item in ranked)
    lead = (
        f"{known} of {len(ranked)} probe recordings have a recording of the right person as their nearest. "
        f"{len(chosen)} of them are here, mistaken ones first: {config.seconds:g} s from the middle at {config.rate:g} "
        "frames a second, turned to face ahead and walking on the spot.",
        "Limbs on the body's left are dashed, those on its right are dotted, the trunk is solid. Nothing moves until "
        "you press Play.",
    )
    data = {
        "player": {
            "bones": archive.layout.bones,
            "sides": [side_of(joint) for joint in archive.layout.joints],
            "lost": LOST,
            "walks": [walk.as_json() for walk in walks.values()],
            "probes": probes,
        },
        "stills": [strip(item, walks, archive.layout) for item in chosen[:STILL_PROBES]],
        "still_size": (STILL_WIDTH * STILLS, STILL_HEIGHT),
        "layout": archive.layout.name,
        "most": config.probes,
    }
    return Section("walks", title, lead, data=data)


def choose(ranked: Sequence[Ranking], most: int) -> list[Ranking]:
    """At most ``most`` probes, evenly from all; up to half of them mistaken ones, which come first."""
    wrong = [item for item in ranked if not item.known]
    right = [item for item in ranked if item.known]
    count = min(len(wrong), max(most // 2, most - len(right)))
    chosen_wrong = [wrong[place] for place in evenly(len(wrong), count)] if count else []
    chosen_right = (
        [right[place] for place in evenly(len(right), most - len(chosen_wrong))] if most > len(chosen_wrong) else []
    )
    return [*chosen_wrong, *chosen_right]


def draw(archive: Archive, name: str, config: ReportConfig) -> Walk:
    """The middle of a recording, facing ahead on the spot.

    Raises:
        DataError: the archive has no such recording.
    """
    recording = archive[name]
    step = max(1, round(recording.fps / config.rate))
    joints = np.asarray(recording.joints, np.float64)  # (frames, J, 3)
    wanted = max(1, round(config.seconds * recording.fps))
    first = max(0, (len(joints) - wanted) // 2)
    joints = joints[first : first + wanted]
    lost = missing_joints(recording.joints)[first : first + wanted]
    placed = face_ahead(np.where(lost[..., None], np.nan, joints), archive.layout)[::step]
    with np.errstate(invalid="ignore"):
        millimetres = np.clip(np.round(1000 * placed), LOST + 1, -LOST - 1)
    points = np.where(np.isnan(millimetres), LOST, millimetres).astype(np.int16)
    points[(points == LOST).any(axis=-1)] = LOST
    return Walk(name, recording.person or "", recording.fps / step, points)


def face_ahead(joints: NDArray[np.float64], layout: Layout) -> NDArray[np.float64]:
    """Turn and move a body so that it walks on the spot towards its own front.

    Args:
        joints: ``(frames, J, 3)`` y up, missing ones not a number.
        layout: of the joints.

    Returns:
        ``(frames, J, 3)``: to the body's left, up from its lowest point, ahead.
    """
    root = joints[:, layout.index(layout.root)]  # (frames, 3)
    root = np.where(np.isfinite(root), root, _mean(joints, axis=1))
    across = np.zeros((len(joints), 3))
    for left, right in layout.left_right_pairs:
        if layout.joints[left] in ("shoulder_left", "hip_left"):
            across += np.nan_to_num(joints[:, left] - joints[:, right])
    window = np.ones(min(SMOOTHED, len(joints)))
    left_x, left_z = (np.convolve(across[:, axis], window, "same") for axis in (0, 2))
    length = np.hypot(left_x, left_z)
    left_x, left_z = (
        np.where(length > 0, value / np.maximum(length, 1e-9), usual) for value, usual in ((left_x, 1.0), (left_z, 0.0))
    )
    moved = joints - root[:, None]
    ground = np.nanmin(joints[..., 1]) if np.isfinite(joints[..., 1]).any() else 0.0
    # y up and left known: ahead = left x up.
    return np.stack(
        [
            moved[..., 0] * left_x[:, None] + moved[..., 2] * left_z[:, None],
            joints[..., 1] - ground,
            -moved[..., 0] * left_z[:, None] + moved[..., 2] * left_x[:, None],
        ],
        axis=-1,
    )


def side_of(joint: str) -> str:
    """``left``, ``right`` or ``middle``."""
    side = joint.rpartition("_")[2]
    return side if side in ("left", "right") else "middle"


def strip(item: Ranking, walks: dict[str, Walk], layout: Layout) -> dict[str, Any]:
    """Still pictures of a probe and its matches, for paper."""
    rows = []
    for heading, match, remark in _panels(item):
        points = walks[match.recording].points
        high = max(1, int(points[..., 1][points[..., 1] != LOST].max(initial=1)))
        scale = (STILL_HEIGHT - 10) / high
        figures = []
        for place, frame in enumerate(evenly(len(points), STILLS)):
            joints = points[frame]
            middle = STILL_WIDTH * (place + 0.5)
            lines = [
                (
                    side_of(layout.joints[joint]),
                    *_still(joints[joint], middle, scale),
                    *_still(joints[parent], middle, scale),
                )
                for joint, parent in layout.bones
                if joints[joint][0] != LOST and joints[parent][0] != LOST
            ]
            figures.append(lines)
        rows.append({"title": f"{heading}: {match.recording}", "remark": remark, "figures": figures})
    return {"text": f"{item.probe} ({item.person})", "rows": rows}


def _still(point: NDArray[np.int16], middle: float, scale: float) -> tuple[float, float]:
    """Seen from the side, walking to the right."""
    return round(middle + scale * float(point[2]), 1), round(STILL_HEIGHT - 5 - scale * float(point[1]), 1)


def _shown(item: Ranking) -> list[Match]:
    return [match for _, match, _ in _panels(item)]


def _panels(item: Ranking) -> list[tuple[str, Match, str]]:
    """Heading, recording and remark of each walk that is shown for a probe."""
    panels = [
        ("Probe", Match(item.probe, item.person, 0.0), "searched for"),
        (
            "Best match",
            item.best,
            f"score {item.best.score:.3f}, {'the right person' if item.known else 'another person'}",
        ),
    ]
    if item.right is not None and not item.known:
        remark = f"score {item.right.score:.3f}, place {item.place} of {item.gallery}"
        panels.append(("Nearest of the right person", item.right, remark))
    if item.gallery > 1:
        panels.append(
            ("Worst match", item.worst, f"score {item.worst.score:.3f}, place {item.gallery} of {item.gallery}")
        )
    return panels


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0).sum(axis=axis) / np.maximum(known.sum(axis=axis), 1))
