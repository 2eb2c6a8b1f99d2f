"""`batched_lstm` on CUDA devices with gates fused into the products: T + L - 1 Triton launches each way.

Layer l at step t runs beside layer l + 1 at step t - 1 in one launch. The forward keeps no pre-activations; the backward
reads the tape of the forward, and computes the gradients of weights and input as large products over all steps, which
follow torch's own setting for the precision of matrix products. Outputs are allocated here and written once; nothing
waits for the device, so that calls can be captured in a CUDA graph. Never run on a GPU yet: interpreter and
ahead-of-time compilation only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from sgela_fast.kernels.batched_lstm_launch import (
    INTERPRETED,
    LOWER_STEPS,
    TAPE_ROWS,
    Gradients,
    Precision,
    Problem,
    States,
    plan_backward,
    plan_forward,
    stack_weights,
    transposed,
)

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def forward(
    input: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    lengths: Tensor | None = None,
    dropout_masks: Tensor | None = None,
    save_tape: bool = False,
    *,
    precision: Precision | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, final states and tape of G independent LSTMs.

    Args:
        input: ``(G, B, T, I)``, unit stride in the last dimension, any in the others.
        weights: three a layer, bottom layer first: ``weight_ih (G, 4K, I)`` (``(G, 4K, K)`` above the first layer),
            ``weight_hh (G, 4K, K)`` and ``bias (G, 4K)``, in the dtype of the input.
        h0: ``(L, G, B, K)``, zeros if ``None``.
        c0: ``(L, G, B, K)``, zeros if ``None``.
        lengths: ``(B,)`` or ``(G, B)`` int64 in 1..T (what lies outside counts as the nearest inside), or ``None``.
        dropout_masks: must be ``None``: dropout between layers is not part of these kernels.
        save_tape: whether a backward follows.
        precision: of float32 products: ``ieee``, ``tf32x3`` or ``tf32``. By default ``tf32`` if torch's setting for
            matrix products on CUDA is that, else ``ieee``.

    Returns:
        ``output (G, B, T, K)``, ``h_n`` and ``c_n (L, G, B, K)`` in the dtype of the input; the tape, float32
        ``(L, G, B, T, 6, K)`` with i, f, g, o (after sigmoid and tanh), c and h, or empty ``(0,)`` without one.

    Raises:
        ValueError: shapes, strides, dtypes or devices would make a kernel read out of bounds, or there are dropout masks.
    """
    problem = _problem(input, weights, h0, c0, lengths, dropout_masks, precision)
    groups, batch, steps, hidden = (*input.shape[:3], problem.hidden)
    states = (problem.layers, groups, batch, hidden)
    output = input.new_empty(groups, batch, steps, hidden)
    h_n = input.new_empty(states)
    cells = input.new_empty(states, dtype=torch.float32)
    tape = input.new_empty(*states[:3], steps, TAPE_ROWS, hidden, dtype=torch.float32) if save_tape else None
    if output.numel():
        lower = (
            input.new_empty(problem.layers - 1, groups, batch, LOWER_STEPS, hidden) if problem.layers > 1 else output
        )
        with _on(input.device):
            for launch in plan_forward(problem, States(output, h_n, cells, lower, tape)):
                launch.run()
    return output, h_n, cells.to(input.dtype), input.new_empty(0, dtype=torch.float32) if tape is None else tape


