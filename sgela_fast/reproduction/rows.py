"""Rows of Re-ID figures: one configuration over all of its splits and seeds, with what is known of its spread."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sgela_fast.evaluation.bootstrap import Run, runs_interval
from sgela_fast.evaluation.metrics import place_figures
from sgela_fast.evaluation.probes import Probes
from sgela_fast.reproduction.results import FIGURES, CellResult

Interval = tuple[float, float]
# How a Re-ID figure comes about: protocol and selection, in the order in which tables show them.
ORDER: tuple[tuple[str | None, str | None], ...] = (
    ("C", "validation"),
    ("C", "last"),
    ("C", "best-on-test"),
    ("G", "none"),
)


@dataclass(frozen=True)
class Row:
    """One configuration over all of its splits and seeds; figures are per cent.

    Attributes:
        cells: what it is made of.
        mean: name of a figure to its mean over splits, each the mean over its seeds.
        deviation: sample deviation over splits (over seeds where there is one split), where there are several runs.
        interval: ends of the bootstrap interval over persons, of a single run as its cell has it, of several over the
            probes of all of them.
        recordings: ``mean`` with whole recordings as probes.
        recordings_deviation: its ``deviation``.
    """

    cells: tuple[CellResult, ...]
    mean: dict[str, float]
    deviation: dict[str, float]
    interval: dict[str, Interval] = field(default_factory=dict)
    recordings: dict[str, float] = field(default_factory=dict)
    recordings_deviation: dict[str, float] = field(default_factory=dict)

    @property
    def first(self) -> CellResult:
        """The first cell, for everything that all of them share."""
        return self.cells[0]

    @property
    def how(self) -> tuple[str | None, str | None]:
        """Protocol and selection."""
        return self.first.protocol, self.first.selection

    @property
    def runs(self) -> str:
        """How many splits and seeds."""
        splits, seeds = ({getattr(cell, name) for cell in self.cells} for name in ("split", "seed"))
        return f"{len(splits)} × {len(seeds)}" if len(self.cells) > 1 else "1"


class Intervals:
    """Intervals over persons of rows of several runs, each computed once.

    Args:
        read: opens the probes of a cell.
        resamples: 0 for no intervals.
        confidence: of them.
    """

    def __init__(self, read: Callable[[CellResult], Probes], resamples: int = 1000, confidence: float = 0.95) -> None:
        self.read, self.resamples, self.confidence = read, resamples, confidence
        self._known: dict[tuple[str | None, ...], dict[str, Interval]] = {}

    def of(self, cells: Sequence[CellResult]) -> dict[str, Interval]:
        """Name of a figure to the ends of its interval, per cent; none unless all runs have kept their probes."""
        if len(cells) == 1:
            return dict(cells[0].interval)
        key = tuple(cell.probes_file for cell in cells)
        if self.resamples < 1 or None in key:
            return {}
        if key not in self._known:
            self._known[key] = self._computed(cells)
        return self._known[key]

    def _computed(self, cells: Sequence[CellResult]) -> dict[str, Interval]:
        runs: dict[str, list[Run]] = {}
        for cell in cells:
            probes = self.read(cell)
            for name, values in place_figures(probes.rank, len(probes.persons)).items():
                runs.setdefault(name, []).append(Run(values, probes.persons[probes.person], cell.split))
        found = {
            name: runs_interval(of_figure, self.resamples, self.confidence)
            for name, of_figure in runs.items()
            if len(of_figure) == len(cells)
        }
        return {FIGURES[name]: (100 * ends[0], 100 * ends[1]) for name, ends in found.items() if ends is not None}


def rows_of(cells: Iterable[CellResult], intervals: Intervals | None = None) -> list[Row]:
    """Rows of Re-ID figures, one for each table, row, data set, training set, protocol and selection.

    Args:
        cells: finished ones; those that are no Re-ID figures are left out.
        intervals: of rows of several runs, which have none without it.

    Returns:
        In order of appearance, of one table, row, data set and training set in the order of :data:`ORDER`.
    """
    groups: dict[tuple[str | None, ...], list[CellResult]] = {}
    for cell in cells:
        if cell.protocol is not None and cell.figures:
            key = (cell.table, cell.row, cell.dataset, cell.trained_on, cell.protocol, cell.selection)
            groups.setdefault(key, []).append(cell)
    subjects = list(dict.fromkeys(key[:4] for key in groups))
    ordered = sorted(
        groups.items(),
        key=lambda item: (subjects.index(item[0][:4]), place((item[1][0].protocol, item[1][0].selection))),
    )
    return [_row(group, intervals) for _, group in ordered]


def spread(values: Iterable[tuple[str, float | None]]) -> tuple[float, float | None] | None:
    """Mean over splits, each the mean over its seeds, and the sample deviation of splits (of seeds of one split).

    Args:
        values: split and figure of each run; runs without the figure are left out.

    Returns:
        Mean and deviation, ``None`` for the latter with a single run; nothing if no run has the figure.
    """
    by_split: dict[str, list[float]] = {}
    for split, value in values:
        if value is not None:
            by_split.setdefault(split, []).append(value)
    groups = list(by_split.values())
    if not groups:
        return None
    known = [statistics.fmean(group) for group in groups] if len(groups) > 1 else groups[0]
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def place(how: tuple[str | None, str | None]) -> int:
    """Where tables show a protocol and selection."""
    return ORDER.index(how) if how in ORDER else len(ORDER)


def _row(cells: Sequence[CellResult], intervals: Intervals | None) -> Row:
    windows = _spreads([(cell.split, cell.figures) for cell in cells])
    recordings = _spreads([(cell.split, cell.recordings) for cell in cells])
    found = intervals.of(cells) if intervals else dict(cells[0].interval) if len(cells) == 1 else {}
    return Row(tuple(cells), *windows, found, *recordings)


def _spreads(runs: Sequence[tuple[str, dict[str, float | None]]]) -> tuple[dict[str, float], dict[str, float]]:
    means, deviations = {}, {}
    for name in FIGURES.values():
        found = spread([(split, figures.get(name)) for split, figures in runs])
        if found is not None:
            means[name] = found[0]
            if found[1] is not None:
                deviations[name] = found[1]
    return means, deviations
