"""Triton forward kernel of `locality_attention` for long sequences: tiles of scores, softmax as it goes.

Next to the running maximum m and Z = sum_j exp(s_j - m), the loss needs one more sum, L = sum_j exp(2 (s_j - m)) w_j^2,
which is rescaled by exp(2 (m_old - m_new)) when the maximum moves: a row's loss is L / Z^2, exactly, in one pass.

Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. M query rows, T keys, D features of one
product, O features of the output. Exponents are in base 2: scores carry a factor log2(e).
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.locality_mask import mask_complement, mask_value

# Sizes and positions that change from call to call and that no address depends on: one compilation serves all.
ANY_VALUE = ["sequences", "inner", "queries", "keys", "first_center", "center_step"]


@triton.jit
def load_rows(p_base, o_row, rows, row_stride, o_column, columns, column_stride):
    """A block of a matrix, (rows, columns), zeros outside it."""
    p_block = p_base + (o_row.to(tl.int64) * row_stride)[:, None] + (o_column * column_stride)[None, :]
    return tl.load(p_block, mask=(o_row < rows)[:, None] & (o_column < columns)[None, :], other=0.0)


@triton.jit
def product(b_left, b_right, b_sum, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """b_sum + b_left @ b_right in float32. UPCAST is for the interpreter, whose half-precision products are wrong."""
    if UPCAST:
        b_left = b_left.to(tl.float32)
        b_right = b_right.to(tl.float32)
    return tl.dot(b_left, b_right, b_sum, input_precision=PRECISION)


@triton.jit
def product_over_chunks(
    p_left,
    o_left,
    left_rows,
    left_stride,
    left_column_stride,
    p_right,
    o_right,
    right_rows,
    right_stride,
    right_column_stride,
    columns,
    BLOCK_LEFT: tl.constexpr,
    BLOCK_RIGHT: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """left @ right^T for rows too wide to hold: both are read in chunks of BLOCK_D columns, later ones from cache."""
    b_sum = tl.zeros([BLOCK_LEFT, BLOCK_RIGHT], tl.float32)
    for i_d in range(0, columns, BLOCK_D):
        o_d = i_d + tl.arange(0, BLOCK_D)
        b_left = load_rows(p_left, o_left, left_rows, left_stride, o_d, columns, left_column_stride)
        b_right = load_rows(p_right, o_right, right_rows, right_stride, o_d, columns, right_column_stride)
        b_sum = product(b_left, tl.trans(b_right), b_sum, PRECISION, UPCAST)
    return b_sum


@triton.jit
def keys_that_count(p_mask, o_t, keys, mask_stride):
    """Which keys take weight: inside the sequence and no padding."""
    m_t = o_t < keys
    if p_mask is not None:
        b_padding = tl.load(p_mask + o_t.to(tl.int64) * mask_stride, mask=m_t, other=1)
        m_t = m_t & (b_padding == 0)
    return m_t


@triton.jit
def centers_of_rows(p_centers, o_m, queries, center_stride, first_center, center_step):
    """Expected positions p_t of query rows: loaded where they are given and counted otherwise."""
    b_center = (first_center + o_m * center_step).to(tl.float32)
    if p_centers is not None:
        b_center = tl.load(p_centers + o_m.to(tl.int64) * center_stride, mask=o_m < queries, other=0.0)
    return b_center


@triton.jit(do_not_specialize=ANY_VALUE)
def tiles_forward(
    p_query,
    p_key,
    p_value,
    p_centers,
    p_mask,
    p_context,
    p_row_loss,
    p_log_sum,
    p_moment,
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
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Context, row losses, log-sum and moment of BLOCK_M query rows, BLOCK_O features of the context.

    Grid: (row blocks x output chunks x N,), row blocks fastest, so that neighbours share the keys in L2. A program owns
    its part of the context; the first output chunk also owns the rows' loss, log-sum and moment.
    Registers: context (M, O) and one tile of scores (M, T) in float32, m, Z, L of each row; with WHOLE (K and Kv fit
    one block) the query rows too, else they are read again in chunks for every tile.
    Bytes moved: query and outputs once; keys and values once a row block, from L2 where they fit.
    Never run on a GPU yet: interpreter and ahead-of-time compilation only.
    """
    row_blocks = tl.cdiv(queries, BLOCK_M)
    chunks = tl.maximum(tl.cdiv(values, BLOCK_O), 1)
    i_m = tl.program_id(0) % row_blocks
    i_o = (tl.program_id(0) // row_blocks) % chunks
    i_n = tl.program_id(0) // (row_blocks * chunks)
    i_0 = (i_n // inner).to(tl.int64)
    i_1 = (i_n % inner).to(tl.int64)
    i_n = i_n.to(tl.int64)
    p_query += i_0 * q0 + i_1 * q1
    p_key += i_0 * k0 + i_1 * k1
    if p_value is not None:
        p_value += i_0 * v0 + i_1 * v1
    if p_centers is not None:
        p_centers += i_0 * c0 + i_1 * c1
    if p_mask is not None:
        p_mask += i_0 * m0 + i_1 * m1

    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_d = tl.arange(0, BLOCK_D)
    o_o = i_o * BLOCK_O + tl.arange(0, BLOCK_O)
    if WHOLE:
        b_q = load_rows(p_query, o_m, queries, q2, o_d, features, 1)  # (M, D)
    if MODE != 0:
        b_center = centers_of_rows(p_centers, o_m, queries, c2, first_center, center_step)
    scale_log2 = scale * 1.4426950408889634
    b_top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_M], tl.float32)
    b_square = tl.zeros([BLOCK_M], tl.float32)  # sum exp(2 (s - m)) w^2
    b_linear = tl.zeros([BLOCK_M], tl.float32)  # sum exp(2 (s - m)) w
    b_c = tl.zeros([BLOCK_M, BLOCK_O], tl.float32)
    for i_t in range(0, keys, BLOCK_T):
        o_t = i_t + tl.arange(0, BLOCK_T)
        if WHOLE:
            b_k = load_rows(p_key, o_t, keys, k2, o_d, features, 1)  # (T, D)
            b_s = product(b_q, tl.trans(b_k), tl.zeros([BLOCK_M, BLOCK_T], tl.float32), PRECISION, UPCAST)
        else:
            b_s = product_over_chunks(
                p_query, o_m, queries, q2, 1, p_key, o_t, keys, k2, 1, features,
                BLOCK_M, BLOCK_T, BLOCK_D, PRECISION, UPCAST,
            )  # fmt: skip
        m_t = keys_that_count(p_mask, o_t, keys, m2)
        b_s = tl.where(m_t[None, :], b_s * scale_log2, -float("inf"))  # (M, T)
        b_new_top = tl.maximum(b_top, tl.max(b_s, 1))
        b_shift = tl.where(b_new_top == -float("inf"), 0.0, b_new_top)
        b_rescale = tl.exp2(b_top - b_shift)
        b_e = tl.exp2(b_s - b_shift[:, None])
        b_top = b_new_top
        b_sum = b_sum * b_rescale + tl.sum(b_e, 1)
        if MODE != 0:
            b_offset = o_t.to(tl.float32)[None, :] - b_center[:, None]
            if MODE == 1:
                b_e = b_e * mask_value(b_offset, coefficient, window)
            else:
                b_w = mask_complement(b_offset, coefficient, window)
                b_ew = b_e * b_w
                b_square = b_square * (b_rescale * b_rescale) + tl.sum(b_ew * b_ew, 1)
                if DETACH:
                    b_linear = b_linear * (b_rescale * b_rescale) + tl.sum(b_e * b_ew, 1)
        if p_value is not None:
            b_v = load_rows(p_value, o_t, keys, v2, o_o, values, 1)  # (T, O)
        elif WHOLE:
            b_v = b_k
        else:
            b_v = load_rows(p_key, o_t, keys, k2, o_o, values, 1)
        b_c = product(b_e.to(b_v.dtype), b_v, b_c * b_rescale[:, None], PRECISION, UPCAST)

    m_empty = b_sum == 0.0
    b_sum = tl.where(m_empty, 1.0, b_sum)
    m_m = o_m < queries
    o_row = i_n * queries + o_m
    p_c = p_context + (o_row * values)[:, None] + o_o[None, :]
    tl.store(p_c, (b_c / b_sum[:, None]).to(p_context.dtype.element_ty), mask=m_m[:, None] & (o_o < values)[None, :])
    if i_o == 0:
        b_log = tl.where(m_empty, float("inf"), (b_top + tl.log2(b_sum)) * 0.6931471805599453)
        b_row_loss = b_square / (b_sum * b_sum)
        b_moment = b_linear / (b_sum * b_sum) if DETACH else b_row_loss
        tl.store(p_log_sum + o_row, b_log, mask=m_m)
        tl.store(p_moment + o_row, b_moment, mask=m_m)
        if p_row_loss is not None:
            tl.store(p_row_loss + o_row, b_row_loss, mask=m_m)