def backward(
    grad_output: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    input: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    dropout_masks: Tensor | None,
    output: Tensor,
    tape: Tensor,
    *,
    precision: Precision | None = None,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Gradients of input, initial states and weights.

    Args:
        grad_output: ``(G, B, T, K)``, any strides, or ``None`` for zeros.
        grad_h_n: ``(L, G, B, K)``, any strides, or ``None`` for zeros.
        grad_c_n: likewise.
        input: as in :func:`forward`, like all that is not named here.
        output: of the forward; not read.
        tape: of the forward. An empty one is computed again.

    Returns:
        ``grad_input``, ``grad_h0`` and ``grad_c0`` (empty ``(0,)`` where there is no initial state), and one gradient
        for each of the weights; contiguous, in the dtype of what they belong to.

    Raises:
        ValueError: as :func:`forward`.
    """
    problem = _problem(input, weights, h0, c0, lengths, dropout_masks, precision)
    groups, batch, steps, hidden = (*input.shape[:3], problem.hidden)
    states = (problem.layers, groups, batch, hidden)
    tape_shape = (*states[:3], steps, TAPE_ROWS, hidden)
    for name, gradient, shape in (
        ("grad_output", grad_output, (groups, batch, steps, hidden)),
        ("grad_h_n", grad_h_n, states),
        ("grad_c_n", grad_c_n, states),
    ):
        _check(name, gradient, shape, input.device)
    if tape.numel() == 0:
        tape = forward(input, weights, h0, c0, lengths, None, True, precision=precision)[3]
    _check("tape", tape, tape_shape, input.device)
    if tape.dtype != torch.float32 or not tape.is_contiguous():
        raise ValueError(f"tape is {tape.dtype}; it must be float32 and contiguous")
    grad_gates = input.new_empty(*states[:3], steps, 4 * hidden)
    grad_cells = input.new_empty(states, dtype=torch.float32)
    if grad_gates.numel():
        gradients = Gradients(
            tape,
            grad_output,
            None if grad_h_n is None else grad_h_n.contiguous(),
            None if grad_c_n is None else grad_c_n.contiguous(),
            grad_gates,
            grad_cells,
        )
        # Matrix units take 16-bit operands in either order, float32 ones only with the summed dimension contiguous.
        on_units = problem.arithmetic in ("tf32", "tf32x3")
        arranged = problem._replace(weights=transposed(problem.weights)) if on_units else problem
        with _on(input.device):
            for launch in plan_backward(arranged, gradients):
                launch.run()
    return _large_products(problem, weights, h0, c0, tape, grad_gates, grad_cells)


def _large_products(
    problem: Problem,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    tape: Tensor,
    grad_gates: Tensor,
    grad_cells: Tensor,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """What follows from the gates' gradients (L, G, B, T, 4K) without any recurrence."""
    x = problem.input
    gates = grad_gates.flatten(2, 3)  # (L, G, B T, 4K)
    grad_weights: list[Tensor] = []
    below = x.flatten(1, 2)  # (G, B T, I), then (G, B T, K)
    for layer in range(problem.layers):
        h = tape[layer, :, :, :, TAPE_ROWS - 1].to(x.dtype)  # (G, B, T, K)
        first = torch.zeros_like(h[:, :, :1]) if problem.h0 is None else problem.h0[layer][:, :, None]
        before = torch.cat([first, h[:, :, :-1]], dim=2).flatten(1, 2)  # (G, B T, K)
        grad_weights += [gates[layer].mT @ below, gates[layer].mT @ before, gates[layer].sum(1)]
        below = h.flatten(1, 2)
    grad_input = (gates[0] @ weights[0]).view(x.shape)
    grad_h0, grad_c0 = x.new_empty(0), x.new_empty(0)
    if h0 is not None:
        recurrent = torch.stack(list(weights[1::3]))  # (L, G, 4K, K)
        grad_h0 = (grad_gates[:, :, :, 0] @ recurrent).to(h0.dtype)  # (L, G, B, K)
    if c0 is not None:
        grad_c0 = grad_cells.to(c0.dtype)
    return grad_input, grad_h0, grad_c0, grad_weights


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device; make that the tensors' one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _problem(
    input: Tensor,
    weights: Sequence[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    dropout_masks: Tensor | None,
    precision: Precision | None,
) -> Problem:
    """The checked arguments as the kernels take them."""
    if dropout_masks is not None:
        raise ValueError("dropout_masks must be None: the fused kernels have no dropout between layers")
    if input.dim() != 4 or not weights or len(weights) % 3:
        raise ValueError(
            f"input has {input.dim()} dimensions and there are {len(weights)} weights; it needs 4 and 3 a layer"
        )
    if input.dtype not in _DTYPES:
        raise ValueError(f"input is {input.dtype}; it must be float32, bfloat16 or float16")
    if input.shape[3] > 1 and input.stride(3) != 1:
        raise ValueError(f"input has stride {input.stride(3)} in its last dimension; it must be 1")
    if input.device.type != "cuda" and not INTERPRETED:
        raise ValueError(f"input is on {input.device}; the Triton kernels need a CUDA device")
    groups, batch, _, features = input.shape
    hidden, layers = weights[1].shape[-1], len(weights) // 3
    for index, tensor in enumerate(weights):
        width = features if index == 0 else hidden
        shape = (groups, 4 * hidden) if index % 3 == 2 else (groups, 4 * hidden, width)
        _check(f"weights[{index}]", tensor, shape, input.device)
        if tensor.dtype != input.dtype:
            raise ValueError(f"weights[{index}] is {tensor.dtype} and input {input.dtype}")
    for name, state in (("h0", h0), ("c0", c0)):
        _check(name, state, (layers, groups, batch, hidden), input.device)
    if lengths is not None:
        _check("lengths", lengths, (groups, batch) if lengths.dim() == 2 else (batch,), input.device)
        if lengths.dtype != torch.int64:
            raise ValueError(f"lengths is {lengths.dtype}; it must be int64")
    return Problem(
        input,
        stack_weights(list(weights)),
        layers,
        None if h0 is None else h0.to(input.dtype).contiguous(),
        None if c0 is None else c0.float().contiguous(),
        lengths,
        precision,
    )


def _check(name: str, tensor: Tensor | None, shape: tuple[int, ...], device: torch.device) -> None:
    if tensor is None:
        return
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it needs {tuple(shape)}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device} and input on {device}")
