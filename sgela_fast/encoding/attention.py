"""Where a model looks: its mean attention matrices over windows (Fig. 3a of the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.encoding.encoder import BATCH, Encoder
from sgela_fast.encoding.normalisation import center_index, normalise
from sgela_fast.encoding.recordings import WindowedFrames, enumerate_recordings, require_batch, upload
from sgela_fast.errors import ConfigError, DataError


class MeanAttention(NamedTuple):
    """Attention weights, averaged over windows.

    Attributes:
        matrices: ``(A, T, T)`` float64, axis by decoding step by position of the input frame. Rows sum to 1, but for
            attention ``mbas``, whose weights are not normalised again.
        windows: how many were averaged.
    """

    matrices: NDArray[np.float64]
    windows: int


@torch.inference_mode()
def mean_attention(
    encoder: Encoder, recordings: Iterable[Any], *, batch: int | None = None, keep_invalid: bool = False
) -> MeanAttention:
    """Average the alignment with which a model encodes.

    The decoder reads what it reads while encoding, so these are the weights behind the AGEs. Memory is that of one
    batch and one recording; for fewer windows give ``encoder.with_stride(...)``.

    Args:
        encoder: the model, las, bas or mbas.
        recordings: an archive, or any iterable of what :meth:`Encoder.encode` takes.
        batch: windows at once; ``None`` for what suits the device.
        keep_invalid: count windows with a lost joint too.

    Raises:
        ConfigError: the model has no attention, or is at precision int8, which has no alignment.
        DataError: something is no recording in the model's layout, or there is no window.
    """
    model = encoder.model
    if model.config.attention == "none":
        raise ConfigError("the model has attention none; give one trained with las, bas or mbas")
    batch = BATCH.get(encoder.device.type, 256) if batch is None else batch
    require_batch(batch)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for windows in _batches(encoder, recordings, batch, keep_invalid):
        alignment = model(windows.to(encoder.dtype).movedim(-1, 0), model.config.encoding_input).alignment
        total = total + alignment.double().sum(dim=1).cpu()  # (A, B, T, T) -> (A, T, T)
        count += len(windows)
    if not count:
        raise DataError("the recordings hold no whole window to average attention over; give longer ones")
    return MeanAttention((total / count).numpy(), count)


def _batches(encoder: Encoder, recordings: Iterable[Any], batch: int, keep_invalid: bool) -> Iterator[Tensor]:
    """Normalised windows ``(B, T, J, 3)`` on the encoder's device, those of short recordings together."""
    window, center = encoder.window, center_index(encoder.layout, encoder.window)
    waiting: list[Tensor] = []
    room = batch
    for frames in enumerate_recordings(iter(recordings), encoder.layout):
        source, first = WindowedFrames(frames, window), 0
        while first < len(source.starts):
            size = min(room, len(source.starts) - first)
            centred, lost = normalise(upload(source.frames_of(first, size), encoder.device), center, source.origin)
            windows = centred.unfold(0, window.frames, window.step).movedim(-1, 1)  # (n, T, J, A)
            if not keep_invalid:
                windows = windows[~lost.any(dim=-1).unfold(0, window.frames, window.step).any(dim=-1)]
            waiting.append(windows)
            room -= len(windows)
            first += size
            if not room:
                yield torch.cat(waiting)
                waiting, room = [], batch
    if room < batch:
        yield torch.cat(waiting)
