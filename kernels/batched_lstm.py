"""`batched_lstm` on CUDA devices with gates fused into the products: T + L - 1 Triton launches each way.

Layer l at step t runs beside layer l + 1 at step t - 1 in one launch. The forward keeps no pre-activations; the
backward reads the tape of the forward, and computes the gradients of weights and input as large products over all
steps, which follow torch's own setting for the precision of matrix products. Outputs are allocated here and written
once; nothing waits for the device, so that calls can be captured in a CUDA graph. No caller takes this path by default.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from sgela_fast.kernels.batched_lstm_launch import (
    LOWER_STEPS,
    TAPE_ROWS,
    Gradients,
    Problem,
    States,
    arranged,
    plan_backward,
    plan_forward,
    stack_weights,
)
from sgela_fast.kernels.launch import INTERPRETED, Precision

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def forward(
    input: Tensor,
    weights: Sequence[Tensor],
    packed: Tensor | None = None,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
    lengths: Tensor | None = None,
    dropout_masks: Tensor | None = None,
    save_tape: bool = False,
    *,
    precision: Precision | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, final states and tape of G independent LSTMs, with the arguments of the op's schema.

    Args:
        input: ``(G, B, T, I)``, unit stride in the last dimension, any in the others.
        weights: three a layer, bottom layer first: ``weight_ih (G, 4K, I)`` (``(G, 4K, K)`` above the first layer),
            ``weight_hh (G, 4K, K)`` and ``bias (G, 4K)``, in the dtype of the input.
        packed: not used: the kernels read the weights as they are.
        h0: ``(L, G, B, K)``, zeros if ``None``.
        c0: ``(L, G, B, K)``, zeros if ``None``.
        lengths: ``(B,)`` or ``(G, B)`` int64, or ``None``. More than T counts as T; 0 or less is a row without steps.
        dropout_masks: must be ``None``: dropout between layers is not part of these kernels.
        save_tape: whether a backward follows.
        precision: of float32 products: ``ieee``, ``tf32x3`` or ``tf32``. By default ``tf32`` if torch's setting for
            matrix products on CUDA is that, else ``ieee``.

    Returns:
        ``output (G, B, T, K)``, ``h_n`` and ``c_n (L, G, B, K)`` in the dtype of the input; the tape, float32, flat:
        ``(L, G, B, T, 6, K)`` with i, f, g, o (after sigmoid and tanh), c and h; empty if it is not saved.

    Raises:
        ValueError: shapes, strides, dtypes or devices would make a kernel read out of bounds, or there are dropout
            masks.
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
    flat = input.new_empty(0, dtype=torch.float32) if tape is None else tape.flatten()
    return output, h_n, cells.to(input.dtype), flat


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
    for name, gradient, shape in (
        ("grad_output", grad_output, (groups, batch, steps, hidden)),
        ("grad_h_n", grad_h_n, states),
        ("grad_c_n", grad_c_n, states),
    ):
        _check(name, gradient, shape, input.device)
    if tape.numel() == 0:
        tape = forward(input, weights, None, h0, c0, lengths, None, True, precision=precision)[3]
    rows = problem.layers * groups * batch * steps
    if tape.dtype != torch.float32 or not tape.is_contiguous() or tape.device != input.device:
        raise ValueError(f"tape is {tape.dtype} on {tape.device}; it must be float32, contiguous and beside the input")
    if tape.numel() != rows * TAPE_ROWS * hidden:
        raise ValueError(f"tape has {tape.numel()} elements; it needs {rows * TAPE_ROWS * hidden}")
    tape = tape.view(*states[:3], steps, TAPE_ROWS, hidden)
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
        with _on(input.device):
            for launch in plan_backward(arranged(problem), gradients):
                launch.run()
    grad_h0, grad_c0 = input.new_empty(0), input.new_empty(0)
    if h0 is not None:
        recurrent = torch.stack(list(weights[1::3]))  # (L, G, 4K, K)
        grad_h0 = grad_gates[:, :, :, 0] @ recurrent  # (L, G, B, K)
        if lengths is not None and grad_h_n is not None:  # a row without steps passes on what it is given
            grad_h0 = torch.where((lengths > 0)[..., None], grad_h0, grad_h_n)
    if c0 is not None:
        grad_c0 = grad_cells.to(c0.dtype)
    grad_input = (grad_gates[0].flatten(1, 2) @ weights[0]).view(input.shape)  # (G, B, T, I)
    return grad_input, grad_h0, grad_c0, _weight_gradients(problem, tape, grad_gates)


def _weight_gradients(problem: Problem, tape: Tensor, grad_gates: Tensor) -> list[Tensor]:
    """Three a layer, from the gates' gradients (L, G, B, T, 4K): products over all windows and steps."""
    x = problem.input
    gradients: list[Tensor] = []
    below = x.flatten(1, 2)  # (G, B T, I), then (G, B T, K)
    for layer in range(problem.layers):
        gates = grad_gates[layer].flatten(1, 2)  # (G, B T, 4K)
        h = tape[layer, :, :, :, TAPE_ROWS - 1].to(x.dtype)  # (G, B, T, K)
        first = torch.zeros_like(h[:, :, :1]) if problem.h0 is None else problem.h0[layer][:, :, None]
        before = torch.cat([first, h[:, :, :-1]], dim=2).flatten(1, 2)  # (G, B T, K)
        gradients += [gates.mT @ below, gates.mT @ before, gates.sum(1)]
        below = h.flatten(1, 2)
    return gradients


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
    if input.dim() != 4 or input.shape[2] < 1:
        raise ValueError(f"input has shape {tuple(input.shape)}; it needs (G, B, T, I) with one step or more")
    if not weights or len(weights) % 3:
        raise ValueError(f"there are {len(weights)} weights; there must be three a layer")
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
