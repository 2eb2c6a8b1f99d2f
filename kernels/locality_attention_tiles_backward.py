"""Triton backward kernels of `locality_attention` for long sequences; scores are computed again, tile by tile.

With a_j = exp(s_j - log_sum), g the gradient of the sequence's loss and dC that of the row's context:

    D_j = dC . v_j (bas), l_j (dC . v_j) (mbas), dC . v_j + 2 g a_j w_j^2 (las; a_j w_j when the target is detached)
    delta = sum_j a_j D_j = dC . context + 2 g moment        dS_j = a_j (D_j - delta)
    dq = scale sum_j dS_j k_j     dk_j = scale sum_t dS_tj q_t     dv_j = sum_t u_tj dC_t

Three launches: delta of every row, then the query side, then the key side. Every output element has one owner: no
atomics, and the order of all sums is fixed. Prefixes and symbols as in the forward kernel.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.locality_attention_tiles import (
    ANY_VALUE,
    centers_of_rows,
    keys_that_count,
    load_rows,
    product,
    product_over_chunks,
)
from sgela_fast.kernels.locality_mask import mask_complement, mask_value


@triton.jit(do_not_specialize=ANY_VALUE)
def tiles_delta(
    p_grad_context,
    p_grad_loss,
    p_context,
    p_moment,
    p_delta,
    sequences,
    inner,
    queries,
    values,
    d0,
    d1,
    d2,
    d3,
    g0,
    g1,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """delta = dC . context + 2 g moment of BLOCK_M rows, counted over all sequences.

    Grid: (ceil(N Tq / BLOCK_M),). A program owns BLOCK_M elements of delta.
    Registers: one chunk (M, D) of dC and of the context.
    Bytes moved: dC and context once.
    Never run on a GPU yet: interpreter and ahead-of-time compilation only.
    """
    o_row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    i_n = o_row // queries
    i_0 = i_n // inner
    i_1 = i_n % inner
    m_m = i_n < sequences
    p_d = p_grad_context + i_0 * d0 + i_1 * d1 + (o_row % queries) * d2  # (M)
    b_sum = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for i_d in range(0, values, BLOCK_D):
        o_d = (i_d + tl.arange(0, BLOCK_D)).to(tl.int64)
        m_d = m_m[:, None] & (o_d < values)[None, :]
        b_d = tl.load(p_d[:, None] + (o_d * d3)[None, :], mask=m_d, other=0.0).to(tl.float32)
        b_c = tl.load(p_context + (o_row * values)[:, None] + o_d[None, :], mask=m_d, other=0.0).to(tl.float32)
        b_sum += b_d * b_c
    b_delta = tl.sum(b_sum, 1)
    if p_grad_loss is not None:
        b_g = tl.load(p_grad_loss + i_0 * g0 + i_1 * g1, mask=m_m, other=0.0)
        b_delta += 2.0 * b_g * tl.load(p_moment + o_row, mask=m_m, other=0.0)
    tl.store(p_delta + o_row, b_delta, mask=m_m)


@triton.jit(do_not_specialize=ANY_VALUE)
def tiles_backward_query(
    p_grad_context,
    p_grad_loss,
    p_query,
    p_key,
    p_value,
    p_centers,
    p_mask,
    p_log_sum,
    p_delta,
    p_grad_query,
    p_grad_centers,
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
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Gradient of BLOCK_M query rows, BLOCK_O of their features, and of the rows' expected positions.

    Grid: (row blocks x output chunks x N,), row blocks fastest. A program owns its part of grad_query; the first output
    chunk also owns grad_centers.
    Registers: gradient (M, O), two tiles (M, T) in float32; with WHOLE the rows of query and dC too.
    Bytes moved: the rows once; keys and values once a row block, from L2 where they fit.
    Never run on a GPU yet: interpreter and ahead-of-time compilation only.
    """
    row_blocks = tl.cdiv(queries, BLOCK_M)
    chunks = tl.maximum(tl.cdiv(features, BLOCK_O), 1)
    i_m = tl.program_id(0) % row_blocks
    i_o = (tl.program_id(0) // row_blocks) % chunks
    i_n = tl.program_id(0) // (row_blocks * chunks)
    i_0 = (i_n // inner).to(tl.int64)
    i_1 = (i_n % inner).to(tl.int64)
    i_n = i_n.to(tl.int64)
    p_grad_context += i_0 * d0 + i_1 * d1
    p_query += i_0 * q0 + i_1 * q1
    p_key += i_0 * k0 + i_1 * k1
    p_v = p_key
    value_stride = k2
    if p_value is not None:
        p_v = p_value + i_0 * v0 + i_1 * v1
        value_stride = v2
    if p_centers is not None:
        p_centers += i_0 * c0 + i_1 * c1
    if p_mask is not None:
        p_mask += i_0 * m0 + i_1 * m1
    b_g = 0.0
    if p_grad_loss is not None:
        b_g = tl.load(p_grad_loss + i_0 * g0 + i_1 * g1)

    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_d = tl.arange(0, BLOCK_D)
    o_o = i_o * BLOCK_O + tl.arange(0, BLOCK_O)
    o_row = i_n * queries + o_m
    m_m = o_m < queries
    b_log = tl.load(p_log_sum + o_row, mask=m_m, other=float("inf")) * 1.4426950408889634
    b_delta = tl.load(p_delta + o_row, mask=m_m, other=0.0)
    if WHOLE:
        b_q = load_rows(p_query, o_m, queries, q2, o_d, features, 1)  # (M, D)
        b_d = load_rows(p_grad_context, o_m, queries, d2, o_d, values, d3)
    if MODE != 0:
        b_center = centers_of_rows(p_centers, o_m, queries, c2, first_center, center_step)
    scale_log2 = scale * 1.4426950408889634
    b_dq = tl.zeros([BLOCK_M, BLOCK_O], tl.float32)
    b_dcenter = tl.zeros([BLOCK_M], tl.float32)
    for i_t in range(0, keys, BLOCK_T):
        o_t = i_t + tl.arange(0, BLOCK_T)
        if WHOLE:
            b_zero = tl.zeros([BLOCK_M, BLOCK_T], tl.float32)
            b_k = load_rows(p_key, o_t, keys, k2, o_d, features, 1)  # (T, D)
            b_s = product(b_q, tl.trans(b_k), b_zero, PRECISION, UPCAST)
            if p_value is not None:
                b_v = load_rows(p_v, o_t, keys, value_stride, o_d, values, 1)
                b_pull = product(b_d, tl.trans(b_v), b_zero, PRECISION, UPCAST)
            else:
                b_pull = product(b_d, tl.trans(b_k), b_zero, PRECISION, UPCAST)
        else:
            b_s = product_over_chunks(
                p_query, o_m, queries, q2, 1, p_key, o_t, keys, k2, 1, features,
                BLOCK_M, BLOCK_T, BLOCK_D, PRECISION, UPCAST,
            )  # fmt: skip
            b_pull = product_over_chunks(
                p_grad_context, o_m, queries, d2, d3, p_v, o_t, keys, value_stride, 1, values,
                BLOCK_M, BLOCK_T, BLOCK_D, PRECISION, UPCAST,
            )  # fmt: skip
        m_t = keys_that_count(p_mask, o_t, keys, m2)
        b_a = tl.exp2(tl.where(m_t[None, :], b_s * scale_log2 - b_log[:, None], -float("inf")))  # (M, T)
        b_slope = b_pull  # D_j
        if MODE != 0:
            b_offset = o_t.to(tl.float32)[None, :] - b_center[:, None]
            if MODE == 1:
                b_slope = b_pull * mask_value(b_offset, coefficient, window)
                if p_centers is not None:
                    b_dcenter += tl.sum(b_a * b_slope * b_offset, 1)
            else:
                b_w = mask_complement(b_offset, coefficient, window)
                b_aw = b_a * b_w
                b_slope += 2.0 * b_g * (b_aw if DETACH else b_aw * b_w)
                if p_centers is not None:
                    if not DETACH:
                        b_l = mask_value(b_offset, coefficient, window)
                        b_dcenter -= 2.0 * b_g * tl.sum(b_a * b_aw * b_l * b_offset, 1)
        b_ds = b_a * (b_slope - b_delta[:, None])
        if WHOLE:
            b_out = b_k
        else:
            b_out = load_rows(p_key, o_t, keys, k2, o_o, features, 1)  # (T, O)
        b_dq = product(b_ds.to(b_out.dtype), b_out, b_dq, PRECISION, UPCAST)

    p_dq = p_grad_query + (o_row * features)[:, None] + o_o[None, :]
    tl.store(p_dq, (b_dq * scale).to(p_grad_query.dtype.element_ty), mask=m_m[:, None] & (o_o < features)[None, :])
    if p_centers is not None:
        if i_o == 0:
            tl.store(p_grad_centers + o_row, b_dcenter * (2.0 * coefficient), mask=m_m)


@triton.jit(do_not_specialize=ANY_VALUE)
def tiles_backward_key(
    p_grad_context,
    p_grad_loss,
    p_query,
    p_key,
    p_value,
    p_centers,
    p_mask,
    p_log_sum,
    p_delta,
    p_grad_key,
    p_grad_value,
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
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Gradients of BLOCK_T key and value rows, BLOCK_O of their features; one tensor where the values are the keys.

    Grid: (key blocks x output chunks x N,), key blocks fastest. A program owns its part of grad_key and grad_value.
    Registers: one gradient (T, O), two with separate values, two tiles (T, M) in float32; with WHOLE the keys and
    values too. Tiles are transposed, so that both gradients are plain products.
    Bytes moved: keys, values and their gradients once; query and dC once a key block, from L2 where they fit.
    Never run on a GPU yet: interpreter and ahead-of-time compilation only.
    """
    key_blocks = tl.cdiv(keys, BLOCK_T)
    chunks = tl.maximum(tl.cdiv(tl.maximum(features, values), BLOCK_O), 1)
    i_t = tl.program_id(0) % key_blocks
    i_o = (tl.program_id(0) // key_blocks) % chunks
    i_n = tl.program_id(0) // (key_blocks * chunks)
    i_0 = (i_n // inner).to(tl.int64)
    i_1 = (i_n % inner).to(tl.int64)
    i_n = i_n.to(tl.int64)
    p_grad_context += i_0 * d0 + i_1 * d1
    p_query += i_0 * q0 + i_1 * q1
    p_key += i_0 * k0 + i_1 * k1
    p_v = p_key
    value_stride = k2
    if p_value is not None:
        p_v = p_value + i_0 * v0 + i_1 * v1
        value_stride = v2
    if p_centers is not None:
        p_centers += i_0 * c0 + i_1 * c1
    if p_mask is not None:
        p_mask += i_0 * m0 + i_1 * m1
    b_g = 0.0
    if p_grad_loss is not None:
        b_g = tl.load(p_grad_loss + i_0 * g0 + i_1 * g1)

    o_t = i_t * BLOCK_T + tl.arange(0, BLOCK_T)
    o_d = tl.arange(0, BLOCK_D)
    o_o = i_o * BLOCK_O + tl.arange(0, BLOCK_O)
    m_t = keys_that_count(p_mask, o_t, keys, m2)
    if WHOLE:
        b_k = load_rows(p_key, o_t, keys, k2, o_d, features, 1)  # (T, D)
        if p_value is not None:
            b_v = load_rows(p_v, o_t, keys, value_stride, o_d, values, 1)
        else:
            b_v = b_k
    scale_log2 = scale * 1.4426950408889634
    b_dk = tl.zeros([BLOCK_T, BLOCK_O], tl.float32)  # without the factor scale
    b_dv = tl.zeros([BLOCK_T, BLOCK_O], tl.float32)
    for i_m in range(0, queries, BLOCK_M):
        o_m = i_m + tl.arange(0, BLOCK_M)
        m_m = o_m < queries
        o_row = i_n * queries + o_m
        b_log = tl.load(p_log_sum + o_row, mask=m_m, other=float("inf")) * 1.4426950408889634
        b_delta = tl.load(p_delta + o_row, mask=m_m, other=0.0)
        if WHOLE:
            b_zero = tl.zeros([BLOCK_T, BLOCK_M], tl.float32)
            b_q = load_rows(p_query, o_m, queries, q2, o_d, features, 1)  # (M, D)
            b_d = load_rows(p_grad_context, o_m, queries, d2, o_d, values, d3)
            b_s = product(b_k, tl.trans(b_q), b_zero, PRECISION, UPCAST)
            b_pull = product(b_v, tl.trans(b_d), b_zero, PRECISION, UPCAST)
        else:
            b_s = product_over_chunks(
                p_key, o_t, keys, k2, 1, p_query, o_m, queries, q2, 1, features,
                BLOCK_T, BLOCK_M, BLOCK_D, PRECISION, UPCAST,
            )  # fmt: skip
            b_pull = product_over_chunks(
                p_v, o_t, keys, value_stride, 1, p_grad_context, o_m, queries, d2, d3, values,
                BLOCK_T, BLOCK_M, BLOCK_D, PRECISION, UPCAST,
            )  # fmt: skip
        b_a = tl.exp2(tl.where(m_t[:, None], b_s * scale_log2 - b_log[None, :], -float("inf")))  # (T, M)
        b_u = b_a
        b_slope = b_pull  # D_j
        if MODE != 0:
            b_center = centers_of_rows(p_centers, o_m, queries, c2, first_center, center_step)
            b_offset = o_t.to(tl.float32)[:, None] - b_center[None, :]
            if MODE == 1:
                b_l = mask_value(b_offset, coefficient, window)
                b_u = b_a * b_l
                b_slope = b_pull * b_l
            else:
                b_w = mask_complement(b_offset, coefficient, window)
                b_aw = b_a * b_w
                b_slope += 2.0 * b_g * (b_aw if DETACH else b_aw * b_w)
        b_ds = b_a * (b_slope - b_delta[None, :])
        if not WHOLE:
            b_q = load_rows(p_query, o_m, queries, q2, o_o, features, 1)  # (M, O)
            b_d = load_rows(p_grad_context, o_m, queries, d2, o_o, values, d3)
        if p_value is not None:
            b_dk = product(b_ds.to(b_q.dtype), b_q, b_dk, PRECISION, UPCAST)
            b_dv = product(b_u.to(b_d.dtype), b_d, b_dv, PRECISION, UPCAST)
        else:
            b_dk = product((b_ds * scale).to(b_q.dtype), b_q, b_dk, PRECISION, UPCAST)
            b_dk = product(b_u.to(b_d.dtype), b_d, b_dk, PRECISION, UPCAST)

    o_row = (i_n * keys + o_t)[:, None]
    m_row = (o_t < keys)[:, None]
    p_dk = p_grad_key + o_row * features + o_o[None, :]
    if p_value is not None:
        b_dk *= scale
        p_dv = p_grad_value + o_row * values + o_o[None, :]
        tl.store(p_dv, b_dv.to(p_grad_value.dtype.element_ty), mask=m_row & (o_o < values)[None, :])
    tl.store(p_dk, b_dk.to(p_grad_key.dtype.element_ty), mask=m_row & (o_o < features)[None, :])
