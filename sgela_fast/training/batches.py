"""Training batches, gathered straight from the frames; the order is a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sgela_fast.errors import DataError
from sgela_fast.skeletons.archive import Archive, Row
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.windows import WindowIndex, index_windows
from sgela_fast.training.config import TrainingConfig


class Windows:
    """Windows of a set of recordings, ready to be gathered on the device.

    Args:
        index: where the windows lie.
        length: frames of a window T.
        device: where batches are wanted; the frames are uploaded once.
    """

    def __init__(self, index: WindowIndex, length: int, device: torch.device) -> None:
        self.index = index
        self.frames = torch.from_numpy(index.frames).to(device)  # (N, J, A)
        self.starts = torch.from_numpy(index.starts).to(device)  # (windows,)
        self._steps = torch.arange(length, device=device)

    def __len__(self) -> int:
        return len(self.starts)

    def gather(self, windows: Tensor) -> Tensor:
        """Cut windows for all axes.

        Args:
            windows: which ones, ``(B,)`` for all axes or ``(A, B)`` for each axis its own.

        Returns:
            ``(A, B, T, J)``.
        """
        axes = self.frames.shape[-1]
        frames = self.starts[windows.to(self.starts.device)][..., None] + self._steps  # (B, T) or (A, B, T)
        if windows.ndim == 1:
            return self.frames[frames].movedim(-1, 0)  # (B, T, J, A) -> (A, B, T, J)
        return torch.stack([self.frames[frames[axis], :, axis] for axis in range(axes)])


class Order:
    """The order in which windows are visited.

    Args:
        windows: how many there are.
        axes: axes of the model A.
        config: names the kind of order, the seed and the batch size.

    Raises:
        DataError: fewer windows than one batch.
    """

    def __init__(self, windows: int, axes: int, config: TrainingConfig) -> None:
        self.windows, self.axes, self.config = windows, axes, config
        self.batches = windows // config.windows_a_step
        if self.batches == 0:
            accumulated = "" if config.accumulate == 1 else f" times training.accumulate {config.accumulate}"
            raise DataError(
                f"the training recordings hold {windows} windows but a batch takes {config.batch}{accumulated}; "
                "lower training.batch or window.stride"
            )

    def epoch(self, epoch: int) -> Tensor:
        """Windows of each step of ``epoch``: ``(batches, B)``, or ``(batches, A, B)`` for an order per axis."""
        kind, batch = self.config.shuffle, self.config.windows_a_step
        if kind == "once-per-axis":
            orders = [self._permutation(axis) for axis in range(self.axes)]
            return torch.stack([order[: self.batches * batch].view(-1, batch) for order in orders], dim=1)
        order = self._permutation(epoch if kind == "epoch" else 0)
        return order[: self.batches * batch].view(-1, batch)

    def _permutation(self, stream: int) -> Tensor:
        seed = np.random.SeedSequence((self.config.seed, stream)).generate_state(1)[0]
        return torch.randperm(self.windows, generator=torch.Generator().manual_seed(int(seed)))


def split_rows(archive: Archive, config: TrainingConfig) -> tuple[list[Row], list[Row]]:
    """Recordings to train on, and those kept aside to watch the loss.

    Raises:
        DataError: the archive lacks the split column or the value.
    """
    rows = archive.select(config.split, config.train_value) if config.split else list(archive.rows)
    aside = int(len(rows) * config.validation)
    if aside == 0:
        return rows, []
    chosen = set(np.random.default_rng(config.seed).choice(len(rows), aside, replace=False).tolist())
    return (
        [row for index, row in enumerate(rows) if index not in chosen],
        [row for index, row in enumerate(rows) if index in chosen],
    )


def load_windows(
    archive: Archive, rows: Sequence[Row], window: WindowConfig, device: torch.device
) -> tuple[Windows, WindowIndex]:
    """Index the windows of ``rows`` and upload their frames."""
    index = index_windows(archive, rows, window)
    return Windows(index, window.frames, device), index
