"""Supervised networks: all frames of a window in, one score for each person out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgela_fast.models.recognition import WindowClassifier
from sgela_fast.nn.batched_lstm import BatchedLSTM

_AXES = 3
_WINDOWS_AT_ONCE = 2048  # while nothing is trained


class SequenceNetwork(WindowClassifier):
    """A network that makes a vector of a window's frames, and a linear layer that makes scores of the vector.

    Args:
        frames: frames of a window, T.
        width: numbers of a frame, D; windows come as rows ``(N, T D)``.
        embedding: length of the vector.
        persons: classes, C.
    """

    def __init__(self, frames: int, width: int, embedding: int, persons: int) -> None:
        super().__init__()
        self.frames, self.width = frames, width
        self.output = nn.Linear(embedding, persons)

    def embed(self, rows: Tensor) -> Tensor:
        """The vectors ``(N, E)`` of windows ``(N, T D)``."""
        raise NotImplementedError

    def forward(self, rows: Tensor) -> Tensor:
        """Scores ``(N, C)`` of windows ``(N, T D)``."""
        return self.output(self.embed(rows))

    @torch.no_grad()
    def window_logits(self, windows: Tensor) -> Tensor:
        """Scores ``(B, C)`` of windows ``(B, 1, T D)``."""
        return torch.cat([self(rows) for rows in windows.flatten(1).split(_WINDOWS_AT_ONCE)])

    @torch.no_grad()
    def window_vectors(self, windows: Tensor) -> Tensor:
        """Vectors ``(B, E)`` of windows ``(B, 1, T D)``."""
        return torch.cat([self.embed(rows) for rows in windows.flatten(1).split(_WINDOWS_AT_ONCE)])


class LSTMNetwork(SequenceNetwork):
    """Stacked LSTMs whose last states are classified.

    Args:
        frames: frames of a window, T.
        joints: joints of a skeleton, J; a frame is ``3 J`` numbers, x, y, z of each joint.
        persons: classes, C.
        hidden: units of a layer, K.
        layers: layers, L.
        per_axis: one LSTM for each axis, which reads that coordinate of all joints, as the gait encoder does; otherwise
            one for all coordinates.
    """

    def __init__(self, frames: int, joints: int, persons: int, hidden: int, layers: int, per_axis: bool) -> None:
        self.groups = _AXES if per_axis else 1
        super().__init__(frames, _AXES * joints, self.groups * hidden, persons)
        self.lstm = BatchedLSTM(self.groups, _AXES * joints // self.groups, hidden, layers)

    def embed(self, rows: Tensor) -> Tensor:
        """Last states of the upper layer, ``(N, G K)``."""
        frames = rows.view(len(rows), self.frames, -1, self.groups).movedim(-1, 0)  # (G, N, T, 3 J / G)
        _, (h, _) = self.lstm(frames.contiguous())  # (L, G, N, K)
        return h[-1].transpose(0, 1).flatten(1)


class ConvolutionNetwork(SequenceNetwork):
    """Two convolutions over three frames each, then the mean and the maximum over time.

    Args:
        frames: frames of a window, T.
        width: numbers of a frame, D.
        persons: classes, C.
        channels: of both convolutions.
    """

    def __init__(self, frames: int, width: int, persons: int, channels: int) -> None:
        super().__init__(frames, width, 2 * channels, persons)
        self.convolutions = nn.Sequential(
            nn.Conv1d(width, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.ReLU(),
        )

    def embed(self, rows: Tensor) -> Tensor:
        """Mean and maximum over time of all channels, ``(N, 2 channels)``."""
        found = self.convolutions(rows.view(len(rows), self.frames, self.width).transpose(1, 2))  # (N, channels, T)
        return torch.cat([found.mean(dim=2), found.amax(dim=2)], dim=1)


def make_network(method: str, frames: int, hidden: int, width: int, persons: int, seed: int) -> SequenceNetwork:
    """A fresh network of a baseline's method.

    Args:
        method: ``lstm``, ``lstm-2``, ``axis-lstm-2`` or ``cnn``.
        frames: frames of a window, T.
        hidden: units of an LSTM layer, or channels.
        width: numbers of a window, T D.
        persons: classes, C.
        seed: its weights are a function of the seed alone.
    """
    width //= frames
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if method == "cnn":
            return ConvolutionNetwork(frames, width, persons, hidden)
        layers, per_axis = {"lstm": (1, False), "lstm-2": (2, False), "axis-lstm-2": (2, True)}[method]
        return LSTMNetwork(frames, width // _AXES, persons, hidden, layers, per_axis)
