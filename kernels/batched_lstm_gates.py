"""Schemas of the gate ops of ``csrc/batched_lstm/gates.cu``: one launch for the gates of all groups at one step.

They stand between torch's batched products in the path of `batched_lstm` that needs no Triton. The extension registers
them for CUDA alone, and only where it was built with nvcc; :func:`available` says whether it was. Importing this module
defines the schemas, so it must be imported after the extension was loaded, if there is one. Never run on a GPU yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("sgela_fast", "FRAGMENT")
_LIBRARY.define(
    "lstm_gates_forward(Tensor gates, Tensor? previous_h, Tensor? previous_c, Tensor? lengths, int step, "
    "Tensor(a!) h, Tensor(b!) c, Tensor(c!)? output, Tensor(d!)? tape) -> ()"
)
_LIBRARY.define(
    "lstm_gates_backward(Tensor tape, Tensor? previous_c, Tensor? grad_output, Tensor? grad_h, Tensor? grad_c, "
    "Tensor? lengths, int step, Tensor(a!) grad_gates, Tensor(b!)? grad_previous_h, Tensor(c!) grad_previous_c) -> ()"
)
_NAMES = ("lstm_gates_forward", "lstm_gates_backward")


def available() -> bool:
    """Whether the loaded extension holds the CUDA kernels."""
    return all(torch._C._dispatch_has_kernel_for_dispatch_key(f"sgela_fast::{name}", "CUDA") for name in _NAMES)


def gates_forward(
    gates: Tensor,
    previous_h: Tensor | None,
    previous_c: Tensor | None,
    h: Tensor,
    c: Tensor,
    *,
    output: Tensor | None = None,
    tape: Tensor | None = None,
    lengths: Tensor | None = None,
    step: int = 0,
) -> None:
    """Write the new states of one step, and if asked for the step's output and tape.

    All tensors have any strides but in the last dimension (of the tape: in the last two), so that slices of a sequence
    can be given. Storage dtype S: float32, bfloat16 or float16.

    Args:
        gates: pre-activations ``(G, B, 4K)``, S.
        previous_h: ``(G, B, K)``, S, or ``None`` for zeros; read only behind a row's end.
        previous_c: ``(G, B, K)`` float32, or ``None`` for zeros.
        h: written, ``(G, B, K)``, S; the previous one behind a row's end. May be ``previous_h`` itself.
        c: written, ``(G, B, K)`` float32; likewise. May be ``previous_c`` itself.
        output: written if given, ``(G, B, K)``, S: ``h``, and 0 behind a row's end.
        tape: written if given, ``(G, B, 6, K)`` float32: i, f, g, o after their functions, ``c``, ``h``.
        lengths: ``(B,)`` or ``(G, B)`` int64, or ``None``.
        step: of this call, from 0 on; a row is alive while it is less than its length.
    """
    torch.ops.sgela_fast.lstm_gates_forward(gates, previous_h, previous_c, lengths, step, h, c, output, tape)


def gates_backward(
    tape: Tensor,
    previous_c: Tensor | None,
    grad_output: Tensor | None,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    grad_gates: Tensor,
    grad_previous_c: Tensor,
    *,
    grad_previous_h: Tensor | None = None,
    lengths: Tensor | None = None,
    step: int = 0,
) -> None:
    """Write the gradients of one step's pre-activations and previous states.

    Args:
        tape: of the forward, ``(G, B, 6, K)`` float32.
        previous_c: ``(G, B, K)`` float32, or ``None`` for zeros.
        grad_output: ``(G, B, K)``, S, or ``None``: of the step's output; it does not count behind a row's end.
        grad_h: ``(G, B, K)`` float32, or ``None``: of the step's state h.
        grad_c: ``(G, B, K)`` float32, or ``None``: of the step's state c.
        grad_gates: written, ``(G, B, 4K)``, S; 0 behind a row's end.
        grad_previous_c: written, ``(G, B, K)`` float32. May be ``grad_c`` itself.
        grad_previous_h: written if given, ``(G, B, K)`` float32: ``grad_h`` behind a row's end and 0 before it; the
            product of ``grad_gates`` with the recurrent weights is to be added. May be ``grad_h`` itself.
        lengths: as in :func:`gates_forward`.
        step: likewise.
    """
    torch.ops.sgela_fast.lstm_gates_backward(
        tape, previous_c, grad_output, grad_h, grad_c, lengths, step, grad_gates, grad_previous_h, grad_previous_c
    )
