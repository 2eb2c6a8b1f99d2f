"""Fixtures of the ops' tests: the device, and outputs that are full of NaN until somebody writes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every claim holds on the CPU and, where there is one, on a CUDA device."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """``torch.empty`` and its kin return NaN, from C++ too: an element that no kernel writes is seen."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = before
