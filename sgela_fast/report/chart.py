"""Diagrams as geometry: scales, ticks and paths, which the template draws as SVG with a table beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sgela_fast.report.config import CURVE_POINTS
from sgela_fast.report.page import Table, evenly

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 46
TABLE_POINTS = 16  # rows of a diagram's table
FLAT = 1.05  # ratio of the ends of a logarithmic axis, at least
BAR = 6  # width of an interval's cross-pieces

Interval = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, in the diagram's units."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A line of a diagram.

    Attributes:
        label: for the legend.
        path: SVG path data.
        style: number of its colour and dash.
        area: whether it is filled down to the axis.
        bars: SVG path data of the intervals of its points.
    """

    label: str
    path: str
    style: int
    area: bool = False
    bars: str = ""


@dataclass(frozen=True)
class Mark:
    """A vertical line with a label; ``anchor`` says on which side of it the label stands."""

    at: float
    label: str
    anchor: str


@dataclass(frozen=True)
class Chart:
    """A diagram.

    Attributes:
        title: what it shows; the name of the picture for a screen reader.
        x_title: of the axis.
        y_title: of the axis.
        x_ticks: marks on it.
        y_ticks: marks on it.
        lines: what is drawn.
        table: the same figures.
        marks: vertical lines.
        note: a sentence below.
    """

    title: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    table: Table
    marks: tuple[Mark, ...] = ()
    note: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = HEIGHT - BOTTOM
    right: int = WIDTH - RIGHT
    top: int = TOP


