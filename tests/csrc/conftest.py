"""What the tests of all C++ kernels need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """``torch.empty`` gives NaN, from C++ too: an element that no kernel writes is seen.

    Afterwards threads and instruction set are as they were.
    """
    from sgela_fast import _C  # type: ignore[attr-defined]

    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    _C.force_isa("")
