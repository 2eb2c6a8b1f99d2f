"""A store as a PyTorch dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sgela_fast.encoding.store import Rows, Store


class StoreDataset(Dataset[dict[str, Any]]):
    """Windows of a store for :class:`torch.utils.data.DataLoader`, with any number of workers.

    An item has ``values``, float32 ``(T, D)`` or ``(D,)``, ``row``, its position in the store, and the columns asked
    for; text that is missing is empty.

    Args:
        store: a store or its folder.
        rows: positions, or a mask over all windows; ``None`` for all.
        columns: columns of the table.

    Raises:
        DataError: the store is damaged, or has no such column.
        IndexError: a position or the mask's length lies outside the store.
    """

    def __init__(self, store: str | Path | Store, *, rows: Rows | None = None, columns: Sequence[str] = ()) -> None:
        opened = store if isinstance(store, Store) else Store(store)
        self.path, self._store = opened.path, opened
        self._rows = opened.positions(rows)
        table = opened.columns(*columns) if columns else None
        self._columns = {name: table[name] for name in columns} if table is not None else {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Items of a batch, read together."""
        rows = self._rows[np.asarray(indices)]
        values = torch.from_numpy(self._store.values(rows))
        taken = {name: [column[int(row)].as_py() for row in rows] for name, column in self._columns.items()}
        return [
            {
                "values": values[place],
                "row": int(row),
                **{name: "" if entries[place] is None else entries[place] for name, entries in taken.items()},
            }
            for place, row in enumerate(rows)
        ]
