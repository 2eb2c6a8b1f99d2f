"""A few windows at once, as soon as possible: what can be prepared is prepared before the first of them comes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sgela_fast.encoding.normalisation import center_index, normalise
from sgela_fast.encoding.recordings import (
    Array,
    Pooling,
    require_batch,
    require_feature,
    require_pooling,
    require_skeletons,
)
from sgela_fast.errors import DataError
from sgela_fast.models.config import Feature
from sgela_fast.models.sgela import SGELA
from sgela_fast.ops.cuda_graphs import BUCKETS, GraphedCall
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import Layout


def uses_graphs(device: torch.device) -> bool:
    """Whether calls are replayed from CUDA graphs there."""
    return device.type == "cuda"


class LatencyEncoder:
    """Encodes up to ``batch`` windows a call; :meth:`Encoder.warm` makes one.

    The model is frozen, so that its weights are packed once and neither compared nor packed again; buffers for the
    windows are there, the kernels have run, and on a CUDA device (never tried on one) they are captured as graphs.
    Results are those of :meth:`Encoder.encode_windows`. Not for several threads at once: calls share the buffers.

    Args:
        model: what it encodes with; it is frozen.
        window: how windows are cut and centred.
        layout: joint layout that the model reads.
        batch: most windows of a call.
        feature: ``ages`` or ``states``.
        pooling: ``none`` or ``mean`` over the frames.
        origin: as in :meth:`Encoder.encode_windows`.

    Raises:
        ConfigError: unknown feature or pooling, AGEs of a model without attention, or a batch of nothing.
        DataError: the layout has no joint ``origin``.
    """

    def __init__(
        self,
        model: SGELA,
        window: WindowConfig,
        layout: Layout,
        batch: int = 1,
        *,
        feature: Feature = "ages",
        pooling: Pooling = "none",
        origin: str | None = None,
    ) -> None:
        require_feature(feature, model.config)
        require_pooling(pooling)
        require_batch(batch)
        self.batch, self.feature, self.pooling = batch, feature, pooling
        self._model, self._layout, self._mean = model, layout, pooling == "mean"
        self._center = center_index(layout, window)
        self._origin = None if origin is None else layout.index(origin)
        self._shape = (window.frames, len(layout), 3)
        self._device, self._dtype = model.output_weight.device, model.output_weight.dtype
        self._raw = torch.zeros(batch, *self._shape)
        self._in_numpy = self._raw.numpy()
        model.freeze()
        self._run: Callable[[Tensor], Tensor] = self._encodings
        counts = {1, batch}
        if uses_graphs(self._device):
            # A call of few windows is mostly launches; a graph, one for each power of two, makes them all at once.
            self._run = GraphedCall(self._encodings, batch_dims=(0,), result_dims=(0,))
            counts |= {size for size in BUCKETS if size < batch}
        for count in counts:
            self._encode(self._raw[:count])

    def __call__(self, windows: Array) -> Array:
        """Encode windows.

        Args:
            windows: ``(B, T, J, 3)``, metres, y up, B from 0 to ``batch``; an array or a tensor.

        Returns:
            Encodings ``(B, T, D)`` or, pooled, ``(B, D)``, float32: an array for an array, for a tensor a tensor on the
            encoder's device.

        Raises:
            DataError: the windows do not fit, or are more than ``batch``.
        """
        if windows.shape[1:] != self._shape:
            require_skeletons(windows, self._layout, ("windows", self._shape[0]), "the windows")
        count = len(windows)
        if count > self.batch:
            raise DataError(f"there are {count} windows but room was made for {self.batch}; warm a larger batch")
        if isinstance(windows, Tensor):
            return self._encode(windows).clone()
        self._in_numpy[:count] = windows
        found: np.ndarray = self._encode(self._raw[:count]).cpu().numpy()
        return found

    @torch.inference_mode()
    def _encode(self, windows: Tensor) -> Tensor:
        uploaded = windows.to(self._device, torch.float32)
        return self.encode_normalised(normalise(uploaded, self._center, self._origin)[0])

    def encode_normalised(self, windows: Tensor) -> Tensor:
        """Encode windows on the encoder's device that are normalised already: ``(B, T, J, 3)`` to float32 encodings.

        Call it in inference mode.
        """
        return self._run(windows.to(self._dtype))

    def _encodings(self, windows: Tensor) -> Tensor:
        values = self._model.encodings(windows, self.feature)
        return (values.mean(dim=1) if self._mean else values).to(torch.float32)
