"""What packed weights of batched_lstm and attention_decoder share: precisions, and how weights are rounded to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from sgela_fast.reference.int8 import Int8Matrix, Matrix, quantise

Precision = Literal["full", "bfloat16", "int8"]
_REDUCIBLE = (torch.float32, torch.bfloat16, torch.float16)
_REDUCTIONS: dict[str, Callable[[Tensor], Matrix]] = {
    "bfloat16": lambda weight: weight.to(torch.bfloat16).contiguous(),
    "int8": quantise,
}


def reduction(precision: str) -> Callable[[Tensor], Matrix]:
    """How a matrix of weights is rounded to ``bfloat16`` or ``int8``."""
    return _REDUCTIONS[precision]


def check_precision(precision: str, named: Iterable[tuple[str, Tensor | None]]) -> None:
    """Raise ValueError for an unknown precision, or for weights that cannot be rounded to it."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}; choose full, bfloat16 or int8")
    if precision == "full":
        return
    for name, tensor in named:
        if tensor is None:
            continue
        if tensor.dtype not in _REDUCIBLE:
            raise ValueError(f"{name} is {tensor.dtype}; precision {precision!r} takes float32, bfloat16 and float16")
        if precision == "int8" and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds NaN or infinity, which int8 cannot; mend the weights or pack them 'full'")


def refuse_gradients(op: str, tensors: Iterable[Tensor | None]) -> None:
    """Raise RuntimeError if a gradient of ``op`` with packed weights is wanted."""
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        raise RuntimeError(
            f"{op} has no gradients with packed weights: call it under torch.no_grad(), or give the weights themselves"
        )


def snapshot(tensor: Tensor) -> Tensor:
    """A contiguous copy that no later change of ``tensor`` reaches."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def values_and_scales(matrices: Sequence[Matrix]) -> list[Tensor]:
    """Two tensors a matrix, as the ops take them: values, and scales (empty for floating-point matrices)."""
    flat: list[Tensor] = []
    for matrix in matrices:
        if isinstance(matrix, Int8Matrix):
            flat += [matrix.values, matrix.scale]
        else:
            flat += [matrix, matrix.new_empty(0, dtype=torch.float32)]
    return flat
