"""Windows of many recordings through the model in full batches, with bounded memory.

Frames are uploaded once, in pieces of at most one batch; windows, which overlap, are cut and normalised where the model
computes. Beside the recordings themselves and the results that wait for their turn, one batch of windows is held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from sgela_fast.encoding.normalisation import normalise
from sgela_fast.encoding.recordings import Array, Encoding, WindowedFrames, as_tensor, empty_like_input, upload
from sgela_fast.models.config import SGELAConfig
from sgela_fast.skeletons.config import WindowConfig


class _Job:
    """A recording's results while they are being filled."""

    def __init__(self, source: WindowedFrames, ages: Array) -> None:
        self.source, self.ages = source, ages
        self.done = 0
        self.valid: list[Tensor] = []

    @property
    def is_complete(self) -> bool:
        return self.done == len(self.source.starts)

    def result(self) -> Encoding:
        valid = torch.cat(self.valid).cpu().numpy() if self.valid else np.empty(0, np.bool_)
        return Encoding(self.ages, np.asarray(self.source.starts, np.int64), valid)


class Batcher:
    """Encodes recordings one behind the other.

    Args:
        encodings: the model, from centred windows ``(B, T, J, A)`` to ``(B, T, D)``.
        model: its sizes.
        window: how recordings become windows.
        center: joint on which they are centred.
        device: where the model computes.
        compute: dtype of the windows that it reads.
        mean: whether to pool over the frames.
        dtype: of the results.
        batch: windows encoded at once.
    """

    def __init__(
        self,
        encodings: Callable[[Tensor], Tensor],
        model: SGELAConfig,
        window: WindowConfig,
        center: int | None,
        *,
        device: torch.device,
        compute: torch.dtype,
        mean: bool,
        dtype: torch.dtype,
        batch: int,
    ) -> None:
        self._encodings, self._window, self._center = encodings, window, center
        self._device, self._dtype, self._mean, self._batch = device, dtype, mean, batch
        self._shape = (model.width,) if mean else (window.frames, model.width)
        self._sizes = (window.frames, model.joints)
        self._axes = model.axes
        self._room = torch.empty(model.axes * batch * window.frames * model.joints, dtype=compute, device=device)
        # Who owns which rows of the batch that is being filled: job, its first window, how many.
        self._owners: list[tuple[_Job, int, int]] = []
        self._windows: list[Tensor] = []
        self._filled = 0

    def encode(self, recordings: Iterable[Array]) -> Iterator[Encoding]:
        """Encodings of ``recordings``, lazily and in their order; a result may wait until its batch is full."""
        jobs: deque[_Job] = deque()
        for frames in recordings:
            source = WindowedFrames(frames, self._window)
            room = empty_like_input(frames, (len(source.starts), *self._shape), self._dtype, self._device)
            jobs.append(_Job(source, room))
            self._take(jobs[-1])
            # Recordings without a window fill no batch but must not pile up behind one that waits.
            if len(jobs) > self._batch:
                self._run()
            while jobs and jobs[0].is_complete:
                yield jobs.popleft().result()
        self._run()
        while jobs:
            yield jobs.popleft().result()

    def _take(self, job: _Job) -> None:
        frames, step = self._window.frames, self._window.step
        first, windows = 0, len(job.source.starts)
        while first < windows:
            count = min(self._batch - self._filled, windows - first)
            with torch.inference_mode():
                uploaded = upload(job.source.frames_of(first, count), self._device)
                centred, lost = normalise(uploaded, self._center, job.source.origin)
                # Views, copied when the batch is run: overlapping windows share their frames until then.
                self._windows.append(centred.unfold(0, frames, step))  # (n, J, A, T)
                job.valid.append(~lost.any(dim=-1).unfold(0, frames, step).any(dim=-1))  # (n,)
            self._owners.append((job, first, count))
            self._filled += count
            first += count
            if self._filled == self._batch:
                self._run()

    @torch.inference_mode()
    def _run(self) -> None:
        if not self._filled:
            return
        shape = (self._axes, self._filled, *self._sizes)
        batch = self._room[: self._axes * self._filled * self._sizes[0] * self._sizes[1]].view(shape)  # (A, B, T, J)
        start = 0
        for views in self._windows:
            batch[:, start : start + len(views)] = views.permute(2, 0, 3, 1)
            start += len(views)
        values = self._encodings(batch.movedim(0, -1))  # (B, T, D)
        if self._mean:
            values = values.mean(dim=1)  # (B, D)
        start = 0
        for job, first, count in self._owners:
            as_tensor(job.ages)[first : first + count].copy_(values[start : start + count])
            job.done += count
            start += count
        self._owners, self._windows, self._filled = [], [], 0
