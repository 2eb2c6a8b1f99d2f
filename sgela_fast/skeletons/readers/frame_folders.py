"""Formats with one small text file per frame and a folder per subject: what BIWI and IAS-Lab share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.readers.base import Reader, RecordingRef
from sgela_fast.skeletons.readers.files import (
    check_finite,
    files_below,
    first_line,
    is_number,
    natural_key,
    number_table,
    numbered_lines,
    read_text,
)
from sgela_fast.skeletons.recording import Recording

SLOT_ROWS = 20
COLUMNS = 14
TRACKING_COLUMN = 6


def looks_like_kinect_v1(head: str) -> bool:
    """Whether a frame's first row has the 14 columns of a Kinect v1 skeleton row."""
    words = first_line(head).split(",")
    return len(words) == COLUMNS and all(map(is_number, words))


class KinectV1FrameReader(Reader):
    """Base of the readers for the ``_skel.txt`` frames of BIWI and IAS-Lab.

    A frame has 20 rows, or 40 for two user slots, of 14 comma-separated columns: user, x, y, z in metres (y up), pixel
    u, v, tracking state (2 tracked, 1 inferred, 0 not tracked), quality, bone start and end, orientation quaternion.
    A frame with an untracked joint is dropped unless ``ReaderOptions.keep_untracked``; the column ``dropped_frames``
    counts them. All frames of one subject folder are one recording.

    Attributes:
        splits: pairs of a pattern for the folders above the subject's and the split it stands for.
        sizes: numbers of rows that a frame may have.
    """

    splits: ClassVar[tuple[tuple[re.Pattern[str], str], ...]]
    sizes: ClassVar[tuple[int, ...]]

    @classmethod
    def is_frame(cls, file: Path) -> bool:
        """Whether the name is that of a skeleton frame."""
        return file.suffix.lower() == ".txt" and "skel" in file.name.lower()

    def scan(self, path: Path) -> list[RecordingRef]:
        """One recording for each folder that holds skeleton frames."""
        if not path.is_dir():
            raise DataError(f"{path} is one frame; give the folder that holds a walk's frames, or a folder of such")
        folders = sorted({file.parent for file in files_below(path) if self.is_frame(file)}, key=natural_key)
        if not folders:
            raise self.nothing_found(path)
        return [self._ref(folder, path) for folder in folders]

    def _ref(self, folder: Path, root: Path) -> RecordingRef:
        place = folder.absolute().as_posix()
        digits = re.match(r"\d+", folder.name)
        split = next((split for pattern, split in self.splits if pattern.search(place)), None)
        relative = folder.relative_to(root).as_posix()
        if digits is None:
            name = folder.name if relative == "." else relative.replace("/", "_")
        else:
            name = f"{split or self.name}_{digits[0]}"
        return RecordingRef(
            name=name,
            path=folder,
            source=folder.name if relative == "." else relative,
            person=digits[0] if digits else None,
            extra={"split": split} if split else {},
        )

    def read(self, ref: RecordingRef) -> Recording:
        """Read all frames of a folder, in the order of their names, which is that of time."""
        files = sorted(file for file in files_in(ref.path) if self.is_frame(file))
        if not files:
            raise DataError(f"{ref.path} has no skeleton frame; check the folder")
        frames = [self._frame(file) for file in files]
        slot = self._choose_slot(frames)
        unused = np.zeros((SLOT_ROWS, COLUMNS))
        tables = np.stack([frame[slot] if slot < len(frame) else unused for frame in frames])  # (frames, 20, 14)
        tracking = tables[..., TRACKING_COLUMN].astype(np.uint8)
        joints = tables[..., 1:4].copy()
        joints[tracking == 0] = 0
        keep = np.asarray((tracking > 0).all(axis=1)) | self.options.keep_untracked
        if not keep.any():
            raise DataError(
                f"{ref.path} has no frame with all {SLOT_ROWS} joints tracked in user slot {self.options.slot}; try "
                "--slot auto or --keep_untracked"
            )
        ground = self.ground([file for file, kept in zip(files, keep, strict=True) if kept])
        return self.make(
            ref,
            joints[keep],
            "kinect-v1",
            tracking=tracking[keep],
            ground=ground,
            extra={"dropped_frames": str(int((~keep).sum()))},
        )

    def ground(self, frames: list[Path]) -> np.ndarray | None:
        """Floor plane ``(4,)`` of the recording whose frames are given, ``None`` if the format states none."""
        return None

    def _frame(self, file: Path) -> np.ndarray:
        lines = numbered_lines(read_text(file))
        values = number_table(file, lines, ",", COLUMNS)
        if len(values) not in self.sizes:
            raise DataError(
                f"{file} has {len(values)} rows but a frame has {' or '.join(map(str, self.sizes))}, one for each "
                "joint of a user slot; copy the file again or remove it"
            )
        check_finite(file, lines, values[:, 1:4])
        states = values[:, TRACKING_COLUMN]
        wrong = np.flatnonzero(~np.isin(states, (0, 1, 2)))
        if len(wrong):
            raise DataError(
                f"{file}, line {lines[wrong[0]][0]} has the tracking state {states[wrong[0]]:g}; it must be 0, 1 or 2"
            )
        return values.reshape(-1, SLOT_ROWS, COLUMNS)  # (slots, 20, 14)

    def _choose_slot(self, frames: list[np.ndarray]) -> int:
        """Index of the user slot to read; ``auto`` takes the one that is wholly tracked in more frames."""
        if self.options.slot != "auto":
            return int(self.options.slot)
        tracked = [0, 0]
        for frame in frames:
            for slot, rows in enumerate(frame):
                tracked[slot] += bool((rows[:, TRACKING_COLUMN] > 0).all())
        return int(tracked[1] > tracked[0])


def files_in(folder: Path) -> list[Path]:
    """The files in ``folder`` itself, in no particular order.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_file()]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error
