"""KGBD, the Kinect Gait Biometry Dataset: ``PersonNNN/K.txt``, one joint a line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.readers.base import RecordingRef, TextFileReader
from sgela_fast.skeletons.readers.files import (
    check_finite,
    first_line,
    is_number,
    number_table,
    numbered_lines,
    read_text,
)
from sgela_fast.skeletons.recording import Recording

DELIMITER = ";"
# The files' own names, in the files' own order.
JOINTS = {
    "Head": "head",
    "Shoulder-Center": "shoulder_center",
    "Shoulder-Right": "shoulder_right",
    "Shoulder-Left": "shoulder_left",
    "Elbow-Right": "elbow_right",
    "Elbow-Left": "elbow_left",
    "Wrist-Right": "wrist_right",
    "Wrist-Left": "wrist_left",
    "Hand-Right": "hand_right",
    "Hand-Left": "hand_left",
    "Spine": "spine",
    "Hip-centro": "hip_center",
    "Hip-Right": "hip_right",
    "Hip-Left": "hip_left",
    "Knee-Right": "knee_right",
    "Knee-Left": "knee_left",
    "Ankle-Right": "ankle_right",
    "Ankle-Left": "ankle_left",
    "Foot-Right": "foot_right",
    "Foot-Left": "foot_left",
}
_Lines = list[tuple[int, str]]


class KGBDReader(TextFileReader):
    """Reads ``Name;x;y;z`` lines, twenty to a frame, by joint name: metres, y up, z away from a Kinect v1.

    Left and right are the files' own. The released code puts the files' right into the slots of the left; conversion
    does the same with ``joint_map="compat"``.
    """

    name = "kgbd"
    summary = "KGBD text, PersonNNN/K.txt with lines Name;x;y;z"
    pattern = re.compile(r"(^|/)Person\d+/\d+\.txt$", re.IGNORECASE)
    layout = "kinect-v1"

    @classmethod
    def sniff(cls, head: str) -> bool:
        """Whether the first line is a word and three numbers between semicolons."""
        words = first_line(head).split(DELIMITER)
        return len(words) == 4 and not is_number(words[0]) and all(map(is_number, words[1:]))

    def describe(self, path: Path) -> dict[str, Any]:
        """``Person007/3.txt`` is recording ``p007_3`` of person ``p007``."""
        folder = re.fullmatch(r"Person(\d+)", path.absolute().parent.name, re.IGNORECASE)
        if folder is None:
            return {}
        person = f"p{folder[1]}"
        return {"name": f"{person}_{path.stem}", "person": person}

    def read(self, ref: RecordingRef) -> Recording:
        """Read the frames of one walk."""
        layout = get_layout(self.layout)
        lines = numbered_lines(read_text(ref.path))
        parts = [line.partition(DELIMITER) for _, line in lines]
        names = [name.strip() for name, _, _ in parts]
        slots = {source: layout.index(joint) for source, joint in JOINTS.items()}
        if len(lines) % len(JOINTS) or not all(name in slots for name in names):
            raise _frame_fault(ref.path, lines)
        order = np.array([slots[name] for name in names], np.int64).reshape(-1, len(layout))  # (frames, J)
        if not np.array_equal(np.sort(order, axis=1), np.broadcast_to(np.arange(len(layout)), order.shape)):
            raise _frame_fault(ref.path, lines)
        rows = [(number, rest) for (number, _), (_, _, rest) in zip(lines, parts, strict=True)]
        values = number_table(ref.path, rows, DELIMITER, 3)  # (frames * J, 3)
        check_finite(ref.path, rows, values)
        joints = np.empty((len(order), len(layout), 3))
        np.put_along_axis(joints, order[..., None], values.reshape(joints.shape), axis=1)
        return self.make(ref, joints, self.layout)


def _frame_fault(path: Path, lines: _Lines) -> DataError:
    """Say which line breaks the rule that every frame holds each joint once."""
    seen: dict[str, int] = {}
    frame = 0
    for number, line in lines:
        name, delimiter, _ = line.partition(DELIMITER)
        name = name.strip()
        if not delimiter:
            return DataError(f"{path}, line {number} is not 'Name;x;y;z' separated by semicolons; check the delimiter")
        if name not in JOINTS:
            return DataError(
                f"{path}, line {number} has an unknown joint {name!r}; the known ones are: {', '.join(JOINTS)}"
            )
        if name in seen:
            missing = ", ".join(joint for joint in JOINTS if joint not in seen)
            return DataError(
                f"{path}, line {number} begins another frame but frame {frame} has {len(seen)} of {len(JOINTS)} joints "
                f"(no {missing}); add the lines that lack or remove the frame"
            )
        seen[name] = number
        if len(seen) == len(JOINTS):
            seen, frame = {}, frame + 1
    return DataError(
        f"{path} ends at line {lines[-1][0]} within frame {frame}, after {len(seen)} of {len(JOINTS)} joints; the file "
        "seems cut off, copy it again or remove its last frame"
    )
