"""batched_lstm on CUDA devices: batched matrix products of torch, one launch of the gate kernel between two of them.

The input's share of the gates is one product over all groups and steps; each step adds the recurrent product of all
groups in place and has the compiled kernel (``csrc/batched_lstm/gates.cu``) make gates, cell and state of it. For L
layers and T steps that is L (2 T + 1) launches and a few copies. Nothing waits for the device, so that a CUDA graph can
capture it. Storage dtypes float32, bfloat16 and float16; gates, cell state and tape are float32. Never run on a GPU.

The tape is that of ``_lstm_products``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sgela_fast.kernels import batched_lstm_gates as kernel
from sgela_fast.ops._lstm_products import TAPE_ROWS, layer_gradients


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
    layers, hidden = len(weights) // 3, weights[1].shape[-1]
    h_n = input.new_empty(layers, groups, batch, hidden)
    cells = input.new_empty(layers, groups, batch, hidden, dtype=torch.float32)
    shape = (layers, groups, batch, steps, TAPE_ROWS, hidden) if save_tape else (0,)
    tape = input.new_empty(shape, dtype=torch.float32)
    first_c = None if c0 is None else c0.float().contiguous()
    sequence = input  # (G, B, T, I), then (G, B, T, K)
    for layer in range(layers):
        weight_ih, weight_hh, bias = weights[3 * layer : 3 * layer + 3]
        projected = torch.baddbmm(bias[:, None], sequence.flatten(1, 2), weight_ih.mT)  # (G, B T, 4K)
        projected = projected.view(groups, batch, steps, 4 * hidden)
        sequence = input.new_empty(groups, batch, steps, hidden)
        h = None if h0 is None else h0[layer].contiguous()
        c = None if first_c is None else first_c[layer]
        for t in range(steps):
            gates, here = projected[:, :, t], sequence[:, :, t]  # (G, B, 4K), (G, B, K)
            if h is not None:  # zeros add nothing
                gates.baddbmm_(h, weight_hh.mT)
            # Without lengths the output is the state; with them it is 0 behind a row's end, where the state stays.
            new_h, output = (here, None) if lengths is None else (h_n[layer], here)
            taped = tape[layer, :, :, t] if save_tape else None
            kernel.gates_forward(gates, h, c, new_h, cells[layer], output=output, tape=taped, lengths=lengths, step=t)
            h, c = new_h, cells[layer]
        if lengths is None:
            h_n[layer] = sequence[:, :, -1]
        if dropout_masks is not None and layer + 1 < layers:
            sequence = (sequence * dropout_masks[layer]).to(input.dtype)
    return sequence, h_n, cells.to(input.dtype), tape.flatten()


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
    layers, hidden = len(weights) // 3, weights[1].shape[-1]
    if tape.numel() == 0:
        tape = forward(input, weights, None, h0, c0, lengths, dropout_masks, True)[3]
    tape = tape.view(layers, groups, batch, steps, TAPE_ROWS, hidden)
    grad_h0 = input.new_empty((0,) if h0 is None else h0.shape)
    grad_c0 = input.new_empty((0,) if c0 is None else c0.shape)
    grad_weights: list[Tensor] = [*weights]
    first_c = None if c0 is None else c0.float().contiguous()
    grad_sequence = grad_output  # (G, B, T, K)
    for layer in reversed(range(layers)):
        weight_hh = weights[3 * layer + 1]
        if grad_sequence is not None:  # masks leave it in float32
            grad_sequence = grad_sequence.to(input.dtype)
            grad_sequence = grad_sequence if grad_sequence.stride(-1) == 1 else grad_sequence.contiguous()
        grad_h = None if grad_h_n is None else grad_h_n[layer].float().contiguous()
        grad_c = None if grad_c_n is None else grad_c_n[layer].float().contiguous()
        grad_gates = input.new_empty(groups, batch, steps, 4 * hidden)
        for t in reversed(range(steps)):
            before_c = None if first_c is None else first_c[layer]
            if t > 0:
                before_c = tape[layer, :, :, t - 1, 4]
            grad_before_c = input.new_empty(groups, batch, hidden, dtype=torch.float32)
            # What passes by the gates is 0 but behind a row's end.
            passing = None if lengths is None else torch.empty_like(grad_before_c)
            here = None if grad_sequence is None else grad_sequence[:, :, t]
            kernel.gates_backward(
                tape[layer, :, :, t], before_c, here, grad_h, grad_c, grad_gates[:, :, t], grad_before_c,
                grad_previous_h=passing, lengths=lengths, step=t,
            )  # fmt: skip
            grad_c, grad_h = grad_before_c, passing
            if t > 0 or h0 is not None:
                recurrent = torch.bmm(grad_gates[:, :, t], weight_hh).float()  # (G, B, K)
                grad_h = recurrent if passing is None else passing.add_(recurrent)
        if h0 is not None:
            assert grad_h is not None
            grad_h0[layer] = grad_h
        if c0 is not None:
            assert grad_c is not None
            grad_c0[layer] = grad_c
        grad_weights[3 * layer : 3 * layer + 3], grad_sequence = layer_gradients(
            layer, grad_gates, tape, input, weights, h0, dropout_masks
        )
    assert grad_sequence is not None  # there is at least one layer
    return grad_sequence, grad_h0, grad_c0, grad_weights
