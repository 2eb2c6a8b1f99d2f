"""The figures of results as rows, the same way for an evaluation and a reproduction."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sgela_fast.report.inputs import Results
from sgela_fast.report.page import per_cent
from sgela_fast.reproduction.results import FIGURES, CellResult

TITLES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "nauc_cmc": "nAUC (CMC)",
    "nauc_roc": "nAUC (ROC)",
    "mean_ap": "mAP",
    "mean_inp": "mINP",
}
PROTOCOLS = {"C": "classifier", "G": "nearest gallery windows"}
SELECTIONS = {
    "validation": "chosen on held-out training recordings",
    "last": "last epoch, nothing chosen",
    "best-on-test": "best on test: chosen on the test set itself, optimistic",
    "none": "nothing trained or chosen",
}


@dataclass(frozen=True)
class Row:
    """One configuration over all of its splits and seeds; figures are per cent.

    Attributes:
        cells: what it is made of.
        first: the first of them, for everything that they share.
        mean: name of a figure to its mean.
        deviation: sample deviation over splits (over seeds where there is one split), where there are several runs.
        recordings: ``mean`` with whole recordings as probes.
    """

    cells: tuple[CellResult, ...]
    mean: dict[str, float]
    deviation: dict[str, float]
    recordings: dict[str, float]

    @property
    def first(self) -> CellResult:
        """The first cell."""
        return self.cells[0]

    def text(self, name: str) -> str:
        """A figure with what is known of its spread: an interval of a single run, a deviation of several."""
        if name not in self.mean:
            return "–"
        shown = per_cent(self.mean[name])
        if name in self.deviation:
            return f"{shown}\u00a0±\u00a0{per_cent(self.deviation[name])}"
        interval = self.first.interval.get(name)
        return shown if interval is None else f"{shown} ({per_cent(interval[0])}\u00a0to\u00a0{per_cent(interval[1])})"

    @property
    def runs(self) -> str:
        """How many splits and seeds."""
        splits, seeds = ({getattr(cell, name) for cell in self.cells} for name in ("split", "seed"))
        return f"{len(splits)} × {len(seeds)}" if len(self.cells) > 1 else "1"


def cells_of(results: Results) -> list[CellResult]:
    """Cells of a reproduction, or the outcomes of an evaluation in the form of such cells."""
    return list(results.cells) if results.kind == "reproduction" else list(_of_evaluation(results.head))


def rows_of(cells: Iterable[CellResult]) -> list[Row]:
    """Rows of Re-ID figures, one for each table, row, data set, training set, protocol and selection."""
    groups: dict[tuple[str | None, ...], list[CellResult]] = {}
    for cell in cells:
        if cell.protocol is not None and cell.figures:
            key = (cell.table, cell.row, cell.dataset, cell.trained_on, cell.protocol, cell.selection)
            groups.setdefault(key, []).append(cell)
    return [_row(group) for group in groups.values()]


def published(cell: CellResult, name: str) -> str:
    """A published figure of a cell and where it stands; a dash where there is none."""
    found = cell.published or {}
    return "–" if found.get(name) is None else f"{found[name]:g}"


def selection_in_words(selection: str | None) -> str:
    """How the tested weights were chosen."""
    return SELECTIONS.get(selection or "", selection or "not stated")


def _row(cells: Sequence[CellResult]) -> Row:
    mean, deviation = {}, {}
    for name in FIGURES.values():
        by_split: dict[str, list[float]] = {}
        for cell in cells:
            value = cell.figures.get(name)
            if value is not None:
                by_split.setdefault(cell.split, []).append(value)
        groups = list(by_split.values())
        if groups:
            values = [statistics.fmean(group) for group in groups] if len(groups) > 1 else groups[0]
            mean[name] = statistics.fmean(values)
            if len(values) > 1:
                deviation[name] = statistics.stdev(values)
    recordings = {}
    for name in TITLES:
        values = [value for cell in cells if (value := cell.recordings.get(name)) is not None]
        if values:
            recordings[name] = statistics.fmean(values)
    return Row(tuple(cells), mean, deviation, recordings)


def _of_evaluation(head: dict[str, Any]) -> Iterable[CellResult]:
    for store in head["stores"]:
        for outcome in store["outcomes"]:
            name, seed = store["store"], outcome["seed"]
            yield CellResult(
                cell=f"{name}/{outcome['split']}/{outcome['protocol']}/{seed}",
                table="evaluation",
                row=name,
                label=name,
                dataset="",
                protocol=outcome["protocol"],
                selection=outcome["selection"],
                split=outcome["split"],
                seed=seed or 0,
                persons=outcome["persons"],
                probes=outcome["probe_windows"],
                figures=_in_per_cent(outcome["windows"]),
                interval={
                    FIGURES[figure]: (100 * low, 100 * high)
                    for figure, (low, high) in outcome["windows"].get("intervals", {}).items()
                    if figure in FIGURES
                },
                recordings=_in_per_cent(outcome["recordings"]),
                chance=100 * outcome["chance"],
                values={level: outcome[level]["cmc"] for level in ("windows", "recordings")},
                notes=[
                    *(f"{count:,} {reason} left out" for reason, count in outcome["left_out"].items()),
                    *outcome["notes"],
                ],
            )


def _in_per_cent(figures: dict[str, Any]) -> dict[str, float | None]:
    found = {f"rank{place}": value for place, value in figures["rank"].items()}
    found |= {name: figures.get(name) for name in FIGURES if not name.startswith("rank")}
    return {FIGURES[name]: None if value is None else 100 * value for name, value in found.items() if name in FIGURES}
