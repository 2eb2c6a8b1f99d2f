"""Roofline of a results file: what every provider reaches at every case, under the roofs measured in the same run.

The operational intensity is that of the algorithm: operations of its products over the bytes that it must read and
write, whoever computes it. A provider that moves more bytes than that lies lower, not further to the left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Point(NamedTuple):
    """One provider at one case.

    Attributes:
        provider: its name.
        case: the case's name.
        intensity: operations a byte.
        flop_per_second: reached, by the median time.
    """

    provider: str
    case: str
    intensity: float
    flop_per_second: float


class Roofs(NamedTuple):
    """What the machine allows at most: bytes per second by level of memory, operations per second by dtype."""

    memory: dict[str, float]
    compute: dict[str, float]


def points(content: dict[str, Any]) -> list[Point]:
    """All that was measured and has operations and bytes to compare."""
    found = []
    for record in content["records"]:
        # Files of the first releases have the case's cost alone.
        flop, size = (record.get(name, record["case"][name]) for name in ("flop", "bytes"))
        if record["seconds"] and flop and size:
            seconds = record["seconds"]["median"]
            found.append(Point(record["provider"], record["case"]["name"], flop / size, flop / seconds))
    return found


def roofs(content: dict[str, Any]) -> Roofs:
    """The limits that were measured at the start of the run."""
    limits = content["limits"]
    memory = {level["name"]: level["bytes_per_second"] for level in limits["copy"]}
    # A dtype that is slower than float32 bounds nobody: it may be computed in float32.
    rates = limits["flop_per_second"]
    return Roofs(memory, {name: rate for name, rate in rates.items() if rate >= rates["float32"]})


def draw(content: dict[str, Any], figure: Any) -> None:
    """Draw the roofline into a matplotlib figure."""
    found, limits = points(content), roofs(content)
    axes = figure.subplots()
    low, high = min(point.intensity for point in found) / 2, max(point.intensity for point in found) * 2
    ridge = max(limits.compute.values()) / min(limits.memory.values())
    high = max(high, 2 * ridge)
    top = max(limits.compute.values())
    for name, rate in limits.memory.items():
        end = min(high, top / rate)
        axes.plot([low, end], [low * rate, end * rate], "k-", linewidth=0.8)
        axes.annotate(f"{name} {rate / 1e9:.0f} GB/s", (low, low * rate), fontsize=7, va="bottom")
    for name, rate in limits.compute.items():
        start = rate / max(limits.memory.values())
        axes.plot([start, high], [rate, rate], "k--", linewidth=0.8)
        axes.annotate(f"{name} {rate / 1e9:,.0f} GFLOP/s", (high, rate), fontsize=7, ha="right", va="bottom")
    for index, name in enumerate(dict.fromkeys(point.provider for point in found)):
        own = [point for point in found if point.provider == name]
        marker = "o" if name == content["subject"] else ".x+1234v^"[index % 9]
        axes.plot(
            [point.intensity for point in own],
            [point.flop_per_second for point in own],
            marker,
            color=f"C{index % 10}",
            label=name,
        )
    axes.set(xscale="log", yscale="log", xlabel="operations a byte, of the algorithm", ylabel="operations/s")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(
        f"{content['title']}: {content['environment']['device']}, threads: {content['environment']['threads']}"
    )


def plot_path(path: Path, kind: str) -> Path:
    """Where the roofline of the results file ``path`` is drawn."""
    return path.with_name(f"{path.stem}_roofline.{kind}")
