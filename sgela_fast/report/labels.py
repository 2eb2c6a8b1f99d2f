"""What pre-training is worth where few labels are known: the study of SelfGait as curves and a table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgela_fast.errors import DataError
from sgela_fast.report.chart import Chart, line_chart
from sgela_fast.report.page import Section, Table, in_words

ORIGINS = {"scratch": "from scratch", "pretrained": "pre-trained"}
STUDY = "`python -m benchmarks.selfgait_low_label`"
MEAN = "mean"  # over the kinds of probes
TITLE = "Few labels"
Estimate = dict[str, float | None]


@dataclass(frozen=True)
class LabelStudy:
    """The study's own file.

    Attributes:
        path: where it is.
        content: as ``benchmarks/selfgait_low_label.py`` writes it, checked by :func:`read_study`.
    """

    path: Path
    content: dict[str, Any]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One for each share of labels, ascending."""
        return sorted(self.content["rows"], key=lambda row: float(row["labels"]))

    @property
    def kinds(self) -> list[str]:
        """Kinds of probes, and their mean at the end."""
        return [name for name in self.rows[0] if name not in ("labels", "persons")]

    @property
    def seeds(self) -> int:
        """Trainings of each kind."""
        return len({cell["seed"] for cell in self.content["cells"]})

    @property
    def tested(self) -> int:
        """Persons who are recognised."""
        return int(self.content["settings"]["persons"] - self.content["settings"]["train"])


def read_study(path: Path) -> LabelStudy:
    """The file of a study.

    Raises:
        DataError: there is no such file, or it is another one, or damaged.
    """
    try:
        study = LabelStudy(path, json.loads(path.read_text()))
        if not (study.rows and study.seeds and study.tested > 0):
            raise ValueError("there are no figures")
        for row in study.rows:
            float(row["labels"]), int(row["persons"])
            for kind in study.kinds:
                for name in (*ORIGINS, "gain"):
                    float(row[kind][name]["mean"]), float(row[kind][name]["half"] or 0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path} is no result of the study of few labels, or is damaged ({error!r}); give the JSON file that "
            f"{STUDY} writes"
        ) from error
    return study


def label_curves(study: LabelStudy | None) -> Section:
    """Rank-1 over the share of labels, one diagram for each kind of probes, and all figures as a table."""
    if study is None:
        why = f"No study of few labels is here: make one with {STUDY} and name its JSON file with --low_label."
        return Section("labels", TITLE, missing=why)
    settings, counts = study.content["settings"], study.content.get("sequences", {})
    spread = (
        f"Bars and brackets are 95 % intervals by Student's t over {study.seeds} seeds, cut off at 0 and 100; ± is "
        "half of such an interval, and gains are paired by seed. They say nothing of other persons."
        if study.seeds > 1
        else "One seed alone: there is no interval."
    )
    lead = (
        f"{settings['train']} persons{_sequences(counts.get('trained_on'))} to train on and {study.tested} others"
        f"{_sequences(counts.get('tested'))} to be recognised, by Rank-1 over {len(settings['views'])} views, "
        "identical views left out. A share of the labels of the former is known; pre-training sees their silhouettes "
        "and no label.",
        "Without labels, from scratch is a network of fresh weights, and pre-trained one that was not fine-tuned.",
        spread,
        "The silhouettes are drawn from synthetic walkers: nothing follows for people.",
    )
    return Section("labels", TITLE, lead, parts=(*(_chart(study, kind) for kind in study.kinds), _table(study)))


def study_summary(study: LabelStudy) -> list[str]:
    """The gain of each share of labels, in sentences."""
    train, seeds = study.content["settings"]["train"], f"{study.seeds} seed{'s' if study.seeds > 1 else ''}"
    sentences = [f"Study of few labels: {train} persons to train on, {study.tested} others recognised, {seeds}."]
    for row in study.rows:
        scratch, pretrained, gain = (row[MEAN][name] for name in (*ORIGINS, "gain"))
        share = f"With {_share(row)} of the labels ({row['persons']} persons)" if row["labels"] else "Without labels"
        change = f"{_estimate(gain, '+')} points"
        if gain["half"] is not None:
            held = "leaves out" if abs(gain["mean"]) > gain["half"] else "does not leave out"
            change += f", an interval that {held} 0"
        sentences.append(
            f"{share}, Rank-1 is {100 * scratch['mean']:.1f} % from scratch and {100 * pretrained['mean']:.1f} % "
            f"pre-trained, the mean over kinds of probes: {change}."
        )
    sentences.append(f"Guessing gives {100 / study.tested:.1f} %; the persons of the study are synthetic walkers.")
    spreads = [
        " to ".join(f"{cell['training'][name]:.2f}" for name in ("first_spread", "spread") if name in cell["training"])
        for cell in study.content["cells"]
        if cell.get("origin") == "pretrained" and not cell.get("labels") and "spread" in cell.get("training", {})
    ]
    if spreads:
        sentences.append(
            f"Spread of the embeddings over pre-training: {in_words(spreads)}, where 0 is a collapse, 1 all directions."
        )
    return sentences


def _chart(study: LabelStudy, kind: str) -> Chart:
    lines: dict[str, list[tuple[float, float]]] = {label: [] for label in ORIGINS.values()}
    intervals: dict[str, dict[float, tuple[float, float]]] = {label: {} for label in ORIGINS.values()}
    for row in study.rows:
        share = 100 * float(row["labels"])
        for name, label in ORIGINS.items():
            mean, half = row[kind][name]["mean"], row[kind][name]["half"]
            lines[label].append((share, 100 * mean))
            if half is not None:
                intervals[label][share] = 100 * max(0.0, mean - half), 100 * min(1.0, mean + half)
    return line_chart(
        _title(kind), lines, x_title="known labels, %", y_title="Rank-1, %", y_range=(0, 100), intervals=intervals
    )


def _table(study: LabelStudy) -> Table:
    head = ("Labels", "Persons", "Probes", "Rank-1 from scratch", "Rank-1 pre-trained", "Gain", "Seeds")
    rows = [
        (
            _share(row) if row["labels"] else "none",
            str(row["persons"]),
            kind if kind != MEAN else "mean of all",
            *(_estimate(row[kind][name]) for name in ORIGINS),
            _estimate(row[kind]["gain"], "+"),
            str(study.seeds),
        )
        for kind in study.kinds
        for row in study.rows
    ]
    return Table("Rank-1 in per cent by share of labels", head, tuple(rows), (1, 3, 4, 5, 6))


def _estimate(figure: Estimate, sign: str = "") -> str:
    mean, half = figure["mean"], figure["half"]
    assert mean is not None
    shown = f"{100 * mean:{sign}.1f}"
    return shown if half is None else f"{shown}\u00a0±\u00a0{100 * half:.1f}"


def _title(kind: str) -> str:
    return f"Probes {kind}" if kind != MEAN else "Mean over the kinds of probes"


def _share(row: dict[str, Any]) -> str:
    return f"{100 * row['labels']:g} %"


def _sequences(count: int | None) -> str:
    return "" if count is None else f" ({count:,} sequences)"
