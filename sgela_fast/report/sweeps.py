"""Rank-1 over the length of a window and over the range of attention."""

from __future__ import annotations

from collections.abc import Sequence

from sgela_fast.report.chart import Chart, Interval, line_chart
from sgela_fast.report.inputs import Results
from sgela_fast.report.page import Section
from sgela_fast.report.tables import SHORT
from sgela_fast.reproduction.rows import Row

SWEEPS = {
    "sweep-frames": ("Frames of a window", "window length f, frames"),
    "sweep-range": ("Range of attention", "attentional range D, frames"),
}


def sweeps(results: Results) -> Section:
    """A diagram for each sweep and data set, with a line for each protocol and selection."""
    title = "Window length and range of attention"
    found = [row for row in results.rows if row.first.table in SWEEPS]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        groups.setdefault((row.first.table, row.first.dataset), []).append(row)
    if not groups:
        why = f"{results.path.name} holds no sweep; `sgela-fast reproduce --tables sweeps` adds them."
        return Section("sweeps", title, missing=why)
    lead = (
        "Rank-1 of las encodings as one setting changes, all others as in the tables; bars are 95 % intervals over "
        "persons. Windows of other lengths are other probes, so the lengths are not compared probe by probe.",
    )
    return Section("sweeps", title, lead, parts=tuple(_chart(*key, group) for key, group in groups.items()))


def _chart(table: str, dataset: str, group: Sequence[Row]) -> Chart:
    name, x_title = SWEEPS[table]
    lines: dict[str, list[tuple[float, float]]] = {}
    bars: dict[str, dict[float, Interval]] = {}
    for row in sorted(group, key=lambda row: int(row.first.row[1:])):
        value, label = float(row.first.row[1:]), SHORT.get(row.how, str(row.how))
        if "rank1" in row.mean:
            lines.setdefault(label, []).append((value, row.mean["rank1"]))
            if "rank1" in row.interval:
                bars.setdefault(label, {})[value] = row.interval["rank1"]
    return line_chart(
        f"{name}, {dataset}", lines, x_title=x_title, y_title="Rank-1, %", y_range=(0, 100), intervals=bars
    )
