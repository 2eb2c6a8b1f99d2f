"""How far a fused result may lie from the float64 reference: one table by dtype, and the bound that it feeds.

Two sources of error, to first order:

* Arithmetic in the accumulation dtype, unit roundoff u. A score is a dot product of K terms, off by at most
  K u sum_i |q_i k_i| and, with signs at random, by about sqrt(K) u |q| |k|. A softmax weight is exp(s - log_sum): an
  absolute error e of the score is a relative error e of the weight. Contexts, losses and gradients are sums of products
  with such weights, hence a relative error of ``factor`` * u * (1 + largest |q_i k_i| sum), against the largest entry.
* Rounding of inputs of the backward pass and of results to the storage dtype, unit roundoff v: a few v of the largest
  entry. Inputs of the forward pass count as exact: the reference gets the same rounded numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """Unit roundoffs of one storage dtype: of the arithmetic, and of what is stored."""

    arithmetic: float
    storage: float


TOLERANCES = {
    torch.float64: Tolerance(2.0**-53, 2.0**-53),
    torch.float32: Tolerance(2.0**-24, 2.0**-24),
    torch.bfloat16: Tolerance(2.0**-24, 2.0**-9),
    torch.float16: Tolerance(2.0**-24, 2.0**-12),
}
# Room above the first-order analysis: a handful of rounded operations on every path from inputs to result.
ARITHMETIC_FACTOR = 16
STORAGE_FACTOR = 2
# Below this, numbers have lost their digits to underflow, or are 0.
SMALLEST = {
    torch.float64: torch.finfo(torch.float64).tiny,
    torch.float32: torch.finfo(torch.float32).tiny,
    torch.bfloat16: torch.finfo(torch.bfloat16).tiny,
    torch.float16: 2.0**-23,
}


def relative_bound(dtype: torch.dtype, magnitude: float) -> float:
    """Largest error allowed, relative to the largest entry of the exact result.

    Args:
        dtype: storage dtype of the op's inputs.
        magnitude: largest sum_i |q_i k_i| times the scale: what the error of a score is relative to.
    """
    tolerance = TOLERANCES[dtype]
    return ARITHMETIC_FACTOR * tolerance.arithmetic * (1 + magnitude) + STORAGE_FACTOR * tolerance.storage


def score_magnitude(query: Tensor, key: Tensor, scale: float = 1.0) -> float:
    """Largest |scale| sum_i |q_i k_i| over all rows of ``query (..., Tq, K)`` and ``key (..., Tk, K)``."""
    if query.numel() == 0 or key.numel() == 0:
        return 0.0
    return float((query.double().abs() @ key.double().abs().mT).max()) * abs(scale)


def deviation(result: Tensor, exact: Tensor) -> float:
    """Largest error relative to the largest entry of ``exact``; infinite if anything is NaN or the shapes differ."""
    if result.shape != exact.shape:
        return float("inf")
    if result.numel() == 0:
        return 0.0
    error = (result.double() - exact.double()).abs().max()
    largest = exact.double().abs().max()
    if not bool(torch.isfinite(error)):
        return float("inf")
    smallest = SMALLEST.get(result.dtype, 0.0)
    error = (error - smallest).clamp_min(0)
    return float(error / largest) if largest > 0 else (float("inf") if error > 0 else 0.0)
