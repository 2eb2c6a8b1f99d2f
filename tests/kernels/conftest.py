"""Where the Triton kernels are tested, and what the compiler makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A GPU where one is, with exact float32 products; else the CPU, where the interpreter runs the kernels."""
    if request.param == "cuda":
        before = torch.backends.cuda.matmul.fp32_precision
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        yield torch.device("cuda")
        torch.backends.cuda.matmul.fp32_precision = before
    elif torch.cuda.is_available():
        pytest.skip("the interpreter is for machines without a GPU")
    else:
        yield torch.device("cpu")
