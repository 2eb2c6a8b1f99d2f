"""From the arguments of `attention_decoder` to the launches of its steps: grids, arguments, tiles. Launches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from sgela_fast.kernels.attention_decoder_attention import attend
from sgela_fast.kernels.attention_decoder_cell import cell_forward
from sgela_fast.kernels.attention_decoder_tuning import choose_attention_tiles, choose_cell_tiles, parts_of
from sgela_fast.kernels.batched_lstm_launch import capability_of
from sgela_fast.kernels.batched_lstm_tuning import BLOCK_I, Arithmetic
from sgela_fast.kernels.launch import INTERPRETED, Launch, Precision, default_precision
from sgela_fast.kernels.locality_attention_launch import LAS, mask_arguments


class Cell(NamedTuple):
    """Weights of one layer, contiguous but for the skeleton's."""

    below: Tensor | None  # (G, 4K, K): of the attentional vector or the layer below; None if there is neither
    hh: Tensor  # (G, 4K, K)
    bias: Tensor  # (G, 4K)


class Prepared(NamedTuple):
    """The decoder's weights as the kernels take them; see :func:`prepare`."""

    cells: tuple[Cell, ...]
    skeleton: Tensor  # (G, 4K, J), unit stride last
    fed_bias: Tensor | None  # (G, 4K) float32: the fed-back output bias's share of the bottom layer's gates
    key: Tensor | None  # (G, K, K)
    fusion: Tensor | None  # (G, K, 2K), contiguous
    output: Tensor  # (G, J, K)
    output_bias: Tensor | None  # (G, J)
    feedback: bool


def prepare(
    layers: Sequence[Tensor],
    biases: Sequence[Tensor],
    key: Tensor | None,
    fusion: Tensor | None,
    output: Tensor,
    output_bias: Tensor | None,
    *,
    feedback: bool,
) -> Prepared:
    """Bring the weights into the form that the kernels read, in a few launches; nothing is kept of them elsewhere.

    A prediction W_F a + b_F that is fed back meets the skeleton's weights W_s, so W_a + W_s W_F takes the place of W_a,
    and W_s b_F is a bias from the second step on. The sums are rounded once, to the dtype of the weights.

    Args:
        layers: ``weight_ih`` and ``weight_hh`` of each layer, bottom first: ``(G, 4K, J + K)``, or ``(G, 4K, J)``
            without attention, then ``(G, 4K, K)``; ``(G, 4K, K)``.
        biases: ``(G, 4K)`` of each layer.
        key: ``(G, K, K)`` or ``None``.
        fusion: W_att, ``(G, K, 2K)``; ``None`` without attention.
        output: W_F, ``(G, J, K)``.
        output_bias: b_F, ``(G, J)`` or ``None``.
        feedback: whether predictions are fed back.
    """
    joints = output.shape[1]
    skeleton = layers[0][..., :joints]
    attentional = layers[0][..., joints:] if fusion is not None else None
    fed_bias = None
    if feedback and attentional is not None:
        attentional = torch.baddbmm(attentional, skeleton, output)  # (G, 4K, K)
    elif feedback:
        attentional = torch.bmm(skeleton, output)
    if feedback and output_bias is not None:
        fed_bias = torch.bmm(skeleton, output_bias[..., None]).squeeze(-1).float()
    below = [attentional, *layers[2::2]]
    cells = [
        Cell(None if weight is None else weight.contiguous(), hh.contiguous(), bias.contiguous())
        for weight, hh, bias in zip(below, layers[1::2], biases, strict=True)
    ]
    fused = None if fusion is None else fusion.contiguous()
    return Prepared(tuple(cells), skeleton, fed_bias, key, fused, output, output_bias, feedback)


class Problem(NamedTuple):
    """What is decoded, and how."""

    encoded: Tensor  # (G, B, Tk, K), unit stride last
    keys: Tensor  # what the decoded state is compared with, likewise; `encoded` itself without a key matrix
    h0: Tensor  # (L, G, B, K)
    c0: Tensor  # (L, G, B, K) float32, contiguous
    weights: Prepared
    teacher: Tensor | None  # (G, B, T, J), unit stride last
    steps: int
    mode: int
    direction: int
    sigma: float
    window: float | None
    tanh: bool
    precision: Precision | None

    @property
    def attends(self) -> bool:
        """Whether there is attention."""
        return self.weights.fusion is not None

    @property
    def arithmetic(self) -> Arithmetic:
        """How products are computed."""
        return (self.precision or default_precision()) if self.encoded.dtype == torch.float32 else "half"

    def constants(self) -> dict[str, Any]:
        """The constants that both kernels have in common."""
        arithmetic = self.arithmetic
        return {
            "PRECISION": "ieee" if arithmetic == "half" else arithmetic,
            "EXACT": arithmetic != "half",
            "UPCAST": INTERPRETED,
        }


class Buffers(NamedTuple):
    """What the kernels write. States are kept for all steps or for two, attentional vectors for all or for one."""

    h: Tensor  # (L, G, B, T or 2, K)
    c: Tensor | None  # (L, G, B, T, K)
    cells: Tensor  # (L, G, B, K) float32
    context: Tensor  # (G, B, T, K)
    attentional: Tensor  # (G, B, T or 1, K)
    alignment: Tensor | None  # (G, B, T, Tk) float32
    loss: Tensor  # (G, B) float32

    @property
    def everything(self) -> bool:
        """Whether all steps are kept."""
        return self.c is not None


