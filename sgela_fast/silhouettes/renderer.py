"""Outlines of capsules as a camera sees them, at 64 x 64 as preparation leaves them.

A capsule's outline is the hull of two circles. Every pixel row cuts it in one interval, which is found in closed form;
the intervals of a row are united by counting where they begin and end. So the work is proportional to rows, not to
pixels, and a frame costs about a tenth of a millisecond.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgela_fast.silhouettes.body import Capsules
from sgela_fast.silhouettes.config import SIZE

Circles = NDArray[np.float32]
OVERSAMPLED = 2  # rows and columns drawn for each one
_CANVAS = 3 * SIZE // 2  # columns about the hips before centring by mass
_GREY = np.rint(np.linspace(0, 255, OVERSAMPLED**2 + 1)).astype(np.uint8)  # of so many points inside
_NEAREST = 1.0  # metres before the camera at which everything stops


def render(capsules: Capsules, view: float, *, distance: float = 6.0, camera_height: float = 1.2) -> NDArray[np.uint8]:
    """Silhouettes of a walker from one side.

    The camera stands level on a circle about the origin of the floor, and looks at its middle.

    Args:
        capsules: of T frames, metres, y up with the floor at 0, facing z.
        view: where the camera stands, degrees: 0 ahead of the walker, 90 at the left, 180 behind.
        distance: from the origin, metres.
        camera_height: metres.

    Returns:
        ``(T, 64, 64)``: 255 inside, 0 outside, between at the edges. The figure fills the height; the column that
        halves its mass is the middle.
    """
    angle = np.deg2rad(view)
    towards = np.array([np.sin(angle), 0.0, np.cos(angle)])  # from the origin to the camera
    right = np.array([np.cos(angle), 0.0, -np.sin(angle)])  # in the image
    circles = []
    for centre, radius in ((capsules.start, capsules.start_radius), (capsules.end, capsules.end_radius)):
        depth = np.maximum(distance - centre @ towards, _NEAREST)  # (T, P)
        circle = np.stack([centre @ right / depth, (camera_height - centre[..., 1]) / depth, radius / depth])
        circles.append(circle.astype(np.float32))  # (3, T, P); a rounding is a hundred-thousandth of a pixel
    return _draw(*circles)


def _draw(start: Circles, end: Circles) -> NDArray[np.uint8]:
    """Draw hulls of circles (x, y downwards, radius) ``(3, T, P)``, scaled so that the height is filled."""
    top = np.minimum(start[1] - start[2], end[1] - end[2]).min(axis=1)
    bottom = np.maximum(start[1] + start[2], end[1] + end[2]).max(axis=1)
    scale = OVERSAMPLED * SIZE / (bottom - top)  # (T,)
    middle = (start[0] + end[0]).mean(axis=1) / 2
    columns = OVERSAMPLED * _CANVAS
    shift = np.stack([middle - columns / 2 / scale, top, np.zeros_like(top)])[..., None]
    start, end = ((circle - shift) * scale[:, None] for circle in (start, end))
    left, right = _cut_by_rows(start, end, OVERSAMPLED * SIZE)  # (T, P, rows)
    fine = _fill(left, right, columns).view(np.uint8)  # (T, rows, columns)
    count = sum(
        fine[:, row::OVERSAMPLED, column::OVERSAMPLED] for row in range(OVERSAMPLED) for column in range(OVERSAMPLED)
    )
    return _centre(_GREY[count])


def _cut_by_rows(start: Circles, end: Circles, rows: int) -> tuple[Circles, Circles]:
    """Where each row of pixels enters and leaves each hull: two of ``(T, P, rows)``; left > right where it misses."""
    height = np.arange(rows, dtype=np.float32) + np.float32(0.5)
    left = np.full((*start.shape[1:], rows), np.inf, np.float32)
    right = np.full_like(left, -np.inf)
    for x, y, radius in (start, end):
        inside = radius[..., None] ** 2 - (height - y[..., None]) ** 2
        half = np.sqrt(np.maximum(inside, 0))
        hit = inside > 0
        np.minimum(left, x[..., None] - half, out=left, where=hit)
        np.maximum(right, x[..., None] + half, out=right, where=hit)
    # The two outer tangents, from where they touch the first circle to where they touch the second.
    along = end[:2] - start[:2]  # (2, T, P)
    length = np.maximum(np.hypot(*along), 1e-9)
    sine = (start[2] - end[2]) / length
    apart = np.abs(sine) < 1  # else one circle holds the other
    sine = np.clip(sine, -1, 1)
    cosine = np.sqrt(1 - sine**2)
    unit = along / length
    for turn in (1.0, -1.0):
        normal = np.stack([unit[0] * sine - turn * unit[1] * cosine, unit[1] * sine + turn * unit[0] * cosine])
        first, last = start[:2] + start[2] * normal, end[:2] + end[2] * normal
        rise = last[1] - first[1]
        share = (height - first[1][..., None]) / np.where(rise == 0, np.inf, rise)[..., None]
        hit = (share >= 0) & (share <= 1) & apart[..., None] & (rise != 0)[..., None]
        place = first[0][..., None] + share * (last[0] - first[0])[..., None]
        np.minimum(left, place, out=left, where=hit)
        np.maximum(right, place, out=right, where=hit)
    return left, right


def _fill(left: Circles, right: Circles, columns: int) -> NDArray[np.bool_]:
    """Pixels whose middle lies in any interval of their row, ``(T, rows, columns)``."""
    frames, _, rows = left.shape
    edge = columns + 1
    hit = np.flatnonzero(left < right)  # most capsules miss most rows
    first, last = (np.ceil(np.clip(side.ravel()[hit], 0, columns) - 0.5).astype(np.int32) for side in (left, right))
    line = edge * (hit // left[0].size * rows + hit % rows)
    # The pixels between are those at or behind the first middle.
    size = frames * rows * edge
    change = np.bincount(line + first, minlength=size) - np.bincount(line + last, minlength=size)
    inside = change.astype(np.int8).reshape(frames, rows, edge).cumsum(axis=2, dtype=np.int8) > 0
    return np.asarray(inside[..., :columns])


def _centre(figures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut 64 columns about the one that halves the mass of each ``(T, 64, columns)``."""
    mass = figures.sum(axis=1, dtype=np.int64).cumsum(axis=1)
    middle = (mass <= mass[:, -1:] / 2).sum(axis=1)  # the first column beyond one half
    padded = np.pad(figures, ((0, 0), (0, 0), (SIZE // 2, SIZE // 2)))
    cut = middle[:, None] + np.arange(SIZE)  # (T, 64)
    return np.take_along_axis(padded, cut[:, None, :], axis=2)
