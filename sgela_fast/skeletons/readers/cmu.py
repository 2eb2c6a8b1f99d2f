"""The CMU motion capture data: joint angles (``.amc``) of a skeleton (``.asf``), turned into joint positions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.readers.base import RecordingRef, TextFileReader
from sgela_fast.skeletons.readers.files import files_below, is_number, numbered_lines, read_text
from sgela_fast.skeletons.recording import Recording

RATE = 120.0
METRES_PER_INCH = 0.0254
# Bones whose far ends are the Kinect v1 joints.
BONES = {
    "hip_center": "root",
    "spine": "lowerback",
    "shoulder_center": "thorax",
    "head": "head",
    "shoulder_left": "lclavicle",
    "elbow_left": "lhumerus",
    "wrist_left": "lradius",
    "hand_left": "lhand",
    "shoulder_right": "rclavicle",
    "elbow_right": "rhumerus",
    "wrist_right": "rradius",
    "hand_right": "rhand",
    "hip_left": "lhipjoint",
    "knee_left": "lfemur",
    "ankle_left": "ltibia",
    "foot_left": "lfoot",
    "hip_right": "rhipjoint",
    "knee_right": "rfemur",
    "ankle_right": "rtibia",
    "foot_right": "rfoot",
}
_TRIAL = re.compile(r"(^|/)(\d+)_(\d+)\.amc$", re.IGNORECASE)


@dataclass
class Bone:
    """A bone of an ASF skeleton at rest.

    Attributes:
        direction: ``(3,)`` unit vector.
        length: in the file's units.
        axis: ``(3,)`` degrees, the bone's own axes as turns about x, then y, then z.
        dof: the angles that the AMC file gives, in its order, such as ``("rx", "rz")``.
    """

    name: str
    direction: np.ndarray = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: np.ndarray = field(default_factory=lambda: np.zeros(3))
    dof: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skeleton:
    """An ASF file: bones, which hangs on which (parents first), and metres per unit of length."""

    bones: dict[str, Bone]
    hierarchy: tuple[tuple[str, str], ...]
    scale: float


class CMUReader(TextFileReader):
    """Reads an AMC trial with the ASF skeleton beside it; every fourth frame by default (``ReaderOptions.every``).

    Metres, y up. The joints are the far ends of the bones in ``BONES``.
    """

    name = "cmu"
    summary = "CMU motion capture, NN_TT.amc beside its skeleton NN.asf"
    pattern = re.compile(r"\.amc$", re.IGNORECASE)
    layout = "kinect-v1"

    @classmethod
    def sniff(cls, head: str) -> bool:
        """Whether the file states the kind of its angles, as AMC files do, before its first frame."""
        return any(line.strip().upper() == ":FULLY-SPECIFIED" for line in head.splitlines()[:40])

    def describe(self, path: Path) -> dict[str, Any]:
        """``02_01.amc`` is recording ``c02_01`` of person ``c02``."""
        found = _TRIAL.search(path.name)
        return {} if found is None else {"name": f"c{found[2]}_{found[3]}", "person": f"c{found[2]}"}

    def read(self, ref: RecordingRef) -> Recording:
        """Compute the joint positions of one trial."""
        skeleton = read_asf(_skeleton_of(ref.path))
        positions = forward_kinematics(skeleton, read_amc(ref.path, skeleton, self.options.every))
        layout = get_layout(self.layout)
        joints = np.stack([positions[BONES[joint]] for joint in layout.joints], axis=1)  # (frames, J, 3)
        return self.make(ref, joints * skeleton.scale, self.layout, fps=RATE / self.options.every)


def _skeleton_of(amc: Path) -> Path:
    """The ASF file of a trial: the one named after the trial's subject, or the only one in the folder."""
    found = [file for file in files_below(amc.parent) if file.suffix.lower() == ".asf" and file.parent == amc.parent]
    own = [file for file in found if file.stem == amc.stem.partition("_")[0]]
    if len(own or found) != 1:
        raise DataError(
            f"{amc} has {len(found)} ASF skeletons beside it and none named {amc.stem.partition('_')[0]}.asf; put the "
            "subject's ASF file there"
        )
    return (own or found)[0]


@lru_cache(maxsize=64)
def _parse_asf(path: Path, _changed: int) -> Skeleton:
    bones: dict[str, Bone] = {"root": Bone("root", dof=("tx", "ty", "tz", "rx", "ry", "rz"))}
    hierarchy: list[tuple[str, str]] = []
    unit, degrees, section = 1.0, True, ""
    bone = Bone("")
    for number, line in numbered_lines(read_text(path)):
        word, *values = line.split()
        if word.startswith("#"):
            continue
        try:
            if word.startswith(":"):
                section = word
            elif section == ":units" and word == "length":
                unit = float(values[0])
            elif section == ":units" and word == "angle":
                degrees = values[0].startswith("deg")
            elif section == ":root" and word == "order":
                bones["root"].dof = tuple(value.lower() for value in values)
            elif section == ":bonedata":
                bone = _bone_entry(bones, bone, word, values)
            elif section == ":hierarchy" and word not in ("begin", "end"):
                hierarchy.extend((word, child) for child in values)
        except (ValueError, IndexError) as error:
            raise DataError(f"{path}, line {number} cannot be understood as ASF ({error}); copy it again") from error
    missing = [name for name in BONES.values() if name not in bones]
    hanging = {child for _, child in hierarchy} | {"root"}
    loose = [name for pair in hierarchy for name in pair if name not in bones or name not in hanging]
    if missing or loose or not hierarchy:
        lost = ", ".join(missing or loose) or "of its hierarchy"
        raise DataError(f"{path} is not a whole CMU skeleton: it lacks the bones {lost}; copy it again")
    if not degrees:
        raise DataError(f"{path} gives its angles in radians; write it in degrees")
    return Skeleton(bones, tuple(hierarchy), METRES_PER_INCH / unit)


