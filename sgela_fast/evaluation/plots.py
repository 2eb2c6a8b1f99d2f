"""CMC curves and distance histograms as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.atomic import replacing
from sgela_fast.errors import MissingDependencyError
from sgela_fast.evaluation.metrics import Floats

_SIZE = (6.4, 4.4)
_DPI = 130


def plot_cmc(curves: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Draw CMC curves, in per cent over the number of candidates, on a logarithmic axis.

    Args:
        curves: label to curve; the first entry is Rank-1.
        title: says the protocol and how the weights were chosen.
        path: PNG file to write.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    figure, axes = _figure(title)
    for label, curve in curves.items():
        axes.plot(np.arange(1, len(curve) + 1), 100 * np.asarray(curve), label=f"{label} ({100 * curve[0]:.1f} %)")
    places = np.arange(1, max(map(len, curves.values())) + 1)
    chance = 100 * places / len(places)
    axes.plot(places, chance, color="grey", linestyle=":", label=f"persons in random order ({chance[0]:.1f} %)")
    axes.set(xscale="log", xlabel="candidates k", ylabel="probes recognised within k (%)", ylim=(0, 102))
    axes.xaxis.set_major_formatter("{x:g}")
    _save(figure, axes, path, "center left")


def plot_distances(same: Floats, other: Floats, title: str, path: Path) -> None:
    """Draw how distances to the right person and to others are distributed.

    Args:
        same: distance of each probe to the right person's nearest gallery window, ``(N,)``.
        other: distances to the other persons' nearest gallery windows, any shape.
        title: says the protocol.
        path: PNG file to write.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    figure, axes = _figure(title)
    edges = np.linspace(min(same.min(), other.min()), max(same.max(), other.max()) + 1e-9, 81)
    for values, label in ((same, "same person"), (other, "other persons")):
        axes.hist(values.ravel(), bins=edges, density=True, alpha=0.6, label=f"{label} ({values.size:,})")
    axes.set(xlabel="distance to the person's nearest gallery window", ylabel="density")
    _save(figure, axes, path, "upper right")


def _figure(title: str) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            'plots need matplotlib; install it with pip install "sgela_fast[eval]", or leave them out with --no-plots'
        ) from error
    # Without pyplot no global state and no display is touched.
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, axes: Any, path: Path, legend: str) -> None:
    axes.legend(fontsize=8, loc=legend)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
