"""Triton backward kernel of `batched_lstm`: one phase of the wavefront from the end, gates' gradients in the epilogue.

In phase q layer l computes step t = T - 1 - (q - (L - 1 - l)). With r the gradients of the pre-activations (i f g o),
one program sums

    dh = r(l, t + 1) W_hh(l) + r(l + 1, t) W_ih(l + 1) + what the caller gives

for a tile of windows and hidden units, and turns it into that tile of r(l, t) with the tape. The weights' and the
input's gradients are large products over all windows and steps of r, and are left to the launcher.
Prefixes as in the forward kernel: D is the dimension summed over, 4K gates.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.batched_lstm_cell import last_steps, place, product, tanh

ANY_VALUE = ["groups", "batch", "steps", "layers", "phase", "top_layer"]


@triton.jit(do_not_specialize=ANY_VALUE)
def phase_backward(
    p_weight_hh,
    p_upper_hh,
    p_upper_ih,
    p_c0,
    p_lengths,
    p_tape,
    p_grad_output,
    p_grad_h_n,
    p_grad_c_n,
    p_grad_gates,
    p_grad_cells,
    groups,
    batch,
    steps,
    layers,
    hidden,
    weight_gate,
    weight_unit,
    gates_row,
    gates_step,
    tape_row,
    tape_step,
    output_group,
    output_row,
    output_step,
    output_unit,
    length_group,
    length_row,
    phase,
    top_layer,
    PRECISION: tl.constexpr,
    EXACT: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One step of every layer at work in a phase: gradients of pre-activations and of the cell before.

    Grid: (layers at work x G x batch tiles x hidden tiles,), see `place`. A program owns its tile of the four gates'
    gradients, and its tile of the cell's gradient, which it updates in place: after step 0 it is that of c0.
    Registers: one accumulator (M, H) in float32; in the epilogue gates, both cells and four results.
    Bytes moved, per window, unit and step: 24 of the tape and of the cell before, 8 for the cell's gradient, four gates
    in the storage dtype; the gates' gradients are read once a hidden tile of the step and of the layer below.
    `grad_gates` (L, G, B, T, 4K), `tape` (L, G, B, T, 6, K); weights as in the forward kernel, but with strides: where
    float32 goes to matrix units, they are transposed copies. Never run on a GPU yet.
    """
    i_layer, i_group, i_m, i_h = place(groups, batch, hidden, top_layer, BLOCK_M, BLOCK_H)
    i_t = steps - 1 - phase + (layers - 1 - i_layer)
    is_lowest = i_layer == 0
    is_top = i_layer == layers - 1
    i_g = i_group.to(tl.int64)
    i_set = i_layer.to(tl.int64) * groups + i_g  # of (L, G)
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_h = i_h * BLOCK_H + tl.arange(0, BLOCK_H)
    m_m = o_m < batch
    m_h = o_h < hidden
    o_m64 = o_m.to(tl.int64)

    # One loop over [gates of the layer above; own gates of the step after].
    gates = 4 * hidden
    p_own = p_grad_gates + i_set * batch * gates_row + i_t.to(tl.int64) * gates_step
    p_above = p_own + groups.to(tl.int64) * batch * gates_row
    p_w_above = p_upper_ih + i_set * gates * hidden
    p_w_lowest = p_weight_hh + i_g * gates * hidden
    p_w_own = tl.where(is_lowest, p_w_lowest, p_upper_hh + (i_set - groups) * gates * hidden)
    padded = tl.cdiv(gates, BLOCK_D) * BLOCK_D
    b_dh = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    for i_s in range(tl.where(is_top, padded, 0), tl.where(i_t < steps - 1, 2 * padded, padded), BLOCK_D):
        is_above = i_s < padded
        o_d = tl.where(is_above, i_s, i_s - padded) + tl.arange(0, BLOCK_D)
        m_d = o_d < gates
        p_a = tl.where(is_above, p_above, p_own + gates_step) + o_m64[:, None] * gates_row + o_d[None, :]
        b_a = tl.load(p_a, mask=m_m[:, None] & m_d[None, :], other=0.0)  # (M, D)
        p_w = tl.where(is_above, p_w_above, p_w_own) + (o_d.to(tl.int64) * weight_gate)[:, None]
        b_w = tl.load(p_w + (o_h * weight_unit)[None, :], mask=m_d[:, None] & m_h[None, :], other=0.0)  # (D, H)
        b_dh = product(b_a, b_w, b_dh, PRECISION, UPCAST)

    m_tile = m_m[:, None] & m_h[None, :]
    o_state = ((i_set * batch + o_m64) * hidden)[:, None] + o_h[None, :]  # of (L, G, B, K)
    b_last = last_steps(p_lengths, i_g, o_m, m_m, steps, length_group, length_row)
    m_last = (i_t == tl.maximum(b_last, 0))[:, None]
    m_alive = (i_t <= b_last)[:, None]
    if p_grad_output is not None:
        o_out = i_g * output_group + i_t.to(tl.int64) * output_step + o_m64 * output_row
        p_out = p_grad_output + o_out[:, None] + (o_h.to(tl.int64) * output_unit)[None, :]
        m_top = (o_m < tl.where(is_top, batch, 0))[:, None]  # the interpreter's masks take no scalars
        b_dh += tl.load(p_out, mask=m_top & m_h[None, :], other=0.0).to(tl.float32)
    if p_grad_h_n is not None:
        b_dh += tl.load(p_grad_h_n + o_state, mask=m_tile & m_last, other=0.0).to(tl.float32)
    b_dc = tl.load(p_grad_cells + o_state, mask=m_tile & (i_t < b_last)[:, None], other=0.0)
    if p_grad_c_n is not None:
        b_dc += tl.load(p_grad_c_n + o_state, mask=m_tile & m_last, other=0.0).to(tl.float32)

    o_tape = (i_set * batch + o_m64) * tape_row + i_t.to(tl.int64) * tape_step
    p_t = p_tape + o_tape[:, None] + o_h[None, :]
    b_i = tl.load(p_t, mask=m_tile, other=0.0)
    b_f = tl.load(p_t + hidden, mask=m_tile, other=0.0)
    b_g = tl.load(p_t + 2 * hidden, mask=m_tile, other=0.0)
    b_o = tl.load(p_t + 3 * hidden, mask=m_tile, other=0.0)
    b_tanh = tanh(tl.load(p_t + 4 * hidden, mask=m_tile, other=0.0), EXACT)
    m_later = (o_m < tl.where(i_t > 0, batch, 0))[:, None]
    b_before = tl.load(p_t - tape_step + 4 * hidden, mask=m_later & m_h[None, :], other=0.0)
    if p_c0 is not None:
        b_before += tl.load(p_c0 + o_state, mask=m_tile & (m_later == 0), other=0.0)
    b_passing = b_dc
    b_dc += b_dh * b_o * (1.0 - b_tanh * b_tanh)
    # A row without steps is written once, at step 0, and passes on what it is given.
    b_dc_before = tl.where(m_alive, b_dc * b_f, b_passing)
    tl.store(p_grad_cells + o_state, b_dc_before, mask=m_tile & (m_alive | m_last))

    # Behind a row's end the gates get no gradient, whatever the tape holds there.
    DTYPE: tl.constexpr = p_grad_gates.dtype.element_ty
    p_r = p_own + (o_m64 * gates_row)[:, None] + o_h[None, :]
    b_ri = b_dc * b_g * b_i * (1.0 - b_i)
    tl.store(p_r, tl.where(m_alive, b_ri, 0.0).to(DTYPE), mask=m_tile)
    b_rf = b_dc * b_before * b_f * (1.0 - b_f)
    tl.store(p_r + hidden, tl.where(m_alive, b_rf, 0.0).to(DTYPE), mask=m_tile)
    b_rg = b_dc * b_i * (1.0 - b_g * b_g)
    tl.store(p_r + 2 * hidden, tl.where(m_alive, b_rg, 0.0).to(DTYPE), mask=m_tile)
    b_ro = b_dh * b_tanh * b_o * (1.0 - b_o)
    tl.store(p_r + 3 * hidden, tl.where(m_alive, b_ro, 0.0).to(DTYPE), mask=m_tile)