def _bone_entry(bones: dict[str, Bone], bone: Bone, word: str, values: list[str]) -> Bone:
    if word == "begin":
        return Bone("")
    if word == "name":
        bone.name = values[0]
    elif word == "direction":
        bone.direction = np.array(values[:3], np.float64)
    elif word == "length":
        bone.length = float(values[0])
    elif word == "axis":
        bone.axis = np.array(values[:3], np.float64)
        if values[3:] not in ([], ["XYZ"]):
            raise ValueError(f"order of axes {values[3]}")
    elif word == "dof":
        bone.dof = tuple(values)
    elif word == "end":
        bones[bone.name] = bone
    return bone


def read_asf(path: Path) -> Skeleton:
    """Read a skeleton.

    Raises:
        DataError: the file is damaged or lacks a bone of ``BONES``.
    """
    return _parse_asf(path, path.stat().st_mtime_ns)


def read_amc(path: Path, skeleton: Skeleton, every: int = 1) -> dict[str, np.ndarray]:
    """Read the joint angles of every ``every``-th frame.

    Returns:
        For each bone with degrees of freedom ``(frames, its dof)`` float64: degrees, and units of length for the root.

    Raises:
        DataError: an unknown bone, a wrong number of angles, a bone that lacks, or what is not a number.
    """
    lines = [(n, line) for n, line in numbered_lines(read_text(path)) if line.lstrip()[0] not in "#:"]
    starts = [index for index, (_, line) in enumerate(lines) if len(line.split()) == 1]
    if not starts or starts[0] != 0 or not lines[0][1].strip().isdecimal():
        raise DataError(f"{path}, line {lines[0][0] if lines else 1} is not a frame number; copy the file again")
    moving = {name: bone for name, bone in skeleton.bones.items() if bone.dof}
    angles: dict[str, list[list[str]]] = {name: [] for name in moving}
    kept: list[tuple[int, str]] = []
    for index, (start, stop) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True)):
        # The last frame is looked at even where it is not kept: it tells whether the file was cut off.
        if index % every and stop != len(lines):
            continue
        frame = {line.split()[0]: (number, line.split()[1:]) for number, line in lines[start + 1 : stop]}
        if frame.keys() != moving.keys() or any(len(frame[name][1]) != len(moving[name].dof) for name in moving):
            raise _frame_fault(path, lines[start], frame, moving, last=stop == len(lines))
        if index % every == 0:
            kept.append(lines[start])
            for name, (_, words) in frame.items():
                angles[name].append(words)
    try:
        table = {name: np.array(rows, np.float64) for name, rows in angles.items()}
    except ValueError as error:
        number = next(n for n, line in lines if not all(map(is_number, line.split()[1:])))
        raise DataError(f"{path}, line {number} holds what is not a number ({error}); mend it") from error
    for name, rows in table.items():
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            number = kept[int(np.argmin(finite))][0]
            raise DataError(
                f"{path}, line {number} begins a frame with a value for {name!r} that is not finite; remove the frame"
            )
    return table


def _frame_fault(
    path: Path, start: tuple[int, str], frame: dict[str, tuple[int, list[str]]], bones: dict[str, Bone], *, last: bool
) -> DataError:
    for name, (number, words) in frame.items():
        if name not in bones:
            return DataError(
                f"{path}, line {number} names the bone {name!r}, which its skeleton does not move; mend it"
            )
        if len(words) != len(bones[name].dof):
            return DataError(
                f"{path}, line {number} has {len(words)} values for {name!r} but needs {len(bones[name].dof)}; "
                "the file seems cut off or belongs to another skeleton"
            )
    missing = [name for name in bones if name not in frame]
    mend = "the file seems cut off, copy it again or remove its last frame" if last else "add them or remove the frame"
    return DataError(f"{path}, line {start[0]} begins a frame that lacks {', '.join(missing[:3])}; {mend}")


def rotations(degrees: np.ndarray) -> np.ndarray:
    """Turns about x, then y, then z, all fixed axes: ``(..., 3)`` degrees to ``(..., 3, 3)`` matrices."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    result = np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3))
    for axis in range(3):
        j, k = (axis + 1) % 3, (axis + 2) % 3
        turn = np.zeros((*degrees.shape[:-1], 3, 3))
        turn[..., axis, axis] = 1
        turn[..., j, j] = turn[..., k, k] = cosine[..., axis]
        turn[..., k, j], turn[..., j, k] = sine[..., axis], -sine[..., axis]
        result = turn @ result
    return result


def forward_kinematics(skeleton: Skeleton, angles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Far ends of all bones, ``(frames, 3)`` each, in the file's units of length."""
    frames = len(angles["root"])
    root = dict(zip(skeleton.bones["root"].dof, angles["root"].T, strict=True))
    positions = {"root": np.stack([root["tx"], root["ty"], root["tz"]], axis=-1)}
    turned = {"root": rotations(np.stack([root["rx"], root["ry"], root["rz"]], axis=-1))}  # (frames, 3, 3)
    for parent, child in skeleton.hierarchy:
        bone = skeleton.bones[child]
        own = np.zeros((frames, 3))
        for column, dof in enumerate(bone.dof):
            own[:, "xyz".index(dof[1])] = angles[child][:, column]
        axes = rotations(bone.axis)
        turned[child] = turned[parent] @ axes @ rotations(own) @ axes.T
        positions[child] = positions[parent] + bone.length * (turned[child] @ bone.direction)
    return positions
