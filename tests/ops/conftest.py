"""Fixtures of the ops' tests: which kernels run, and outputs that are full of NaN until somebody writes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.ops.interpreted_attention import interpret_locality_attention


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The claim holds for the C++ kernels and, where there is a CUDA device, for the Triton kernels on it."""
    return str(request.param)


@pytest.fixture(params=["compiled", "interpreted", pytest.param("cuda", marks=pytest.mark.gpu)])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The claim holds for the C++ kernels, for the Triton kernels in the interpreter, and for these on a CUDA device.

    Returns:
        The device that the tensors must be on.
    """
    if request.param == "interpreted":
        interpret_locality_attention(monkeypatch)
    return "cuda" if request.param == "cuda" else "cpu"


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """``torch.empty`` and its kin return NaN, from C++ too: an element that no kernel writes is seen."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = before
