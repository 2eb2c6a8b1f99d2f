"""TensorFlow 1 weight layout against ours: the one place that knows both.

A TF1 ``LSTMCell`` keeps one kernel ``[I + K, 4K]`` for input and hidden state together, its column blocks in the order
i, j, f, o (input gate, candidate, forget gate, output gate), and adds a forget bias of 1 at run time. Ours follows
``torch.nn.LSTM``: ``weight_ih (4K, I)`` and ``weight_hh (4K, K)``, row blocks in the order i, f, g, o; g is TF's j.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FROM_TF = (0, 2, 1, 3)  # ours i, f, g, o out of TF's i, j, f, o; the permutation is its own inverse


def _swap_blocks(rows: Tensor) -> Tensor:
    """Exchange TF's gate order with ours along the first axis, ``(4K, ...)``."""
    blocks = rows.chunk(4)
    return torch.cat([blocks[block] for block in _FROM_TF])


def lstm_kernel_from_tf(kernel: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """Split a TF kernel ``(I + K, 4K)`` with ``inputs`` = I into ``weight_ih (4K, I)`` and ``weight_hh (4K, K)``."""
    rows = _swap_blocks(kernel.T)  # (4K, I + K)
    return rows[:, :inputs].contiguous(), rows[:, inputs:].contiguous()


def lstm_kernel_to_tf(weight_ih: Tensor, weight_hh: Tensor) -> Tensor:
    """Inverse of :func:`lstm_kernel_from_tf`."""
    return _swap_blocks(torch.cat([weight_ih, weight_hh], dim=1)).T.contiguous()


def lstm_bias_from_tf(bias: Tensor) -> Tensor:
    """A TF bias ``(4K,)`` in our gate order; the forget bias of 1 is in neither, it is added at run time."""
    return _swap_blocks(bias)


def lstm_bias_to_tf(bias: Tensor) -> Tensor:
    """Inverse of :func:`lstm_bias_from_tf`."""
    return _swap_blocks(bias)