def plan(problem: Problem, buffers: Buffers) -> Iterator[Launch]:
    """The launches of all steps, in their order: one a layer, and one for attention."""
    for step in range(problem.steps):
        for layer in range(len(problem.weights.cells)):
            yield plan_cell(problem, buffers, step, layer)
        if problem.attends:
            yield plan_attention(problem, buffers, step)


def plan_cell(problem: Problem, buffers: Buffers, step: int, layer: int) -> Launch:
    """The launch of one layer at one step."""
    weights, kept = problem.weights, buffers.h.shape[3]
    cell = weights.cells[layer]
    groups, batch, _, hidden = problem.encoded.shape
    later = step > 0
    h = buffers.h[:, :, :, step % kept]  # (L, G, B, K)
    before = buffers.h[layer, :, :, (step - 1) % kept] if later else problem.h0[layer]
    skeleton = problem.teacher[:, :, step - 1] if layer == 0 and later and problem.teacher is not None else None
    if layer > 0:
        below: Tensor | None = h[layer - 1]
    elif not later or cell.below is None:
        below = None
    elif problem.attends:
        below = buffers.attentional[:, :, (step - 1) % buffers.attentional.shape[2]]
    else:  # without attention the prediction is made of the top state
        below = buffers.h[-1, :, :, (step - 1) % kept]
    has_below = below is not None
    rows_below = before if below is None else below
    tiles = choose_cell_tiles(problem.arithmetic, groups, batch, hidden, capability_of(problem.encoded.device))
    arguments = {
        "p_skeleton": skeleton,
        "p_weight_skeleton": None if skeleton is None else weights.skeleton,
        "p_below": rows_below,
        "p_weight_below": cell.hh if cell.below is None else cell.below,
        "p_before": before,
        "p_weight_hh": cell.hh,
        "p_bias": cell.bias,
        "p_fed_bias": weights.fed_bias if layer == 0 and later else None,
        "p_cells_before": (buffers.cells if later else problem.c0)[layer],
        "p_cells": buffers.cells[layer],
        "p_h": h[layer],
        "p_c": None if buffers.c is None else buffers.c[layer, :, :, step],
        "groups": groups,
        "batch": batch,
        "joints": weights.skeleton.shape[2],
        "hidden": hidden,
        **_rows("skeleton", skeleton),
        "skeleton_columns": weights.skeleton.stride(1),
        **_rows("below", rows_below),
        **_rows("before", before),
        **_rows("h", h[layer]),
        "has_below": int(has_below),
        **problem.constants(),
        "BLOCK_M": tiles.block_m,
        "BLOCK_H": tiles.block_h,
        "BLOCK_I": BLOCK_I,
        "BLOCK_D": tiles.block_d,
    }
    programs = groups * triton.cdiv(batch, tiles.block_m) * triton.cdiv(hidden, tiles.block_h)
    return Launch(cell_forward, programs, arguments, tiles.num_warps, tiles.num_stages)


def plan_attention(problem: Problem, buffers: Buffers, step: int) -> Launch:
    """The launch of attention and attentional layer at one step."""
    groups, batch, keys, hidden = problem.encoded.shape
    tiles = choose_attention_tiles(problem.arithmetic, groups, batch, hidden)
    fuses = buffers.everything or step + 1 < problem.steps  # else nobody reads the attentional vector
    parts = parts_of(tiles, groups, batch, hidden) if fuses else 1
    chunks = triton.cdiv(triton.cdiv(hidden, tiles.block_n), parts)
    state = buffers.h[-1, :, :, step % buffers.h.shape[3]]  # (G, B, K)
    attentional = buffers.attentional[:, :, step % buffers.attentional.shape[2]]
    context = buffers.context[:, :, step]
    alignment = None if buffers.alignment is None else buffers.alignment[:, :, step]
    values = None if problem.keys is problem.encoded else problem.encoded
    arguments = {
        "p_state": state,
        "p_key": problem.keys,
        "p_value": values,
        "p_fusion": problem.weights.fusion if fuses else None,
        "p_context": context,
        "p_alignment": alignment,
        "p_loss": buffers.loss,
        "p_attentional": attentional,
        "batch": batch,
        "keys": keys,
        "hidden": hidden,
        "parts": triton.cdiv(triton.cdiv(hidden, tiles.block_n), chunks) if fuses else 1,
        "span": chunks * tiles.block_n if fuses else hidden,
        **_rows("state", state),
        **_rows("key", problem.keys),
        "key_step": problem.keys.stride(2),
        **_rows("value", values),
        "value_step": 0 if values is None else values.stride(2),
        **_rows("context", context),
        **_rows("alignment", alignment),
        **_rows("attentional", attentional),
        **mask_arguments(problem.sigma, problem.window),
        "center": step if problem.direction > 0 else keys - 1 - step,
        "is_later": int(step > 0),
        "MODE": problem.mode,
        "TANH": problem.tanh,
        **problem.constants(),
        "BLOCK_M": tiles.block_m,
        "BLOCK_K": tiles.block_k,
        "BLOCK_N": tiles.block_n,
        "BLOCK_D": tiles.block_d,
    }
    programs = groups * triton.cdiv(batch, tiles.block_m) * arguments["parts"]
    return Launch(attend, programs, arguments, tiles.num_warps, tiles.num_stages)


def has_loss(mode: int) -> bool:
    """Whether the kernels write the loss; it is 0 otherwise."""
    return mode == LAS


def _rows(prefix: str, tensor: Tensor | None) -> dict[str, int]:
    """Strides of groups and windows as the kernels name them."""
    group, row = (0, 0) if tensor is None else tensor.stride()[:2]
    return {f"{prefix}_group": group, f"{prefix}_row": row}
