"""The Gaussian locality mask inside Triton kernels: 1 - l without losing digits."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def one_minus_exp(x):
    """1 - exp(x) for x <= 0, with a relative error below 4e-7 for every x.

    The compiler has expm1 only through a device library that the interpreter cannot call. Up to 1/2 below zero the
    Taylor series to x^8 (its tail is below 1.1e-8 of the result) keeps the digits that the subtraction would lose;
    further down the result is above 0.39 and the subtraction loses at most 1.6 times the error of exp.
    """
    near = tl.maximum(x, -0.5)
    series = 1.0 / 5040.0 + near * (1.0 / 40320.0)
    series = 1.0 / 720.0 + near * series
    series = 1.0 / 120.0 + near * series
    series = 1.0 / 24.0 + near * series
    series = 1.0 / 6.0 + near * series
    series = 0.5 + near * series
    series = 1.0 + near * series
    return tl.where(x > -0.5, -near * series, 1.0 - tl.exp(x))


@triton.jit
def mask_value(b_offset, coefficient, window):
    """l = exp(-coefficient (j - p)^2), and 0 outside the window."""
    return tl.where(tl.abs(b_offset) > window, 0.0, tl.exp(-coefficient * b_offset * b_offset))


@triton.jit
def mask_complement(b_offset, coefficient, window):
    """1 - l, exact near l = 1, and 1 outside the window."""
    return tl.where(tl.abs(b_offset) > window, 1.0, one_minus_exp(-coefficient * b_offset * b_offset))
