"""Horizontal pyramid pooling: a feature map summarised by strips of several heights (section 3.2 of SelfGait's code).

For a map x of H rows and W columns, and each bin b of the pyramid, H is cut into b strips of H / b rows. Strip P gives

    y = mean_{p in P} x_p + max_{p in P} x_p

and all strips stand side by side: those of the first bin first, each bin from top to bottom.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def horizontal_pyramid_pooling(
    features: Tensor, bins: Sequence[int] = (1, 2, 4, 8, 16), *, strips_first: bool = False
) -> Tensor:
    """Pool each map into strips, mean plus maximum.

    A NaN in a strip is the strip's value. Where several pixels of a strip are its maximum, the first of them in
    row-major order takes the maximum's gradient; the first NaN counts as the maximum.

    Args:
        features: ``(..., C, H, W)``.
        bins: numbers of strips; each divides H.
        strips_first: put the strips first in the result, in memory too.

    Returns:
        ``(..., C, S)``, or with ``strips_first`` contiguous ``(S, ..., C)``; S is the sum of ``bins``.
    """
    pooled = []
    for count in bins:
        strips = features.unflatten(-2, (count, -1)).flatten(-2)  # (..., C, b, H / b * W)
        # Unlike amax, max gives the whole gradient to the first of several maxima.
        pooled.append(strips.mean(-1) + strips.max(-1).values)
    joined = torch.cat(pooled, dim=-1)  # (..., C, S)
    return joined.movedim(-1, 0).contiguous() if strips_first else joined