@dataclass(frozen=True)
class Scale:
    """From values to places on an axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        given = math.log10(max(value, self.low)) if self.log else value
        return self.start + (self.end - self.start) * (given - low) / ((high - low) or 1)

    def ticks(self) -> tuple[Tick, ...]:
        """Round values between the ends."""
        values = log_ticks(self.low, self.high) if self.log else []
        if len(values) < 2:  # a part of a decade may hold none of 1, 2 and 5
            values = round_ticks(self.low, self.high)
        return tuple(Tick(round(self(value), 1), f"{value:.10g}") for value in values)


def round_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between ``low`` and ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between ``low`` and ``high``, with 2 and 5 times them where these are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    within = [10.0**n for n in decades if low * (1 - 1e-9) <= 10.0**n <= high * (1 + 1e-9)]
    if len(within) > 3:
        return within
    finer = [size * 10.0**n for n in decades for size in (1, 2, 5)]
    return [round(value, 12) for value in finer if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def line_chart(
    title: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    log_y: bool = False,
    y_range: tuple[float, float] | None = None,
    styles: Sequence[int] | None = None,
    intervals: Mapping[str, Mapping[float, Interval]] | None = None,
    note: str = "",
    digits: int = 1,
) -> Chart:
    """Lines through points (x, y), with a legend and a table.

    Args:
        title: of the diagram.
        lines: label to points, x ascending; on a logarithmic axis what is not positive is left out.
        x_title, y_title: of the axes.
        log_x, log_y: logarithmic axes.
        y_range: ends of the y axis; by default those of the points.
        styles: number of each line's colour and dash.
        intervals: label to x to the ends of an interval of y, drawn as a bar.
        note: a sentence below.
        digits: of the table's figures, after the point, or significant ones on a logarithmic axis.
    """
    kept = {
        label: [(x, y) for x, y in points if math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y)]
        for label, points in lines.items()
    }
    every = [point for points in kept.values() for point in points]
    if not every:
        raise ValueError(f"{title}: nothing to draw")
    xs = [x for x, _ in every]
    ends = intervals or {}
    drawn_ends = [y for of_line in ends.values() for interval in of_line.values() for y in interval]
    low, high = y_range or _ends([*(y for _, y in every), *drawn_ends], log_y)
    across = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, log_x)
    down = Scale(low, high, HEIGHT - BOTTOM, TOP, log_y)
    drawn = tuple(
        Line(
            label,
            path(thinned(points, log_x), across, down),
            styles[place] if styles else place,
            # A little aside, for bars of several lines stand at the same places.
            bars=_bars(ends.get(label, {}), across, down, BAR * (2 * place - len(kept) + 1) / 2),
        )
        for place, (label, points) in enumerate(kept.items())
    )
    table = _table(
        title,
        x_title,
        kept,
        log_x,
        (lambda y: f"{y:.{max(3, digits)}g}") if log_y else f"{{:.{digits}f}}".format,
        ends,
    )
    whole = all(float(x).is_integer() for x in xs)  # frames, steps, candidates
    x_ticks = tuple(tick for tick in across.ticks() if not whole or float(tick.label).is_integer())
    return Chart(title, x_title, y_title, x_ticks, down.ticks(), drawn, table, note=note)


def histogram(
    title: str,
    edges: Sequence[float],
    shares: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    y_title: str,
    marks: Mapping[str, float] | None = None,
    note: str = "",
) -> Chart:
    """Steps over bins between ``edges``, one outline for each of ``shares``, with a table of the bins."""
    top = max((value for values in shares.values() for value in values), default=0) or 1
    ends = [*edges, *(marks or {}).values()]
    across = Scale(min(ends), max(ends), LEFT, WIDTH - RIGHT)
    down = Scale(0, top * 1.08, HEIGHT - BOTTOM, TOP)
    lines = []
    for place, (label, values) in enumerate(shares.items()):
        points = [(edges[0], 0.0)]
        for (left, right), value in zip(pairwise(edges), values, strict=True):
            points += [(left, value), (right, value)]
        lines.append(Line(label, path([*points, (edges[-1], 0.0)], across, down), place, area=True))
    rows = [
        (f"{left:.4g} to {right:.4g}", *(f"{values[place]:.1f}" for values in shares.values()))
        for place, (left, right) in enumerate(pairwise(edges))
    ]
    table = Table(f"{title}: the bins", (x_title, *shares), tuple(rows), tuple(range(1, len(shares) + 1)))
    middle = (LEFT + WIDTH - RIGHT) / 2
    found = tuple(
        Mark(round(across(at), 1), label, "end" if across(at) > middle else "start")
        for label, at in (marks or {}).items()
    )
    return Chart(title, x_title, y_title, across.ticks(), down.ticks(), tuple(lines), table, found, note)


def thinned(points: Sequence[tuple[float, float]], log_x: bool = False) -> list[tuple[float, float]]:
    """At most :data:`CURVE_POINTS` of the points, both ends among them; on a logarithmic axis evenly there."""
    if len(points) <= CURVE_POINTS:
        return list(points)
    if not log_x:
        return [points[place] for place in evenly(len(points), CURVE_POINTS)]
    ratio = len(points) ** (1 / (CURVE_POINTS - 1))
    places = {min(len(points), round(ratio**step)) - 1 for step in range(CURVE_POINTS)} | {len(points) - 1}
    return [points[place] for place in sorted(places)]


def path(points: Sequence[tuple[float, float]], across: Scale, down: Scale) -> str:
    """SVG path data of a line through ``points``."""
    return "M" + "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in points)


def _bars(intervals: Mapping[float, Interval], across: Scale, down: Scale, aside: float) -> str:
    """SVG path data of upright bars with a cross-piece at either end."""
    pieces = []
    for x, (low, high) in intervals.items():
        at, bottom, top = across(x) + aside, down(low), down(high)
        ends = "".join(f"M{at - BAR / 2:.1f} {y:.1f}h{BAR}" for y in (bottom, top))
        pieces.append(f"M{at:.1f} {bottom:.1f}V{top:.1f}{ends}")
    return "".join(pieces)


def _ends(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        # What hardly moves would have ticks of many digits, and would seem to leap.
        return (low, high) if high > low * FLAT else (low / FLAT, high * FLAT)
    low = min(low, 0.0)
    return low, high if high > low else low + 1


def _table(
    title: str,
    x_title: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    log_x: bool,
    text: Callable[[float], str],
    intervals: Mapping[str, Mapping[float, Interval]],
) -> Table:
    """Figures of all lines at a few places, with their intervals; a dash where a line has no point there."""

    def figure(label: str, x: float) -> str:
        if x not in found[label]:
            return "–"
        ends, shown = intervals.get(label, {}).get(x), text(found[label][x])
        return shown if ends is None else f"{shown} ({text(ends[0])}\u00a0to\u00a0{text(ends[1])})"

    found = {label: dict(points) for label, points in lines.items()}
    places = sorted({x for points in found.values() for x in points})
    if log_x and places == [float(n) for n in range(1, len(places) + 1)]:
        wanted = [n for n in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if n < len(places)]
        places = [float(n) for n in (*wanted, len(places))]
    else:
        places = [places[place] for place in evenly(len(places), TABLE_POINTS)]
    rows = [(f"{x:.6g}", *(figure(label, x) for label in found)) for x in places]
    return Table(f"{title}: figures", (x_title, *lines), tuple(rows), tuple(range(1, len(lines) + 1)))
