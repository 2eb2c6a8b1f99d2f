"""Small made-up stores with persons that are as far apart as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.encoding.store import Store
from sgela_fast.encoding.store_writer import StoreWriter

MakeStore = Callable[..., Store]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """A function that writes a store of persons with three recordings each; recording 0 is the test one."""

    def make(
        name: str = "store",
        *,
        persons: int = 6,
        windows: int = 6,
        frames: int = 3,
        width: int = 8,
        noise: float = 0.1,
        pooling: str = "none",
        seed: int = 0,
        change: Callable[[dict[str, list[Any]]], None] | None = None,
        info: dict[str, Any] | None = None,
    ) -> Store:
        random = np.random.default_rng(seed)
        centres = random.standard_normal((persons, width))
        values, columns = [], {}
        for person in range(persons):
            for recording in range(3):
                shape = (windows, frames, width) if pooling == "none" else (windows, width)
                values.append(centres[person] + noise * random.standard_normal(shape))
                entries = {
                    "recording": [f"p{person:02}_{recording}"] * windows,
                    "person": [f"p{person:02}"] * windows,
                    "window_start": list(range(0, frames * windows, frames)),
                    "frames": [frames] * windows,
                    "valid": [True] * windows,
                    "split": ["test" if recording == 0 else "train"] * windows,
                    "split_2": ["test" if recording == 1 else "train"] * windows,
                }
                for column, more in entries.items():
                    columns.setdefault(column, []).extend(more)
        if change:
            change(columns)
        head = {"pooling": pooling, "dtype": "float32", "frames": frames, "dim": width, "model_hash": "0"}
        writer = StoreWriter(tmp_path / name, {**head, "archive_fingerprint": "a", **(info or {})})
        writer.add(np.concatenate(values).astype(np.float32), columns)
        return writer.finish()

    return make
