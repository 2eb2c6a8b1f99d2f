"""What an evaluation found, as plain data for JSON, tables and plots."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgela_fast.atomic import write_json
from sgela_fast.evaluation.probes import Probes

if TYPE_CHECKING:
    from sgela_fast.evaluation.comparison import StoreComparison

SCHEMA = "sgela-fast/evaluation"
SCHEMA_VERSION = 1
SINGLE_FIGURES = ("nauc_cmc", "nauc_roc", "mean_average_precision", "mean_inverse_negative_penalty")

TITLES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "window_rank5": "Rank-5 (windows)",
    "window_rank10": "Rank-10 (windows)",
    "nauc_cmc": "nAUC (CMC)",
    "nauc_roc": "nAUC (ROC)",
    "mean_average_precision": "mAP",
    "mean_inverse_negative_penalty": "mINP",
}


@dataclass(frozen=True)
class Figures:
    """Figures of one level of probes; all are shares in 0..1.

    Attributes:
        probes: windows or recordings that were tested.
        rank: place k to the share of probes whose person is among the k best persons; places beyond the number of
            persons are absent.
        cmc: the same for every place, over all persons.
        nauc_cmc: mean of ``cmc``.
        nauc_roc: micro-averaged ROC area of all pairs of probe and person.
        window_rank: place k to the share of probes with a window of their person among the k nearest gallery windows.
        window_cmc: the same for the first places.
        mean_average_precision: over gallery windows.
        mean_inverse_negative_penalty: over gallery windows.
        intervals: name of a figure to the ends of its bootstrap interval over persons.
        ranks: ``(probes,)``, place of each probe's person, in the order of the probes; not in the JSON.
    """

    probes: int
    rank: dict[int, float]
    cmc: list[float]
    nauc_cmc: float
    nauc_roc: float
    window_rank: dict[int, float] = field(default_factory=dict)
    window_cmc: list[float] = field(default_factory=list)
    mean_average_precision: float | None = None
    mean_inverse_negative_penalty: float | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    ranks: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)

    def named(self) -> dict[str, float]:
        """All figures that exist, by the names of :data:`TITLES`."""
        found = {f"rank{k}": value for k, value in self.rank.items()}
        # The nearest window's person is the nearest person, so that place 1 is the same figure twice.
        found |= {f"window_rank{k}": value for k, value in self.window_rank.items() if k > 1}
        for name in SINGLE_FIGURES:
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        return found


@dataclass(frozen=True)
class Outcome:
    """One protocol on one division of one store with one seed.

    Attributes:
        protocol: ``C`` or ``G``.
        split: column that divided the store.
        seed: of the run; ``None`` where nothing is random.
        selection: how the tested weights were chosen, in words.
        persons: classes or gallery identities, C.
        probe_windows: test windows counted.
        gallery_windows: training windows used.
        chance: Rank-1 of guessing: 1/C (protocol C), or a random gallery window's chance to be right (protocol G).
        left_out: reason to number of windows.
        notes: remarks.
        windows: figures with windows as probes.
        recordings: figures with recordings as probes, each the mean over its windows' scores.
        details: what the run did (epochs, steps, ...).
        probes_file: their file below the folder of the results, for
            :func:`sgela_fast.evaluation.probes.read_probes`; ``None`` if nothing was written.
        probes: what every probe came to; ``None`` unless :func:`sgela_fast.evaluation.evaluate.evaluate` made the
            outcome; not in the JSON.
    """

    protocol: str
    split: str
    seed: int | None
    selection: str
    persons: int
    probe_windows: int
    gallery_windows: int
    chance: float
    left_out: dict[str, int]
    notes: tuple[str, ...]
    windows: Figures
    recordings: Figures
    details: dict[str, Any] = field(default_factory=dict)
    probes_file: str | None = None
    probes: Probes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Spread:
    """A figure over several runs."""

    mean: float
    deviation: float | None
    runs: int


@dataclass(frozen=True)
class StoreResult:
    """All outcomes of one store."""

    store: str
    model_hash: str | None
    outcomes: list[Outcome]


@dataclass(frozen=True)
class EvaluationResult:
    """What ``sgela-fast evaluate`` writes into ``results.json``; ``comparisons`` are there if they were asked for."""

    settings: dict[str, Any]
    versions: dict[str, str]
    train_store: str | None
    stores: list[StoreResult]
    comparisons: list[StoreComparison] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Nested plain data with schema and summaries."""
        content = {"schema": SCHEMA, "version": SCHEMA_VERSION, **asdict(self, dict_factory=_without_probes)}
        content["summary"] = [asdict(row) for row in summarise(self)]
        return content

    def write(self, path: Path) -> None:
        """Write ``path`` in one step."""
        write_json(path, self.as_json())


