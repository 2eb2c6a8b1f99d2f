"""G independent multi-layer LSTMs of equal shape, written out step by step.

Gate order and meaning of the weights as in ``torch.nn.LSTM``; every weight carries a leading group axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LSTMLayer(NamedTuple):
    """Weights of one layer of all groups.

    Attributes:
        weight_ih: ``(G, 4K, I)``, row blocks i, f, g, o.
        weight_hh: ``(G, 4K, K)``.
        bias: ``(G, 4K)``, the sum of ``torch.nn.LSTM``'s two biases.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor


class LSTMState(NamedTuple):
    """Hidden and cell state of all layers, each ``(L, G, B, K)``."""

    h: Tensor
    c: Tensor


def lstm_gates(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the gate equations.

    Args:
        gates: pre-activations ``(G, B, 4K)``.
        c: cell state ``(G, B, K)``.

    Returns:
        New ``h`` and ``c``, each ``(G, B, K)``.
    """
    i, f, g, o = gates.chunk(4, dim=-1)  # 4 x (G, B, K)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def lstm_cell(x: Tensor, h: Tensor, c: Tensor, layer: LSTMLayer) -> tuple[Tensor, Tensor]:
    """One step of one layer: ``x (G, B, I)``, ``h`` and ``c`` ``(G, B, K)``; returns the new ``h`` and ``c``."""
    gates = torch.baddbmm(layer.bias[:, None], x, layer.weight_ih.mT)  # (G, B, 4K)
    return lstm_gates(torch.baddbmm(gates, h, layer.weight_hh.mT), c)


def batched_lstm(
    input: Tensor,
    layers: Sequence[LSTMLayer],
    initial_state: LSTMState | None = None,
    *,
    lengths: Tensor | None = None,
    dropout_masks: Tensor | None = None,
) -> tuple[Tensor, LSTMState]:
    """Run G independent LSTMs over their sequences.

    Args:
        input: ``(G, B, T, I)``.
        layers: weights, bottom layer first.
        initial_state: zeros if ``None``.
        lengths: ``(B,)`` or ``(G, B)`` integers in 1..T. Behind a sequence's end the output is 0 and the state stays,
            as with a packed sequence in ``torch.nn.LSTM``.
        dropout_masks: ``(L - 1, G, B, T, K)`` multipliers of the outputs of all layers but the top one, on their way to
            the next: 0, or 1 / (1 - p).

    Returns:
        The top layer's output ``(G, B, T, K)`` and the final state.
    """
    groups, batch, steps, _ = input.shape
    final_h, final_c = [], []
    sequence = input  # (G, B, T, I), then (G, B, T, K)
    for index, layer in enumerate(layers):
        hidden = layer.weight_hh.shape[-1]
        if initial_state is None:
            h = c = input.new_zeros(groups, batch, hidden)
        else:
            h, c = initial_state.h[index], initial_state.c[index]
        # The input's share of the gates needs no recurrence: one product for all steps.
        flat = sequence.flatten(1, 2)  # (G, B * T, I)
        projected = torch.baddbmm(layer.bias[:, None], flat, layer.weight_ih.mT)
        projected = projected.view(groups, batch, steps, 4 * hidden)
        outputs = []
        for step in range(steps):
            new_h, new_c = lstm_gates(torch.baddbmm(projected[:, :, step], h, layer.weight_hh.mT), c)
            if lengths is None:
                h, c = new_h, new_c
                outputs.append(h)
            else:
                alive = (step < lengths).expand(groups, batch)[..., None]  # (G, B, 1)
                h, c = torch.where(alive, new_h, h), torch.where(alive, new_c, c)
                outputs.append(torch.where(alive, h, torch.zeros_like(h)))
        sequence = torch.stack(outputs, dim=2)  # (G, B, T, K)
        if dropout_masks is not None and index + 1 < len(layers):
            sequence = sequence * dropout_masks[index]
        final_h.append(h)
        final_c.append(c)
    return sequence, LSTMState(torch.stack(final_h), torch.stack(final_c))
