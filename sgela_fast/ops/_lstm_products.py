"""batched_lstm on CUDA devices: batched matrix products of torch, and the gates between them. Never run on a GPU.

The input's share of the gates is one product over all groups and steps; each step then adds the recurrent product of
all groups. Products take operands of the storage dtype; gates, cell state and tape are float32 (float64 for float64).
Nothing here waits for the device or reads a number back, so that a CUDA graph can capture it.

Tape, flat: ``(L, G, B, T, 6, K)`` with i, f, g, o after their functions, c and h.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TAPE_ROWS = 6


class Activated(NamedTuple):
    """Gates of one step after their functions, and the new states; each ``(G, B, K)``."""

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    h: Tensor


def gates_forward(gates: Tensor, c: Tensor) -> Activated:
    """One step from pre-activations ``(G, B, 4K)`` and cell state ``(G, B, K)``, both in the accumulation dtype."""
    i, f, g, o = gates.chunk(4, dim=-1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    new_c = f * c + i * g
    return Activated(i, f, g, o, new_c, o * new_c.tanh())


def gates_backward(step: Activated, c: Tensor, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the pre-activations ``(G, B, 4K)`` and of the previous cell state ``c`` ``(G, B, K)``."""
    tanh_c = step.c.tanh()
    grad_c = grad_c + grad_h * step.o * (1 - tanh_c * tanh_c)
    grad_i = grad_c * step.g * step.i * (1 - step.i)
    grad_f = grad_c * c * step.f * (1 - step.f)
    grad_g = grad_c * step.i * (1 - step.g * step.g)
    grad_o = grad_h * tanh_c * step.o * (1 - step.o)
    return torch.cat((grad_i, grad_f, grad_g, grad_o), dim=-1), grad_c * step.f


