"""Arguments of horizontal_pyramid_pooling: what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from sgela_fast.ops._attention_arguments import BACKENDS


def check_bins(bins: Sequence[int], backend: str) -> tuple[int, ...]:
    """The bins as a tuple; ValueError for what cannot be a pyramid, or for an unknown backend."""
    if not isinstance(bins, Iterable):
        raise ValueError(f"bins is {bins!r}; give numbers of strips as a sequence, such as (1, 2, 4)")
    checked = tuple(bins)
    if not checked or any([isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in checked]):  # noqa: C419
        raise ValueError(f"bins is {bins!r}; give one number of strips or more, each an integer of 1 or more")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose auto, reference or fused")
    return checked


def check_features(features: Tensor, bins: Sequence[int]) -> None:
    """Raise ValueError for a tensor that has no maps, or whose maps cannot be cut into these strips."""
    if features.dim() < 3:
        raise ValueError(
            f"features has shape {tuple(features.shape)}; it needs three dimensions or more, (..., C, H, W)"
        )
    if not features.is_floating_point():
        raise ValueError(f"features is {features.dtype}; it must be a floating-point tensor")
    height, width = features.shape[-2:]
    if height < 1 or width < 1:
        raise ValueError(f"features has maps of {height} x {width} pixels; they need one row and one column or more")
    for count in bins:
        if height % count:
            raise ValueError(
                f"features has maps of {height} rows, which {count} of bins does not divide; choose others"
            )
