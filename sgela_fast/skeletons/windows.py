"""Windows: the fixed-length pieces of a walk that the model reads, and what is done to them first.

The paper drops the first and last 10 frames of a recording and cuts windows of f = 6 frames, each sharing f/2 with the
next in training (section 4.1). Nothing is cut across recordings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.archive import Archive, Row
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import Layout
from sgela_fast.skeletons.recording import lost_joints

BODY_REACH = 1.2  # metres: a body's middle is nearer to each of its joints than that, and farther from a camera


def warn_if_not_centered(config: WindowConfig) -> None:
    """Say once what switching the centring off means."""
    if config.center == "none":
        warnings.warn(
            "skeletons are not centred: where a person walks can give the identity away without any gait "
            "(the hip position alone names 15 to 74 % of windows on public sets)",
            stacklevel=2,
        )


def center_frames(joints: np.ndarray, layout: Layout, center: str) -> np.ndarray:
    """Move the joint ``center`` of every frame to the origin.

    Args:
        joints: ``(frames, J, 3)``.
        center: ``root``, ``none`` or a joint's name.

    Returns:
        ``(frames, J, 3)``, a copy unless ``center`` is ``none``.

    Raises:
        DataError: the layout has no such joint.
    """
    if center == "none":
        return joints
    index = layout.index(layout.root if center == "root" else center)
    return joints - joints[:, index : index + 1]


def origin_joint(joints: np.ndarray) -> int | None:
    """The joint on which a recording was centred already, ``None`` in camera coordinates.

    Such a joint is at (0, 0, 0) in every frame, as a joint that is lost throughout is too; but then the body stands
    about the origin, where the camera is otherwise.

    Args:
        joints: ``(frames, J, 3)`` of a whole recording, metres.
    """
    # Most recordings are answered by their first frame.
    if len(joints) == 0 or not (joints[0] == 0).all(axis=-1).any():
        return None
    at_origin = np.flatnonzero((joints == 0).all(axis=(0, 2)))
    if len(at_origin) != 1:
        return None
    others = np.delete(joints, at_origin, axis=1)
    distance = np.linalg.norm(np.nan_to_num(others).mean(axis=1), axis=-1)
    return int(at_origin[0]) if np.median(distance) < BODY_REACH else None


def missing_joints(joints: np.ndarray) -> np.ndarray:
    """Which joints are lost, other than the one that a recording was centred on already.

    Args:
        joints: ``(frames, J, 3)`` of a whole recording, metres.

    Returns:
        ``(frames, J)`` bool.
    """
    lost = lost_joints(joints)
    origin = origin_joint(joints)
    if origin is not None:
        lost[:, origin] = False
    return lost


def usable_frames(joints: np.ndarray) -> np.ndarray:
    """Which frames have every joint, ``(frames,)`` bool; ``joints`` is a whole recording ``(frames, J, 3)``."""
    usable: np.ndarray = np.logical_not(missing_joints(joints).any(axis=-1))
    return usable


def valid_windows(usable: np.ndarray, starts: np.ndarray, frames: int) -> np.ndarray:
    """Which windows consist of usable frames only, ``(windows,)`` bool."""
    bad = np.concatenate([[0], np.cumsum(~usable)])
    return np.equal(bad[starts + frames], bad[starts])


@dataclass(frozen=True)
class WindowIndex:
    """Where the windows of a set of recordings lie in one array of centred frames.

    Attributes:
        frames: ``(N, J, 3)`` float32, centred, all selected recordings one behind the other.
        starts: ``(windows,)`` int64, first frame of each window in ``frames``.
        recording: ``(windows,)`` int64, index into ``rows``.
        rows: the recordings.
    """

    frames: np.ndarray
    starts: np.ndarray
    recording: np.ndarray
    rows: Sequence[Row]
    skipped_windows: int
    short_recordings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.starts)


def index_windows(
    archive: Archive,
    rows: Sequence[Row],
    config: WindowConfig,
    make_room: Callable[[tuple[int, int, int]], np.ndarray] | None = None,
) -> WindowIndex:
    """Centre the frames of ``rows`` and locate their windows; windows with a lost joint are left out.

    The frames are held in one array (240 bytes a frame for 20 joints): training visits them in random order many times.

    Args:
        archive: the archive.
        rows: recordings to cut.
        config: how.
        make_room: makes the array for the frames, float32, from its shape; in memory if ``None``.

    Raises:
        DataError: not one window can be cut.
    """
    warn_if_not_centered(config)
    total = sum(row.frames for row in rows if len(config.starts(row.frames)))
    shape = (total, len(archive.layout), 3)
    frames = np.empty(shape, np.float32) if make_room is None else make_room(shape)  # (N, J, 3)
    starts: list[np.ndarray] = []
    owner: list[np.ndarray] = []
    short: list[str] = []
    skipped = first = 0
    for index, row in enumerate(rows):
        joints = archive.frames_of(row)
        mine = np.asarray(config.starts(row.frames), np.int64)
        if not len(mine):
            short.append(row.recording)
            continue
        valid = valid_windows(usable_frames(joints), mine, config.frames)
        skipped += int((~valid).sum())
        # A lost joint must not reach the centring as a number; its windows are gone already.
        frames[first : first + row.frames] = np.nan_to_num(center_frames(joints, archive.layout, config.center))
        starts.append(first + mine[valid])
        owner.append(np.full(int(valid.sum()), index, np.int64))
        first += row.frames
    if skipped and not any(len(piece) for piece in starts):
        raise DataError(
            f"{archive.path} has no window of {config.frames} frames without a lost joint ({skipped} have one); see "
            "which joints are lost with `sgela-fast inspect`"
        )
    if not any(len(piece) for piece in starts):
        raise DataError(
            f"{archive.path} has no recording long enough for one whole window of {config.frames} frames between "
            f"trimmed ends of {config.trim}; lower window.trim or window.frames"
        )
    return WindowIndex(
        frames=frames,
        starts=np.concatenate(starts),
        recording=np.concatenate(owner),
        rows=rows,
        skipped_windows=skipped,
        short_recordings=tuple(short),
    )
