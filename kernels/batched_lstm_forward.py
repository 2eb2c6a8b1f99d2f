"""Triton forward kernel of `batched_lstm`: one phase of the wavefront, gates fused into the product.

In phase p layer l computes step p - l, so that all programs of a launch are independent and T + L - 1 launches do
everything. For one tile of windows and hidden units

    (i f g o) = bias + [x; h'] [W_ih W_hh]^T,  c = sigmoid(f) c' + sigmoid(i) tanh(g),  h = sigmoid(o) tanh(c)

with the four gates in four accumulators that share the tile of [x; h']: no pre-activation ever leaves the registers.
Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. M windows, H hidden units, D features.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.batched_lstm_cell import last_steps, place, product, sigmoid, tanh

# Numbers that change from call to call and that no alignment depends on: one compilation serves all.
ANY_VALUE = ["groups", "batch", "steps", "layers", "phase", "top_layer"]


@triton.jit
def four_products(
    b_i,
    b_f,
    b_g,
    b_o,
    p_rows,
    m_rows,
    p_weights,
    m_units,
    i_d,
    columns,
    gate_stride,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Add BLOCK_D columns of rows @ weights^T to the four gates; the tile of rows is read once for all of them."""
    o_d = i_d + tl.arange(0, BLOCK_D)
    m_d = (o_d < columns)[None, :]
    b_a = tl.load(p_rows[:, None] + o_d[None, :], mask=m_rows[:, None] & m_d, other=0.0)  # (M, D)
    p_w = p_weights[:, None] + o_d[None, :]  # (H, D)
    m_w = m_units[:, None] & m_d
    b_i = product(b_a, tl.trans(tl.load(p_w, mask=m_w, other=0.0)), b_i, PRECISION, UPCAST)
    b_f = product(b_a, tl.trans(tl.load(p_w + gate_stride, mask=m_w, other=0.0)), b_f, PRECISION, UPCAST)
    b_g = product(b_a, tl.trans(tl.load(p_w + 2 * gate_stride, mask=m_w, other=0.0)), b_g, PRECISION, UPCAST)
    b_o = product(b_a, tl.trans(tl.load(p_w + 3 * gate_stride, mask=m_w, other=0.0)), b_o, PRECISION, UPCAST)
    return b_i, b_f, b_g, b_o


