"""Rows in memory, as the search asks for them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Held:
    """Rows in memory; positions must ascend, as the search promises."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.width = rows, rows.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def block(self, positions: NDArray[np.int64]) -> Tensor:
        assert (np.diff(positions) > 0).all()
        return self.rows[torch.from_numpy(positions)]
