"""Products with int8 weights: quantise, multiply integers exactly, dequantise; and the LSTM that is made of them.

A row ``x`` becomes integers ``q = round(127 x / max|x|)`` in -127..127, halves to even, and the scale ``max|x| / 127``.
Rows of weights (output channels) are quantised once, rows of activations (one window at one step) in every product. The
integers' products are added exactly, so the kernels must find the same sums in any order. Matrices that stay
floating-point (also bfloat16) are widened and multiplied as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sgela_fast.reference.batched_lstm import LSTMState, lstm_gates

LEVELS = 127
# Rows without an entry above this count as zeros: 127 divided by a smaller one may overflow.
SMALLEST = 2.0**-100


class Int8Matrix(NamedTuple):
    """Weights of one product for all groups.

    Attributes:
        values: ``(G, N, D)`` int8, output channels first.
        scale: ``(G, N)`` float32; the weights are ``values * scale[..., None]``.
    """

    values: Tensor
    scale: Tensor


Matrix = Tensor | Int8Matrix


class ReducedLayer(NamedTuple):
    """One LSTM layer of all groups, as :class:`~sgela_fast.reference.batched_lstm.LSTMLayer`.

    Attributes:
        weight_ih: ``(G, 4K, I)``.
        weight_hh: ``(G, 4K, K)``.
        bias: ``(G, 4K)`` float32.
    """

    weight_ih: Matrix
    weight_hh: Matrix
    bias: Tensor


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Integers and scales of the rows of ``x``.

    A row of zeros has the scale 0. A row that holds NaN or infinity has the scale NaN and zeros for integers, so that
    whatever is made of it is NaN.

    Args:
        x: ``(..., D)`` float32.

    Returns:
        ``(..., D)`` int8 and ``(...)`` float32.
    """
    largest = x.abs().amax(-1) if x.shape[-1] else x.new_zeros(x.shape[:-1])  # NaN if the row holds one
    usable = (largest >= SMALLEST) & (largest < torch.inf)
    # A number divided by a tensor would be its reciprocal times the number, rounded twice.
    factor = torch.where(usable, torch.full_like(largest, LEVELS) / largest, 0.0)
    scale = torch.where(usable, largest / LEVELS, torch.where(largest < SMALLEST, 0.0, torch.nan))
    scaled = torch.where(usable[..., None], x, 0.0) * factor[..., None]
    return scaled.round().to(torch.int8), scale


def quantise(weight: Tensor) -> Int8Matrix:
    """Symmetric int8 with one scale for each output channel of ``weight`` ``(G, N, D)``."""
    return Int8Matrix(*quantise_rows(weight.to(torch.float32).contiguous()))


def multiply(x: Tensor, matrix: Matrix) -> Tensor:
    """``x (G, R, D)`` float32 times the transposed matrix, ``(G, R, N)``."""
    if isinstance(matrix, Tensor):
        return x @ matrix.to(x.dtype).mT
    q, scale = quantise_rows(x)
    # float64 holds all sums of fewer than 2^39 products of two such integers.
    sums = q.to(torch.float64) @ matrix.values.to(torch.float64).mT
    return sums.to(torch.float32) * (scale[..., None] * matrix.scale[:, None])


def lstm_step(gates: Tensor, h: Tensor, c: Tensor, layer: ReducedLayer) -> tuple[Tensor, Tensor]:
    """One step from the input's share of the gates ``(G, B, 4K)``, bias included; the new ``h`` and ``c``."""
    return lstm_gates(gates + multiply(h, layer.weight_hh), c)


def batched_lstm(
    input: Tensor,
    layers: Sequence[ReducedLayer],
    initial_state: LSTMState | None = None,
    *,
    lengths: Tensor | None = None,
) -> tuple[Tensor, LSTMState]:
    """As :func:`sgela_fast.reference.batched_lstm.batched_lstm`, without dropout; float32 whatever the weights are.

    Args:
        input: ``(G, B, T, I)`` float32.
        layers: weights, bottom layer first.
        initial_state: zeros if ``None``.
        lengths: ``(B,)`` integers.
    """
    groups, batch, steps, _ = input.shape
    final_h, final_c = [], []
    sequence = input  # (G, B, T, I), then (G, B, T, K)
    for index, layer in enumerate(layers):
        hidden = layer.bias.shape[-1] // 4
        if initial_state is None:
            h = c = input.new_zeros(groups, batch, hidden)
        else:
            h, c = initial_state.h[index], initial_state.c[index]
        projected = multiply(sequence.flatten(1, 2), layer.weight_ih) + layer.bias[:, None]  # (G, B * T, 4K)
        projected = projected.view(groups, batch, steps, 4 * hidden)
        outputs = []
        for step in range(steps):
            new_h, new_c = lstm_step(projected[:, :, step], h, c, layer)
            if lengths is None:
                h, c = new_h, new_c
                outputs.append(h)
            else:
                alive = (step < lengths).expand(groups, batch)[..., None]  # (G, B, 1)
                h, c = torch.where(alive, new_h, h), torch.where(alive, new_c, c)
                outputs.append(torch.where(alive, h, torch.zeros_like(h)))
        sequence = torch.stack(outputs, dim=2)  # (G, B, T, K)
        final_h.append(h)
        final_c.append(c)
    return sequence, LSTMState(torch.stack(final_h), torch.stack(final_c))
