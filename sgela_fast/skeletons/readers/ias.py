"""IAS-Lab RGBD-ID: like BIWI, but all streams of a frame share one file stem."""

from __future__ import annotations

import re
from pathlib import Path

from sgela_fast.skeletons.readers.biwi import STREAM
from sgela_fast.skeletons.readers.files import heads
from sgela_fast.skeletons.readers.frame_folders import KinectV1FrameReader, looks_like_kinect_v1


class IASReader(KinectV1FrameReader):
    """Reads ``Training/<subject>``, ``TestingA/<subject>`` and ``TestingB/<subject>``.

    The person is the folder's number (the released code counts the folders in the order in which the file system
    lists them, which need not agree between the splits).
    """

    name = "ias"
    summary = "IAS-Lab RGBD-ID, folders of frames STEM_skel.txt with 20 or 40 rows"
    splits = (
        (re.compile(r"/Training/[^/]+$", re.IGNORECASE), "train"),
        (re.compile(r"/Testing_?A/[^/]+$", re.IGNORECASE), "test-a"),
        (re.compile(r"/Testing_?B/[^/]+$", re.IGNORECASE), "test-b"),
    )
    sizes = (20, 2 * 20)

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether there is a frame of 14 columns that is not named as BIWI's are."""
        return any(
            cls.is_frame(file) and not STREAM.match(file.name) and looks_like_kinect_v1(head)
            for file, head in heads(path)
        )
