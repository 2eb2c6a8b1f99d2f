"""Triton kernels of `gated_temporal_pooling`, backward, behind the maximum over time.

One frame t*(c) of each sequence and channel c has a gradient d(c). With the gate s_g(c) saved there, and the template
m_g(c) of its window computed anew:

    dl_g(c)    = d(c) m_g(c) s_g(c) (1 - s_g(c))                      gradient of the logit at t*(c)
    dh_g[t]    = act'(h_g[t]) sum_k sum_c [t - k + K2 / 2 = t*(c)] dl_g(c) W2_g[c, :, k]
    dx[t, c]   = sum_g ([t in window of t*] / w_g + [t first maximum of it]) d(c) s_g(c)
                 + sum_k W1_g[:, c, k] dh_g[t - k + K1 / 2]
    dW2_g[c, :, k] = sum_n dl_g(c) h_g[t*(c) + k - K2 / 2],  dW1_g[:, c, k] = sum_{n, t} dh_g[t] x[t + k - K1 / 2, c]

Four launches: `grad_hidden`, `grad_features`, `grad_conv1`, `grad_conv2`. The sparse gradient of the logits is never
written out: `grad_hidden` makes its rows from t* as they are multiplied, `grad_conv2` gathers the one hidden row that
counts. Every sum is one program's, in one order: no atomics.

Prefixes and symbols as in `gated_temporal_pooling_forward.py`. Never run on a GPU yet: interpreter and ahead-of-time
compilation only.
"""

# mypy: disable-error-code="assignment, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.gated_temporal_pooling_forward import ANY_VALUE, frames_of


