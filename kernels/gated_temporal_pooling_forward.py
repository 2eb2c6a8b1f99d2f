"""Triton kernels of `gated_temporal_pooling`, forward: hidden channels of both gates, then everything else.

    h_g[t]  = act(sum_k W1_g[:, :, k] x[t + k - K1 / 2] + b1_g)
    out[t]  = sum_g (mean_g(x)[t] + max_g(x)[t]) sigmoid(sum_k W2_g[:, :, k] h_g[t + k - K2 / 2] + b2_g)
    output  = max_t out[t]

Two launches. `hide_frames`: one program makes a tile of frames x hidden channels of one strip and gate. `pool_frames`:
one program takes a block of channels of one sequence through all its frames; logits, gates, means, maxima and the
maximum over time stay in registers, so that nothing of length T but the hidden channels (half the features' size) is
written.

Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. S strips, N sequences, T frames, C channels
and H hidden channels of a gate. Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="assignment, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

# Sizes that change from call to call: one compilation serves all.
ANY_VALUE = ["strips", "count", "frames", "gates"]
ANY_VALUE += [f"{size}_{gate}" for size in ("hidden", "taps", "window") for gate in (0, 1)]


@triton.jit
def frames_of(p_lengths, i_sequence, frames):
    """Frames that count of one sequence, or of a block of them."""
    if p_lengths is None:
        return i_sequence * 0 + frames
    return tl.minimum(tl.maximum(tl.load(p_lengths + i_sequence).to(tl.int32), 0), frames)


@triton.jit(do_not_specialize=ANY_VALUE)
def hide_frames(
    p_features,
    p_weight_0,
    p_weight_1,
    p_bias_0,
    p_bias_1,
    p_lengths,
    p_hidden,
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
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Rows are frames of all sequences of a strip. Writes ``p_hidden (S, N, T, H_0 + H_1)``, zeros behind an end."""
    rows = count * frames
    tiles = tl.cdiv(rows, BLOCK_M)
    parts = tl.cdiv(tl.maximum(hidden_0, hidden_1), BLOCK_H)
    i_tile = tl.program_id(0) % tiles
    i_part = tl.program_id(0) // tiles % parts
    i_gate = tl.program_id(0) // (tiles * parts) % gates
    i_strip = tl.program_id(0) // (tiles * parts * gates)
    p_weight, p_bias, hidden, taps, first = p_weight_0, p_bias_0, hidden_0, taps_0, hidden_0 * 0
    if i_gate == 1:
        p_weight, p_bias, hidden, taps, first = p_weight_1, p_bias_1, hidden_1, taps_1, hidden_0
    o_m = i_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    o_h = i_part * BLOCK_H + tl.arange(0, BLOCK_H)
    m_m, m_h = o_m < rows, o_h < hidden
    o_n, o_t = tl.where(m_m, o_m // frames, 0), o_m % frames
    b_length = frames_of(p_lengths, o_n, frames)
    p_rows = p_features + i_strip.to(tl.int64) * stride_strip + o_n.to(tl.int64) * stride_sequence
    p_weight += (i_strip * hidden + o_h).to(tl.int64) * channels * taps
    b_acc = tl.zeros([BLOCK_M, BLOCK_H], tl.float32)
    for k in range(taps):
        o_frame = o_t + k - taps // 2
        m_frame = m_m & (o_frame >= 0) & (o_frame < b_length)
        for c in range(0, channels, BLOCK_C):
            o_c = c + tl.arange(0, BLOCK_C)
            m_c = o_c < channels
            p_x = (p_rows + o_frame * stride_frame)[:, None] + o_c[None, :]
            b_x = tl.load(p_x, mask=m_frame[:, None] & m_c[None, :], other=0.0).to(tl.float32)
            p_w = p_weight[None, :] + (o_c * taps + k)[:, None]
            b_w = tl.load(p_w, mask=m_c[:, None] & m_h[None, :], other=0.0).to(tl.float32)
            b_acc = tl.dot(b_x, b_w, b_acc, input_precision=PRECISION)
    b_acc += tl.load(p_bias + i_strip * hidden + o_h, mask=m_h, other=0.0).to(tl.float32)[None, :]
    b_acc = tl.where(b_acc > 0, b_acc, b_acc * slope)
    b_acc = tl.where((m_m & (o_t < b_length))[:, None], b_acc, 0.0)
    o_row = (i_strip.to(tl.int64) * rows + o_m) * (hidden_0 + (gates - 1) * hidden_1) + first
    tl.store(p_hidden + o_row[:, None] + o_h[None, :], b_acc, mask=m_m[:, None] & m_h[None, :])


@triton.jit
def _gate(
    p_hidden,
    p_weight,
    p_bias,
    o_t,
    o_c,
    m_c,
    length,
    hidden,
    total,
    taps,
    PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Gates of frames ``o_t`` and channels ``o_c`` of one sequence, (T, C)."""
    b_logits = tl.zeros([o_t.shape[0], o_c.shape[0]], tl.float32)
    for k in range(taps):
        o_frame = o_t + k - taps // 2
        m_frame = (o_frame >= 0) & (o_frame < length)
        for h in range(0, hidden, BLOCK_H):
            o_h = h + tl.arange(0, BLOCK_H)
            m_h = o_h < hidden
            p_h = p_hidden + (o_frame * total)[:, None] + o_h[None, :]
            b_h = tl.load(p_h, mask=m_frame[:, None] & m_h[None, :], other=0.0)
            p_w = p_weight + ((o_c * hidden)[None, :] + o_h[:, None]) * taps + k
            b_w = tl.load(p_w, mask=m_h[:, None] & m_c[None, :], other=0.0).to(tl.float32)
            b_logits = tl.dot(b_h, b_w, b_logits, input_precision=PRECISION)
    b_logits += tl.load(p_bias + o_c, mask=m_c, other=0.0).to(tl.float32)[None, :]
    return 1.0 / (1.0 + tl.exp(-b_logits))


@triton.jit
def _template(p_x, stride_frame, o_t, m_c, length, window):
    """Mean with zeros for pads plus maximum without them, of the window around frames ``o_t``, (T, C)."""
    b_sum = tl.zeros([o_t.shape[0], m_c.shape[0]], tl.float32)
    b_top = tl.full([o_t.shape[0], m_c.shape[0]], -float("inf"), tl.float32)
    for step in range(window):
        o_frame = o_t + step - window // 2
        m_frame = ((o_frame >= 0) & (o_frame < length))[:, None] & m_c[None, :]
        b_x = tl.load(p_x[None, :] + (o_frame * stride_frame)[:, None], mask=m_frame, other=0.0).to(tl.float32)
        b_sum += b_x
        b_top = tl.where(m_frame, tl.maximum(b_top, b_x), b_top)
    return b_sum / window + b_top


@triton.jit(do_not_specialize=ANY_VALUE)
def pool_frames(
    p_features,
    p_hidden,
    p_weight_0,
    p_weight_1,
    p_bias_0,
    p_bias_1,
    p_lengths,
    p_output,
    p_chosen,
    p_gates,
    strips,
    count,
    frames,
    channels,
    stride_strip,
    stride_sequence,
    stride_frame,
    hidden_0,
    hidden_1,
    taps_0,
    taps_1,
    window_0,
    window_1,
    GATES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Writes ``p_output``, ``p_chosen (S, N, C)`` and ``p_gates (GATES, S, N, C)``: maximum, its frame, its gates."""
    blocks = tl.cdiv(channels, BLOCK_C)
    i_sequence = tl.program_id(0) // blocks % count
    i_strip = tl.program_id(0) // (blocks * count)
    o_c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    m_c = o_c < channels
    length = frames_of(p_lengths, i_sequence, frames)
    total = hidden_0 + (GATES - 1) * hidden_1
    i_row = i_strip.to(tl.int64) * count + i_sequence
    p_x = p_features + i_strip.to(tl.int64) * stride_strip + i_sequence.to(tl.int64) * stride_sequence + o_c
    p_hidden += i_row * frames * total
    p_weight_0 += i_strip.to(tl.int64) * channels * hidden_0 * taps_0
    p_weight_1 += i_strip.to(tl.int64) * channels * hidden_1 * taps_1
    p_bias_0 += i_strip * channels
    p_bias_1 += i_strip * channels
    b_best = tl.zeros([BLOCK_C], tl.float32)
    b_chosen = tl.full([BLOCK_C], -1, tl.int32)
    b_open_0 = tl.zeros([BLOCK_C], tl.float32)
    b_open_1 = tl.zeros([BLOCK_C], tl.float32)
    for t in range(0, length, BLOCK_T):
        o_t = t + tl.arange(0, BLOCK_T)
        m_t = (o_t < length)[:, None]
        b_gate_0 = _gate(
            p_hidden, p_weight_0, p_bias_0, o_t, o_c, m_c, length, hidden_0, total, taps_0, PRECISION, BLOCK_H
        )
        b_out = _template(p_x, stride_frame, o_t, m_c, length, window_0) * b_gate_0
        b_gate_1 = b_gate_0
        if GATES == 2:
            p_rest = p_hidden + hidden_0
            b_gate_1 = _gate(
                p_rest, p_weight_1, p_bias_1, o_t, o_c, m_c, length, hidden_1, total, taps_1, PRECISION, BLOCK_H
            )
            b_out += _template(p_x, stride_frame, o_t, m_c, length, window_1) * b_gate_1
        # The first of the largest frames, or the first NaN.
        m_nan = m_t & (b_out != b_out)
        b_ranked = tl.where(m_t & (b_out == b_out), b_out, -float("inf"))
        b_top = tl.max(b_ranked, 0)
        m_any = tl.max(m_nan.to(tl.int32), 0) > 0
        m_hit = tl.where(m_any[None, :], m_nan, m_t & (b_ranked == b_top[None, :]))
        b_first = tl.min(tl.where(m_hit, o_t[:, None], frames), 0)
        b_top = tl.where(m_any, float("nan"), b_top)
        m_better = (b_chosen < 0) | (b_top > b_best) | (m_any & (b_best == b_best))
        m_first = o_t[:, None] == b_first[None, :]
        b_best = tl.where(m_better, b_top, b_best)
        b_chosen = tl.where(m_better, b_first, b_chosen)
        b_open_0 = tl.where(m_better, tl.sum(tl.where(m_first, b_gate_0, 0.0), 0), b_open_0)
        b_open_1 = tl.where(m_better, tl.sum(tl.where(m_first, b_gate_1, 0.0), 0), b_open_1)
    o_out = i_row * channels + o_c
    tl.store(p_output + o_out, b_best.to(p_output.dtype.element_ty), mask=m_c)
    tl.store(p_chosen + o_out, b_chosen, mask=m_c)
    tl.store(p_gates + o_out, b_open_0, mask=m_c)
    if GATES == 2:
        tl.store(p_gates + strips.to(tl.int64) * count * channels + o_out, b_open_1, mask=m_c)
