"""What the launchers of all Triton kernels share: a launch as a value, and the precision of float32 products."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple, get_args

import torch
import triton

Precision = Literal["ieee", "tf32", "tf32x3"]
# Overrides torch's setting; torch itself has no name for tf32x3.
PRECISION_VARIABLE = "SGELA_FAST_PRECISION"


class Launch(NamedTuple):
    """One kernel call: what is launched, how many programs, with which arguments and compiler options."""

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    num_warps: int
    num_stages: int

    def run(self) -> None:
        # FP fusion is stated because its default differs between Triton versions.
        self.kernel[(self.programs,)](
            **self.arguments, num_warps=self.num_warps, num_stages=self.num_stages, enable_fp_fusion=True
        )


def default_precision() -> Precision:
    """Precision of float32 products: by ``SGELA_FAST_PRECISION``, else by torch's setting for matrix products on CUDA.

    Returns:
        ``tf32`` if torch's setting is that, else ``ieee``; ``tf32x3`` (three products of 11-bit operands, about as
        exact as float32) only by the environment variable.

    Raises:
        ValueError: the environment variable holds something else.
    """
    wanted = os.environ.get(PRECISION_VARIABLE)
    if wanted:
        for precision in get_args(Precision):
            if wanted == precision:
                return precision
        raise ValueError(f"{PRECISION_VARIABLE} is {wanted!r}; choose ieee, tf32x3 or tf32")
    setting = getattr(torch.backends.cuda.matmul, "fp32_precision", "ieee")
    return "tf32" if setting == "tf32" else "ieee"


@triton.jit
def _nothing() -> None:
    """Never launched: what the decorator makes of it says who would run a kernel."""


# The interpreter multiplies half-precision matrices wrongly, so there all products are of float32.
INTERPRETED = not isinstance(_nothing, triton.JITFunction)
