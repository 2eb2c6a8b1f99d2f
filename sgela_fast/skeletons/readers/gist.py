"""The GIST pathological gait data: tab-separated, one frame a row, 25 joints of a Kinect v2 with times."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.readers.base import RecordingRef, TextFileReader
from sgela_fast.skeletons.readers.files import first_line, is_number, number_table, numbered_lines, read_text
from sgela_fast.skeletons.recording import Recording, lost_joints

JOINTS = 25
COLUMNS = 1 + 4 * JOINTS
LARGEST_STEP_SECONDS = 0.2
_FILE_NAME = re.compile(r"human(\d+)_([A-Za-z_]+?)(\d+)_SkeletonData(\d+)\.csv$")
# Other spellings of "no number": what C and spreadsheet programs print, and empty cells.
_NOT_A_NUMBER = re.compile(r"(?<=\t)\s*([+-]?(?:nan\S*|1\.#\S*|#\S+)|)(?=\t|$)", re.IGNORECASE)


class GISTReader(TextFileReader):
    """Reads time and 25 x (joint number, x, y, z), metres, z up, and turns the axes to x, z, -y, so that y is up.

    Where frames were lost (a step in time over 0.2 s, a value that is no number, a joint at 0, 0, 0) the recording
    falls into pieces, of which the longest, the first of several, is kept. The column ``cut_frames`` counts the rest.
    """

    name = "gist"
    summary = "GIST pathological gait, tab-separated time and 25 x (number, x, y, z)"
    pattern = _FILE_NAME
    layout = "kinect-v2"

    @classmethod
    def sniff(cls, head: str) -> bool:
        """Whether the first line has a time and joints numbered from 0 between tabs."""
        words = first_line(head).split("\t")
        if len(words) < 9 or not all(is_number(word) for word in words[:9]):
            return False
        return float(words[1]) == 0 and float(words[5]) == 1

    def describe(self, path: Path) -> dict[str, Any]:
        """Person, gait, walk and sensor stand in the file name."""
        found = _FILE_NAME.search(path.name)
        if found is None:
            return {}
        person, gait, walk, sensor = f"h{int(found[1]):02d}", found[2], int(found[3]), found[4]
        return {
            "name": f"{person}_{gait}_w{walk:02d}_s{sensor}",
            "person": person,
            "extra": {"gait": gait, "walk": str(walk), "sensor": sensor},
        }

    def read(self, ref: RecordingRef) -> Recording:
        """Read the longest whole piece of one walk."""
        lines = numbered_lines(read_text(ref.path))
        lines = [(number, _NOT_A_NUMBER.sub("nan", line)) for number, line in lines]
        values = number_table(ref.path, lines, "\t", COLUMNS)
        times, table = values[:, 0], values[:, 1:].reshape(-1, JOINTS, 4)
        wrong = np.flatnonzero((table[..., 0] != np.arange(JOINTS)).any(axis=1) & ~np.isnan(table[..., 0]).any(axis=1))
        if len(wrong):
            raise DataError(
                f"{ref.path}, line {lines[wrong[0]][0]} does not number its joints 0 to {JOINTS - 1}; mend the line"
            )
        x, y, z = np.moveaxis(table[..., 1:], -1, 0)
        joints = np.stack([x, z, -y], axis=-1)  # (frames, J, 3)
        whole = ~lost_joints(joints).any(axis=1) & np.isfinite(times)
        if not whole.any():
            raise DataError(f"{ref.path} has no frame with all {len(get_layout(self.layout))} joints; leave it out")
        first, last = longest_piece(times, whole)
        return self.make(ref, joints[first:last], self.layout, extra={"cut_frames": str(len(joints) - (last - first))})


def longest_piece(times: np.ndarray, whole: np.ndarray) -> tuple[int, int]:
    """The longest run of whole frames without a gap in time, as a half-open range; the first of equals.

    Args:
        times: ``(frames,)`` seconds.
        whole: ``(frames,)`` bool, at least one of them true.
    """
    with np.errstate(invalid="ignore"):
        joined = whole[1:] & whole[:-1] & (np.abs(np.diff(times)) <= LARGEST_STEP_SECONDS)
    piece = np.cumsum(np.concatenate([[True], ~joined]))  # (frames,) number of the piece each frame is in
    length = np.bincount(piece, weights=whole)
    longest = np.flatnonzero((piece == np.argmax(length)) & whole)
    return int(longest[0]), int(longest[-1]) + 1
