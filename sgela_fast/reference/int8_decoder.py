"""The gait decoder of reduced matrices (see :mod:`sgela_fast.reference.int8`), with fed-back predictions folded in.

Equations and outputs are those of :mod:`sgela_fast.reference.attention_decoder`. With feedback the skeleton at step
t > 0 is W_F a + b_F of the previous attentional vector a (Eq. 10), and its share of the gates, W_s (W_F a + b_F), is a
share of a. The sum W_a + W_s W_F is rounded as one matrix, with scales of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sgela_fast.reference.attention_decoder import DecoderOutput, DecoderWeights
from sgela_fast.reference.batched_lstm import LSTMState
from sgela_fast.reference.int8 import Matrix, ReducedLayer, lstm_step, multiply
from sgela_fast.reference.locality_attention import Mode, locality_attention


class DecoderMatrices(NamedTuple):
    """Weights of all groups as the kernels multiply them.

    Attributes:
        layers: the bottom one's ``weight_ih`` reads the attentional vector ``(G, 4K, K)``, with the fed-back prediction
            folded in if ``fed_bias`` is there; without attention it is float32 ``(G, 4K, 0)``.
        skeleton: the skeleton's share of the bottom layer's gates, ``(G, 4K, J)`` float32.
        fed_bias: W_s b_F, ``(G, 4K)`` float32, or ``None`` if predictions are not fed back or there is no attention.
        query: transposed key projection ``(G, K, K)`` that takes decoded states to the encoded ones, or ``None``.
        fusion_decoded: left half of W_att, ``(G, K, K)``, or ``None`` without attention.
        fusion_context: right half of W_att.
        output: W_F, ``(G, J, K)`` float32.
        output_bias: ``(G, J)`` float32 or ``None``.
    """

    layers: Sequence[ReducedLayer]
    skeleton: Tensor
    fed_bias: Tensor | None
    query: Matrix | None
    fusion_decoded: Matrix | None
    fusion_context: Matrix | None
    output: Tensor
    output_bias: Tensor | None


def reduce_decoder(weights: DecoderWeights, feedback: bool, reduce: Callable[[Tensor], Matrix]) -> DecoderMatrices:
    """The matrices of ``weights``, each rounded by ``reduce``; all but the skeletons' and the output layer's."""
    joints, hidden = weights.output.shape[1:]
    bottom = weights.layers[0].weight_ih.to(torch.float32)  # (G, 4K, J + K), or (G, 4K, J) without attention
    skeleton, below = bottom[..., :joints].contiguous(), bottom[..., joints:]
    output = weights.output.to(torch.float32)
    output_bias = None if weights.output_bias is None else weights.output_bias.to(torch.float32)
    fed_bias = None
    if feedback and weights.fusion is not None:
        below = (below.double() + skeleton.double() @ output.double()).to(torch.float32)
        bias = output.new_zeros(output.shape[:2]) if output_bias is None else output_bias
        fed_bias = (skeleton.double() @ bias.double()[..., None])[..., 0].to(torch.float32)
    layers = [
        ReducedLayer(
            reduce(layer.weight_ih.to(torch.float32) if index else below) if index or below.shape[2] else below,
            reduce(layer.weight_hh),
            layer.bias.to(torch.float32),
        )
        for index, layer in enumerate(weights.layers)
    ]
    decoded = context = None
    if weights.fusion is not None:
        decoded, context = reduce(weights.fusion[..., :hidden]), reduce(weights.fusion[..., hidden:])
    query = None if weights.key is None else reduce(weights.key.mT)
    return DecoderMatrices(layers, skeleton, fed_bias, query, decoded, context, output, output_bias)


def attention_decoder(
    encoded: Tensor,
    state: LSTMState,
    weights: DecoderMatrices,
    *,
    steps: int,
    teacher: Tensor | None = None,
    feedback: bool = False,
    mode: Mode | None = "las",
    centers: Literal["reverse", "identity"] = "reverse",
    sigma: float = 3.0,
    window: float | None = None,
    fusion: Literal["tanh", "linear"] = "tanh",
) -> DecoderOutput:
    """Decode as the reference of the same name does; arguments as there, tensors float32.

    Scores, softmax, contexts and losses are float32.
    """
    h, c = list(state.h), list(state.c)  # L x (G, B, K)
    loss = encoded.new_zeros(encoded.shape[:2])
    kept: dict[str, list[Tensor]] = {name: [] for name in ("prediction", "context", "alignment", "fused", "h", "c")}
    for step in range(steps):
        x: Tensor | None = None
        for index, layer in enumerate(weights.layers):
            gates = layer.bias[:, None]
            if index > 0:
                assert x is not None
                gates = gates + multiply(x, layer.weight_ih)
            elif step > 0:
                gates = gates + _fed(step, weights, kept, teacher, feedback)
            h[index], c[index] = lstm_step(gates, h[index], c[index], layer)
            x = h[index]  # (G, B, K)
        assert x is not None
        attentional = x
        if mode is not None:
            assert weights.fusion_decoded is not None
            assert weights.fusion_context is not None
            query = x if weights.query is None else multiply(x, weights.query)
            attended = locality_attention(
                query[:, :, None],
                encoded,
                encoded,
                centers=centers,
                sigma=sigma,
                window=window,
                first_step=step,
                mode=mode,
                return_alignment=True,
            )
            assert attended.alignment is not None
            loss = loss + attended.loss
            context = attended.context[:, :, 0]  # (G, B, K)
            attentional = multiply(x, weights.fusion_decoded) + multiply(context, weights.fusion_context)  # Eq. 9
            if fusion == "tanh":
                attentional = attentional.tanh()
            kept["context"].append(context)
            kept["alignment"].append(attended.alignment[:, :, 0])
        prediction = attentional @ weights.output.mT  # (G, B, J), Eq. 10
        if weights.output_bias is not None:
            prediction = prediction + weights.output_bias[:, None]
        kept["prediction"].append(prediction)
        kept["fused"].append(attentional)
        kept["h"].append(torch.stack(h))
        kept["c"].append(torch.stack(c))
    return DecoderOutput(
        reconstruction=torch.stack(kept["prediction"], dim=2),
        context=torch.stack(kept["context"], dim=2) if mode is not None else None,
        alignment=torch.stack(kept["alignment"], dim=2) if mode is not None else None,
        loss=loss,
        attentional=torch.stack(kept["fused"], dim=2),
        h=torch.stack(kept["h"], dim=3),
        c=torch.stack(kept["c"], dim=3),
    )


def _fed(
    step: int, weights: DecoderMatrices, kept: dict[str, list[Tensor]], teacher: Tensor | None, feedback: bool
) -> Tensor:
    """What the bottom layer's gates read from the previous step besides its own state, ``(G, B, 4K)``."""
    attends = weights.fusion_decoded is not None
    skeleton = weights.skeleton.mT  # (G, J, 4K)
    share = skeleton.new_zeros(())
    if attends:
        share = multiply(kept["fused"][-1], weights.layers[0].weight_ih)
    if teacher is not None:
        share = share + teacher[:, :, step - 1] @ skeleton
    elif feedback and attends:
        assert weights.fed_bias is not None
        share = share + weights.fed_bias[:, None]
    elif feedback:
        share = share + kept["prediction"][-1] @ skeleton
    return share
