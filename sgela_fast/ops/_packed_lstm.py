"""Weights of batched_lstm packed once, by hand: no look-up and no gradients, also with bfloat16 or int8 weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from sgela_fast.ops import _library, _lstm_arguments
from sgela_fast.ops._lstm_packing import EXACT, PACK
from sgela_fast.ops._packed_weights import (
    Precision,
    check_precision,
    reduction,
    refuse_gradients,
    snapshot,
    values_and_scales,
)
from sgela_fast.reference import int8 as reduced_reference
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState
from sgela_fast.reference.int8 import ReducedLayer

# Per layer weight_ih, its scales, weight_hh, its scales and bias. Scales are empty for floating-point weights.
REDUCED = _library.define(
    "batched_lstm_reduced(Tensor input, Tensor[] weights, Tensor? packed, Tensor? h0, Tensor? c0, Tensor? lengths) "
    "-> (Tensor output, Tensor h_n, Tensor c_n)"
)
_TENSORS_A_LAYER = 5
_KINDS = {"full": EXACT, "bfloat16": 1, "int8": 2}


@dataclass(frozen=True, eq=False, repr=False)
class PackedLSTM:
    """Weights for :func:`batched_lstm`, a snapshot of what :func:`pack_lstm_weights` was given.

    Attributes:
        precision: ``full``, ``bfloat16`` or ``int8``.
        dtype: of the weights it was made of, and so of inputs and outputs.
        groups: G.
        inputs: I.
        hidden: K.
        layers: the weights as they were for ``full``, else rounded; what plain PyTorch computes with.
        packed: the weights in the order of the CPU kernels, or ``None`` where these cannot run.
    """

    precision: Precision
    dtype: torch.dtype
    groups: int
    inputs: int
    hidden: int
    layers: tuple[LSTMLayer, ...] | tuple[ReducedLayer, ...]
    packed: Tensor | None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.layers[0].bias.device

    def __repr__(self) -> str:
        sizes = f"groups={self.groups}, inputs={self.inputs}, hidden={self.hidden}, layers={len(self.layers)}"
        return f"PackedLSTM({self.precision}, {sizes}, dtype={self.dtype})"


def pack_lstm_weights(weights: Sequence[LSTMLayer], precision: Precision = "full") -> PackedLSTM:
    """Bring weights into the kernels' order once, for calls of :func:`batched_lstm` that need no gradients.

    Calls with the result neither hash nor pack, and later changes of the weights do not reach it.

    Args:
        weights: as :func:`batched_lstm` takes them.
        precision: ``full`` keeps the weights' dtype. ``bfloat16`` stores weights rounded to it and computes in
            float32. ``int8`` stores one scale for each row of each weight matrix and 8 bits a weight, rounds states
            to 8 bits with one scale for each window and step, adds the integers' products exactly and computes gates
            and cell states in float32; the bottom layer's input and ``weight_ih`` stay float32.

    Returns:
        The packed weights; memory for ``full`` is twice that of the weights, for the others that of two rounded copies.

    Raises:
        ValueError: weights do not fit together, have no such precision, or hold NaN or infinity for ``int8``.
    """
    _lstm_arguments.check_weights(weights)
    named = [
        (f"{name} of layer {index}", tensor)
        for index, layer in enumerate(weights)
        for name, tensor in zip(LSTMLayer._fields, layer, strict=True)
    ]
    check_precision(precision, named)
    first = weights[0][0]
    for name, tensor in named:
        if tensor.dtype != first.dtype or tensor.device != first.device:
            here, there = f"{tensor.dtype} on {tensor.device}", f"{first.dtype} on {first.device}"
            raise ValueError(f"{name} is {here} and weight_ih of layer 0 {there}; convert one of them")
    groups, _, inputs = first.shape
    layers: tuple[LSTMLayer, ...] | tuple[ReducedLayer, ...]
    if precision == "full":
        layers = tuple(LSTMLayer(*map(snapshot, layer)) for layer in weights)
    else:
        layers = tuple(_reduced(LSTMLayer(*layer), index, precision) for index, layer in enumerate(weights))
    made = PackedLSTM(precision, first.dtype, groups, inputs, weights[0][1].shape[2], layers, None)
    packed = _in_the_order_of_the_kernels(made)
    return made if packed is None else PackedLSTM(**{**vars(made), "packed": packed})


def _reduced(layer: LSTMLayer, index: int, precision: str) -> ReducedLayer:
    layer = LSTMLayer(*(tensor.detach() for tensor in layer))
    reduce = reduction(precision)
    exact = index == 0 and precision == "int8"
    weight_ih = snapshot(layer.weight_ih.to(torch.float32)) if exact else reduce(layer.weight_ih)
    return ReducedLayer(weight_ih, reduce(layer.weight_hh), snapshot(layer.bias.to(torch.float32)))


def _in_the_order_of_the_kernels(weights: PackedLSTM) -> Tensor | None:
    if weights.device.type != "cpu" or _library.why_no_cpu_kernel("batched_lstm_reduced"):
        return None
    return PACK.overload(flat(weights), _KINDS[weights.precision])


def flat(weights: PackedLSTM) -> list[Tensor]:
    """The weights as the ops take them: three tensors a layer for ``full``, else five (see :data:`REDUCED`)."""
    if weights.precision == "full":
        return [cast(Tensor, tensor) for layer in weights.layers for tensor in layer]
    tensors: list[Tensor] = []
    for layer in weights.layers:
        tensors += [*values_and_scales([layer.weight_ih, layer.weight_hh]), layer.bias]
    return tensors


def check_call(
    input: Tensor, weights: PackedLSTM, state: Sequence[Tensor] | None, lengths: Tensor | None, drops: bool
) -> None:
    """Raise ValueError or RuntimeError for a call that does not fit its packed weights."""
    _lstm_arguments.check_shapes(
        input, (weights.groups, weights.inputs, weights.hidden, len(weights.layers)), state, lengths
    )
    named = [("input", input), *zip(("h of initial_state", "c of initial_state"), state or (), strict=False)]
    for name, tensor in named:
        if tensor.dtype != weights.dtype:
            raise ValueError(f"{name} is {tensor.dtype} and the packed weights {weights.dtype}; convert one of them")
        if tensor.device != weights.device:
            raise ValueError(f"{name} is on {tensor.device} and the packed weights on {weights.device}; move one")
    if drops:
        raise ValueError("packed weights are for inference; dropout in training needs the weights themselves")
    refuse_gradients("batched_lstm", (input, *(state or ())))


def run_reduced(
    input: Tensor, weights: PackedLSTM, state: Sequence[Tensor] | None, lengths: Tensor | None, fused: bool
) -> tuple[Tensor, LSTMState]:
    """Output and final state, for bfloat16 and int8 weights; the call is checked, and autocast off."""
    if fused and weights.packed is not None:
        h0, c0 = (None, None) if state is None else state
        output, h_n, c_n = REDUCED.overload(input, flat(weights), weights.packed, h0, c0, lengths)
        return output, LSTMState(h_n, c_n)
    with torch.no_grad():
        layers = [ReducedLayer(*layer) for layer in weights.layers]
        initial = None if state is None else LSTMState(*(tensor.to(torch.float32) for tensor in state))
        output, final = reduced_reference.batched_lstm(input.to(torch.float32), layers, initial, lengths=lengths)
        return output.to(weights.dtype), LSTMState(*(tensor.to(weights.dtype) for tensor in final))


def _fake(input: Tensor, weights: list[Tensor], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    groups, batch, steps, _inputs = input.shape
    state = (len(weights) // _TENSORS_A_LAYER, groups, batch, weights[2].shape[2])
    return input.new_empty(groups, batch, steps, state[3]), input.new_empty(state), input.new_empty(state)


_library.register(REDUCED, fake=_fake)
# There is no gradient: the public function refuses it.
for _key in ("AutogradCPU", "AutogradCUDA"):
    _library.LIBRARY.impl("batched_lstm_reduced", torch.library.fallthrough_kernel, _key)
