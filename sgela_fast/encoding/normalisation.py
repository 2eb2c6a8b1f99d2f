"""The one normalisation of skeletons before the model: lost joints stand at the origin, the rest is centred.

It is the same arithmetic for recordings, windows, live streams and exported graphs, in float32, so that all of them
give the model the same bits. Training does the same in :mod:`sgela_fast.skeletons.windows`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import Layout
from sgela_fast.skeletons.windows import BODY_REACH, origin_joint


def normalise(frames: Tensor, center: int | None, origin: int | None) -> tuple[Tensor, Tensor]:
    """Put lost joints at the origin and centre the others.

    A joint is lost if a coordinate is not finite, or if it stands exactly at (0, 0, 0) and the recording was not
    centred on it. Where the joint ``center`` itself is lost, its frame stays in camera coordinates. Normalising twice
    gives the same as normalising once.

    Args:
        frames: ``(..., J, 3)``, metres.
        center: index of the joint that becomes the origin, ``None`` to leave the camera's.
        origin: index of the joint on which the frames were centred before, ``None`` for camera coordinates.

    Returns:
        Normalised frames ``(..., J, 3)`` and which joints are lost, ``(..., J)`` bool.
    """
    # A coordinate that is no number must not reach the centring, and half of a lost centre still moves its frame.
    known = torch.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
    at_zero = (known == 0).all(dim=-1)  # (..., J)
    if origin is not None:
        at_zero = at_zero & (torch.arange(frames.shape[-2], device=frames.device) != origin)
    lost = at_zero | (known != frames).any(dim=-1)
    if center is not None:
        known = known - known[..., center : center + 1, :]
    return known.masked_fill(lost[..., None], 0), lost


def find_origin(frames: np.ndarray | Tensor) -> int | None:
    """The joint on which a whole recording ``(frames, J, 3)`` was centred already, ``None`` in camera coordinates.

    The rule is :func:`sgela_fast.skeletons.windows.origin_joint`; frames on a device are judged there.
    """
    if isinstance(frames, np.ndarray):
        return origin_joint(frames)
    if len(frames) == 0 or not bool((frames[0] == 0).all(dim=-1).any()):
        return None
    at_origin = (frames == 0).all(dim=2).all(dim=0).nonzero()[:, 0].tolist()
    if len(at_origin) != 1:
        return None
    others = [joint for joint in range(frames.shape[1]) if joint != at_origin[0]]
    finite_or_zero = torch.nan_to_num(frames[:, others].float())
    distance = torch.linalg.vector_norm(finite_or_zero.mean(dim=1), dim=-1).sort().values  # (frames,)
    middle = float(distance[(len(distance) - 1) // 2] + distance[len(distance) // 2]) / 2
    return int(at_origin[0]) if middle < BODY_REACH else None


def center_index(layout: Layout, window: WindowConfig) -> int | None:
    """Index of the joint on which windows are centred, ``None`` for no centring.

    Raises:
        DataError: the layout has no such joint.
    """
    if window.center == "none":
        return None
    return layout.index(layout.root if window.center == "root" else window.center)
