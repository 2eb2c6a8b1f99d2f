"""KS20 VisLab, after its MATLAB files were turned into one text file per frame of 25 Kinect v2 joints."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.readers.base import Reader, RecordingRef
from sgela_fast.skeletons.readers.files import (
    begins_with,
    check_finite,
    files_below,
    first_line,
    heads,
    is_number,
    natural_key,
    number_table,
    numbered_lines,
    read_text,
)
from sgela_fast.skeletons.readers.frame_folders import files_in
from sgela_fast.skeletons.recording import Recording

JOINTS = 25
VIEWS = ("frontal", "left_diagonal", "left_lateral", "right_diagonal", "right_lateral")
_FRAME = re.compile(r"^gc(\d+)_body(\d+)_.+", re.IGNORECASE)
_MATLAB = (b"MATLAB ", b"\x89HDF")


class KS20Reader(Reader):
    """Reads frames ``gc{1,2,3}_body<ID>_<time>`` of 25 lines whose columns 2 to 4 are x, y, z in metres.

    A recording is what shares folder, ``gc`` number and body; the folder names the view. Body numbers stay as they are
    (the released code renumbers them 0 to 19).
    """

    name = "ks20"
    summary = "KS20 as text, folders of frames gcN_bodyID_TIME with 25 lines"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether there is a frame by name and content, or one of the data set's MATLAB files."""
        if any(_FRAME.match(file.name) and _is_frame(head) for file, head in heads(path)):
            return True
        return _matlab_file(path) is not None

    def scan(self, path: Path) -> list[RecordingRef]:
        """One recording for each view, ``gc`` number and body."""
        root = path if path.is_dir() else path.parent
        found: dict[tuple[Path, str, str], RecordingRef] = {}
        for file in files_below(path) if path.is_dir() else [path]:
            frame = _FRAME.match(file.name)
            if frame is None:
                continue
            take, body, folder = frame[1], str(int(frame[2])), file.parent
            view = folder.absolute().name.lower()
            extra = {"take": take, **({"view": view} if view in VIEWS else {})}
            source = folder.relative_to(root).as_posix()
            found.setdefault(
                (folder, take, body),
                RecordingRef(
                    name=f"body{int(body):02d}_{view}_gc{take}",
                    path=folder,
                    source=folder.name if source == "." else source,
                    person=f"body{int(body):02d}",
                    key=f"gc{take}_body{frame[2]}_",
                    extra=extra,
                ),
            )
        if found:
            return sorted(found.values(), key=lambda ref: natural_key(ref.path / ref.key))
        matlab = _matlab_file(path)
        if matlab is not None:
            raise DataError(
                f"{matlab} is a MATLAB file, whose field names KS20 does not document; write each frame as text "
                "VIEW/gcN_bodyID_TIME.txt with 25 lines 'joint x y z' and convert that folder"
            )
        raise self.nothing_found(path)

    def read(self, ref: RecordingRef) -> Recording:
        """Read the frames of one recording in the order of their times."""
        files = [file for file in files_in(ref.path) if file.name.lower().startswith(ref.key.lower())]
        joints = [_frame(file) for file in sorted(files, key=natural_key)]
        return self.make(ref, np.stack(joints) if joints else np.empty((0, JOINTS, 3)), "kinect-v2")


def _delimiter(line: str) -> str | None:
    return next((mark for mark in (",", ";", "\t") if mark in line), None)


def _is_frame(head: str) -> bool:
    line = first_line(head)
    words = line.split(_delimiter(line))
    return len(words) >= 4 and all(map(is_number, words[1:4]))


def _frame(file: Path) -> np.ndarray:
    lines = numbered_lines(read_text(file))
    delimiter = _delimiter(lines[0][1])
    # The first column may be a joint's name, so that only those behind it are numbers.
    rows = [(number, line.partition(delimiter)[2] if delimiter else line.partition(" ")[2]) for number, line in lines]
    if len(rows) != JOINTS:
        raise DataError(f"{file} has {len(rows)} lines but a frame has {JOINTS}, one for each joint; copy it again")
    values = number_table(file, rows, delimiter, 3, at_least=True)
    check_finite(file, rows, values)
    return values


def _matlab_file(path: Path) -> Path | None:
    for file in files_below(path) if path.is_dir() else [path]:
        if file.suffix.lower() == ".mat" and begins_with(file, *_MATLAB):
            return file
    return None
