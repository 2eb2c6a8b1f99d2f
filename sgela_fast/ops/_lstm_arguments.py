"""Arguments of batched_lstm: what is refused, and the drawing of dropout masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgela_fast.ops._attention_arguments import BACKENDS
from sgela_fast.ops._lengths import check_lengths
from sgela_fast.ops._library import autocasts
from sgela_fast.reference.batched_lstm import LSTMLayer

_ROUNDED_BY_AUTOCAST = (torch.float32, torch.bfloat16, torch.float16)


def check_settings(dropout: float, backend: str) -> None:
    """Raise ValueError for a setting that is unknown or out of range."""
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout is {dropout}; it is a probability, from 0 to 1")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose auto, reference or fused")


def check_weights(layers: Sequence[LSTMLayer]) -> None:
    """Raise ValueError unless the weights are those of LSTMs of one shape, layer on layer."""
    if isinstance(layers, torch.nn.Module):
        kind = type(layers).__name__
        raise ValueError(
            f"weights is a {kind}; give one (weight_ih, weight_hh, bias) a layer, as BatchedLSTM.weights()"
        )
    if not layers:
        raise ValueError("weights has no layer; it needs weight_ih, weight_hh and bias of one layer or more")
    for index, layer in enumerate(layers):
        if len(layer) != 3:
            raise ValueError(f"weights[{index}] has {len(layer)} tensors; it needs weight_ih, weight_hh and bias")
    first = layers[0]
    if first[0].dim() != 3 or first[1].dim() != 3:
        shapes = f"{tuple(first[0].shape)} and {tuple(first[1].shape)}"
        raise ValueError(f"weight_ih and weight_hh of layer 0 are {shapes}; they need (G, 4K, I) and (G, 4K, K)")
    groups, inputs, hidden = first[0].shape[0], first[0].shape[2], first[1].shape[2]
    if min(groups, inputs, hidden) < 1:
        raise ValueError(f"weights are for G = {groups}, I = {inputs}, K = {hidden}; each must be 1 or more")
    for index, layer in enumerate(layers):
        columns = inputs if index == 0 else hidden
        wanted = ((groups, 4 * hidden, columns), (groups, 4 * hidden, hidden), (groups, 4 * hidden))
        for name, tensor, shape in zip(LSTMLayer._fields, layer, wanted, strict=True):
            if tensor.shape != shape:
                meaning = f"{shape}, for G = {groups}, I = {inputs}, K = {hidden}"
                raise ValueError(f"{name} of layer {index} has shape {tuple(tensor.shape)}; it needs {meaning}")


def check_tensors(
    input: Tensor, layers: Sequence[LSTMLayer], state: tuple[Tensor, Tensor] | None, lengths: Tensor | None
) -> None:
    """Raise ValueError for tensors whose shapes, dtypes or devices do not fit the (checked) weights."""
    groups, _, inputs = layers[0][0].shape
    check_shapes(input, (groups, inputs, layers[0][1].shape[2], len(layers)), state, lengths)
    dtype, device = input.dtype, input.device
    others = [tensor for layer in layers for tensor in layer]
    others += state or ()
    if any([tensor.dtype != dtype or tensor.device != device for tensor in others]):  # noqa: C419
        _check_dtypes_and_devices(input, layers, state)


def check_shapes(
    input: Tensor, sizes: tuple[int, int, int, int], state: Sequence[Tensor] | None, lengths: Tensor | None
) -> None:
    """Raise ValueError for tensors that do not fit weights of the ``sizes`` G, I, K and L, but for dtype and device."""
    groups, inputs, hidden, layers = sizes
    if input.dim() != 4 or input.shape[0] != groups or input.shape[3] != inputs:
        needed = f"(G, B, T, I) = ({groups}, B, T, {inputs})"
        raise ValueError(f"input has shape {tuple(input.shape)}; by the weights it needs {needed}")
    batch, steps = input.shape[1], input.shape[2]
    if steps < 1:
        raise ValueError(f"input has shape {tuple(input.shape)}: no steps; T must be 1 or more")
    if state is not None:
        if len(state) != 2:
            raise ValueError(f"initial_state has {len(state)} tensors; it needs two, h and c")
        shape = (layers, groups, batch, hidden)
        for name, tensor in zip(("h", "c"), state, strict=True):
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{name} of initial_state is {tensor!r}; give two tensors, or None in place of both")
            if tensor.shape != shape:
                found = tuple(tensor.shape)
                raise ValueError(f"{name} of initial_state has shape {found}; it needs (L, G, B, K) = {shape}")
    if lengths is not None:
        check_lengths(lengths, batch, "B", "groups", "input", input)
    if not input.is_floating_point():
        raise ValueError(f"input is {input.dtype}; it must be a floating-point tensor")


def _check_dtypes_and_devices(input: Tensor, layers: Sequence[LSTMLayer], state: tuple[Tensor, Tensor] | None) -> None:
    """Name the tensor that differs from the input; under autocast the dtypes that it rounds may differ."""
    named = [
        (f"{name} of layer {index}", tensor)
        for index, layer in enumerate(layers)
        for name, tensor in zip(LSTMLayer._fields, layer, strict=True)
    ]
    named += [(f"{name} of initial_state", tensor) for name, tensor in zip(("h", "c"), state or (), strict=False)]
    rounded = autocasts(input.device.type)
    for name, tensor in named:
        both = tensor.dtype in _ROUNDED_BY_AUTOCAST and input.dtype in _ROUNDED_BY_AUTOCAST
        if tensor.dtype != input.dtype and not (rounded and both):
            raise ValueError(f"{name} is {tensor.dtype} and input {input.dtype}; convert one of them")
        if tensor.device != input.device:
            raise ValueError(f"{name} is on {tensor.device} and input on {input.device}; move one of them")


def draw_dropout_masks(shape: tuple[int, ...], dropout: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Multipliers of expectation 1: 0 with probability ``dropout``, else 1 / (1 - dropout).

    One seed of torch's generator draws the same elements for every dtype.
    """
    kept = 1.0 - dropout
    if kept == 0:
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.bernoulli(torch.full(shape, kept, dtype=torch.float32, device=device)).to(dtype) / kept
