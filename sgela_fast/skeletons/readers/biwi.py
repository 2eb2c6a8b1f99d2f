"""BIWI RGBD-ID: a folder per subject, five files per frame, Kinect v1 skeletons in ``_skel.txt``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.readers.files import heads, number_table, numbered_lines, read_text
from sgela_fast.skeletons.readers.frame_folders import KinectV1FrameReader, files_in, looks_like_kinect_v1

# Each stream of a frame has its own time stamp; streams belong together by what stands before the stream's letter.
STREAM = re.compile(r"^(?P<frame>.+)-(?P<stream>[a-e])_\d+_(?P<kind>skel|groundCoeff)\.txt$")


class BIWIReader(KinectV1FrameReader):
    """Reads ``Training/<subject>``, ``Testing/Still/<subject>`` and ``Testing/Walking/<subject>``.

    The subject is the folder's leading digits, so that ``022b`` is a recording of person 022. Left and right are the
    file's own; for a subject who faces the camera they may be the viewer's.
    """

    name = "biwi"
    summary = "BIWI RGBD-ID, folders of frames NNN_FFFFFF-d_TIME_skel.txt"
    splits = (
        (re.compile(r"/Training/[^/]+$", re.IGNORECASE), "train"),
        (re.compile(r"/Still/[^/]+$", re.IGNORECASE), "test-still"),
        (re.compile(r"/Walking/[^/]+$", re.IGNORECASE), "test-walking"),
    )
    sizes = (2 * 20,)

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether there is a frame of 14 columns whose name states the stream."""
        return any(STREAM.match(file.name) and looks_like_kinect_v1(head) for file, head in heads(path))

    def ground(self, frames: list[Path]) -> np.ndarray | None:
        """Median over the frames' floor planes, from the ``_groundCoeff.txt`` of the same subject and frame number."""
        planes: dict[str, Path] = {}
        for file in files_in(frames[0].parent):
            found = STREAM.match(file.name)
            if found and found["kind"] == "groundCoeff":
                planes[found["frame"]] = file
        names = (STREAM.match(frame.name) for frame in frames)
        files = [planes[name["frame"]] for name in names if name and name["frame"] in planes]
        values = [_plane(file) for file in files]
        stated = [plane for plane in values if np.isfinite(plane).all() and plane[:3].any()]
        return np.median(stated, axis=0) if stated else None


def _plane(file: Path) -> np.ndarray:
    lines = numbered_lines(read_text(file))
    values = number_table(file, lines, ",", 4)
    if len(values) != 1:
        raise DataError(f"{file} has {len(values)} rows but a floor plane has one row a,b,c,d; copy the file again")
    return values[0]