def _without_probes(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    """Entries of a dataclass for JSON; single probes have files of their own."""
    return {name: value for name, value in entries if name != "ranks" and (name != "probes" or isinstance(value, int))}


@dataclass(frozen=True)
class Row:
    """A table's row: one store, protocol and level, over all of its splits and seeds."""

    store: str
    protocol: str
    selection: str
    level: str
    runs: int
    persons: int
    probes: int
    gallery_windows: int
    chance: float
    figures: dict[str, Spread]
    interval: dict[str, tuple[float, float]]

    def cell(self, name: str) -> str:
        """A figure in per cent, ``mean ± deviation`` over several runs; ``-`` where it does not exist."""
        spread = self.figures.get(name)
        if spread is None:
            return "-"
        text = f"{100 * spread.mean:.1f}"
        return text if spread.deviation is None else f"{text} ± {100 * spread.deviation:.1f}"

    def interval_cell(self, name: str) -> str:
        """A figure's bootstrap interval in per cent; empty where there is none."""
        if name not in self.interval:
            return ""
        low, high = self.interval[name]
        return f"{100 * low:.1f} to {100 * high:.1f}"


def summarise(result: EvaluationResult) -> list[Row]:
    """One row for each store, protocol and level; figures are means over runs, with the sample deviation.

    Seeds of one split are averaged first; over several splits the deviation is that of the splits' means.
    """
    rows: list[Row] = []
    for store in result.stores:
        for protocol in ("C", "G"):
            outcomes = [outcome for outcome in store.outcomes if outcome.protocol == protocol]
            if outcomes:
                rows.extend(_row(store.store, outcomes, level) for level in ("windows", "recordings"))
    return rows


def _row(store: str, outcomes: list[Outcome], level: str) -> Row:
    first, found = outcomes[0], [getattr(outcome, level) for outcome in outcomes]
    splits = list(dict.fromkeys(outcome.split for outcome in outcomes))
    spreads = {}
    for name in figure_names(found):
        by_split: dict[str, list[float]] = {split: [] for split in splits}
        for outcome, figures in zip(outcomes, found, strict=True):
            if name in figures.named():
                by_split[outcome.split].append(figures.named()[name])
        groups = [values for values in by_split.values() if values]
        values = [statistics.fmean(group) for group in groups] if len(groups) > 1 else groups[0]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        spreads[name] = Spread(statistics.fmean(values), deviation, sum(map(len, groups)))
    return Row(
        store=store,
        protocol=first.protocol,
        selection=first.selection,
        level=level,
        runs=len(outcomes),
        persons=first.persons,
        probes=found[0].probes,
        gallery_windows=first.gallery_windows,
        chance=statistics.fmean(outcome.chance for outcome in outcomes),
        figures=spreads,
        interval=found[0].intervals if len(found) == 1 else {},
    )


def figure_names(found: list[Figures]) -> list[str]:
    """Names of figures that any of ``found`` has, in the order of :data:`TITLES`."""
    present = {name for figures in found for name in figures.named()}
    return [name for name in TITLES if name in present]
