"""A store's windows as rows of one matrix, made ready for inner products, a block at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError
from sgela_fast.search.config import Feature, Metric

Positions = NDArray[np.int64]


class Rows(Protocol):
    """What is searched: N rows of D numbers."""

    @property
    def width(self) -> int:
        """D."""

    def __len__(self) -> int: ...

    def block(self, positions: Positions) -> Tensor:
        """Rows ``(n, D)`` float32 at ascending ``positions``, prepared for the metric."""


class StoreRows:
    """Rows computed from the store whenever they are asked for; nothing is held.

    Args:
        store: where the encodings are; float16 and int8 values are widened block by block.
        metric: ``cosine`` gives rows of length 1; rows of zeros stay as they are.
        feature: ``mean`` or ``concat``.
    """

    def __init__(self, store: Store, metric: Metric, feature: Feature) -> None:
        self.store, self.metric, self.feature = store, metric, feature

    @property
    def width(self) -> int:
        """D, with ``concat`` of an unpooled store T times the store's."""
        side_by_side = self.feature == "concat" and self.store.pooling == "none"
        return self.store.width * (self.store.frames if side_by_side else 1)

    def __len__(self) -> int:
        return len(self.store)

    def block(self, positions: Positions) -> Tensor:
        """Rows ``(n, D)``.

        Raises:
            DataError: a value is not finite.
        """
        rows = prepared(self.store.values(positions), self.metric, self.feature)
        if not torch.isfinite(rows.sum(dtype=torch.float64)):
            wrong = positions[~torch.isfinite(rows).all(dim=1).numpy()]
            raise DataError(
                f"{self.store.path} holds values that are not finite, first in window {int(wrong[0])}; encode the "
                "archive again or leave such windows out"
            )
        return rows


class FileRows:
    """Rows kept in a ``.npy`` file that is memory-mapped.

    Args:
        path: float32 or float16, ``(N, D)``.

    Raises:
        ValueError, OSError: the file is not such an array.
    """

    def __init__(self, path: Path) -> None:
        # Copy on write: torch takes no read-only memory, and nothing here writes.
        self.array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
        if self.array.ndim != 2 or self.array.dtype not in (np.float32, np.float16):
            raise ValueError(f"it holds {self.array.dtype} {self.array.shape}")

    @property
    def width(self) -> int:
        """D."""
        return int(self.array.shape[1])

    def __len__(self) -> int:
        return len(self.array)

    def block(self, positions: Positions) -> Tensor:
        """Rows ``(n, D)``; neighbouring float32 rows are not even copied."""
        if not len(positions):
            return torch.empty(0, self.width)
        first, last = int(positions[0]), int(positions[-1])
        run = last - first + 1 == len(positions)
        found = self.array[first : last + 1] if run else self.array[positions]
        return torch.from_numpy(np.asarray(found)).float()


def prepared(values: NDArray[np.float32], metric: Metric, feature: Feature) -> Tensor:
    """Encodings ``(n, T, D)`` or ``(n, D)`` as rows ``(n, D)`` or ``(n, T D)``, of length 1 for the cosine."""
    rows = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    if rows.ndim == 3:
        rows = rows.mean(dim=1) if feature == "mean" else rows.flatten(1)
    if metric == "cosine":
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)
    return rows
