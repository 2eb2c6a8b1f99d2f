"""The University of Calgary gait data: CSV with a header, one frame a row, 18 joints of a Kinect v2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.readers.base import RecordingRef, TextFileReader
from sgela_fast.skeletons.readers.files import check_finite, first_line, number_table, numbered_lines, read_text
from sgela_fast.skeletons.recording import Recording

_HEADER_NAMES = {
    "footleft": "foot_left",
    "ankleleft": "ankle_left",
    "kneeleft": "knee_left",
    "hipleft": "hip_left",
    "footright": "foot_right",
    "ankleright": "ankle_right",
    "kneeright": "knee_right",
    "hipright": "hip_right",
    "spinebase": "spine_base",
    "spinemid": "spine_mid",
    "neck": "neck",
    "head": "head",
    "shouldl": "shoulder_left",
    "shouldr": "shoulder_right",
    "wristleft": "wrist_left",
    "wristright": "wrist_right",
    "elbowleft": "elbow_left",
    "elbowright": "elbow_right",
}
_GAITS = {"N": "normal", "AL": "abnormal-left", "AR": "abnormal-right"}
_FILE_NAME = re.compile(r"subject(\d+)_Seq_(\d+)_Gen_([A-Z])_GeometricPositions_(N|AL|AR)\.csv$", re.IGNORECASE)


class UCalgaryReader(TextFileReader):
    """Reads the joints' columns by the names in the header and drops the derived distances behind them.

    Metres in the camera's frame, y up. A joint's name stands once for its three columns.
    """

    name = "ucalgary"
    summary = "University of Calgary CSV, a header and 18 joints a row"
    pattern = _FILE_NAME
    layout = "kinect-v2-18"

    @classmethod
    def sniff(cls, head: str) -> bool:
        """Whether the first line names the columns of joints."""
        columns = _joint_columns(first_line(head))
        return "spine_base" in columns and len(columns) > 9

    def describe(self, path: Path) -> dict[str, Any]:
        """Person, run and gait stand in the file name."""
        found = _FILE_NAME.search(path.name)
        if found is None:
            return {}
        person, run = f"s{int(found[1]):02d}", str(int(found[2]))
        return {
            "name": f"{person}_r{run}",
            "person": person,
            "extra": {"gait": _GAITS[found[4].upper()], "run": run, "sex": found[3].upper()},
        }

    def read(self, ref: RecordingRef) -> Recording:
        """Read the frames of one run."""
        layout = get_layout(self.layout)
        (_, header), *lines = numbered_lines(read_text(ref.path))
        columns = _joint_columns(header)
        missing = [joint for joint in layout.joints if joint not in columns]
        if missing:
            raise DataError(
                f"{ref.path}, line 1 is a header with {len(columns)} of {len(layout)} joints (no "
                f"{', '.join(missing)}); give each joint three columns such as 'Foot Left X, Y, Z'"
            )
        values = number_table(ref.path, lines, ",", len(header.split(",")))  # (frames, columns)
        order = np.array([columns[joint] for joint in layout.joints])
        joints = values[:, order[:, None] + np.arange(3)]  # (frames, J, 3)
        check_finite(ref.path, lines, joints.reshape(len(joints), -1))
        return self.make(ref, joints, self.layout)


def _joint_columns(header: str) -> dict[str, int]:
    """For each joint that ``header`` names its first column."""
    cells = [cell.strip() for cell in header.split(",")]
    columns: dict[str, int] = {}
    for index, cell in enumerate(cells):
        name, _, axis = cell.rpartition(" ")
        joint = _HEADER_NAMES.get(name.replace(" ", "").lower())
        if joint and axis.upper() == "X" and [word.upper() for word in cells[index + 1 : index + 3]] == ["Y", "Z"]:
            columns[joint] = index
    return columns
