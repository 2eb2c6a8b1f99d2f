"""Triton kernel of `attention_decoder`: one step of one LSTM layer, gates fused into the products.

    (i f g o) = bias + s W_s^T + b W_b^T + h' W_hh^T,  c = sigmoid(f) c' + sigmoid(i) tanh(g),  h = sigmoid(o) tanh(c)

s is the skeleton that the bottom layer reads (narrow, or none), b what comes from below: the previous attentional
vector for the bottom layer, else the h of the layer below at this step. The decoder feeds back into its bottom layer,
so that no two layers can work at once as in the wavefront of `batched_lstm`; the products and gates are the same.
Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. M windows, H hidden units, D features.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.batched_lstm_cell import place, sigmoid, tanh
from sgela_fast.kernels.batched_lstm_forward import four_products

# Numbers that change from call to call and that no alignment depends on: one compilation serves all.
_ANY_VALUE = ["groups", "batch", "has_below"]
# Skeletons are narrow rows of any width: what they are aligned to changes from step to step, and they are little.
_ANY_ALIGNMENT = ["p_skeleton", "p_weight_skeleton"]


@triton.jit(do_not_specialize=_ANY_VALUE, do_not_specialize_on_alignment=_ANY_ALIGNMENT)
def cell_forward(
    p_skeleton,
    p_weight_skeleton,
    p_below,
    p_weight_below,
    p_before,
    p_weight_hh,
    p_bias,
    p_fed_bias,
    p_cells_before,
    p_cells,
    p_h,
    p_c,
    groups,
    batch,
    joints,
    hidden,
    skeleton_group,
    skeleton_row,
    skeleton_columns,
    below_group,
    below_row,
    before_group,
    before_row,
    h_group,
    h_row,
    has_below,
    PRECISION: tl.constexpr,
    EXACT: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """h and c of BLOCK_M windows and BLOCK_H units of one group after one step of one layer.

    Grid: (G x batch tiles x hidden tiles,), see `place`. A program owns its tile of h and c.
    Registers: four accumulators (M, H) in float32; after the products also c.
    Bytes moved, per window and unit: h written once (storage dtype), c read and written (4 + 4), and once more if all
    cell states are kept; rows of s, b and h' are read once a hidden tile, the weights once a batch tile.
    `skeleton (G, B, J)`, `below`, `before`, `h` and `c (G, B, K)` are slices with strides for groups and rows, and unit
    stride last; `c` lies as `h` does. `cells (G, B, K)` float32 is contiguous, as are weights `(G, 4K, K)`, `bias` and
    `fed_bias (G, 4K)` (float32); rows of `weight_skeleton (G, 4K, J)` lie `skeleton_columns` apart. Without has_below
    nothing of `below` is read. Never run on a GPU yet.
    """
    _, i_group, i_m, i_h = place(groups, batch, hidden, 0, BLOCK_M, BLOCK_H)
    i_g = i_group.to(tl.int64)
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_h = i_h * BLOCK_H + tl.arange(0, BLOCK_H)
    m_m = o_m < batch
    m_h = o_h < hidden
    o_m64 = o_m.to(tl.int64)
    o_unit = i_g * 4 * hidden + o_h  # rows of the weights of gate i

    b_i = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    b_f = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    b_g = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    b_o = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)

    if p_skeleton is not None:
        p_s = p_skeleton + i_g * skeleton_group + o_m64 * skeleton_row
        p_w = p_weight_skeleton + o_unit * skeleton_columns
        for i_d in range(0, joints, BLOCK_I):
            b_i, b_f, b_g, b_o = four_products(
                b_i, b_f, b_g, b_o, p_s, m_m, p_w, m_h, i_d, joints, hidden * skeleton_columns,
                PRECISION, UPCAST, BLOCK_I,
            )  # fmt: skip

    # One loop over the concatenation [what comes from below; own h of the step before].
    p_group_below = p_below + i_g * below_group
    p_group_before = p_before + i_g * before_group
    padded = tl.cdiv(hidden, BLOCK_D) * BLOCK_D
    for i_s in range((1 - has_below) * padded, 2 * padded, BLOCK_D):
        is_below = i_s < padded
        p_a = tl.where(is_below, p_group_below, p_group_before) + o_m64 * tl.where(is_below, below_row, before_row)
        p_w = tl.where(is_below, p_weight_below, p_weight_hh) + o_unit * hidden
        b_i, b_f, b_g, b_o = four_products(
            b_i, b_f, b_g, b_o, p_a, m_m, p_w, m_h, tl.where(is_below, i_s, i_s - padded), hidden,
            hidden * hidden, PRECISION, UPCAST, BLOCK_D,
        )  # fmt: skip

    p_b = p_bias + o_unit
    b_i += tl.load(p_b, mask=m_h, other=0.0).to(tl.float32)[None, :]
    b_f += tl.load(p_b + hidden, mask=m_h, other=0.0).to(tl.float32)[None, :]
    b_g += tl.load(p_b + 2 * hidden, mask=m_h, other=0.0).to(tl.float32)[None, :]
    b_o += tl.load(p_b + 3 * hidden, mask=m_h, other=0.0).to(tl.float32)[None, :]
    if p_fed_bias is not None:
        p_fed = p_fed_bias + o_unit
        b_i += tl.load(p_fed, mask=m_h, other=0.0)[None, :]
        b_f += tl.load(p_fed + hidden, mask=m_h, other=0.0)[None, :]
        b_g += tl.load(p_fed + 2 * hidden, mask=m_h, other=0.0)[None, :]
        b_o += tl.load(p_fed + 3 * hidden, mask=m_h, other=0.0)[None, :]

    m_tile = m_m[:, None] & m_h[None, :]
    o_state = ((i_g * batch + o_m64) * hidden)[:, None] + o_h[None, :]  # of (G, B, K)
    b_before = tl.load(p_cells_before + o_state, mask=m_tile, other=0.0)
    b_c = sigmoid(b_f) * b_before + sigmoid(b_i) * tanh(b_g, EXACT)
    b_hidden = sigmoid(b_o) * tanh(b_c, EXACT)
    o_here = (i_g * h_group + o_m64 * h_row)[:, None] + o_h[None, :]
    tl.store(p_h + o_here, b_hidden.to(p_h.dtype.element_ty), mask=m_tile)
    tl.store(p_cells + o_state, b_c, mask=m_tile)
    if p_c is not None:
        tl.store(p_c + o_here, b_c.to(p_c.dtype.element_ty), mask=m_tile)
