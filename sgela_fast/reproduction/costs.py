"""How long the parts of a reproduction will take, from what was measured so far."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping

from sgela_fast.reproduction.cells import Cell, EncoderSpec, StoreSpec, Work
from sgela_fast.reproduction.datasets import DataSet
from sgela_fast.reproduction.results import CellResult
from sgela_fast.skeletons.config import WindowConfig

Part = EncoderSpec | StoreSpec | Work
# Before anything was measured: seconds for a window, as a share of what training it once takes. Measured on one core
# with 123 persons and 256 hidden units; the first finished cell of a kind replaces its share.
_SHARES = {
    "encode": 0.3,
    "recognition-validation": 1.2,
    "recognition-best-on-test": 1.6,
    "retrieval": 0.4,
    "baseline": 0.6,
    "attention": 0.06,
}
_LEAST = 0.5  # seconds; opening files, whatever there is to compute


class Costs:
    """Estimates; every finished part makes those of its kind better.

    Args:
        data: the data sets.
        window: how recordings become windows.
        remaining_steps: optimiser steps that an encoder still needs.
        step_seconds: measures what one takes; called once, when nothing was trained yet.
        batch: windows of a step.
    """

    def __init__(
        self,
        data: Mapping[str, DataSet],
        window: WindowConfig,
        remaining_steps: Callable[[EncoderSpec], int],
        step_seconds: Callable[[], float],
        batch: int,
    ) -> None:
        self.data, self.window = data, window
        self.remaining_steps, self.step_seconds, self.batch = remaining_steps, step_seconds, batch
        self._rates: dict[str, list[float]] = {}
        self._counts: dict[str, int] = {}

    def observe(self, part: Part, seconds: float, units: float | None = None) -> None:
        """Note what a part took; ``units`` of an encoder are its steps."""
        amount = self._units(part) if units is None else units
        if amount > 0 and seconds > 0:
            self._rates.setdefault(self._kind(part), []).append(seconds / amount)

    def learn(self, cells: Iterable[Cell], results: Mapping[str, CellResult]) -> None:
        """Note what earlier runs measured: ``results`` by the names of their cells."""
        seen: set[Work] = set()
        for cell in cells:
            done = results.get(cell.result.cell)
            if done is None or cell.work in seen:
                continue
            seen.add(cell.work)
            self.observe(cell.work, done.seconds)
            if cell.work.needs and done.training and "adopted_from" not in done.training:
                units = done.training["steps"] * cell.work.needs.frames
                self.observe(cell.work.needs, done.training["seconds"], units)

    def estimate(self, part: Part) -> float:
        """Seconds that a part will take."""
        kind, units = self._kind(part), self._units(part)
        if kind in ("curve", "size") or not units:
            return _LEAST
        if kind in self._rates:
            rate = statistics.median(self._rates[kind])
        elif kind == "train":
            rate = self.step_seconds() / self.window.frames
        else:
            share = next(share for name, share in _SHARES.items() if kind.startswith(name))
            rate = share * self._window_seconds() / self.window.frames
        return _LEAST + units * rate

    def _window_seconds(self) -> float:
        if "train" in self._rates:
            return statistics.median(self._rates["train"]) * self.window.frames / self.batch
        return self.step_seconds() / self.batch

    def _kind(self, part: Part) -> str:
        if isinstance(part, EncoderSpec):
            return "train"
        if isinstance(part, StoreSpec):
            return f"encode-{part.feature}"
        return "-".join(filter(None, (part.kind, part.baseline, part.selection)))

    def _units(self, part: Part) -> float:
        """Steps or windows, times their frames."""
        if isinstance(part, EncoderSpec):
            return self.remaining_steps(part) * part.frames if part.trained else 0
        if isinstance(part, StoreSpec):
            return self._windows(part.data) * part.encoder.frames
        if part.kind in ("curve", "size"):
            return 0
        spec = part.needs
        name = part.store.data if part.store else spec.data if spec else self._owner(part.condition)
        return self._windows(name) * (spec.frames if spec else self.window.frames)

    def _owner(self, condition: str) -> str:
        """The data set that a condition is of: the longest name that it begins with."""
        return max((name for name in self.data if condition.startswith(name)), key=len)

    def _windows(self, name: str) -> int:
        if name not in self._counts:
            rows = self.data[name].archive.rows
            self._counts[name] = sum(len(self.window.starts(row.frames)) for row in rows)
        return self._counts[name]
