"""Run locality_attention's Triton kernels on CPU tensors, in the interpreter, behind the same public function."""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from sgela_fast.ops import locality_attention as op


class _Overload(NamedTuple):
    name: str
    overload: Any


def interpret_locality_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one test, put the Triton kernels where the op's registered implementation is called."""
    if torch.cuda.is_available():
        pytest.skip("the interpreter is for machines without a GPU; this one runs the compiled kernels")
    kernels = importlib.import_module("sgela_fast.kernels.locality_attention")
    assert kernels.INTERPRETED, "TRITON_INTERPRET was not set before the kernels were imported"

    class Interpreted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            output = op._on_cuda("forward", *inputs)
            op._save_for_backward(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return op._differentiate(ctx, *gradients)

    monkeypatch.setattr(op, "FORWARD", _Overload("interpreted", Interpreted.apply))
    monkeypatch.setattr(op, "BACKWARD", _Overload("interpreted backward", functools.partial(op._on_cuda, "backward")))
    # The kernels see tensors as the registered op would.
    monkeypatch.setattr(op._library, "is_transformed", lambda: True)
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", None)
