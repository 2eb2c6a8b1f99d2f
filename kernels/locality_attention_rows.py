"""Triton kernels of `locality_attention` for short key sequences: the keys of a sequence stay in registers.

For query row t, key j, position p_t, with C = 1 / (2 sigma^2):

    a_j = softmax_j(scale q_t . k_j)     l_j = exp(-C (j - p_t)^2)     w_j = 1 - l_j
    c_t = sum_j u_j v_j                  u_j = a_j (bas, las) or l_j a_j (mbas)
    L   = sum_t sum_j (a_j w_j)^2        (las)

The keys are a tuple of KEYS blocks (N, K), one for each position, so that their number need not be a power of two and
sums over keys are plain additions. The limit is memory bandwidth, closely followed by the rate of instructions.

Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. N sequences (N0 x N1), K features.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="assignment, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.locality_mask import mask_complement, mask_value

# Sizes and positions that change from call to call and that no address depends on: one compilation serves all.
_ANY_VALUE = ["sequences", "inner", "queries", "keys", "first_center", "center_step"]


@triton.jit
def _keys_that_count(p_mask, mask_stride, keys, m_n, KEYS: tl.constexpr):
    """For each key of the block whether it takes weight: inside the sequence and no padding. KEYS x (N)"""
    m_keys = ()
    for j in tl.static_range(KEYS):
        m_key = m_n & (tl.zeros(m_n.shape, tl.int32) + j < keys)
        if p_mask is not None:
            m_key = m_key & (tl.load(p_mask, mask=m_key, other=1) == 0)
            p_mask += mask_stride
        m_keys = m_keys + (m_key,)
    return m_keys


@triton.jit
def _load_keys(p_row, row_stride, o_k, m_k, m_keys, KEYS: tl.constexpr):
    """KEYS x (N, K) in float32; zeros, and no traffic, for keys that do not count."""
    b_keys = ()
    for j in tl.static_range(KEYS):
        b_row = tl.load(p_row[:, None] + o_k[None, :], mask=m_k & m_keys[j][:, None], other=0.0)
        b_keys = b_keys + (b_row.to(tl.float32),)
        p_row += row_stride
    return b_keys


@triton.jit
def _store_keys(p_row, row_stride, o_k, m_k, keys, b_rows, KEYS: tl.constexpr):
    """Write KEYS x (N, K) to contiguous sequences, padding included."""
    for j in tl.static_range(KEYS):
        m_row = m_k & (tl.zeros(m_k.shape, tl.int32) + j < keys)
        tl.store(p_row[:, None] + o_k[None, :], b_rows[j].to(p_row.dtype.element_ty), mask=m_row)
        p_row += row_stride


@triton.jit
def _zeros(KEYS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    b_rows = ()
    for _ in tl.static_range(KEYS):
        b_rows = b_rows + (tl.zeros([BLOCK_N, BLOCK_K], tl.float32),)
    return b_rows


@triton.jit
def _softmax(b_query, b_keys, m_keys, scale, KEYS: tl.constexpr):
    """Weights, KEYS x (N), and log of the sum of exponentials, (N); zeros and +inf for a row without a key."""
    scale_log2 = scale * 1.4426950408889634  # exponents in base 2 save a product for each key
    b_scores = ()
    b_top = tl.full([b_query.shape[0]], -float("inf"), tl.float32)
    for j in tl.static_range(KEYS):
        b_scores = b_scores + (tl.where(m_keys[j], tl.sum(b_query * b_keys[j], 1) * scale_log2, -float("inf")),)
        b_top = tl.maximum(b_top, b_scores[j])
    b_top = tl.where(b_top == -float("inf"), 0.0, b_top)
    b_exps = ()
    b_sum = tl.zeros([b_query.shape[0]], tl.float32)
    for j in tl.static_range(KEYS):
        b_exps = b_exps + (tl.exp2(b_scores[j] - b_top),)
        b_sum += b_exps[j]
    m_empty = b_sum == 0.0
    b_sum = tl.where(m_empty, 1.0, b_sum)
    b_factor = 1.0 / b_sum
    b_weights = ()
    for j in tl.static_range(KEYS):
        b_weights = b_weights + (b_exps[j] * b_factor,)
    return b_weights, tl.where(m_empty, float("inf"), (b_top + tl.log2(b_sum)) * 0.6931471805599453)


@triton.jit
def _center(p_center, m_n, counted):
    """Expected position p_t, (N): loaded where positions are given and counted otherwise."""
    b_center = tl.zeros(m_n.shape, tl.float32) + counted
    if p_center is not None:
        b_center = tl.load(p_center, mask=m_n, other=0.0)
    return b_center


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
    KEYS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Context, loss, log-sum and moment of BLOCK_N sequences, all query rows.

    Grid: (ceil(N / BLOCK_N),). A program owns BLOCK_N sequences and everything written for them.
    Registers: keys, and values where they differ, as KEYS x (N, K) float32; a query row, and the next one in flight.
    Bytes moved: each input once, each output once; without separate values (Tk K + Tq K + Tq Kv) elements a sequence.
    Never run on a GPU yet: interpreter and ahead-of-time compilation only.
    """
    o_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_n = o_n < sequences
    m_k = m_n[:, None] & (o_k < features)[None, :]  # (N, K)
    m_v = m_n[:, None] & (o_k < values)[None, :]
    i_0 = (o_n // inner).to(tl.int64)
    i_1 = (o_n % inner).to(tl.int64)
    o_n = o_n.to(tl.int64)
    if p_mask is not None:
        p_mask += i_0 * m0 + i_1 * m1
    if p_centers is not None:
        p_centers += i_0 * c0 + i_1 * c1

    p_q = p_query + i_0 * q0 + i_1 * q1  # (N)
    b_next = tl.load(p_q[:, None] + o_k[None, :], mask=m_k, other=0.0)
    m_keys = _keys_that_count(p_mask, m2, keys, m_n, KEYS)
    b_keys = _load_keys(p_key + i_0 * k0 + i_1 * k1, k2, o_k, m_k, m_keys, KEYS)
    if p_value is not None:
        b_values = _load_keys(p_value + i_0 * v0 + i_1 * v1, v2, o_k, m_v, m_keys, KEYS)
    else:
        b_values = b_keys

    p_c = p_context + o_n * queries * values
    o_row = o_n * queries
    b_loss = tl.zeros([BLOCK_N], tl.float32)
    b_left = tl.zeros([BLOCK_N], tl.int32) + (queries - 1)  # rows still to load
    for t in range(queries):
        b_q = b_next.to(tl.float32)
        p_q += q2
        b_next = tl.load(p_q[:, None] + o_k[None, :], mask=m_k & (b_left > 0)[:, None], other=0.0)
        b_left -= 1
        b_weights, b_log = _softmax(b_q, b_keys, m_keys, scale, KEYS)
        b_moment = tl.zeros([BLOCK_N], tl.float32)
        b_row_loss = tl.zeros([BLOCK_N], tl.float32)
        b_c = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
        if MODE != 0:
            b_center = _center(p_centers, m_n, first_center + t * center_step)
            if p_centers is not None:
                p_centers += c2
        for j in tl.static_range(KEYS):
            b_u = b_weights[j]
            if MODE == 1:
                b_u = b_u * mask_value(j - b_center, coefficient, window)
            if MODE == 2:
                b_aw = b_u * mask_complement(j - b_center, coefficient, window)
                b_row_loss += b_aw * b_aw
                if DETACH:
                    b_moment += b_u * b_aw
            b_c += b_u[:, None] * b_values[j]
        b_loss += b_row_loss
        tl.store(p_c[:, None] + o_k[None, :], b_c.to(p_context.dtype.element_ty), mask=m_v)
        tl.store(p_log_sum + o_row, b_log, mask=m_n)
        tl.store(p_moment + o_row, b_moment if DETACH else b_row_loss, mask=m_n)
        p_c += values
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
    KEYS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Gradients of BLOCK_N sequences in one pass over their query rows.

    D_j = dC . v_j (bas), l_j (dC . v_j) (mbas), dC . v_j + 2 g a_j w_j^2 (las; a_j w_j with DETACH)
    delta = sum_j a_j D_j     dS_j = a_j (D_j - delta)
    dq = scale sum_j dS_j k_j     dk_j = scale sum_t dS_tj q_t     dv_j = sum_t u_tj dC_t
    dp_t = sum_j dl_j l_j (j - p_t) / sigma^2 with dl_j = a_j (dC . v_j) (mbas) or -2 g a_j^2 w_j (las)
    The softmax is computed afresh: exact whatever the size of the scores, and neither log-sum nor context is read.

    Grid: (ceil(N / BLOCK_N),). A program owns BLOCK_N sequences and all their gradients: no atomics.
    Registers: keys and gradients as KEYS x (N, K) float32, one gradient more with separate values, which are read
    again, from L1, for each row; a row of query and of grad_context, and the next ones in flight.
    Bytes moved: each input once, each gradient once; without separate values (2 Tk K + 2 Tq K + Tq Kv) elements a
    sequence.
    Never run on a GPU yet: interpreter and ahead-of-time compilation only.
    """
    o_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_n = o_n < sequences
    m_k = m_n[:, None] & (o_k < features)[None, :]  # (N, K)
    m_v = m_n[:, None] & (o_k < values)[None, :]
    i_0 = (o_n // inner).to(tl.int64)
    i_1 = (o_n % inner).to(tl.int64)
    o_n = o_n.to(tl.int64)
    if p_mask is not None:
        p_mask += i_0 * m0 + i_1 * m1
    if p_centers is not None:
        p_centers += i_0 * c0 + i_1 * c1
    b_g = tl.zeros([BLOCK_N], tl.float32)
    if p_grad_loss is not None:
        b_g = tl.load(p_grad_loss + i_0 * g0 + i_1 * g1, mask=m_n, other=0.0)

    p_q = p_query + i_0 * q0 + i_1 * q1  # (N)
    p_d = p_grad_context + i_0 * d0 + i_1 * d1
    o_d = o_k.to(tl.int64) * d3
    b_next_q = tl.load(p_q[:, None] + o_k[None, :], mask=m_k, other=0.0)
    b_next_d = tl.load(p_d[:, None] + o_d[None, :], mask=m_v, other=0.0)
    m_keys = _keys_that_count(p_mask, m2, keys, m_n, KEYS)
    b_keys = _load_keys(p_key + i_0 * k0 + i_1 * k1, k2, o_k, m_k, m_keys, KEYS)
    b_dkeys = _zeros(KEYS, BLOCK_N, BLOCK_K)
    if p_value is not None:
        p_value += i_0 * v0 + i_1 * v1
        b_dvalues = _zeros(KEYS, BLOCK_N, BLOCK_K)

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
        b_weights, _ = _softmax(b_q, b_keys, m_keys, scale, KEYS)
        if MODE != 0:
            b_center = _center(p_centers, m_n, first_center + t * center_step)
            if p_centers is not None:
                p_centers += c2
        if p_value is not None:
            b_values = _load_keys(p_value, v2, o_k, m_v, m_keys, KEYS)
        else:
            b_values = b_keys
        b_us = ()
        b_slopes = ()
        b_delta = tl.zeros([BLOCK_N], tl.float32)
        b_dcenter = tl.zeros([BLOCK_N], tl.float32)
        for j in tl.static_range(KEYS):
            b_a = b_weights[j]
            b_u = b_a
            b_slope = tl.sum(b_d * b_values[j], 1)
            if MODE != 0:
                b_offset = j - b_center
            if MODE == 1:
                b_l = mask_value(b_offset, coefficient, window)
                b_u = b_a * b_l
                b_slope = b_slope * b_l
                b_dcenter += b_a * b_slope * b_offset
            if MODE == 2:
                b_w = mask_complement(b_offset, coefficient, window)
                b_aw = b_a * b_w
                b_slope += 2.0 * b_g * (b_aw if DETACH else b_aw * b_w)
                if p_centers is not None:
                    if not DETACH:
                        b_dcenter -= 2.0 * b_g * b_a * b_aw * mask_value(b_offset, coefficient, window) * b_offset
            b_delta += b_a * b_slope
            b_us = b_us + (b_u,)
            b_slopes = b_slopes + (b_slope,)
        b_dq = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
        b_dk = ()
        b_dv = ()
        for j in tl.static_range(KEYS):
            b_ds = b_weights[j] * (b_slopes[j] - b_delta) * scale
            b_dq += b_ds[:, None] * b_keys[j]
            b_dkey = b_dkeys[j] + b_ds[:, None] * b_q
            b_dvalue = b_us[j][:, None] * b_d
            if p_value is not None:
                b_dk = b_dk + (b_dkey,)
                b_dv = b_dv + (b_dvalues[j] + b_dvalue,)
            else:
                b_dk = b_dk + (b_dkey + b_dvalue,)
        b_dkeys = b_dk
        if p_value is not None:
            b_dvalues = b_dv
        tl.store(p_dq[:, None] + o_k[None, :], b_dq.to(p_grad_query.dtype.element_ty), mask=m_k)
        if p_centers is not None:
            tl.store(p_grad_centers + o_row, b_dcenter * (2.0 * coefficient), mask=m_n)
        p_dq += features
        o_row += 1

    _store_keys(p_grad_key + o_n * keys * features, features, o_k, m_k, keys, b_dkeys, KEYS)
    if p_value is not None:
        _store_keys(p_grad_value + o_n * keys * values, values, o_k, m_v, keys, b_dvalues, KEYS)