def forward(
    input: Tensor,
    weights: list[Tensor],
    _packed: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    dropout_masks: Tensor | None,
    save_tape: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The op's forward pass; arguments and results as in its schema."""
    groups, batch, steps, _ = input.shape
    layers, hidden, exact = len(weights) // 3, weights[1].shape[-1], _exact(input.dtype)
    h_n = input.new_empty(layers, groups, batch, hidden)
    c_n = torch.empty_like(h_n)
    shape = (layers, groups, batch, steps, TAPE_ROWS, hidden) if save_tape else (0,)
    tape = input.new_empty(shape, dtype=exact)
    alive = _alive(lengths, steps)
    sequence = input  # (G, B, T, I), then (G, B, T, K)
    for layer in range(layers):
        weight_ih, weight_hh, bias = weights[3 * layer : 3 * layer + 3]
        projected = torch.baddbmm(bias[:, None], sequence.flatten(1, 2), weight_ih.mT)  # (G, B T, 4K)
        projected = projected.view(groups, batch, steps, 4 * hidden)
        h = None if h0 is None else h0[layer]
        c = input.new_zeros(groups, batch, hidden, dtype=exact) if c0 is None else c0[layer].to(exact)
        sequence = input.new_empty(groups, batch, steps, hidden)
        for t in range(steps):
            gates = projected[:, :, t]  # (G, B, 4K)
            if h is not None:  # zeros add nothing
                gates = torch.baddbmm(gates, h, weight_hh.mT)
            step = gates_forward(gates.to(exact), c)
            new_h = step.h.to(input.dtype)
            if alive is not None:
                before = torch.zeros_like(new_h) if h is None else h
                sequence[:, :, t] = torch.where(alive[t], new_h, torch.zeros_like(new_h))
                new_h = torch.where(alive[t], new_h, before)
                step = step._replace(c=torch.where(alive[t], step.c, c))
            else:
                sequence[:, :, t] = new_h
            h, c = new_h, step.c
            if save_tape:
                tape[layer, :, :, t] = torch.stack((*step[:5], h.to(exact)), dim=2)  # (G, B, 6, K)
        assert h is not None  # there is at least one step
        h_n[layer], c_n[layer] = h, c
        if dropout_masks is not None and layer + 1 < layers:
            sequence = (sequence * dropout_masks[layer]).to(input.dtype)
    return sequence, h_n, c_n, tape.flatten()


def backward(
    grad_output: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    input: Tensor,
    weights: list[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    dropout_masks: Tensor | None,
    _output: Tensor,
    tape: Tensor,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The op's backward pass; arguments and results as in its schema. An empty tape is computed anew."""
    groups, batch, steps, _ = input.shape
    layers, hidden, exact = len(weights) // 3, weights[1].shape[-1], _exact(input.dtype)
    if tape.numel() == 0:
        tape = forward(input, weights, None, h0, c0, lengths, dropout_masks, True)[3]
    tape = tape.view(layers, groups, batch, steps, TAPE_ROWS, hidden)
    alive = _alive(lengths, steps)
    grad_h0 = input.new_empty((0,) if h0 is None else h0.shape)
    grad_c0 = input.new_empty((0,) if c0 is None else c0.shape)
    grad_weights: list[Tensor] = [*weights]
    zeros = input.new_zeros(groups, batch, hidden, dtype=exact)
    grad_sequence = grad_output  # (G, B, T, K)
    for layer in reversed(range(layers)):
        weight_hh = weights[3 * layer + 1]
        grad_h = zeros if grad_h_n is None else grad_h_n[layer].to(exact)
        grad_c = zeros if grad_c_n is None else grad_c_n[layer].to(exact)
        grad_gates = input.new_empty(groups, batch, steps, 4 * hidden)
        first_c = zeros if c0 is None else c0[layer].to(exact)
        for t in reversed(range(steps)):
            step = Activated(*tape[layer, :, :, t].unbind(2))
            c = first_c if t == 0 else tape[layer, :, :, t - 1, 4]
            reaching = grad_h if grad_sequence is None else grad_h + grad_sequence[:, :, t]
            through_gates, before_c = gates_backward(step, c, reaching, grad_c)
            if alive is not None:
                # A step behind the end hands the states' gradients on as they are and takes none from the output.
                through_gates = torch.where(alive[t], through_gates, torch.zeros_like(through_gates))
                before_c = torch.where(alive[t], before_c, grad_c)
            grad_gates[:, :, t] = through_gates
            grad_c = before_c
            if t > 0 or h0 is not None:
                recurrent = torch.bmm(grad_gates[:, :, t], weight_hh).to(exact)  # (G, B, K)
                grad_h = recurrent if alive is None else torch.where(alive[t], recurrent, grad_h)
        if h0 is not None:
            grad_h0[layer] = grad_h
        if c0 is not None:
            grad_c0[layer] = grad_c
        grad_weights[3 * layer : 3 * layer + 3], grad_sequence = layer_gradients(
            layer, grad_gates, tape, input, weights, h0, dropout_masks
        )
    assert grad_sequence is not None  # there is at least one layer
    return grad_sequence, grad_h0, grad_c0, grad_weights


def layer_gradients(
    layer: int,
    grad_gates: Tensor,
    tape: Tensor,
    input: Tensor,
    weights: list[Tensor],
    h0: Tensor | None,
    dropout_masks: Tensor | None,
) -> tuple[list[Tensor], Tensor]:
    """Products over all windows and steps: gradients of a layer's three weights, and of what it reads from below.

    Args:
        layer: counted from the bottom.
        grad_gates: gradients of its pre-activations, ``(G, B, T, 4K)`` in the storage dtype.
        tape: of the forward, ``(L, G, B, T, 6, K)``.
        input: as in the op's schema, like the next three.
        weights: all of them.
        h0: initial state.
        dropout_masks: of all layers.
    """
    storage, steps = input.dtype, input.shape[2]
    states = tape[layer, :, :, :, 5]  # (G, B, T, K)
    first = torch.zeros_like(states[:, :, 0]) if h0 is None else h0[layer].to(tape.dtype)
    before = torch.cat((first[:, :, None], states[:, :, :-1]), dim=2)  # h one step earlier (G, B, T, K)
    below = input if layer == 0 else tape[layer - 1, :, :, :, 5]  # (G, B, T, I_l)
    mask = None if layer == 0 or dropout_masks is None else dropout_masks[layer - 1]
    if mask is not None:
        below = below * mask
    rows = grad_gates.flatten(1, 2)  # (G, B T, 4K)
    grad_ih = torch.bmm(rows.mT, below.to(storage).flatten(1, 2))
    grad_hh = torch.bmm(rows.mT, before.to(storage).flatten(1, 2))
    grad_bias = rows.sum(dim=1, dtype=tape.dtype).to(storage)
    weight_ih = weights[3 * layer]
    grad_below = torch.bmm(rows, weight_ih).view(*input.shape[:2], steps, weight_ih.shape[-1])
    return [grad_ih, grad_hh, grad_bias], grad_below if mask is None else grad_below * mask


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _alive(lengths: Tensor | None, steps: int) -> Tensor | None:
    """``(T, B, 1)``: whether a window still runs at a step."""
    if lengths is None:
        return None
    return (torch.arange(steps, device=lengths.device)[:, None] < lengths)[..., None]