@triton.jit(do_not_specialize=ANY_VALUE)
def grad_hidden(
    p_grad_output,
    p_features,
    p_hidden,
    p_weight_0,
    p_weight_1,
    p_lengths,
    p_chosen,
    p_gates,
    p_grad_hidden,
    p_grad_logits,
    p_tops,
    strips,
    count,
    frames,
    channels,
    stride_strip,
    stride_sequence,
    stride_frame,
    slope,
    gates,
    hidden_0,
    hidden_1,
    taps_0,
    taps_1,
    window_0,
    window_1,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """One program: a block of frames and of hidden channels of one sequence and gate.

    Writes ``p_grad_hidden`` as ``p_hidden``; the first block of frames also ``p_grad_logits`` and ``p_tops (gates, S,
    N, C)``: dl_g, and the first maximum of the window of t*.
    """
    tiles = tl.cdiv(frames, BLOCK_T)
    parts = tl.cdiv(tl.maximum(hidden_0, hidden_1), BLOCK_H)
    i_tile = tl.program_id(0) % tiles
    i_part = tl.program_id(0) // tiles % parts
    i_gate = tl.program_id(0) // (tiles * parts) % gates
    i_sequence = tl.program_id(0) // (tiles * parts * gates) % count
    i_strip = tl.program_id(0) // (tiles * parts * gates * count)
    p_weight, hidden, taps, window, first = p_weight_0, hidden_0, taps_0, window_0, hidden_0 * 0
    if i_gate == 1:
        p_weight, hidden, taps, window, first = p_weight_1, hidden_1, taps_1, window_1, hidden_0
    total = hidden_0 + (gates - 1) * hidden_1
    length = frames_of(p_lengths, i_sequence, frames)
    i_row = i_strip.to(tl.int64) * count + i_sequence
    o_gate = i_gate.to(tl.int64) * strips * count * channels + i_row * channels
    o_t = i_tile * BLOCK_T + tl.arange(0, BLOCK_T)
    o_h = i_part * BLOCK_H + tl.arange(0, BLOCK_H)
    m_h = o_h < hidden
    p_sequence = p_features + i_strip.to(tl.int64) * stride_strip + i_sequence.to(tl.int64) * stride_sequence
    p_weight += i_strip.to(tl.int64) * channels * hidden * taps
    b_acc = tl.zeros([BLOCK_T, BLOCK_H], tl.float32)
    for c in range(0, channels, BLOCK_C):
        o_c = c + tl.arange(0, BLOCK_C)
        m_c = o_c < channels
        b_chosen = tl.load(p_chosen + i_row * channels + o_c, mask=m_c, other=-1)
        m_one = m_c & (b_chosen >= 0)
        b_sum = tl.zeros([BLOCK_C], tl.float32)
        b_max = tl.zeros([BLOCK_C], tl.float32)
        b_top = tl.full([BLOCK_C], -1, tl.int32)
        for step in range(window):
            o_frame = b_chosen + step - window // 2
            m_frame = m_one & (o_frame >= 0) & (o_frame < length)
            b_x = tl.load(p_sequence + o_frame * stride_frame + o_c, mask=m_frame, other=0.0).to(tl.float32)
            b_sum += b_x
            m_more = m_frame & ((b_top < 0) | (b_x > b_max))
            b_top = tl.where(m_more, o_frame, b_top)
            b_max = tl.where(m_more, b_x, b_max)
        b_grad = tl.load(p_grad_output + i_row * channels + o_c, mask=m_one, other=0.0).to(tl.float32)
        b_open = tl.load(p_gates + o_gate + o_c, mask=m_one, other=0.0)
        b_grad_logit = b_grad * (b_sum / window + b_max) * b_open * (1.0 - b_open)
        if i_tile + i_part == 0:
            tl.store(p_grad_logits + o_gate + o_c, b_grad_logit, mask=m_c)
            tl.store(p_tops + o_gate + o_c, b_top, mask=m_c)
        for k in range(taps):
            m_here = (o_t - k + taps // 2)[:, None] == b_chosen[None, :]
            b_sparse = tl.where(m_here & m_one[None, :], b_grad_logit[None, :], 0.0)
            p_w = p_weight + ((o_c * hidden)[:, None] + o_h[None, :]) * taps + k
            b_w = tl.load(p_w, mask=m_c[:, None] & m_h[None, :], other=0.0).to(tl.float32)
            b_acc = tl.dot(b_sparse, b_w, b_acc, input_precision=PRECISION)
    o_row = (i_row * frames + o_t) * total + first
    m_row = (o_t < frames)[:, None] & m_h[None, :]
    b_hidden = tl.load(p_hidden + o_row[:, None] + o_h[None, :], mask=m_row, other=0.0)
    b_acc = tl.where(b_hidden > 0, b_acc, b_acc * slope)
    b_acc = tl.where((o_t < length)[:, None], b_acc, 0.0)
    tl.store(p_grad_hidden + o_row[:, None] + o_h[None, :], b_acc, mask=m_row)


@triton.jit
def _from_hidden(
    b_acc,
    p_grad_hidden,
    p_weight,
    o_m,
    o_t,
    m_m,
    o_c,
    m_c,
    frames,
    channels,
    hidden,
    total,
    taps,
    PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """``b_acc (M, C)`` plus what one gate's first convolution gives back."""
    for k in range(taps):
        o_frame = o_t - k + taps // 2
        m_frame = m_m & (o_frame >= 0) & (o_frame < frames)
        o_row = (o_m + taps // 2 - k).to(tl.int64) * total
        for h in range(0, hidden, BLOCK_H):
            o_h = h + tl.arange(0, BLOCK_H)
            m_h = o_h < hidden
            p_h = p_grad_hidden + o_row[:, None] + o_h[None, :]
            b_h = tl.load(p_h, mask=m_frame[:, None] & m_h[None, :], other=0.0)
            p_w = p_weight + ((o_h * channels)[:, None] + o_c[None, :]) * taps + k
            b_w = tl.load(p_w, mask=m_h[:, None] & m_c[None, :], other=0.0).to(tl.float32)
            b_acc = tl.dot(b_h, b_w, b_acc, input_precision=PRECISION)
    return b_acc


@triton.jit
def _from_template(b_acc, p_gates, p_tops, o_out, m_out, b_grad, b_chosen, o_t, window):
    """``b_acc (M, C)`` plus what one gate's template gives back to the frames of its window."""
    b_template = b_grad * tl.load(p_gates + o_out, mask=m_out, other=0.0)
    b_top = tl.load(p_tops + o_out, mask=m_out, other=-1)
    m_near = (o_t[:, None] - b_chosen <= window // 2) & (b_chosen - o_t[:, None] <= window // 2) & (b_chosen >= 0)
    return b_acc + tl.where(m_near, b_template / window, 0.0) + tl.where(o_t[:, None] == b_top, b_template, 0.0)


@triton.jit(do_not_specialize=ANY_VALUE)
def grad_features(
    p_grad_output,
    p_grad_hidden,
    p_weight_0,
    p_weight_1,
    p_lengths,
    p_chosen,
    p_gates,
    p_tops,
    p_grad_features,
    strips,
    count,
    frames,
    channels,
    hidden_0,
    hidden_1,
    taps_0,
    taps_1,
    window_0,
    window_1,
    GATES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """One program: a tile of frames, of all sequences of a strip, x channels of ``p_grad_features (S, N, T, C)``."""
    rows = count * frames
    tiles = tl.cdiv(rows, BLOCK_M)
    blocks = tl.cdiv(channels, BLOCK_C)
    i_tile = tl.program_id(0) // blocks % tiles
    i_strip = tl.program_id(0) // (blocks * tiles)
    o_c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    o_m = i_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    m_m, m_c = o_m < rows, o_c < channels
    o_n, o_t = tl.where(m_m, o_m // frames, 0), o_m % frames
    total = hidden_0 + (GATES - 1) * hidden_1
    m_out = m_m[:, None] & m_c[None, :]
    o_out = (i_strip.to(tl.int64) * count + o_n)[:, None] * channels + o_c[None, :]
    b_chosen = tl.load(p_chosen + o_out, mask=m_out, other=-1)
    b_grad = tl.load(p_grad_output + o_out, mask=m_out, other=0.0).to(tl.float32)
    p_grad_hidden += i_strip.to(tl.int64) * rows * total
    p_weight_0 += i_strip.to(tl.int64) * hidden_0 * channels * taps_0
    p_weight_1 += i_strip.to(tl.int64) * hidden_1 * channels * taps_1
    b_acc = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    b_acc = _from_template(b_acc, p_gates, p_tops, o_out, m_out, b_grad, b_chosen, o_t, window_0)
    b_acc = _from_hidden(
        b_acc, p_grad_hidden, p_weight_0, o_m, o_t, m_m, o_c, m_c, frames, channels, hidden_0, total, taps_0,
        PRECISION, BLOCK_H,
    )  # fmt: skip
    if GATES == 2:
        o_rest = strips.to(tl.int64) * count * channels + o_out
        b_acc = _from_template(b_acc, p_gates, p_tops, o_rest, m_out, b_grad, b_chosen, o_t, window_1)
        b_acc = _from_hidden(
            b_acc, p_grad_hidden + hidden_0, p_weight_1, o_m, o_t, m_m, o_c, m_c, frames, channels, hidden_1, total,
            taps_1, PRECISION, BLOCK_H,
        )  # fmt: skip
    b_acc = tl.where((o_t < frames_of(p_lengths, o_n, frames))[:, None], b_acc, 0.0)
    p_out = p_grad_features + (i_strip.to(tl.int64) * rows + o_m)[:, None] * channels + o_c[None, :]
    tl.store(p_out, b_acc.to(p_grad_features.dtype.element_ty), mask=m_out)


@triton.jit(do_not_specialize=ANY_VALUE)
def grad_conv1(
    p_features,
    p_grad_hidden,
    p_lengths,
    p_grad_weight_0,
    p_grad_weight_1,
    p_grad_bias_0,
    p_grad_bias_1,
    strips,
    count,
    frames,
    channels,
    stride_strip,
    stride_sequence,
    stride_frame,
    gates,
    hidden_0,
    hidden_1,
    taps_0,
    taps_1,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """One program: one tap, a block of channels and of hidden channels of one strip and gate, over all frames."""
    rows = count * frames
    most = tl.maximum(taps_0, taps_1)
    blocks = tl.cdiv(channels, BLOCK_C)
    parts = tl.cdiv(tl.maximum(hidden_0, hidden_1), BLOCK_H)
    i_part = tl.program_id(0) // blocks % parts
    i_tap = tl.program_id(0) // (blocks * parts) % most
    i_gate = tl.program_id(0) // (blocks * parts * most) % gates
    i_strip = tl.program_id(0) // (blocks * parts * most * gates)
    p_weight, p_bias, hidden, taps, first = p_grad_weight_0, p_grad_bias_0, hidden_0, taps_0, hidden_0 * 0
    if i_gate == 1:
        p_weight, p_bias, hidden, taps, first = p_grad_weight_1, p_grad_bias_1, hidden_1, taps_1, hidden_0
    o_c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    o_h = i_part * BLOCK_H + tl.arange(0, BLOCK_H)
    m_c, m_h = o_c < channels, o_h < tl.where(i_tap < taps, hidden, 0)
    total = hidden_0 + (gates - 1) * hidden_1
    b_acc = tl.zeros([BLOCK_H, BLOCK_C], tl.float32)
    b_sum = tl.zeros([BLOCK_H], tl.float32)
    for m in range(0, rows, BLOCK_M):
        o_m = m + tl.arange(0, BLOCK_M)
        m_m = o_m < rows
        o_n, o_frame = tl.where(m_m, o_m // frames, 0), o_m % frames + i_tap - taps // 2
        m_frame = m_m & (o_frame >= 0) & (o_frame < frames_of(p_lengths, o_n, frames))
        p_h = p_grad_hidden + ((i_strip.to(tl.int64) * rows + o_m) * total + first)[None, :] + o_h[:, None]
        b_h = tl.load(p_h, mask=m_h[:, None] & m_m[None, :], other=0.0)
        o_row = i_strip.to(tl.int64) * stride_strip + o_n.to(tl.int64) * stride_sequence + o_frame * stride_frame
        p_x = p_features + o_row[:, None] + o_c[None, :]
        b_x = tl.load(p_x, mask=m_frame[:, None] & m_c[None, :], other=0.0).to(tl.float32)
        b_acc = tl.dot(b_h, b_x, b_acc, input_precision=PRECISION)
        b_sum += tl.sum(b_h, 1)
    o_weight = i_strip.to(tl.int64) * hidden * channels * taps + ((o_h * channels)[:, None] + o_c[None, :]) * taps
    m_weight = m_h[:, None] & m_c[None, :]
    tl.store(p_weight + o_weight + i_tap, b_acc.to(p_weight.dtype.element_ty), mask=m_weight)
    if i_tap + tl.program_id(0) % blocks == 0:
        tl.store(p_bias + i_strip * hidden + o_h, b_sum.to(p_bias.dtype.element_ty), mask=m_h)


@triton.jit(do_not_specialize=ANY_VALUE)
def grad_conv2(
    p_grad_logits,
    p_hidden,
    p_lengths,
    p_chosen,
    p_grad_weight_0,
    p_grad_weight_1,
    p_grad_bias_0,
    p_grad_bias_1,
    strips,
    count,
    frames,
    channels,
    gates,
    hidden_0,
    hidden_1,
    taps_0,
    taps_1,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """One program: one tap, a block of channels and of hidden channels of one strip and gate, over all sequences."""
    most = tl.maximum(taps_0, taps_1)
    blocks = tl.cdiv(channels, BLOCK_C)
    parts = tl.cdiv(tl.maximum(hidden_0, hidden_1), BLOCK_H)
    i_part = tl.program_id(0) // blocks % parts
    i_tap = tl.program_id(0) // (blocks * parts) % most
    i_gate = tl.program_id(0) // (blocks * parts * most) % gates
    i_strip = tl.program_id(0) // (blocks * parts * most * gates)
    p_weight, p_bias, hidden, taps, first = p_grad_weight_0, p_grad_bias_0, hidden_0, taps_0, hidden_0 * 0
    if i_gate == 1:
        p_weight, p_bias, hidden, taps, first = p_grad_weight_1, p_grad_bias_1, hidden_1, taps_1, hidden_0
    o_c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    o_h = i_part * BLOCK_H + tl.arange(0, BLOCK_H)
    m_c, m_h = o_c < channels, o_h < tl.where(i_tap < taps, hidden, 0)
    total = hidden_0 + (gates - 1) * hidden_1
    b_acc = tl.zeros([BLOCK_C, BLOCK_H], tl.float32)
    b_sum = tl.zeros([BLOCK_C], tl.float32)
    for i_sequence in range(count):
        i_row = i_strip.to(tl.int64) * count + i_sequence
        o_frame = tl.load(p_chosen + i_row * channels + o_c, mask=m_c, other=-1) + i_tap - taps // 2
        o_gate = i_gate.to(tl.int64) * strips * count * channels + i_row * channels
        b_grad = tl.load(p_grad_logits + o_gate + o_c, mask=m_c, other=0.0)
        m_frame = m_c & (o_frame >= 0) & (o_frame < frames_of(p_lengths, i_sequence, frames))
        p_h = p_hidden + ((i_row * frames + o_frame) * total + first)[:, None] + o_h[None, :]
        b_acc += b_grad[:, None] * tl.load(p_h, mask=m_frame[:, None] & m_h[None, :], other=0.0)
        b_sum += b_grad
    o_weight = i_strip.to(tl.int64) * channels * hidden * taps + ((o_c * hidden)[:, None] + o_h[None, :]) * taps
    m_weight = m_c[:, None] & m_h[None, :]
    tl.store(p_weight + o_weight + i_tap, b_acc.to(p_weight.dtype.element_ty), mask=m_weight)
    if i_tap + i_part == 0:
        tl.store(p_bias + i_strip * channels + o_c, b_sum.to(p_bias.dtype.element_ty), mask=m_c)
