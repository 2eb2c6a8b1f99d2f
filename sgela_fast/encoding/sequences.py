"""What is encoded and what encodes it, as the job sees both: skeletons or silhouettes."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sgela_fast.encoding.source import Entry
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.skeletons.config import WindowConfig


class SequenceSource(Protocol):
    """What is encoded, recording by recording.

    Attributes:
        counts: windows of each recording ``(recordings,)``.
        further: names of further columns.
    """

    counts: NDArray[np.int64]
    further: list[str]

    @property
    def name(self) -> str:
        """Where the recordings are, for messages."""

    def __len__(self) -> int:
        """Number of recordings."""

    def entries(self, first: int, stop: int) -> list[Entry]:
        """What is known of the recordings at positions ``first`` to ``stop``."""

    def frames(self, entry: Entry) -> NDArray[Any]:
        """The recording's frames.

        Raises:
            Unusable: they cannot be read or encoded.
        """

    def close(self) -> None:
        """Close what is open."""


class SequenceEncoder(Protocol):
    """What encodes them: :class:`~sgela_fast.encoding.encoder.Encoder`, or that of silhouettes.

    Attributes:
        unit: what a row of the store stands for, in the plural.
    """

    unit: ClassVar[str]

    @property
    def device(self) -> torch.device:
        """Where the model computes."""

    @property
    def width(self) -> int:
        """Features of one row of values."""

    @property
    def window(self) -> WindowConfig | ClipConfig:
        """How recordings become windows."""

    def cut(self, frames: NDArray[Any], /) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.bool_]]:
        """Windows ``(N, T, ...)``, their first frames ``(N,)`` and whether each is whole ``(N,)``."""

    def quality(self, frames: NDArray[Any], starts: NDArray[np.int64], /) -> NDArray[np.float32]:
        """Fraction of each window that was seen ``(N,)``."""

    def encodings(self, windows: torch.Tensor, feature: Any, /) -> torch.Tensor:
        """``(N, T, D)``, or ``(N, D)`` if the model itself pools over time."""


def row_shape(encoder: SequenceEncoder, pooling: str) -> tuple[int, ...]:
    """Shape of one row of values."""
    return (encoder.window.frames, encoder.width) if pooling == "none" else (encoder.width,)
