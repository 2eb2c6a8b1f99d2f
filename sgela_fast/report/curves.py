"""CMC curves, training curves and attention matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgela_fast.checkpoints.history import read_history
from sgela_fast.encoding.attention import mean_attention
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.evaluation.metrics import cmc_curve
from sgela_fast.report.chart import Chart, line_chart
from sgela_fast.report.config import SERIES, ReportConfig
from sgela_fast.report.figures import PROTOCOLS, selection_in_words
from sgela_fast.report.inputs import Inputs, Results
from sgela_fast.report.page import Heat, Section, distinct, evenly
from sgela_fast.reproduction.results import CellResult, ResultsFolder
from sgela_fast.reproduction.rows import Row
from sgela_fast.skeletons.archive import Archive

AXES = ("x", "y", "z")
KINDS = ("bas", "mbas", "las")  # in the order in which the paper comes to them
Floats = NDArray[np.float64]


def cmc_curves(results: Results) -> Section:
    """One diagram for each protocol, way of choosing weights, data set and kind of probe."""
    title = "Cumulative matching curves"
    lead: tuple[str, ...] = (
        "The share of probes whose person is among the k best candidates, over k. The area below is nAUC (CMC).",
    )
    found = [row for row in results.rows if row.first.table in ("1", "2", "3", "evaluation")]
    honest = [row for row in found if row.first.selection != "best-on-test"]
    if honest and len(honest) < len(found):
        found, lead = honest, (*lead, "Weights that the test set chose are left out here.")
    groups: dict[tuple[str | None, ...], list[Row]] = {}
    for row in found:
        groups.setdefault((row.first.table, row.first.dataset, *row.how), []).append(row)
    diagrams: list[Chart] = [diagram for group in groups.values() for diagram in _cmc_diagrams(results, group)]
    if not diagrams:
        why = (
            "No finished cell kept the ranks of its probes; let `sgela-fast reproduce` finish a cell."
            if results.kind == "reproduction"
            else "The results hold no curve; evaluate again with `sgela-fast evaluate`."
        )
        return Section("cmc", title, missing=why)
    return Section("cmc", title, lead, parts=tuple(diagrams))


def _cmc_diagrams(results: Results, rows: Sequence[Row]) -> list[Chart]:
    first = rows[0].first
    best = sorted(rows, key=lambda row: -row.mean.get("rank1", 0))[:SERIES]
    left_out = len(rows) - len(best)
    note = f"The {SERIES} highest of {len(rows)} by Rank-1." if left_out else ""
    diagrams = []
    for level in ("windows", "recordings"):
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in best:
            curves = [curve for cell in row.cells if (curve := _cmc(results, cell, level)) is not None]
            if curves and len({len(curve) for curve in curves}) == 1:
                curve = 100 * np.mean(curves, axis=0)
                lines[distinct(row.first.label, lines)] = [(k, float(y)) for k, y in enumerate(curve, 1)]
        if lines:
            persons = max(len(points) for points in lines.values())
            where = f", {first.dataset}" if first.dataset else ""
            table = f"Table {first.table}, " if first.table in "123" else ""
            name = (
                f"{table}protocol {first.protocol} ({PROTOCOLS.get(str(first.protocol), '')}){where}, probes: {level}"
            )
            styles = [*range(len(lines)), SERIES]
            lines["random order"] = [(k, 100 * k / persons) for k in range(1, persons + 1)]
            diagrams.append(
                line_chart(
                    name[0].upper() + name[1:],
                    lines,
                    x_title="candidates k",
                    y_title="probes recognised within k, %",
                    log_x=persons > 12,
                    y_range=(0, 100),
                    styles=styles,
                    note=f"Weights: {selection_in_words(first.selection)}. {note}".strip(),
                )
            )
    return diagrams


def _cmc(results: Results, cell: CellResult, level: str) -> Floats | None:
    """The curve of one cell, shares over places; from the ranks of its probes in a reproduction."""
    if level in cell.values:
        return np.asarray(cell.values[level], np.float64)
    if cell.probes_file is None:
        return None
    probes = ResultsFolder(results.path).read_probes(cell)
    return probes.cmc() if level == "windows" else cmc_curve(probes.recording_rank, len(probes.persons))


def training_curves(inputs: Inputs) -> Section:
    """Reconstruction and attention losses over training steps (Figure 3b), one diagram for each data set."""
    title = "Training (Figure 3b)"
    histories = _histories(inputs)
    parts = []
    for what, place in (
        ("Reconstruction loss L_R of training windows", 1),
        ("Reconstruction loss L_R of recordings kept aside", 3),
        ("Attention loss L_A", 2),
    ):
        for data, labelled in histories.items():
            lines = {label: _loss(points, place) for label, points in labelled.items()}
            kept = {label: points for label, points in list(lines.items())[:SERIES] if points}
            if kept:
                parts.append(
                    line_chart(
                        f"{what}{f', {data}' if data else ''}",
                        kept,
                        x_title="step",
                        y_title="loss a window",
                        log_y=True,
                        styles=[list(lines).index(label) for label in kept],
                        note=f"The first {SERIES} of {len(lines)}." if len(lines) > SERIES else "",
                        digits=3,
                    )
                )
    if not parts:
        return Section("training", title, missing=f"No training is recorded here: {_how_to_train(inputs)}.")
    lead = "Losses of one window over training steps, on a logarithmic axis. A lower loss is a better reconstruction."
    return Section("training", title, (lead,), parts=tuple(parts))


def _loss(points: Sequence[Point], place: int) -> list[tuple[float, float]]:
    """Step and one loss; what was not measured or is 0, as without attention, is left out."""
    return [(point[0], loss) for point in points if (loss := point[place])]


def _how_to_train(inputs: Inputs) -> str:
    if inputs.results.kind == "reproduction":
        return "`sgela-fast reproduce` adds curves once an encoder is trained"
    return "name the run folders with --runs"


Point = tuple[float, float | None, float | None, float | None]


def _histories(inputs: Inputs) -> dict[str, dict[str, list[Point]]]:
    """By data set and label, (step, L_R, L_A, held-out L_R) of every encoder that was trained, each once.

    Encoders that differ in seed and split alone are one, with the mean of their losses.
    """
    curves: dict[tuple[str, str], list[list[Point]]] = {}
    seen: set[str] = set()
    for cell in sorted(inputs.results.cells, key=lambda cell: cell.table != "figure3b"):
        curve = (cell.training or {}).get("curve")
        if curve and repr(curve) not in seen:  # many cells evaluate one encoder
            seen.add(repr(curve))
            curves.setdefault((cell.trained_on or "", cell.label), []).append([_point(point) for point in curve])
    found: dict[str, dict[str, list[Point]]] = {}
    for (data, label), runs in curves.items():
        name = f"{label}, mean of {len(runs)} runs" if len(runs) > 1 else label
        found.setdefault(data, {})[name] = _mean(runs)
    for run in inputs.runs:
        own = found.setdefault("", {})
        own[distinct(run.name, own)] = [_point(entry) for entry in read_history(run).curve()]
    return found


def _mean(runs: Sequence[list[Point]]) -> list[Point]:
    """Mean losses at the steps that all runs have."""
    by_step = [{point[0]: point for point in run} for run in runs]
    points: list[Point] = []
    for step in (step for step in by_step[0] if all(step in run for run in by_step)):
        losses = zip(*(run[step][1:] for run in by_step), strict=True)
        reconstruction, attention, held_out = (
            None if None in each else float(np.mean(np.array(each, np.float64))) for each in losses
        )
        points.append((step, reconstruction, attention, held_out))
    return points


def _point(entry: Sequence[float | None]) -> Point:
    step, reconstruction, attention, held_out = entry
    assert step is not None
    return step, reconstruction, attention, held_out


def attention(inputs: Inputs, config: ReportConfig) -> Section:
    """Mean attention matrices for each axis (Figure 3a); of an evaluation from its runs and recordings."""
    title, results = "Attention (Figure 3a)", inputs.results
    runs: dict[str, list[Floats]] = {}
    shown = [cell for cell in results.cells if cell.table == "figure3a"]
    data = list(dict.fromkeys(cell.dataset for cell in shown))
    for cell in sorted(shown, key=lambda cell: (data.index(cell.dataset), KINDS.index(cell.row))):
        matrices = _matrices(cell.values.get("attention"))
        if matrices is not None:
            runs.setdefault(f"{cell.label}, {cell.dataset}", []).append(matrices)
    found = {
        f"{name}{f', mean of {len(own)} runs' if len(own) > 1 else ''}": np.mean(own, axis=0)
        for name, own in runs.items()
    }
    if results.kind == "evaluation" and inputs.archive is not None:
        found = _of_runs(inputs.runs, inputs.archive, config.queries)
    if not found:
        return Section("attention", title, missing=f"No attention matrices are here: {_how_to_attend(inputs)}.")
    lead = (
        "Mean weight with which each step of the decoder (row) looks at each frame of the window (column), all with "
        "the same scale of colours. Rows sum to 1, those of mbas to less, for its mask cuts weights off. Windows are "
        "rebuilt in reverse, so weight is local near the diagonal from top right to bottom left.",
    )
    top = max(float(matrices.max()) for matrices in found.values()) or 1.0
    heats = [
        _heat(f"{name}, axis {axis}", matrix, top)
        for name, matrices in found.items()
        for axis, matrix in zip(AXES, matrices, strict=False)
    ]
    return Section("attention", title, lead, parts=tuple(heats))


def _how_to_attend(inputs: Inputs) -> str:
    if inputs.results.kind == "reproduction":
        return "`sgela-fast reproduce` adds them once its cells of Figure 3a are finished"
    if inputs.archive is None:
        return inputs.why_no_archive
    return "name run folders of models with attention (las, bas or mbas) with --runs"


def _of_runs(runs: Sequence[Path], archive: Archive, windows: int) -> dict[str, Floats]:
    """Mean attention of each run's model over about so many windows, from recordings drawn evenly."""
    matrices: dict[str, Floats] = {}
    for run in runs:
        encoder = Encoder.load(run)
        if encoder.model.config.attention == "none" or encoder.layout != archive.layout:
            continue
        encoder = encoder.with_stride(encoder.window.frames)
        total = sum(len(encoder.window.starts(row.frames)) for row in archive.rows)
        names = [
            archive.rows[place].recording for place in evenly(len(archive), -(-windows * len(archive) // max(1, total)))
        ]
        found = mean_attention(encoder, (archive[name] for name in names))
        name = distinct(f"{run.name}, {archive.path.name}, {found.windows:,} windows", matrices)
        matrices[name] = found.matrices
    return matrices


def _matrices(value: Any) -> Floats | None:
    """``(A, T, T)`` of what is nested so deep."""
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.ndim == 3 and found.shape[1] == found.shape[2] and np.isfinite(found).all() else None


def _heat(caption: str, matrix: Floats, top: float) -> Heat:
    names = tuple(str(place) for place in range(1, len(matrix) + 1))
    cells = Heat.coloured(matrix, top, digits=2)
    return Heat(caption, "frame of the window", "step of the decoder", names, names, cells)
