"""Encodings of chosen windows as tensors: held in memory once when they fit, else read in shuffled blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sgela_fast.errors import DataError
from sgela_fast.evaluation.sides import Side

_READ_BYTES = 1 << 26  # read at once from the store while filling memory
_GATHER_ROWS = 1 << 14  # feature rows gathered at once for training


class Features:
    """Feature rows of one side's windows: ``(N, T, D)``, T = 1 where one row stands for the whole window.

    Args:
        side: the windows.
        form: ``frames`` keeps a row for each frame, ``mean`` averages them, ``concat`` puts them side by side.
            A store that keeps one row for a window already has the same rows in all three forms.
        memory_bytes: values up to this size are held, in one copy.
        device: where tensors are handed out.

    Raises:
        DataError: a value is not finite.
    """

    def __init__(self, side: Side, form: str, memory_bytes: float, device: torch.device | str = "cpu") -> None:
        self.side, self.form, self.device = side, form, torch.device(device)
        self.frames, self.width = self._read(np.zeros(1, np.int64)).shape[1:]
        self.held: Tensor | None = None
        if len(side) * self.window_bytes <= memory_bytes:
            self.held = self._hold()

    def __len__(self) -> int:
        return len(self.side)

    @property
    def window_bytes(self) -> int:
        """Size of one window's rows."""
        return 4 * self.frames * self.width

    def take(self, windows: Tensor) -> Tensor:
        """Rows ``(B, T, D)`` of the windows at the given positions."""
        if self.held is not None:
            return self.held.index_select(0, windows.to(self.device))
        return self._read(windows.cpu().numpy()).to(self.device)

    def rows(self) -> Tensor:
        """All rows ``(N, D)`` of a form that has one for each window, as they are held."""
        held = self._hold() if self.held is None else self.held
        return held.view(len(self), -1)

    def blocks(self, windows: Tensor) -> Iterator[Tensor]:
        """The windows at the given positions, in order, in blocks of bounded size."""
        for block in windows.split(max(1, _READ_BYTES // self.window_bytes)):
            yield self.take(block)

    def shuffled(
        self, windows: Tensor, batch: int, memory_bytes: float, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Feature rows of ``windows`` in random order, in pieces of whole batches but for the last one.

        With held values the order is uniform over all rows. Otherwise windows are shuffled, read in blocks of about
        ``memory_bytes`` and the rows of each block are shuffled among themselves.

        Yields:
            Rows ``(M, D)`` and the position in ``windows`` that each came from ``(M,)``.
        """
        piece = max(1, _GATHER_ROWS // batch) * batch
        count = len(windows)
        if self.held is not None:
            flat = self.held.view(-1, self.width)
            for rows in torch.randperm(count * self.frames, generator=generator).split(piece):
                source = rows // self.frames
                wanted = windows[source] * self.frames + rows % self.frames
                yield flat.index_select(0, wanted.to(self.device)), source
            return
        # A multiple of the batch, so that only the last block can end with an incomplete batch.
        block = max(1, int(memory_bytes) // (2 * self.window_bytes) // batch) * batch
        for positions in torch.randperm(count, generator=generator).split(block):
            flat = self.take(windows[positions]).view(-1, self.width)
            for rows in torch.randperm(len(flat), generator=generator).split(piece):
                yield flat.index_select(0, rows.to(self.device)), positions[rows // self.frames]

    def _hold(self) -> Tensor:
        held = torch.empty(len(self.side), self.frames, self.width, device=self.device)
        step = max(1, _READ_BYTES // self.window_bytes)
        for start in range(0, len(self.side), step):
            stop = min(start + step, len(self.side))
            held[start:stop] = self._read(np.arange(start, stop))
        return held

    def _read(self, positions: np.ndarray) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(self.side.store.values(self.side.rows[positions]), np.float32))
        if not torch.isfinite(values.sum(dtype=torch.float64)):
            wrong = self.side.rows[positions][~torch.isfinite(values).flatten(1).all(dim=1).numpy()]
            raise DataError(
                f"{self.side.store.path} holds values that are not finite, first in window {int(wrong[0])}; "
                "encode the archive again or leave such windows out"
            )
        if values.ndim == 2:
            return values[:, None]  # (B, 1, D)
        if self.form == "mean":
            return values.mean(dim=1, keepdim=True)
        return values.flatten(1)[:, None] if self.form == "concat" else values


class Standardiser:
    """Feature-wise mean 0 and deviation 1 over given windows; constant features become 0.

    Args:
        features: where the rows are.
        windows: positions of the windows that set mean and deviation.
    """

    def __init__(self, features: Features, windows: Tensor) -> None:
        count, mean, squares = 0, torch.zeros(1), torch.zeros(1)
        for block in features.blocks(windows):
            rows = block.reshape(-1, features.width)
            own_var, own_mean = torch.var_mean(rows, dim=0, correction=0)
            own_var, own_mean = own_var.double(), own_mean.double()
            # Chan et al. (1983): blocks' moments are merged without a second pass and without cancellation.
            total = count + len(rows)
            shift = own_mean - mean.to(own_mean)
            squares = squares.to(own_var) + own_var * len(rows) + shift.square() * (count * len(rows) / total)
            mean = mean.to(own_mean) + shift * (len(rows) / total)
            count = total
        deviation = (squares / count).sqrt()
        # Rounding leaves a constant feature a deviation of about 1e-7 of its size.
        usable = deviation > 1e-6 * mean.abs().clamp_min(1e-30)
        self.mean = mean.float()
        self.factor = torch.where(usable, 1 / deviation, torch.zeros_like(deviation)).float()

    def __call__(self, rows: Tensor) -> Tensor:
        """Standardise ``(..., D)`` rows in place; they must be the caller's own copy."""
        return rows.sub_(self.mean).mul_(self.factor)
