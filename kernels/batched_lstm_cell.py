"""What the Triton kernels of `batched_lstm` share: gate mathematics, lengths, products, the place of a program.

Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. M windows, H hidden units, D the dimension
that a product sums over. Registers only, but for :func:`last_steps`.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from sgela_fast.kernels.locality_mask import one_minus_exp


@triton.jit
def sigmoid(b_x):
    """1 / (1 + exp(-x)); 0 and 1 for infinities, NaN for NaN."""
    return 1.0 / (1.0 + tl.exp(-b_x))


@triton.jit
def tanh(b_x, EXACT: tl.constexpr):
    """tanh from exp, the only form that the interpreter can run.

    EXACT keeps the digits of small values through (1 - e) / (1 + e) with e = exp(-2 |x|); without it the error is 1e-7
    absolute, far below what a half-precision result rounds away.
    """
    if EXACT:
        b_lack = one_minus_exp(-2.0 * tl.abs(b_x))
        b_y = b_lack / (2.0 - b_lack)
        b_y = tl.where(b_x < 0.0, -b_y, b_y)
    else:
        b_y = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * b_x))
    return b_y


@triton.jit
def product(b_left, b_right, b_sum, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """b_sum + b_left @ b_right in float32. UPCAST is for the interpreter, whose half-precision products are wrong."""
    if UPCAST:
        b_left = b_left.to(tl.float32)
        b_right = b_right.to(tl.float32)
    return tl.dot(b_left, b_right, b_sum, input_precision=PRECISION)


@triton.jit
def last_steps(p_lengths, i_g, o_m, m_m, steps, length_group, length_row):
    """Index of every row's last step, at most T - 1; -1 for a row without steps."""
    b_last = tl.zeros_like(o_m) + (steps - 1)
    if p_lengths is not None:
        b_length = tl.load(p_lengths + i_g * length_group + o_m.to(tl.int64) * length_row, mask=m_m, other=1)
        b_last = tl.minimum(tl.maximum(b_length, 0), steps).to(tl.int32) - 1
    return b_last


@triton.jit
def place(groups, batch, hidden, top_layer, BLOCK_M: tl.constexpr, BLOCK_H: tl.constexpr):
    """Layer, group, batch tile and hidden tile of this program.

    Hidden tiles are fastest, so that neighbours read the same rows of states and, group by group, one matrix of weights
    from L2. Upper layers come first: their products are longer than those of the lowest one.
    """
    hidden_tiles = tl.cdiv(hidden, BLOCK_H)
    batch_tiles = tl.cdiv(batch, BLOCK_M)
    i_tile = tl.program_id(0) % (hidden_tiles * batch_tiles)
    i_set = tl.program_id(0) // (hidden_tiles * batch_tiles)
    i_layer = top_layer - i_set // groups
    return i_layer, i_set % groups, i_tile // hidden_tiles, i_tile % hidden_tiles
