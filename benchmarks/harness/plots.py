"""Plots of a results file: throughput of every provider over the axis that varies most, one panel for each rest."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

COLUMNS = 4


def panels(content: dict[str, Any]) -> dict[str, tuple[str, dict[str, list[tuple[float, float]]]]]:
    """What is to be drawn.

    Returns:
        By panel title: the name of the x axis, and the points (x, items per second) of each provider; only panels with
        two values of x or more.
    """
    found: dict[str, tuple[str, dict[str, list[tuple[float, float]]]]] = {}
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in content["records"]:
        groups.setdefault(record["case"]["group"], []).append(record)
    for group, records in groups.items():
        numbers = [axis for axis, value in records[0]["case"]["axes"].items() if isinstance(value, int)]
        if not numbers:
            continue
        x = max(numbers, key=lambda axis: len({record["case"]["axes"][axis] for record in records}))
        for record in records:
            if record["items_per_second"] is None:
                continue
            axes = record["case"]["axes"]
            title = ", ".join([group, *(f"{axis}={value}" for axis, value in axes.items() if axis != x)])
            _, lines = found.setdefault(title, (x, {}))
            lines.setdefault(record["provider"], []).append((float(axes[x]), record["items_per_second"]))
    return {title: (x, lines) for title, (x, lines) in found.items() if any(len(line) > 1 for line in lines.values())}


def draw(content: dict[str, Any], path: Path) -> None:
    """Write the plots to ``path`` (PNG, SVG or PDF by its ending).

    Raises:
        SystemExit: there is nothing to draw, or matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("plots need matplotlib; install sgela_fast[eval]") from None
    found = panels(content)
    if not found:
        raise SystemExit("no group of cases has two sizes to draw a line through")
    rows = -(-len(found) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    names = list(dict.fromkeys(name for _, lines in found.values() for name in lines))
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    for axes, (title, (x, lines)) in zip(grid.flat, found.items(), strict=False):
        for name, points in lines.items():
            style = {"linewidth": 2.5, "zorder": 3} if name == content["subject"] else {"linewidth": 1.2}
            axes.plot(*zip(*sorted(points), strict=True), "o-", color=f"C{names.index(name)}", label=name, **style)
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel=f"{content['unit']}/s")
        axes.set_title(textwrap.fill(title, 45), fontsize=8)
    handles = {label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    figure.suptitle(f"{content['title']}: {content['environment']['device']}")
    figure.savefig(path)
