"""What a cross-view evaluation found, and curves of it over labelled shares, as plain data for JSON and tables."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast._version import __version__
from sgela_fast.atomic import write_json
from sgela_fast.evaluation.config import EvaluationConfig

RESULTS = "cross_view.json"
SCHEMA = "sgela-fast/cross-view"
CURVE_SCHEMA = "sgela-fast/label-curve"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CrossViewKind:
    """Figures of one kind of probes, shares in 0..1; ``None`` where there is no probe or no gallery.

    Attributes:
        kind: ``NM``, ``BG``, ``CL``, or ``all`` where a data set has one kind.
        probes: sequences.
        unmatched: pairs of a probe and a gallery view that lacks its subject.
        rank1: a row for each probe view, a column for each gallery view.
        by_probe_view: mean over the gallery views other than the probe's own.
        mean: of ``by_probe_view``.
        identical_view: mean of the diagonal, which counts nowhere else.
        interval: of ``mean``, from resampling subjects.
    """

    kind: str
    probes: int
    unmatched: int
    rank1: list[list[float | None]]
    by_probe_view: list[float | None]
    mean: float | None
    identical_view: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class CrossViewResult:
    """One store under one protocol.

    Attributes:
        protocol: ``casia-b`` or ``ou-mvlp``.
        store: where the embeddings are.
        subjects: that are tested.
        gallery_sequences: of all views.
        strips: over which distances are averaged.
        unmatched: what happens to a probe without its subject in a gallery view: ``wrong`` or ``leave-out``.
        released_divisor: sums over other views are divided by 10 whatever their number: for comparison only.
        views: degrees; the order of rows and columns.
        kinds: figures of each kind of probes.
    """

    protocol: str
    store: str
    subjects: int
    gallery_sequences: int
    strips: int
    unmatched: str
    released_divisor: bool
    views: list[str]
    kinds: list[CrossViewKind]

    def kind(self, name: str) -> CrossViewKind:
        """Figures of the probes called ``name``.

        Raises:
            KeyError: there are none.
        """
        found = {kind.kind: kind for kind in self.kinds}
        return found[name]

    def rows(self) -> list[list[str]]:
        """Cells of a table in per cent: probes, each probe view, mean, its interval."""
        return [
            [
                kind.kind,
                *(per_cent(value) for value in kind.by_probe_view),
                per_cent(kind.mean),
                "" if kind.interval is None else " to ".join(map(per_cent, kind.interval)),
            ]
            for kind in self.kinds
        ]


def as_json(results: list[CrossViewResult], config: EvaluationConfig) -> dict[str, Any]:
    """Nested plain data with schema and settings, an entry of ``stores`` for each result."""
    return {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "made_by": f"sgela_fast {__version__}",
        "settings": asdict(config),
        "stores": [asdict(result) for result in results],
    }


def from_json(content: dict[str, Any]) -> list[CrossViewResult]:
    """The results out of what :func:`as_json` made of them.

    Raises:
        KeyError, TypeError, ValueError: something is missing, or the figures of a store are no matrix of its views.
    """
    results = []
    for entry in content["stores"]:
        kinds = [CrossViewKind(**kind) for kind in entry["kinds"]]
        count = len(entry["views"])
        for kind in kinds:
            figures = np.asarray([*kind.rank1, kind.by_probe_view], np.float64)  # (views + 1, views)
            if figures.shape != (count + 1, count):
                raise ValueError(f"{kind.kind} does not have figures of {count} views")
        results.append(CrossViewResult(**{**entry, "kinds": kinds}))
    if not all(result.kinds for result in results) or not results:
        raise ValueError("there are no figures")
    return results


@dataclass(frozen=True)
class LabelPoint:
    """One training with a share of the labels.

    Attributes:
        fraction: of the labels, above 0 up to 1; 0 for none at all.
        labelled: how many subjects or sequences that is.
        seed: of the run.
        means: kind of probes to mean Rank-1.
        intervals: of some of them.
    """

    fraction: float
    labelled: int
    seed: int
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, fraction: float, labelled: int, seed: int, result: CrossViewResult) -> LabelPoint:
        """The point that ``result`` gives."""
        means = {kind.kind: kind.mean for kind in result.kinds if kind.mean is not None}
        intervals = {kind.kind: kind.interval for kind in result.kinds if kind.interval is not None}
        return cls(fraction, labelled, seed, means, intervals)


@dataclass(frozen=True)
class LabelCurve:
    """Figures over the share of labels.

    Attributes:
        protocol: ``casia-b`` or ``ou-mvlp``.
        unit: what labels were drawn for, ``subjects`` or ``sequences``.
        method: what was trained, in words.
        points: in any order; several seeds of one fraction are averaged in :meth:`rows`.
    """

    protocol: str
    unit: str
    method: str
    points: list[LabelPoint]

    def as_json(self) -> dict[str, Any]:
        """Nested plain data with the schema."""
        return {"schema": CURVE_SCHEMA, "version": SCHEMA_VERSION, **asdict(self)}

    def write(self, path: Path) -> None:
        """Write ``path`` in one step."""
        write_json(path, self.as_json())

    @property
    def kinds(self) -> list[str]:
        """Kinds of probes that any point has, in order of appearance."""
        return list(dict.fromkeys(kind for point in self.points for kind in point.means))

    def rows(self) -> list[list[str]]:
        """Cells of a table in per cent: share of labels, number of runs, each kind's mean over runs ± deviation."""
        rows = []
        for fraction in sorted({point.fraction for point in self.points}):
            points = [point for point in self.points if point.fraction == fraction]
            cells = [_spread([point.means[kind] for point in points if kind in point.means]) for kind in self.kinds]
            rows.append([f"{100 * fraction:g}", str(len(points)), *cells])
        return rows


def per_cent(value: float | None) -> str:
    """A share in per cent; ``-`` where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    text = per_cent(statistics.fmean(values))
    return text if len(values) == 1 else f"{text} ± {per_cent(statistics.stdev(values))}"
