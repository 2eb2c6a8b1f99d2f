"""Figures of silhouettes across views: summary, tables beside the published ones, heat maps, training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgela_fast.checkpoints.history import History, read_history
from sgela_fast.evaluation.cross_view_results import CrossViewKind, CrossViewResult
from sgela_fast.report.chart import line_chart
from sgela_fast.report.config import SERIES, TABLE_ROWS
from sgela_fast.report.inputs import Inputs, Results
from sgela_fast.report.page import Heat, Section, Table, distinct, in_words, per_cent

SEQUENCES = "first 80 % of sequences, without subject 005"
STANDARD = "74 subjects for training, 50 tested"
OUR_SPLIT = "as evaluated"
# Mean Rank-1 without identical views, over 11 (CASIA-B) or 14 (OU-MVLP) probe views: method, split, figures.
PUBLISHED: dict[str, tuple[tuple[str, str, dict[str, float]], ...]] = {
    "casia-b": (
        ("SelfGait, SG-2", SEQUENCES, {"NM": 89.1, "BG": 81.3, "CL": 72.2}),
        ("SelfGait, SG-4", SEQUENCES, {"NM": 92.6, "BG": 86.4, "CL": 79.0}),
        ("SelfGait, SG-6", SEQUENCES, {"NM": 93.5, "BG": 90.1, "CL": 81.3}),
        ("GaitSet, quoted beside SelfGait", "not stated", {"NM": 95.0, "BG": 87.2, "CL": 70.4}),
        ("GaitPart, quoted beside SelfGait", "not stated", {"NM": 96.2, "BG": 91.5, "CL": 78.7}),
        ("GaitSet, run by OpenGait", STANDARD, {"NM": 95.8, "BG": 90.0, "CL": 75.4}),
        ("GaitPart, run by OpenGait", STANDARD, {"NM": 96.1, "BG": 90.7, "CL": 78.7}),
    ),
    "ou-mvlp": (
        ("SelfGait, SG-2", "not stated", {"all": 89.9}),
        ("GaitSet, quoted beside SelfGait", "not stated", {"all": 87.1}),
        ("GaitPart, quoted beside SelfGait", "not stated", {"all": 88.7}),
    ),
}
DATA = {"casia-b": "CASIA-B", "ou-mvlp": "OU-MVLP"}
KINDS = {"NM": "normal walking", "BG": "with a bag", "CL": "in a coat"}
Cells = NDArray[np.float64]


def view_summary(results: Results) -> list[str]:
    """Means, chance, the easiest and the hardest view of each store, and what its figures do not say."""
    sentences = []
    for view in results.views:
        means = in_words([f"{_kind(kind)} {_mean(kind)} %".strip() for kind in view.kinds])
        sentences.append(
            f"{_name(view)}, protocol {view.protocol}: mean Rank-1 over {len(view.views)} probe views, identical views "
            f"left out, is {means}; {view.subjects:,} subjects, guessing about {100 / view.subjects:.1f} %."
        )
        hardest = _hardest(view)
        if hardest:
            sentences.append(f"{_name(view)}: {hardest}")
        sentences += [f"{_name(view)}: {note}" for note in _notes(view)]
    data = DATA[results.views[0].protocol]
    sentences.append(
        f"The published figures below are of {data} itself and stand beside these for orientation; they are comparable "
        f"only where these are of {data} and of the same split."
    )
    return sentences


def view_tables(results: Results) -> Section:
    """Means beside the published ones, and every probe view of every store."""
    first, protocol = results.views[0], results.views[0].protocol
    share = 100 * float(results.head["settings"]["confidence"])
    lead = [
        "A probe is recognised in a gallery view if the nearest of that view's sequences is of the right subject. The "
        "figure of a probe view is the mean over the other gallery views, and the mean is that of the probe views; "
        f"identical views count nowhere else than in their own column. Brackets hold the {share:g} % interval over "
        "subjects.",
    ]
    if protocol == "casia-b":
        lead.append(
            "SelfGait's figures are of a split of its own, as its public code has it, in which one subject may be on "
            "both sides; what 2, 4 and 6 stand for is not defined in its public files (perhaps 20, 40 and 60 % of the "
            "labels). Figures of the usual split, 74 subjects and 50 others, are not comparable with them either."
        )
    kinds = [kind.kind for kind in first.kinds]
    head = ("Method", *map(_title, kinds), "Data", "Split")
    rows = [
        (
            _name(view),
            *(_cell(view, kind) for kind in kinds),
            f"{view.subjects:,} subjects of this evaluation",
            OUR_SPLIT,
        )
        for view in results.views
    ]
    rows += [
        (method, *(per_cent(figures.get(kind)) for kind in kinds), f"{DATA[protocol]}, published", split)
        for method, split, figures in PUBLISHED[protocol]
    ]
    means = Table.bounded(
        "Mean Rank-1 without identical views, beside published figures; per cent",
        head,
        rows,
        TABLE_ROWS,
        range(1, 1 + len(kinds)),
    )
    return Section("tables", "Rank-1 across views", tuple(lead), parts=(means, *map(_by_view, results.views[:SERIES])))


def view_heats(results: Results) -> Section:
    """Every probe view against every gallery view."""
    kept = results.views[:SERIES]
    heats = tuple(
        Heat(
            f"{_title(kind.kind)}: {_name(view)}, Rank-1, %",
            "gallery view",
            "probe view",
            tuple(view.views),
            tuple(view.views),
            Heat.coloured(100 * np.asarray(kind.rank1, np.float64), 100.0, digits=0),
        )
        for view in kept
        for kind in view.kinds
    )
    lead = [
        "Rank-1 of each probe view (row) in each gallery view (column), in per cent, on one scale of colour from 0 to "
        "100. The diagonal holds identical views, which no mean counts; a dash stands where there is no probe or no "
        "gallery.",
    ]
    if len(kept) < len(results.views):
        lead.append(f"The first {SERIES} of {len(results.views)} stores.")
    return Section("views", "Probe view by gallery view", tuple(lead), parts=heats)


def no_curves() -> Section:
    """Where curves stand on other pages."""
    why = (
        "A comparison across views asks of each probe whether the nearest sequence is the right subject's, and keeps "
        "no further places to draw a curve of."
    )
    return Section("cmc", "Cumulative matching curves", missing=why)


def silhouette_training(inputs: Inputs) -> Section:
    """Loss and spread over training steps of the runs that the stores were encoded with."""
    histories: dict[str, History] = {}
    for run in inputs.runs:
        histories[distinct(run.name, histories)] = read_history(run)
    parts = []
    for what, figure, digits in (
        ("Loss of a batch", "total", 3),
        ("Spread of the embeddings", "spread", 2),
    ):
        lines = {}
        for name, history in list(histories.items())[:SERIES]:
            values = getattr(history, figure)
            points = [(float(x), float(y)) for x, y in zip(history.step, values, strict=True) if np.isfinite(y)]
            if points:
                lines[name] = points
        if lines:
            note = f"The first {SERIES} of {len(histories)}." if len(histories) > SERIES else ""
            parts.append(line_chart(what, lines, x_title="step", y_title=what.lower(), note=note, digits=digits))
    if not parts:
        return Section(
            "training", "Training", missing="No training is recorded here: name the run folders with --runs."
        )
    lead = (
        "A loss can be compared within one stage alone: pre-training counts the distance of predictions, fine-tuning "
        "triplets. Spread is 0 when all clips of a strip have one embedding (a collapse), about 1 when they point "
        "everywhere."
    )
    return Section("training", "Training", (lead,), parts=tuple(parts))


def _by_view(view: CrossViewResult) -> Table:
    head = ("Probes", "Sequences", *view.views, "Mean", "Interval of the mean", "Identical views")
    rows = [
        (
            _title(kind.kind),
            f"{kind.probes:,}",
            *(_share(value) for value in kind.by_probe_view),
            _share(kind.mean),
            _interval(kind) or "–",
            _share(kind.identical_view),
        )
        for kind in view.kinds
    ]
    caption = f"{_name(view)}: Rank-1 by probe view in degrees, identical views left out; per cent"
    return Table(caption, head, tuple(rows), tuple(range(1, len(head))))


def _hardest(view: CrossViewResult) -> str:
    """The views that are recognised best and worst, averaged over the kinds of probes."""
    figures: Cells = np.asarray([kind.by_probe_view for kind in view.kinds], np.float64)  # (kinds, views)
    known = [place for place in range(len(view.views)) if np.isfinite(figures[:, place]).all()]
    means = {view.views[place]: float(figures[:, place].mean()) for place in known}
    if len(set(means.values())) < 2:
        return ""
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    return (
        f"the easiest probe view is {best} degrees ({_share(means[best])} %, mean over the kinds of probes), the "
        f"hardest {worst} ({_share(means[worst])} %)."
    )


def _notes(view: CrossViewResult) -> list[str]:
    notes = []
    if view.released_divisor:
        notes.append("sums over other views are divided by 10 as the released code does, right for 11 views alone.")
    pairs = sum(kind.unmatched for kind in view.kinds)
    if pairs:
        treated = "count as wrong" if view.unmatched == "wrong" else "are left out"
        notes.append(f"{pairs:,} pairs of a probe and a gallery view without its subject {treated}.")
    return notes


def _name(view: CrossViewResult) -> str:
    return view.store.rstrip("/").rpartition("/")[2]


def _title(kind: str) -> str:
    return f"{kind}, {KINDS[kind]}" if kind in KINDS else kind


def _kind(kind: CrossViewKind) -> str:
    return "" if kind.kind == "all" else kind.kind


def _mean(kind: CrossViewKind) -> str:
    ends = _interval(kind)
    return f"{_share(kind.mean)} ({ends})" if ends else _share(kind.mean)


def _cell(view: CrossViewResult, name: str) -> str:
    return next((_mean(kind) for kind in view.kinds if kind.kind == name), "–")


def _interval(kind: CrossViewKind) -> str:
    return "" if kind.interval is None else "\u00a0to\u00a0".join(map(_share, kind.interval))


def _share(value: float | None) -> str:
    return per_cent(None if value is None else 100 * value)
