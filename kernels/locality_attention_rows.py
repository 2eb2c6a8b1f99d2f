"""Triton kernels of `locality_attention` for short key sequences: the keys of a sequence stay in registers.

For query row t, key j, position p_t, with C = 1 / (2 sigma^2):

    a_j = softmax_j(scale q_t . k_j)     l_j = exp(-C (j - p_t)^2)     w_j = 1 - l_j
    c_t = sum_j u_j v_j                  u_j = a_j (bas, las) or l_j a_j (mbas)
    L   = sum_t sum_j (a_j w_j)^2        (las)

Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. N sequences (N0 x N1), T keys, K features.
The limit is memory bandwidth: scores and sums over keys are plain sums in registers, no matrix units.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.locality_mask import mask_complement, mask_value

# Sizes and positions that change from call to call and that no address depends on: one compilation serves all.
_ANY_VALUE = ["sequences", "inner", "queries", "keys", "first_center", "center_step"]


@triton.jit
def _keys_that_count(p_mask, o_t, keys, m_n, i_0, i_1, m0, m1, m2):
    """Which keys of the block take weight: inside the sequence and no padding. (N, T)"""
    m_t = m_n[:, None] & (o_t < keys)[None, :]
    if p_mask is not None:
        b_padding = tl.load(p_mask + (i_0 * m0 + i_1 * m1)[:, None] + (o_t * m2)[None, :], mask=m_t, other=1)
        m_t = m_t & (b_padding == 0)
    return m_t


@triton.jit
def _offsets_from_center(p_center, m_n, o_t, center):
    """j - p_t, (N, T); the position is loaded where it is given and counted otherwise."""
    b_center = tl.zeros(m_n.shape, tl.float32) + center
    if p_center is not None:
        b_center = tl.load(p_center, mask=m_n, other=0.0)
    return o_t.to(tl.float32)[None, :] - b_center[:, None]


@triton.jit
def _softmax(b_scores, m_t):
    """Weights (N, T) and log of the sum of exponentials (N); zeros and +inf for a row without a key."""
    b_scores = tl.where(m_t, b_scores, -float("inf"))
    b_top = tl.max(b_scores, 1)
    b_top = tl.where(b_top == -float("inf"), 0.0, b_top)
    b_exp = tl.exp(b_scores - b_top[:, None])
    b_sum = tl.sum(b_exp, 1)
    m_empty = b_sum == 0.0
    b_sum = tl.where(m_empty, 1.0, b_sum)
    b_log = tl.where(m_empty, float("inf"), b_top + tl.log(b_sum))
    return b_exp / b_sum[:, None], b_log


@triton.jit(do_not_specialize=_ANY_VALUE)
def rows_forward(
    p_query,
    p_key,
    p_value,
    p_centers,
    p_mask,
    p_context,
    p_loss,
    p_log_sum,
    p_moment,
    sequences,
    inner,
    queries,
    keys,
    features,
    values,
    q0,
    q1,
    q2,
    k0,
    k1,
    k2,
    v0,
    v1,
    v2,
    c0,
    c1,
    c2,
    m0,
    m1,
    m2,
    scale,
    coefficient,
    window,
    first_center,
    center_step,
    MODE: tl.constexpr,
    DETACH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Context, loss, log-sum and moment of BLOCK_N sequences, all query rows.

    Grid: (ceil(N / BLOCK_N),). A program owns BLOCK_N sequences and everything written for them.
    Registers: keys, and values where they differ, as (N, T, K) float32; one query row, and the next one in flight.
    Bytes moved: each input once, each output once; without separate values (Tk K + Tq K + Tq Kv) elements a sequence.
    Never run on a GPU yet: interpreter and ahead-of-time compilation only.
    """
    o_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    o_t = tl.arange(0, BLOCK_T).to(tl.int64)
    o_k = tl.arange(0, BLOCK_K)
    m_n = o_n < sequences
    m_k = m_n[:, None] & (o_k < features)[None, :]  # (N, K)
    m_v = m_n[:, None] & (o_k < values)[None, :]
    i_0 = (o_n // inner).to(tl.int64)
    i_1 = (o_n % inner).to(tl.int64)
    o_n = o_n.to(tl.int64)

    p_q = p_query + i_0 * q0 + i_1 * q1  # (N)
    b_next = tl.load(p_q[:, None] + o_k[None, :], mask=m_k, other=0.0)
    m_t = _keys_that_count(p_mask, o_t, keys, m_n, i_0, i_1, m0, m1, m2)
    m_row = (o_t < keys)[None, :, None]
    o_key = (i_0 * k0 + i_1 * k1)[:, None, None] + (o_t * k2)[None, :, None] + o_k[None, None, :]
    b_k = tl.load(p_key + o_key, mask=m_k[:, None, :] & m_row, other=0.0).to(tl.float32)  # (N, T, K)
    if p_value is not None:
        o_value = (i_0 * v0 + i_1 * v1)[:, None, None] + (o_t * v2)[None, :, None] + o_k[None, None, :]
        b_v = tl.load(p_value + o_value, mask=m_v[:, None, :] & m_row, other=0.0).to(tl.float32)
    else:
        b_v = b_k

    p_center = None
    if p_centers is not None:
        p_center = p_centers + i_0 * c0 + i_1 * c1
    p_out = p_context + o_n * queries * values
    o_row = o_n * queries
    b_loss = tl.zeros([BLOCK_N], tl.float32)
    b_left = tl.zeros([BLOCK_N], tl.int32) + (queries - 1)  # rows still to load
    for t in range(queries):
        b_q = b_next.to(tl.float32)
        p_q += q2
        b_next = tl.load(p_q[:, None] + o_k[None, :], mask=m_k & (b_left > 0)[:, None], other=0.0)
        b_left -= 1
        b_s = tl.sum(b_q[:, None, :] * b_k, 2) * scale  # (N, T)
        b_a, b_log = _softmax(b_s, m_t)
        b_moment = tl.zeros([BLOCK_N], tl.float32)
        if MODE != 0:
            b_offset = _offsets_from_center(p_center, m_n, o_t, first_center + t * center_step)
            if MODE == 1:
                b_a = b_a * mask_value(b_offset, coefficient, window)
            else:
                b_w = mask_complement(b_offset, coefficient, window)
                b_row_loss = tl.sum(b_a * b_w * b_a * b_w, 1)
                b_loss += b_row_loss
                b_moment = tl.sum(b_a * b_a * b_w, 1) if DETACH else b_row_loss
            if p_centers is not None:
                p_center += c2
        b_c = tl.sum(b_a[:, :, None] * b_v, 1)  # (N, K)
        tl.store(p_out[:, None] + o_k[None, :], b_c.to(p_context.dtype.element_ty), mask=m_v)
        tl.store(p_log_sum + o_row, b_log, mask=m_n)
        tl.store(p_moment + o_row, b_moment, mask=m_n)
        p_out += values
        o_row += 1
    tl.store(p_loss + o_n, b_loss, mask=m_n)


@triton.jit(do_not_specialize=_ANY_VALUE)
def rows_backward(
    p_grad_context,
    p_grad_loss,
    p_query,
    p_key,
    p_value,
    p_centers,
    p_mask,
    p_grad_query,
    p_grad_key,
    p_grad_value,
    p_grad_centers,
    sequences,
    inner,
    queries,
    keys,
    features,
    values,
    d0,
    d1,
    d2,
    d3,
    g0,
    g1,
    q0,
    q1,
    q2,
    k0,
    k1,
    k2,
    v0,
    v1,
    v2,
    c0,
    c1,
    c2,
    m0,
    m1,
    m2,
    scale,
    coefficient,
    window,
    first_center,
    center_step,
    MODE: tl.constexpr,
    DETACH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Gradients of BLOCK_N sequences in one pass over their query rows.

    D_j = u_j/a_j (dC . v_j) + 2 g a_j w_j^2 (las; a_j w_j with DETACH), delta = sum_j a_j D_j, dS_j = a_j (D_j - delta);
    dq = scale sum_j dS_j k_j, dk_j = scale sum_t dS_tj q_t, dv_j = sum_t u_tj dC_t; positions by the chain rule through l.
    The softmax is computed afresh: exact whatever the size of the scores, and neither log-sum nor context is read.

    Grid: (ceil(N / BLOCK_N),). A program owns BLOCK_N sequences and all their gradients: no atomics.
    Registers: keys and their gradient as (N, T, K) float32, twice that with separate values; one row of query and of
    grad_context, and the next ones in flight.
    Bytes moved: each input once, each gradient once; without separate values (2 Tk K + 2 Tq K + Tq Kv) elements a
    sequence.
    Never run on a GPU yet: interpreter and ahead-of-time compilation only.
    """
    o_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    o_t = tl.arange(0, BLOCK_T).to(tl.int64)
    o_k = tl.arange(0, BLOCK_K)
    m_n = o_n < sequences
    m_k = m_n[:, None] & (o_k < features)[None, :]  # (N, K)
    m_v = m_n[:, None] & (o_k < values)[None, :]
    i_0 = (o_n // inner).to(tl.int64)
    i_1 = (o_n % inner).to(tl.int64)
    o_n = o_n.to(tl.int64)

    p_q = p_query + i_0 * q0 + i_1 * q1  # (N)
    p_d = p_grad_context + i_0 * d0 + i_1 * d1
    o_d = o_k.to(tl.int64) * d3
    b_next_q = tl.load(p_q[:, None] + o_k[None, :], mask=m_k, other=0.0)
    b_next_d = tl.load(p_d[:, None] + o_d[None, :], mask=m_v, other=0.0)
    m_t = _keys_that_count(p_mask, o_t, keys, m_n, i_0, i_1, m0, m1, m2)
    m_row = (o_t < keys)[None, :, None]
    o_key = (i_0 * k0 + i_1 * k1)[:, None, None] + (o_t * k2)[None, :, None] + o_k[None, None, :]
    b_k = tl.load(p_key + o_key, mask=m_k[:, None, :] & m_row, other=0.0).to(tl.float32)  # (N, T, K)
    b_dk = tl.zeros([BLOCK_N, BLOCK_T, BLOCK_K], tl.float32)
    if p_value is not None:
        o_value = (i_0 * v0 + i_1 * v1)[:, None, None] + (o_t * v2)[None, :, None] + o_k[None, None, :]
        b_v = tl.load(p_value + o_value, mask=m_v[:, None, :] & m_row, other=0.0).to(tl.float32)
        b_dv = tl.zeros([BLOCK_N, BLOCK_T, BLOCK_K], tl.float32)
    else:
        b_v = b_k
    b_g = tl.zeros([BLOCK_N], tl.float32)
    if p_grad_loss is not None:
        b_g = tl.load(p_grad_loss + i_0 * g0 + i_1 * g1, mask=m_n, other=0.0)

    p_center = None
    if p_centers is not None:
        p_center = p_centers + i_0 * c0 + i_1 * c1
    p_dq = p_grad_query + o_n * queries * features
    o_row = o_n * queries
    b_left = tl.zeros([BLOCK_N], tl.int32) + (queries - 1)  # rows still to load
    for t in range(queries):
        b_q = b_next_q.to(tl.float32)
        b_d = b_next_d.to(tl.float32)
        p_q += q2
        p_d += d2
        b_next_q = tl.load(p_q[:, None] + o_k[None, :], mask=m_k & (b_left > 0)[:, None], other=0.0)
        b_next_d = tl.load(p_d[:, None] + o_d[None, :], mask=m_v & (b_left > 0)[:, None], other=0.0)
        b_left -= 1
        b_s = tl.sum(b_q[:, None, :] * b_k, 2) * scale  # (N, T)
        b_pull = tl.sum(b_d[:, None, :] * b_v, 2)  # dC . v_j
        b_a, _ = _softmax(b_s, m_t)
        b_u = b_a
        b_slope = b_pull  # D_j
        b_dcenter = tl.zeros([BLOCK_N], tl.float32)
        if MODE != 0:
            b_offset = _offsets_from_center(p_center, m_n, o_t, first_center + t * center_step)
            b_l = mask_value(b_offset, coefficient, window)
            if MODE == 1:
                b_u = b_a * b_l
                b_slope = b_l * b_pull
                b_dcenter = tl.sum(b_a * b_pull * b_l * b_offset, 1)
            else:
                b_w = mask_complement(b_offset, coefficient, window)
                b_aw = b_a * b_w
                b_slope += 2.0 * b_g[:, None] * (b_aw if DETACH else b_aw * b_w)
                if not DETACH:
                    b_dcenter = -2.0 * b_g * tl.sum(b_a * b_aw * b_l * b_offset, 1)
            if p_centers is not None:
                p_center += c2
        b_delta = tl.sum(b_a * b_slope, 1)
        b_ds = b_a * (b_slope - b_delta[:, None]) * scale  # (N, T)
        b_dq = tl.sum(b_ds[:, :, None] * b_k, 1)  # (N, K)
        b_dk += b_ds[:, :, None] * b_q[:, None, :]
        if p_value is not None:
            b_dv += b_u[:, :, None] * b_d[:, None, :]
        else:
            b_dk += b_u[:, :, None] * b_d[:, None, :]
        tl.store(p_dq[:, None] + o_k[None, :], b_dq.to(p_grad_query.dtype.element_ty), mask=m_k)
        if p_centers is not None:
            tl.store(p_grad_centers + o_row, b_dcenter * (2.0 * coefficient), mask=m_n)
        p_dq += features
        o_row += 1

    o_grad = o_n[:, None, None] * keys + o_t[None, :, None]  # (N, T, 1)
    p_dk = p_grad_key + o_grad * features + o_k[None, None, :]
    tl.store(p_dk, b_dk.to(p_grad_key.dtype.element_ty), mask=m_k[:, None, :] & m_row)
    if p_value is not None:
        p_dv = p_grad_value + o_grad * values + o_k[None, None, :]
        tl.store(p_dv, b_dv.to(p_grad_value.dtype.element_ty), mask=m_v[:, None, :] & m_row)
