"""Fixtures for all tests: seeds, and the data that is not redistributed with the repository."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]

if not torch.cuda.is_available():
    # Triton reads this when a kernel is defined, so before any test imports one.
    os.environ.setdefault("TRITON_INTERPRET", "1")


def _shared_folder() -> Path | None:
    for candidate in (os.environ.get("SGELA_SHARED"), REPOSITORY.parent / "shared"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    return None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real recordings (``data/``) and the official implementation's tensors (``golden/``)."""
    folder = _shared_folder()
    if folder is None:
        pytest.skip("no shared data: set SGELA_SHARED to the folder that holds data/ and golden/")
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (third-party code may draw from the global generator)
    torch.manual_seed(0)


@pytest.fixture
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill new tensors with NaN, so that an element a kernel forgets to write shows."""

    def poison(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def filled(*arguments: Any, **options: Any) -> Tensor:
            tensor = allocate(*arguments, **options)
            return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

        return filled

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """GPU tests need a GPU; without one they are skipped and say so."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
