"""Losses over the course of a training, read from a run folder (Fig. 3b of the paper)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import CheckpointError

HISTORY = "history.json"


@dataclass(frozen=True, eq=False)
class History:
    """Log entries of a run, an array of N each; NaN where an entry does not have the value.

    Attributes:
        step: optimiser steps done, int64, rising.
        seconds: spent training by then, all parts of the run together.
        reconstruction: L_R of the step's batch, per window, with the variant's loss factor.
        attention: L_A, likewise; 0 but for attention ``las``.
        regularisation: norm term of Eq. 12.
        total: the loss of the batch, a sum over its windows.
        gradient_norm: before clipping.
        validation: L_R per window of recordings kept aside.
        spread: of SelfGait's embeddings in the batch, 0 where all of a strip point the same way.
        directions: in how many of them they differ, 1 where all of a strip lie on one line.
    """

    step: NDArray[np.int64]
    seconds: NDArray[np.float64]
    reconstruction: NDArray[np.float64]
    attention: NDArray[np.float64]
    regularisation: NDArray[np.float64]
    total: NDArray[np.float64]
    gradient_norm: NDArray[np.float64]
    validation: NDArray[np.float64]
    spread: NDArray[np.float64]
    directions: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)

    def curve(self, points: int = 0) -> list[list[float | None]]:
        """``[step, L_R, L_A, held-out L_R]`` of each entry for JSON, ``None`` for what is not there.

        Args:
            points: keep about so many, evenly spaced, the last one always; 0 for all.
        """
        every = max(1, math.ceil(len(self) / points)) if points else 1
        chosen = sorted({*range(0, len(self), every), len(self) - 1}) if len(self) else []
        rows = zip(self.step, self.reconstruction, self.attention, self.validation, strict=True)
        entries = [[int(step), *(float(x) if np.isfinite(x) else None for x in rest)] for step, *rest in rows]
        return [entries[position] for position in chosen]


def read_history(run: str | Path) -> History:
    """Losses that training logged into a run folder.

    Args:
        run: the folder; training need not be finished.

    Raises:
        CheckpointError: the folder has no history, or it is damaged.
    """
    path = Path(run) / HISTORY
    try:
        entries = json.loads(path.read_text())
        values = {item.name: [float(entry.get(item.name, math.nan)) for entry in entries] for item in fields(History)}
        if not all(math.isfinite(step) for step in values["step"]) or sorted(set(values["step"])) != values["step"]:
            raise ValueError("the steps do not rise")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; give a run folder made by `train`") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); restore it or train again") from error
    steps = np.array(values.pop("step"), np.int64)
    return History(steps, **{name: np.array(column, np.float64) for name, column in values.items()})
