"""Clips: contiguous frames of a sequence, and small changes of them that leave the walker's identity."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from sgela_fast.silhouettes.config import SIZE, ClipConfig
from sgela_fast.silhouettes.images import Frame

_ERASED = ((0.1, 0.3), (0.1, 0.3))  # height and width of a blanked rectangle, shares of the frame's


def cut(frames: Frame, start: int, length: int) -> Frame:
    """``length`` frames from ``start``; a sequence that ends before goes on from its beginning."""
    if start + length <= len(frames):
        return frames[start : start + length]
    return np.take(frames, np.arange(start, start + length), axis=0, mode="wrap")


def start_of_clip(frames: int, length: int, generator: np.random.Generator) -> int:
    """Where a clip of ``length`` frames begins in a sequence of ``frames``, every place alike."""
    return int(generator.integers(max(1, frames - length + 1)))


def as_tensor(clips: NDArray[np.uint8], config: ClipConfig) -> Tensor:
    """Clips ``(N, T, 64, 64)`` as float32 ``(N, T, H, W)`` in [0, 1], cropped and shrunk."""
    kept = np.ascontiguousarray(clips[..., config.crop : SIZE - config.crop])
    values = torch.from_numpy(kept).to(torch.float32) / 255
    return values if config.shrink == 1 else avg_pool2d(values, config.shrink)


def augment(clips: Tensor, config: ClipConfig, generator: np.random.Generator) -> Tensor:
    """One view of clips: mirrored, turned, scaled, shifted and partly blanked as ``config`` says.

    All but ``flip="frame"`` changes the frames of a clip alike.

    Args:
        clips: ``(N, T, H, W)``, not changed.
        config: what is done and how much.
        generator: decides.
    """
    count, frames, height, width = clips.shape
    if config.flip != "none":
        shape = (count, frames if config.flip == "frame" else 1)
        mirrored = torch.from_numpy(generator.random(shape) < config.flip_share)[..., None, None]
        clips = torch.where(mirrored, clips.flip(-1), clips)
    if config.rotate or config.scale or config.shift:
        clips = _move(clips, config, generator)
    if config.erase:
        keep = np.ones((count, 1, height, width), np.float32)
        for clip in np.flatnonzero(generator.random(count) < config.erase):
            rows, columns = (
                round(generator.uniform(*reach) * size) for reach, size in zip(_ERASED, (height, width), strict=True)
            )
            top, left = generator.integers(height - rows + 1), generator.integers(width - columns + 1)
            keep[clip, :, top : top + rows, left : left + columns] = 0
        clips = clips * torch.from_numpy(keep)
    return clips


def _move(clips: Tensor, config: ClipConfig, generator: np.random.Generator) -> Tensor:
    count, _, height, width = clips.shape
    turn, grow, across, down = generator.uniform(-1, 1, (4, count))
    angle = np.deg2rad(config.rotate * turn)
    scale = 1 / (1 + config.scale * grow)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    # From a place in the new frame to one in the old, both in -1..1 along each side.
    x = np.stack([cos, -sin * height / width, 2 * config.shift * across * height / width], axis=-1)
    y = np.stack([sin * width / height, cos, 2 * config.shift * down], axis=-1)
    matrices = torch.from_numpy(np.stack([x, y], axis=1)).to(clips)  # (N, 2, 3)
    return grid_sample(clips, affine_grid(matrices, list(clips.shape), align_corners=False), align_corners=False)
