"""The gate kernels' contract in plain PyTorch, to run what launches them where there is no CUDA device.

``tests/csrc/test_batched_lstm_cuda_compile.py`` holds the kernels' own source to the same equations.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sgela_fast.kernels import batched_lstm_gates
from sgela_fast.ops._lstm_products import Activated
from sgela_fast.ops._lstm_products import gates_backward as exact_backward
from sgela_fast.ops._lstm_products import gates_forward as exact_forward


def _check(gates: Tensor, storage: list[Tensor | None], exact: list[Tensor | None]) -> None:
    """What the C++ side of the kernels refuses: other shapes and dtypes, and rows without unit stride."""
    rows = (*gates.shape[:2], gates.shape[2] // 4)
    for tensors, dtype in ((storage, gates.dtype), (exact, torch.float32)):
        for tensor in tensors:
            if tensor is not None:
                assert tensor.dtype == dtype
                assert tensor.shape == rows
                assert tensor.shape[2] <= 1 or tensor.stride(2) == 1


def _alive(like: Tensor, lengths: Tensor | None, step: int) -> Tensor:
    """``(G, B, 1)``: whether a row still runs."""
    alive = torch.ones(like.shape[:2], dtype=torch.bool) if lengths is None else (step < lengths).expand(like.shape[:2])
    return alive[..., None]


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
    """As ``sgela_fast.kernels.batched_lstm_gates.gates_forward``."""
    _check(gates, [previous_h, h, output], [previous_c, c])
    alive = _alive(gates, lengths, step)
    before_h = torch.zeros_like(h) if previous_h is None else previous_h.clone()
    before_c = torch.zeros_like(c) if previous_c is None else previous_c.clone()
    result = exact_forward(gates.float(), before_c)
    new_h, new_c = torch.where(alive, result.h.to(h.dtype), before_h), torch.where(alive, result.c, before_c)
    h.copy_(new_h)
    c.copy_(new_c)
    if output is not None:
        output.copy_(torch.where(alive, new_h, torch.zeros_like(new_h)))
    if tape is not None:
        assert tape.stride(2) == tape.shape[3]
        tape.copy_(torch.stack((*result[:4], new_c, new_h.float()), dim=2))


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
    """As ``sgela_fast.kernels.batched_lstm_gates.gates_backward``."""
    _check(grad_gates, [grad_output], [previous_c, grad_h, grad_c, grad_previous_c, grad_previous_h])
    alive = _alive(grad_gates, lengths, step)
    zeros = torch.zeros_like(grad_previous_c)
    before_c, reaching_h, reaching_c = (zeros if t is None else t.clone() for t in (previous_c, grad_h, grad_c))
    reaching = reaching_h if grad_output is None else reaching_h + grad_output.float()
    through, to_c = exact_backward(Activated(*tape.unbind(2)), before_c, reaching, reaching_c)
    grad_gates.copy_(torch.where(alive, through, torch.zeros_like(through)))
    grad_previous_c.copy_(torch.where(alive, to_c, reaching_c))
    if grad_previous_h is not None:
        grad_previous_h.copy_(torch.where(alive, zeros, reaching_h))


def emulate_gate_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one test, run these in place of the compiled kernels, which count as built."""
    monkeypatch.setattr(batched_lstm_gates, "gates_forward", gates_forward)
    monkeypatch.setattr(batched_lstm_gates, "gates_backward", gates_backward)
    monkeypatch.setattr(batched_lstm_gates, "available", lambda: True)
