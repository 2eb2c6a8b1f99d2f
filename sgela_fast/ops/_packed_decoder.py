"""Weights of attention_decoder packed once, by hand: no look-up, no gradients; also bfloat16 or int8 weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from sgela_fast.ops import _decoder_arguments as arguments
from sgela_fast.ops import _library
from sgela_fast.ops._decoder_packing import PACK
from sgela_fast.ops._library import autocasts
from sgela_fast.ops._packed_weights import (
    Precision,
    check_precision,
    reduction,
    refuse_gradients,
    snapshot,
    values_and_scales,
)
from sgela_fast.reference import attention_decoder as reference
from sgela_fast.reference import int8_decoder as reduced_reference
from sgela_fast.reference.attention_decoder import DecoderOutput, DecoderWeights
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState
from sgela_fast.reference.int8_decoder import DecoderMatrices, reduce_decoder

# Matrices as values and scales (empty for floating-point ones): per layer what reads from below, then what reads the
# state; then with attention the transposed key, if there is one, and the halves of the attentional layer.
_PACK_REDUCED = _library.define(
    "attention_decoder_pack_reduced(Tensor[] matrices, Tensor skeleton, Tensor? fed_bias, Tensor output, int layers) "
    "-> Tensor packed"
)
REDUCED = _library.define(
    "attention_decoder_reduced(Tensor encoded, Tensor h0, Tensor c0, Tensor[] matrices, Tensor[] biases, "
    "Tensor skeleton, Tensor? fed_bias, Tensor output, Tensor? output_bias, Tensor? teacher, Tensor? packed, "
    "SymInt steps, bool feedback, int mode, int direction, float sigma, float? window, bool tanh, bool everything) "
    "-> (Tensor context, Tensor loss, Tensor alignment, Tensor reconstruction, Tensor attentional, Tensor h, Tensor c)"
)


@dataclass(frozen=True, eq=False, repr=False)
class PackedDecoder:
    """Weights for :func:`attention_decoder`, a snapshot of what :func:`pack_decoder_weights` was given.

    Attributes:
        precision: ``full``, ``bfloat16`` or ``int8``.
        feedback: whether they are for calls that feed predictions back.
        dtype: of the weights it was made of, and so of inputs and outputs.
        attends: whether there is attention.
        groups: G.
        joints: J.
        hidden: K.
        layers: number of LSTM layers.
        weights: the weights as they were for ``full``, else rounded; what plain PyTorch computes with.
        packed: the weights in the order of the CPU kernels, or ``None`` where these cannot run.
    """

    precision: Precision
    feedback: bool
    dtype: torch.dtype
    attends: bool
    groups: int
    joints: int
    hidden: int
    layers: int
    weights: DecoderWeights | DecoderMatrices
    packed: Tensor | None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights.output.device

    def __repr__(self) -> str:
        sizes = f"groups={self.groups}, joints={self.joints}, hidden={self.hidden}, layers={self.layers}"
        return f"PackedDecoder({self.precision}, feedback={self.feedback}, {sizes}, dtype={self.dtype})"


def pack_decoder_weights(weights: DecoderWeights, *, feedback: bool, precision: Precision = "full") -> PackedDecoder:
    """Bring weights into the kernels' order once, for calls of :func:`attention_decoder`.

    Calls with the result neither compare nor pack, and later changes of the weights do not reach it.

    Args:
        weights: as :func:`attention_decoder` takes them, all of one dtype on one device.
        feedback: whether calls will feed predictions back; these are then folded into the weights, as one matrix with
            scales of its own.
        precision: ``full`` keeps the weights' dtype. ``bfloat16`` stores weights rounded to it and computes in float32.
            ``int8`` stores one scale for each row of each weight matrix and 8 bits a weight, rounds states, contexts
            and attentional vectors to 8 bits with one scale for each window and step, adds the integers' products
            exactly and computes gates, cell states and attention in float32. Weights that read or make skeletons stay
            float32.

    Raises:
        ValueError: weights do not fit together, have no such precision, or hold NaN or infinity for ``int8``.
    """
    attends = weights.fusion is not None
    groups, hidden = (weights.output.shape[0], weights.output.shape[-1]) if weights.output.dim() == 3 else (0, 0)
    named = arguments.weights_and_shapes(weights, groups, hidden, attends)
    joints = weights.output.shape[1]
    check_precision(precision, [(name, tensor) for name, tensor, _ in named])
    first = weights.output
    for name, tensor, shape in named:
        if tensor is None:
            continue
        if tensor.shape != shape:
            sizes = f"G = {groups}, J = {joints}, K = {hidden}"
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it needs {shape}, for {sizes}")
        if tensor.dtype != first.dtype or tensor.device != first.device:
            here, there = f"{tensor.dtype} on {tensor.device}", f"{first.dtype} on {first.device}"
            raise ValueError(f"{name} is {here} and weights.output {there}; convert one of them")
    plain = _snapshot(weights if attends else weights._replace(key=None))
    kept: DecoderWeights | DecoderMatrices = plain
    packed = None
    on_cpu = first.device.type == "cpu" and _library.why_no_cpu_kernel("attention_decoder_reduced") is None
    if precision != "full":
        kept = reduce_decoder(plain, feedback, reduction(precision))
        if on_cpu:
            packed = _PACK_REDUCED.overload(_flat(kept), kept.skeleton, kept.fed_bias, kept.output, len(kept.layers))
    elif on_cpu:
        flat = [weight for layer in plain.layers for weight in layer[:2]]
        packed = PACK.overload(flat, plain.key, plain.fusion, plain.output, plain.output_bias, feedback)
    layers = len(plain.layers)
    return PackedDecoder(precision, feedback, first.dtype, attends, groups, joints, hidden, layers, kept, packed)


def _flat(weights: DecoderMatrices) -> list[Tensor]:
    """All matrices as the ops take them."""
    matrices = [matrix for layer in weights.layers for matrix in layer[:2]]
    others = (weights.query, weights.fusion_decoded, weights.fusion_context)
    return values_and_scales([*matrices, *(matrix for matrix in others if matrix is not None)])


def run_reduced(
    encoded: Tensor, state: LSTMState, packed: PackedDecoder, teacher: Tensor | None, configuration: tuple[Any, ...]
) -> Sequence[Tensor]:
    """The compiled loop with bfloat16 or int8 weights; the call is checked."""
    weights = cast(DecoderMatrices, packed.weights)
    biases = [layer.bias for layer in weights.layers]
    fixed = (weights.skeleton, weights.fed_bias, weights.output, weights.output_bias)
    return cast(
        Sequence[Tensor],
        REDUCED.overload(encoded, *state, _flat(weights), biases, *fixed, teacher, packed.packed, *configuration),
    )


def _snapshot(weights: DecoderWeights) -> DecoderWeights:
    others = [None if tensor is None else snapshot(tensor) for tensor in weights[1:]]
    return DecoderWeights([LSTMLayer(*map(snapshot, layer)) for layer in weights.layers], *others)  # type: ignore[arg-type]


def check_call(
    encoded: Tensor,
    state: LSTMState,
    weights: PackedDecoder,
    teacher: Tensor | None,
    steps: int,
    feedback: bool,
    attends: bool,
) -> None:
    """Raise ValueError or RuntimeError for a call that does not fit its packed weights."""
    if attends != weights.attends:
        has = "have" if weights.attends else "lack"
        raise ValueError(
            f"the packed weights {has} attention and mode says otherwise; pack the weights of this decoder"
        )
    if feedback != weights.feedback:
        raise ValueError(
            f"the weights were packed for feedback={weights.feedback} and the call says {feedback}; pack them again"
        )
    arguments.check_encoded(encoded, attends)
    _, batch, keys, _ = encoded.shape
    sizes = (weights.groups, batch, steps, weights.joints, weights.hidden, weights.layers)
    named: arguments.Named = [("encoded", encoded, (weights.groups, batch, keys, weights.hidden))]
    for name, tensor, shape in named + arguments.rest_and_shapes(state, teacher, sizes):
        if tensor is None:
            continue
        if tensor.shape != shape:
            of = f"G = {weights.groups}, J = {weights.joints}, K = {weights.hidden}, L = {weights.layers}"
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it needs {shape}, for packed weights of {of}")
        if tensor.dtype != weights.dtype:
            raise ValueError(f"{name} is {tensor.dtype} and the packed weights {weights.dtype}; convert one of them")
        if tensor.device != weights.device:
            raise ValueError(f"{name} is on {tensor.device} and the packed weights on {weights.device}; move one")
    refuse_gradients("attention_decoder", (encoded, *state, teacher))


def run_in_pytorch(
    encoded: Tensor, state: LSTMState, weights: PackedDecoder, settings: dict[str, Any]
) -> DecoderOutput:
    """Everything the decoder computes, without the kernels; the call is checked."""
    device = encoded.device.type
    if autocasts(device):
        with torch.autocast(device, enabled=False):
            return run_in_pytorch(encoded, state, weights, settings)
    with torch.no_grad():
        if isinstance(weights.weights, DecoderWeights):
            return reference.attention_decoder(encoded, state, weights.weights, **settings)
        settings = {name: _to(value, torch.float32) for name, value in settings.items()}
        state = LSTMState(*(tensor.to(torch.float32) for tensor in state))
        decoded = reduced_reference.attention_decoder(encoded.to(torch.float32), state, weights.weights, **settings)
        return DecoderOutput(*(_to(value, weights.dtype) for value in decoded))


def _to(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) else value
