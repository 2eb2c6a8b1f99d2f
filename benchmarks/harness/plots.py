"""Plots of a results file: throughput of every provider over the axis that varies most, one panel for each rest."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from sgela_fast.atomic import writing
from sgela_fast.benchmarks.harness import roofline
from sgela_fast.errors import MissingDependencyError

COLUMNS = 4
# By panel title: name of the x axis, and the points of each provider.
Panels = dict[str, tuple[str, dict[str, list[tuple[float, float]]]]]


def panels(content: dict[str, Any]) -> Panels:
    """What is to be drawn.

    Returns:
        By panel title: the name of the x axis, and the points (x, items per second) of each provider; only panels with
        two values of x or more.
    """
    found: Panels = {}
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


def write_plots(content: dict[str, Any], path: Path, kind: str) -> list[Path]:
    """Draw throughput and roofline beside the results file ``path``, as far as there is something to draw.

    Args:
        content: of the file.
        path: the file.
        kind: ``png``, ``svg`` or ``pdf``.

    Returns:
        The files that were written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            'plots need matplotlib; install it with pip install "sgela_fast[bench]" or leave out --plot'
        ) from None
    written = []
    found = panels(content)
    if found:
        rows = -(-len(found) // COLUMNS)
        figure = Figure(figsize=(4.2 * min(COLUMNS, len(found)), 3.2 * rows + 0.6), layout="constrained")
        _draw_throughput(content, found, figure, rows)
        written.append(_save(figure, path.with_suffix(f".{kind}")))
    if roofline.points(content):
        figure = Figure(figsize=(8, 6), layout="constrained")
        roofline.draw(content, figure)
        written.append(_save(figure, roofline.plot_path(path, kind)))
    return written


def _save(figure: Any, path: Path) -> Path:
    with writing(path):
        figure.savefig(path)
    return path


def _draw_throughput(content: dict[str, Any], found: Panels, figure: Any, rows: int) -> None:
    grid = figure.subplots(rows, min(COLUMNS, len(found)), squeeze=False)
    names = list(dict.fromkeys(name for _, lines in found.values() for name in lines))
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    for axes, (title, (x, lines)) in zip(grid.flat, found.items(), strict=False):
        for name, points in lines.items():
            style = {"linewidth": 2.5, "zorder": 3} if name == content["subject"] else {"linewidth": 1.2}
            axes.plot(*zip(*sorted(points), strict=True), "o-", color=f"C{names.index(name) % 10}", label=name, **style)
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel=f"{content['unit']}/s")
        axes.set_title(textwrap.fill(title, 45), fontsize=8)
    handles = {label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = min(2 * grid.shape[1], len(handles))  # a wider legend would be cut off
    figure.set_figheight(figure.get_figheight() + 0.25 * -(-len(handles) // columns))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
    figure.suptitle(f"{content['title']}: {content['environment']['device']}")
