"""batched_lstm under ``torch.func.vmap``: the mapped dimension becomes more windows, or more groups.

Where no weight is mapped, V calls are one call with V B windows; where weights are, one with V G groups. Gradients of
weights that are not mapped differ from call to call all the same, so the backward pass always takes V G groups. Lengths
are shared by the groups: if they are mapped and groups are needed, V calls are V calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgela_fast.ops._library import Schema

Rule = Callable[..., tuple[Any, Any]]


def forward_rule(op: Schema) -> Rule:
    """Batching rule of the forward op. The tape keeps the layout of the inner call; no outer backward pass reads it."""

    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        input, weights, _packed, h0, c0, lengths, masks, save_tape = arguments
        groups_differ = any(dim is not None for dim in in_dims[1])
        if groups_differ and in_dims[5] is not None:
            results = [op.overload(*_selected(arguments, in_dims, v)) for v in range(size)]
            stacked = [torch.stack(tensors) for tensors in list(zip(*results, strict=True))[:3]]
            return (*stacked, input.new_empty(0)), (0, 0, 0, None)
        axis = 0 if groups_differ else 1  # of (G, B, ...)
        if groups_differ:
            weights = [_fold(weight, dim, size, 0) for weight, dim in zip(weights, in_dims[1], strict=True)]
        elif lengths is not None:
            lengths = _fold(lengths, in_dims[5], size, 0)
        folded_h0, folded_c0 = _fold(h0, in_dims[3], size, axis + 1), _fold(c0, in_dims[4], size, axis + 1)
        output, h_n, c_n, tape = op.overload(
            _fold(input, in_dims[0], size, axis),
            weights,
            None,
            folded_h0,
            folded_c0,
            lengths,
            _fold(masks, in_dims[6], size, axis + 1),
            save_tape,
        )
        unfolded = _unfold(output, size, axis), _unfold(h_n, size, axis + 1), _unfold(c_n, size, axis + 1)
        return (*unfolded, tape), (axis, axis + 1, axis + 1, None)

    return rule


def backward_rule(op: Schema) -> Rule:
    """Batching rule of the backward op. The tape is computed anew: the one at hand may be laid out for V B windows."""

    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        *_, tape = arguments
        arguments, in_dims = (*arguments[:-1], tape.new_empty(0)), (*in_dims[:-1], None)
        absent = arguments[5] is None, arguments[6] is None  # h0, c0
        if in_dims[7] is not None:
            results = [op.overload(*_selected(arguments, in_dims, v)) for v in range(size)]
            grad_input, grad_h0, grad_c0 = (torch.stack([result[i] for result in results]) for i in range(3))
            grad_weights = [torch.stack(tensors) for tensors in zip(*(result[3] for result in results), strict=True)]
            return (grad_input, grad_h0, grad_c0, grad_weights), (0, 0, 0, [0] * len(grad_weights))
        weights = [_fold(weight, dim, size, 0) for weight, dim in zip(arguments[4], in_dims[4], strict=True)]
        groups_at = (0, 1, 1, 0, None, 1, 1, None, 1, 0, None)  # of each argument
        folded = [
            argument
            if axis is None or argument is None or isinstance(argument, list)
            else _fold(argument, dim, size, axis)
            for argument, dim, axis in zip(arguments, in_dims, groups_at, strict=True)
        ]
        folded[4] = weights
        grad_input, grad_h0, grad_c0, grad_weights = op.overload(*folded)
        states = [
            gradient if missing else _unfold(gradient, size, 1)
            for gradient, missing in zip((grad_h0, grad_c0), absent, strict=True)
        ]
        unfolded = [_unfold(gradient, size, 0) for gradient in grad_weights]
        dims = [None if missing else 1 for missing in absent]
        return (_unfold(grad_input, size, 0), *states, unfolded), (0, *dims, [0] * len(unfolded))

    return rule


def _fold(tensor: Tensor | None, dim: int | None, size: int, axis: int) -> Any:
    """Merge the mapped dimension into the one at ``axis``, as its slower part."""
    if tensor is None:
        return None
    if dim is None:
        mapped = tensor.unsqueeze(axis).expand(*tensor.shape[:axis], size, *tensor.shape[axis:])
    else:
        mapped = tensor.movedim(dim, axis)
    return mapped.flatten(axis, axis + 1)


def _unfold(tensor: Tensor, size: int, axis: int) -> Tensor:
    return tensor.unflatten(axis, (size, tensor.shape[axis] // size))


def _selected(arguments: Sequence[Any], dims: Sequence[Any], index: int) -> list[Any]:
    """The arguments of one of the mapped calls."""

    def select(argument: Any, dim: Any) -> Any:
        if isinstance(argument, (list, tuple)):
            return [select(tensor, one) for tensor, one in zip(argument, dim, strict=True)]
        return argument if dim is None else argument.select(dim, index)

    return [select(argument, dim) for argument, dim in zip(arguments, dims, strict=True)]
