"""Training batches, gathered straight from the frames; the order is a function of seed and epoch alone."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgela_fast.atomic import writing
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
        device: where batches are wanted; frames in memory are uploaded once, those in a file batch by batch.
    """

    def __init__(self, index: WindowIndex, length: int, device: torch.device) -> None:
        self.index, self.device = index, device
        self.in_file = isinstance(index.frames, np.memmap)
        place = torch.device("cpu") if self.in_file else device
        self.frames = torch.from_numpy(index.frames).to(place)  # (N, J, A)
        self.starts = torch.from_numpy(index.starts).to(place)  # (windows,)
        self._steps = torch.arange(length, device=place)

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
            batch = self.frames[frames].movedim(-1, 0)  # (B, T, J, A) -> (A, B, T, J)
        else:
            batch = torch.stack([self.frames[frames[axis], :, axis] for axis in range(axes)])
        if batch.device == self.device:
            return batch
        return batch.contiguous().pin_memory().to(self.device, non_blocking=True)

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Cut one batch after the other; frames in a file are read by a thread while the batch before is computed."""
        if not self.in_file:
            yield from map(self.gather, batches)
            return
        with ThreadPoolExecutor(1) as reader:
            coming: Future[Tensor] | None = None
            for batch in batches:
                following = reader.submit(self.gather, batch)
                if coming is not None:
                    yield coming.result()
                coming = following
            if coming is not None:
                yield coming.result()


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
    archive: Archive, rows: Sequence[Row], window: WindowConfig, device: torch.device, memory_gb: float = 0.0
) -> tuple[Windows, WindowIndex]:
    """Index the windows of ``rows`` and upload their frames.

    Args:
        archive: the archive.
        rows: recordings to cut.
        window: how.
        device: where batches are wanted.
        memory_gb: frames that take more than so many GiB are kept in a temporary file instead; 0 stands for half of
            the machine's memory.

    Raises:
        DataError: not one window can be cut.
        OutputError: the temporary file cannot be written.
    """
    limit = memory_gb * 2**30 or _machine_memory() / 2

    def make_room(shape: tuple[int, int, int]) -> np.ndarray:
        return np.empty(shape, np.float32) if 4 * math.prod(shape) <= limit else array_in_file(shape)

    index = index_windows(archive, rows, window, make_room)
    return Windows(index, window.frames, device), index


def array_in_file(shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array in an unnamed file of the temporary folder (TMPDIR), which is gone with the array.

    Raises:
        OutputError: the file cannot be made so large.
    """
    with writing(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        # Now rather than at the first write to a page that the disk has no room for, which would kill the process.
        os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
        return np.memmap(file, np.float32, "r+", shape=shape)


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
