"""Small made-up stores to search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sgela_fast.encoding.store import Store
from sgela_fast.encoding.store_writer import StoreWriter

MakeStore = Callable[..., Store]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """A function that writes a store; without ``values`` of persons with three recordings each, well apart."""

    def make(
        name: str = "store",
        *,
        values: NDArray[np.floating] | None = None,
        persons: int = 5,
        windows: int = 6,
        width: int = 8,
        frames: int = 3,
        noise: float = 0.2,
        dtype: str = "float32",
        seed: int = 0,
        model: str = "a",
    ) -> Store:
        random = np.random.default_rng(seed)
        if values is None:
            centres = random.standard_normal((persons, width))
            of_window = np.repeat(np.arange(persons), 3 * windows)
            values = centres[of_window] + noise * random.standard_normal((len(of_window), width))
            person: list[str | None] = [f"p{code}" for code in of_window]
            recording = [f"p{code}_{place // windows % 3}" for place, code in enumerate(of_window)]
        else:
            person = [f"p{place // 6}" for place in range(len(values))]
            recording = [f"p{place // 6}_{place // 2 % 3}" for place in range(len(values))]
        count = len(values)
        first = {name: place for place, name in reversed(list(enumerate(recording)))}
        columns = {
            "recording": recording,
            "person": person,
            "window_start": [frames * (place - first[name]) for place, name in enumerate(recording)],
            "frames": [frames] * count,
            "valid": [True] * count,
            "sensor": ["k1" if place % 2 else None if place % 5 == 0 else "k2" for place in range(count)],
            "split": ["test" if name.endswith("_0") else "train" for name in recording],
        }
        head = {
            "pooling": "mean" if values.ndim == 2 else "none",
            "dtype": dtype,
            "frames": frames,
            "dim": values.shape[-1],
            "model_hash": model,
            "archive_fingerprint": name,
        }
        writer = StoreWriter(tmp_path / name, head)
        writer.add(values.astype(np.float32), columns)
        return writer.finish()

    return make
