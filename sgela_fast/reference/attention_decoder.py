"""The gait decoder: stacked LSTM cells with Luong attention and input feeding (Eq. 2 and 4 to 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState, lstm_cell
from sgela_fast.reference.locality_attention import Mode, locality_attention


class DecoderWeights(NamedTuple):
    """Weights of all groups.

    Attributes:
        layers: LSTM layers; the bottom one reads the J skeleton inputs, then the K attentional units.
        key: learned key projection ``(G, K, K)`` (out, in) of the "general" score, ``None`` for the "dot" score.
        fusion: W_att of Eq. 9, ``(G, K, 2K)``, columns for the decoded state first, then for the context;
            ``None`` without attention.
        output: W_F of Eq. 10, ``(G, J, K)``.
        output_bias: ``(G, J)`` or ``None``.
    """

    layers: Sequence[LSTMLayer]
    key: Tensor | None
    fusion: Tensor | None
    output: Tensor
    output_bias: Tensor | None


class DecoderOutput(NamedTuple):
    """Everything the decoder computed, step axis third.

    Attributes:
        reconstruction: predicted skeletons ``(G, B, T, J)``.
        context: ``(G, B, T, K)``, the AGEs of each group (Eq. 8); ``None`` without attention.
        alignment: ``(G, B, T, Tk)``; ``None`` without attention.
        loss: L_A of each sequence, ``(G, B)``.
        attentional: attentional state vectors (Eq. 9), ``(G, B, T, K)``.
        h: hidden states of all layers after each step, ``(L, G, B, T, K)``.
        c: cell states, likewise.
    """

    reconstruction: Tensor
    context: Tensor | None
    alignment: Tensor | None
    loss: Tensor
    attentional: Tensor
    h: Tensor
    c: Tensor


def attention_decoder(
    encoded: Tensor,
    state: LSTMState,
    weights: DecoderWeights,
    *,
    steps: int,
    teacher: Tensor | None = None,
    feedback: bool = False,
    mode: Mode | None = "las",
    centers: Literal["reverse", "identity"] = "reverse",
    sigma: float | Tensor = 3.0,
    window: float | None = None,
    fusion: Literal["tanh", "linear"] = "tanh",
) -> DecoderOutput:
    """Decode ``steps`` skeletons from the encoded gait states.

    The bottom layer reads [skeleton; previous attentional vector]. The skeleton is all zeros at the first step and
    then, by choice, the true previous one (``teacher``), the previous prediction (``feedback``) or zeros again.

    Args:
        encoded: encoded gait states h_j of Eq. 1, ``(G, B, Tk, K)``.
        state: initial state, the encoder's final one.
        weights: the decoder's weights.
        steps: decoding steps T.
        teacher: true skeletons in decoding order ``(G, B, T, J)``; the last one is not read.
        feedback: read the previous prediction.
        mode: kind of alignment, ``None`` for a decoder without attention.
        centers: where the locality mask expects row t: counted from the end for reverse reconstruction.
        sigma: width of the locality mask.
        window: half width of the locality mask's window.
        fusion: activation of the attentional layer.
    """
    groups, batch, _, hidden = encoded.shape
    joints = weights.output.shape[1]
    if weights.key is None:
        key = encoded  # (G, B, Tk, K)
    else:  # one product a group, not one a window
        key = (encoded.flatten(1, 2) @ weights.key.mT).view_as(encoded)  # (G, B, Tk, K)
    h, c = list(state.h), list(state.c)  # L x (G, B, K)
    skeleton = encoded.new_zeros(groups, batch, joints)
    attentional = encoded.new_zeros(groups, batch, hidden)
    loss = encoded.new_zeros(groups, batch)
    kept: dict[str, list[Tensor]] = {name: [] for name in ("prediction", "context", "alignment", "fused", "h", "c")}

    for step in range(steps):
        if step > 0 and teacher is not None:
            skeleton = teacher[:, :, step - 1]
        elif step > 0 and feedback:
            skeleton = kept["prediction"][-1]
        # Without attention nothing is fed back but the states themselves.
        x = skeleton if mode is None else torch.cat([skeleton, attentional], dim=-1)  # (G, B, J + K)
        for index, layer in enumerate(weights.layers):
            h[index], c[index] = lstm_cell(x, h[index], c[index], layer)
            x = h[index]  # (G, B, K)
        if mode is None:
            attentional = x
        else:
            assert weights.fusion is not None
            attended = locality_attention(
                x[:, :, None],
                key,
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
            attentional = torch.cat([x, context], dim=-1) @ weights.fusion.mT  # (G, B, K), Eq. 9
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