@triton.jit(do_not_specialize=ANY_VALUE)
def phase_forward(
    p_input,
    p_weight_ih,
    p_upper_ih,
    p_weight_hh,
    p_upper_hh,
    p_bias,
    p_upper_bias,
    p_h0,
    p_c0,
    p_lengths,
    p_lower,
    p_output,
    p_h_n,
    p_cells,
    p_tape,
    groups,
    batch,
    steps,
    layers,
    features,
    hidden,
    input_gate,
    hidden_gate,
    input_group,
    input_row,
    input_step,
    lower_row,
    output_row,
    length_group,
    length_row,
    phase,
    top_layer,
    PRECISION: tl.constexpr,
    EXACT: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One step of every layer at work in a phase: h, c and, if asked for, the tape of BLOCK_M windows, BLOCK_H units.

    Grid: (layers at work x G x batch tiles x hidden tiles,), see `place`. A program owns its tile of c, updated in
    place, and its tile of the h that it writes; what it reads of h was written by earlier launches.
    Registers: four accumulators (M, H) in float32; after the products also c.
    Bytes moved, per window, unit and step: h written once (storage dtype), c read and written (4 + 4), 24 for the tape;
    the rows of x and h are read once a hidden tile, the weights once a batch tile, from L2 where they fit.
    `lower` (L - 1, G, B, 2, K) is the h of all layers but the top one, of two steps; `output` (G, B, T, K) is the top
    one's. Upper weights are those of layers 1.. (L - 1, G, 4K, K). Never run on a GPU yet.
    """
    i_layer, i_group, i_m, i_h = place(groups, batch, hidden, top_layer, BLOCK_M, BLOCK_H)
    i_t = phase - i_layer
    is_lowest = i_layer == 0
    is_top = i_layer == layers - 1
    i_g = i_group.to(tl.int64)
    i_set = i_layer.to(tl.int64) * groups + i_g  # of (L, G)
    i_upper = tl.where(is_lowest, 0, i_set - groups)  # of (L - 1, G), without the lowest layer
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_h = i_h * BLOCK_H + tl.arange(0, BLOCK_H)
    m_m = o_m < batch
    m_h = o_h < hidden
    o_m64 = o_m.to(tl.int64)

    b_i = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    b_f = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    b_g = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    b_o = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)

    # The lowest layer's input has a width and strides of its own; for the others the loop runs no time.
    p_x = p_input + i_g * input_group + i_t.to(tl.int64) * input_step + o_m64 * input_row
    p_w = p_weight_ih + (i_g * 4 * hidden + o_h) * features
    for i_d in range(0, tl.where(is_lowest, features, 0), BLOCK_I):
        b_i, b_f, b_g, b_o = four_products(
            b_i, b_f, b_g, b_o, p_x, m_m, p_w, m_h, i_d, features, input_gate, PRECISION, UPCAST, BLOCK_I,
        )  # fmt: skip

    # One loop over the concatenation [h of the layer below; own h of the step before]; nothing is multiplied by the
    # zero state before step 0.
    p_below = p_lower + i_upper * batch * lower_row + (i_t % 2) * hidden
    p_own = tl.where(is_top, p_output, p_lower)
    own_row = tl.where(is_top, output_row, lower_row)
    own_set = tl.where(is_top, i_g, i_set)
    p_own += own_set * batch * own_row
    before = tl.where(is_top, i_t - 1, (i_t + 1) % 2)
    p_before = p_own + before.to(tl.int64) * hidden
    before_row = own_row
    recurrent = i_t > 0
    if p_h0 is not None:
        p_before = tl.where(recurrent, p_before, p_h0 + i_set * batch * hidden)
        before_row = tl.where(recurrent, own_row, hidden)
        recurrent = i_t >= 0
    p_w_below = p_upper_ih + i_upper * 4 * hidden * hidden
    p_w_before = tl.where(
        is_lowest, p_weight_hh + i_g * 4 * hidden * hidden, p_upper_hh + i_upper * 4 * hidden * hidden
    )
    padded = tl.cdiv(hidden, BLOCK_D) * BLOCK_D
    for i_s in range(tl.where(is_lowest, padded, 0), tl.where(recurrent, 2 * padded, padded), BLOCK_D):
        is_below = i_s < padded
        p_a = tl.where(is_below, p_below, p_before) + o_m64 * tl.where(is_below, lower_row, before_row)
        p_w = tl.where(is_below, p_w_below, p_w_before) + o_h.to(tl.int64) * hidden
        b_i, b_f, b_g, b_o = four_products(
            b_i, b_f, b_g, b_o, p_a, m_m, p_w, m_h, tl.where(is_below, i_s, i_s - padded), hidden,
            hidden_gate, PRECISION, UPCAST, BLOCK_D,
        )  # fmt: skip

    p_b = tl.where(is_lowest, p_bias + i_g * 4 * hidden, p_upper_bias + i_upper * 4 * hidden) + o_h
    b_i = sigmoid(b_i + tl.load(p_b, mask=m_h, other=0.0).to(tl.float32)[None, :])
    b_f = sigmoid(b_f + tl.load(p_b + hidden, mask=m_h, other=0.0).to(tl.float32)[None, :])
    b_g = tanh(b_g + tl.load(p_b + 2 * hidden, mask=m_h, other=0.0).to(tl.float32)[None, :], EXACT)
    b_o = sigmoid(b_o + tl.load(p_b + 3 * hidden, mask=m_h, other=0.0).to(tl.float32)[None, :])

    m_tile = m_m[:, None] & m_h[None, :]
    o_state = ((i_set * batch + o_m64) * hidden)[:, None] + o_h[None, :]  # of (L, G, B, K)
    if p_c0 is not None:
        b_before = tl.load(tl.where(i_t > 0, p_cells, p_c0) + o_state, mask=m_tile, other=0.0)
    else:
        m_later = (o_m < tl.where(i_t > 0, batch, 0))[:, None]  # the interpreter's masks take no scalars
        b_before = tl.load(p_cells + o_state, mask=m_later & m_h[None, :], other=0.0)
    b_c = b_f * b_before + b_i * b_g
    b_hidden = b_o * tanh(b_c, EXACT)
    b_last = last_steps(p_lengths, i_g, o_m, m_m, steps, length_group, length_row)
    m_alive = (i_t <= b_last)[:, None]
    if p_lengths is not None:
        b_c = tl.where(m_alive, b_c, b_before)
        b_hidden = tl.where(m_alive, b_hidden, 0.0)
    b_stored = b_hidden.to(p_output.dtype.element_ty)
    here = tl.where(is_top, i_t, i_t % 2)
    p_here = p_own + here.to(tl.int64) * hidden
    tl.store(p_here + (o_m64 * own_row)[:, None] + o_h[None, :], b_stored, mask=m_tile)
    tl.store(p_cells + o_state, b_c, mask=m_tile)
    if p_tape is not None:
        o_row = ((i_set * batch + o_m64) * steps + i_t) * 6 * hidden
        p_t = p_tape + o_row[:, None] + o_h[None, :]
        tl.store(p_t, b_i, mask=m_tile)
        tl.store(p_t + hidden, b_f, mask=m_tile)
        tl.store(p_t + 2 * hidden, b_g, mask=m_tile)
        tl.store(p_t + 3 * hidden, b_o, mask=m_tile)
        tl.store(p_t + 4 * hidden, b_c, mask=m_tile)
        tl.store(p_t + 5 * hidden, b_stored.to(tl.float32), mask=m_tile)
    b_final = b_stored
    if p_lengths is not None and p_h0 is not None:  # a row without steps ends where it began
        m_none = m_tile & (b_last < 0)[:, None]
        b_final = tl.where(m_alive, b_stored, tl.load(p_h0 + o_state, mask=m_none, other=0.0))
    tl.store(p_h_n + o_state, b_final, mask=m_tile & (i_t == tl.maximum(b_last, 0))[:, None])
