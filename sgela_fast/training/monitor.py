"""What training leaves for people to look at: ``history.json`` and TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sgela_fast.atomic import write_json, writing
from sgela_fast.errors import MissingDependencyError

AXES = "xyz"
HEAT_MAP_CELL = 24  # pixels


class Monitor:
    """Collects log entries of a run.

    Args:
        run: the run folder.
        history: entries up to the step that training starts from.
        step: that step; later TensorBoard entries of an interrupted run are hidden.
        tensorboard: also write TensorBoard files.

    Raises:
        MissingDependencyError: TensorBoard is asked for but not installed.
        OutputError: its files cannot be written.
    """

    def __init__(self, run: Path, history: list[dict[str, Any]], step: int, tensorboard: bool) -> None:
        self._path = run / "history.json"
        self._events = run / "tensorboard"
        self.history = history
        self._writer: Any = None
        if tensorboard:
            with writing(self._events):
                self._writer = require_tensorboard()(str(self._events), purge_step=step + 1)

    def log(self, step: int, **values: float) -> None:
        """Record scalars of ``step``."""
        self.history.append({"step": step, **values})
        if self._writer is not None:
            with writing(self._events):
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)

    def draw_alignment(self, step: int, alignment: Tensor) -> None:
        """Record mean attention matrices, ``alignment (A, T, T)`` decoding step by position, as heat maps."""
        if self._writer is not None:
            with writing(self._events):
                for axis, image in enumerate(alignment.float().cpu().numpy()):
                    name = AXES[axis] if axis < len(AXES) else str(axis)
                    self._writer.add_image(f"alignment/{name}", heat_map(image), step)

    def save(self) -> None:
        """Write ``history.json``."""
        write_json(self._path, self.history)

    def close(self) -> None:
        """Flush everything."""
        if self._writer is not None:
            with writing(self._events):
                self._writer.close()


def require_tensorboard() -> Any:
    """TensorBoard's ``SummaryWriter`` class.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            'training.tensorboard needs the package tensorboard; install it with pip install "sgela_fast[train]", or '
            "set it to false"
        ) from error
    return SummaryWriter


def heat_map(matrix: np.ndarray) -> np.ndarray:
    """Grey image of a matrix in [0, 1], bright where large.

    Args:
        matrix: ``(rows, columns)``.

    Returns:
        ``(1, rows * cell, columns * cell)`` float32.
    """
    scaled = np.clip(matrix / max(float(matrix.max()), 1e-12), 0, 1).astype(np.float32)
    return np.kron(scaled, np.ones((HEAT_MAP_CELL, HEAT_MAP_CELL), np.float32))[None]
