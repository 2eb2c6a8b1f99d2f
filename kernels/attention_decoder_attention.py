"""Triton kernel of `attention_decoder`: attention of one decoding step, and the attentional layer behind it.

For the decoded state h of one window, keys m_j and values v_j, position p, with C = 1 / (2 sigma^2):

    a_j = softmax_j(h . m_j)     l_j = exp(-C (j - p)^2)     w_j = 1 - l_j
    c   = sum_j u_j v_j          u_j = a_j (bas, las) or l_j a_j (mbas)
    L  += sum_j (a_j w_j)^2      (las)
    o   = tanh(W_att [h; c]), or without tanh

One pass over the keys: what has been summed is scaled down whenever a larger score turns up, so that there may be any
number of them. Scores, softmax, sums and loss are float32.
Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. M windows, K hidden units, N output units.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.batched_lstm_cell import product, tanh
from sgela_fast.kernels.locality_mask import mask_complement, mask_value

_ANY_VALUE = ["batch", "keys", "parts", "span", "center", "is_later"]
_LOG2_E = tl.constexpr(1.4426950408889634)  # exponents in base 2 save a product for each key


@triton.jit(do_not_specialize=_ANY_VALUE)
def attend(
    p_state,
    p_key,
    p_value,
    p_fusion,
    p_context,
    p_alignment,
    p_loss,
    p_attentional,
    batch,
    keys,
    hidden,
    parts,
    span,
    state_group,
    state_row,
    key_group,
    key_row,
    key_step,
    value_group,
    value_row,
    value_step,
    context_group,
    context_row,
    alignment_group,
    alignment_row,
    attentional_group,
    attentional_row,
    coefficient,
    window,
    center,
    is_later,
    MODE: tl.constexpr,
    TANH: tl.constexpr,
    PRECISION: tl.constexpr,
    EXACT: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Context and attentional vectors of BLOCK_M windows of one group at one step.

    Grid: (G x batch tiles x parts,). A program attends for all of its windows and owns `span` units of the attentional
    vector; of the parts of a tile the first one also owns its losses and alignments. With one part nothing is computed
    twice; with more a small batch is spread over more programs, at the price of reading its keys once a part, from L2.
    Every part writes the whole context, all of them the same numbers, and reads it back chunk by chunk: as an operand
    from registers it would have to be there as a whole, and does not fit beside float32 products.
    Registers: the state, the context and one key of M windows, (M, K) each, and an accumulator (M, N).
    Bytes moved, per window: keys and values once a part, state read, context and attentional vector written once; W_att
    (2 K K elements) once a batch tile, from L2.
    `state`, `context`, `attentional (G, B, K)`, `alignment (G, B, Tk)` float32, `key` and `value (G, B, Tk, K)` have
    strides for all dimensions but the last; without `value` the keys are the values. `fusion (G, K, 2K)` and `loss
    (G, B)`, float32, are contiguous; the loss is added to if is_later, else written. Without `fusion` there is one part
    and no attentional vector. Never run on a GPU yet.
    """
    batch_tiles = tl.cdiv(batch, BLOCK_M)
    i_part = tl.program_id(0) % parts
    i_m = tl.program_id(0) // parts % batch_tiles
    i_g = (tl.program_id(0) // parts // batch_tiles).to(tl.int64)
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_k = tl.arange(0, BLOCK_K)
    m_m = o_m < batch
    m_first = o_m < tl.where(i_part == 0, batch, 0)  # the interpreter's masks take no scalars
    m_tile = m_m[:, None] & (o_k < hidden)[None, :]
    o_m64 = o_m.to(tl.int64)
    first_unit = i_part * span
    last_unit = tl.minimum(first_unit + span, hidden)

    b_state = tl.load(p_state + (i_g * state_group + o_m64 * state_row)[:, None] + o_k[None, :], mask=m_tile, other=0.0)
    b_q = b_state.to(tl.float32)  # (M, K)
    p_first_key = p_key + (i_g * key_group + o_m64 * key_row)[:, None] + o_k[None, :]
    p_k = p_first_key
    if p_value is not None:
        p_v = p_value + (i_g * value_group + o_m64 * value_row)[:, None] + o_k[None, :]
    b_top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_M], tl.float32)
    b_squares = tl.zeros([BLOCK_M], tl.float32)
    b_c = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    b_offset = tl.zeros([BLOCK_M], tl.float32) - center  # j - p
    for _ in range(keys):
        b_k = tl.load(p_k, mask=m_tile, other=0.0).to(tl.float32)
        b_score = tl.sum(b_q * b_k, 1) * _LOG2_E
        b_new_top = tl.maximum(b_top, b_score)
        b_scale = tl.exp2(b_top - b_new_top)
        b_u = tl.exp2(b_score - b_new_top)
        b_sum = b_sum * b_scale + b_u
        if MODE == 1:
            b_u = b_u * mask_value(b_offset, coefficient, window)
        if MODE == 2:
            b_uw = b_u * mask_complement(b_offset, coefficient, window)
            b_squares = b_squares * (b_scale * b_scale) + b_uw * b_uw
        if p_value is not None:
            b_k = tl.load(p_v, mask=m_tile, other=0.0).to(tl.float32)
            p_v += value_step
        b_c = b_c * b_scale[:, None] + b_u[:, None] * b_k
        b_top = b_new_top
        b_offset += 1.0
        p_k += key_step
    b_factor = 1.0 / b_sum
    b_context = (b_c * b_factor[:, None]).to(p_context.dtype.element_ty)
    p_c = p_context + i_g * context_group
    tl.store(p_c + (o_m64 * context_row)[:, None] + o_k[None, :], b_context, mask=m_tile)
    if MODE == 2:
        p_l = p_loss + i_g * batch + o_m64
        b_before = tl.load(p_l, mask=m_first & (o_m < is_later * batch), other=0.0)
        tl.store(p_l, b_before + b_squares * b_factor * b_factor, mask=m_first)
    if p_alignment is not None:
        p_k = p_first_key
        p_a = p_alignment + i_g * alignment_group + o_m64 * alignment_row
        b_offset = tl.zeros([BLOCK_M], tl.float32) - center
        for _ in range(keys):
            b_k = tl.load(p_k, mask=m_tile, other=0.0).to(tl.float32)
            b_a = tl.exp2(tl.sum(b_q * b_k, 1) * _LOG2_E - b_top) * b_factor
            if MODE == 1:
                b_a = b_a * mask_value(b_offset, coefficient, window)
            tl.store(p_a, b_a, mask=m_first)
            b_offset += 1.0
            p_k += key_step
            p_a += 1

    if p_fusion is not None:
        tl.debug_barrier()  # the threads of this program read what others of it have written of the context
        padded = tl.cdiv(hidden, BLOCK_D) * BLOCK_D
        p_s = p_state + i_g * state_group
        p_o = p_attentional + (i_g * attentional_group + o_m64 * attentional_row)[:, None]
        p_f = p_fusion + i_g * 2 * hidden * hidden
        for i_n in range(first_unit, last_unit, BLOCK_N):
            o_n = i_n + tl.arange(0, BLOCK_N)
            m_n = o_n < hidden
            p_w = p_f + (o_n * 2 * hidden)[:, None]
            b_o = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
            for i_s in range(0, 2 * padded, BLOCK_D):  # over the concatenation [state; context]
                is_state = i_s < padded
                o_d = tl.where(is_state, i_s, i_s - padded) + tl.arange(0, BLOCK_D)
                m_d = (o_d < hidden)[None, :]
                o_row = o_m64 * tl.where(is_state, state_row, context_row)
                p_rows = tl.where(is_state, p_s, p_c) + o_row[:, None] + o_d[None, :]
                b_rows = tl.load(p_rows, mask=m_m[:, None] & m_d, other=0.0)  # (M, D)
                p_d = p_w + tl.where(is_state, 0, hidden) + o_d[None, :]
                b_w = tl.load(p_d, mask=m_n[:, None] & m_d, other=0.0)  # (N, D)
                b_o = product(b_rows, tl.trans(b_w), b_o, PRECISION, UPCAST)
            if TANH:
                b_o = tanh(b_o, EXACT)
            b_stored = b_o.to(p_attentional.dtype.element_ty)
            tl.store(p_o + o_n[None, :], b_stored, mask=m_m[:, None] & m_n[None, :])
