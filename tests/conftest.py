"""Fixtures for all tests: seeds, and the data that is not redistributed with the repository."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """GPU tests need a GPU; without one they are skipped and say so."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
