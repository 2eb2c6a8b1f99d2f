"""Horizontal pyramid pooling as a module; it has no weights.

The arithmetic is :func:`sgela_fast.ops.horizontal_pyramid_pooling.horizontal_pyramid_pooling`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sgela_fast.ops._attention_arguments import Backend
from sgela_fast.ops._pyramid_arguments import check_bins
from sgela_fast.ops.horizontal_pyramid_pooling import horizontal_pyramid_pooling


class HorizontalPyramidPooling(nn.Module):
    """Summarise feature maps by horizontal strips of several heights, each as its mean plus its maximum.

    Args:
        bins: numbers of strips the height is cut into; each must divide the height of the maps it is given.
        strips_first: results with the strips as first dimension, contiguous, as networks of their own for each strip
            want them.
        backend: ``auto``, ``reference`` or ``fused``, as for the op.

    Attributes:
        strips: number of strips S, the sum of ``bins``.

    Raises:
        ValueError: ``bins`` is empty or holds something but positive integers, or ``backend`` is unknown.
    """

    def __init__(
        self, bins: Sequence[int] = (1, 2, 4, 8, 16), *, strips_first: bool = False, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        self.bins = check_bins(bins, backend)
        self.strips_first, self.backend = strips_first, backend
        self.strips = sum(self.bins)

    def forward(self, features: Tensor) -> Tensor:
        """Pool ``features (..., C, H, W)`` to ``(..., C, S)``, or to ``(S, ..., C)`` with ``strips_first``."""
        return horizontal_pyramid_pooling(features, self.bins, strips_first=self.strips_first, backend=self.backend)

    def extra_repr(self) -> str:
        """The arguments that make this module what it is."""
        usual = {"strips_first": False, "backend": "auto"}
        shown = [f"{name}={getattr(self, name)!r}" for name in usual if getattr(self, name) != usual[name]]
        return ", ".join([f"bins={self.bins}", *shown])
