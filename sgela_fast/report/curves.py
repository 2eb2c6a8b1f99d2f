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
from sgela_fast.report.figures import PROTOCOLS, Row, cells_of, rows_of, selection_in_words
from sgela_fast.report.inputs import Inputs, Results
from sgela_fast.report.page import Heat, Section, distinct, evenly
from sgela_fast.reproduction.results import CellResult, ResultsFolder
from sgela_fast.skeletons.archive import Archive

AXES = ("x", "y", "z")
Floats = NDArray[np.float64]


def cmc_curves(results: Results) -> Section:
    """One diagram for each protocol, way of choosing weights, data set and kind of probe."""
    title = "Cumulative matching curves"
    lead = ("The share of probes whose person is among the k best candidates, over k. The area below is nAUC (CMC).",)
    rows = [row for row in rows_of(cells_of(results)) if row.first.table in ("1", "2", "3", "evaluation")]
    diagrams: list[Chart] = []
    keys = dict.fromkeys((row.first.table, row.first.protocol, row.first.selection, row.first.dataset) for row in rows)
    for key in keys:
        mine = [
            row for row in rows if (row.first.table, row.first.protocol, row.first.selection, row.first.dataset) == key
        ]
        diagrams += _cmc_diagrams(results, mine)
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
    """Reconstruction and attention losses over training steps (Figure 3b)."""
    title = "Training (Figure 3b)"
    reconstruction: dict[str, list[tuple[float, float]]] = {}
    held_out: dict[str, list[tuple[float, float]]] = {}
    attention: dict[str, list[tuple[float, float]]] = {}
    for label, points in _histories(inputs):
        name = distinct(label, reconstruction)
        reconstruction[name] = [(step, loss) for step, loss, _, _ in points if loss is not None]
        attention[name] = [(step, loss) for step, _, loss, _ in points if loss]
        held_out[name] = [(step, loss) for step, _, _, loss in points if loss is not None]
    if not any(reconstruction.values()):
        return Section("training", title, missing=f"No training is recorded here: {_how_to_train(inputs)}.")
    parts = []
    for what, found in (
        ("Reconstruction loss L_R of training windows", reconstruction),
        ("Reconstruction loss L_R of recordings kept aside", held_out),
        ("Attention loss L_A", attention),
    ):
        kept = {label: points for label, points in list(found.items())[:SERIES] if any(loss > 0 for _, loss in points)}
        note = f"The first {SERIES} of {len(found)}." if len(found) > SERIES else ""
        if kept:
            places = [list(found).index(label) for label in kept]
            parts.append(
                line_chart(
                    what, kept, x_title="step", y_title="loss a window", log_y=True, styles=places, note=note, digits=3
                )
            )
    lead = "Losses of one window over training steps, on a logarithmic axis. A lower loss is a better reconstruction."
    return Section("training", title, (lead,), parts=tuple(parts))


def _how_to_train(inputs: Inputs) -> str:
    if inputs.results.kind == "reproduction":
        return "`sgela-fast reproduce` adds curves once an encoder is trained"
    return "name the run folders with --runs"


Point = tuple[float, float | None, float | None, float | None]


def _histories(inputs: Inputs) -> list[tuple[str, list[Point]]]:
    """Label and (step, L_R, L_A, held-out L_R) of every encoder that was trained, each once."""
    found: dict[str, tuple[str, list[Point]]] = {}
    cells = sorted(inputs.results.cells, key=lambda cell: cell.table != "figure3b")
    for cell in cells:
        curve = (cell.training or {}).get("curve")
        if curve:
            where = f", {cell.trained_on}" if cell.trained_on else ""
            # Many cells evaluate one encoder.
            found.setdefault(repr(curve), (f"{cell.label}{where}", [_point(point) for point in curve]))
    for run in inputs.runs:
        found[str(run)] = (run.name, [_point(entry) for entry in read_history(run).curve()])
    return list(found.values())


def _point(entry: Sequence[float | None]) -> Point:
    step, reconstruction, attention, held_out = entry
    assert step is not None
    return step, reconstruction, attention, held_out


def attention(inputs: Inputs, config: ReportConfig) -> Section:
    """Mean attention matrices for each axis (Figure 3a); of an evaluation from its runs and recordings."""
    title, results = "Attention (Figure 3a)", inputs.results
    heats: list[Heat] = []
    for cell in results.cells:
        if cell.table != "figure3a":
            continue
        for name, value in cell.values.items():
            matrices = _matrices(value)
            if matrices is None:
                continue
            what = cell.label if len(cell.values) == 1 else f"{cell.label}, {name.replace('_', ' ')}"
            for axis, matrix in zip(AXES, matrices, strict=False):
                heats.append(_heat(f"{what}, {cell.dataset}, axis {axis}", matrix))
    if results.kind == "evaluation" and inputs.archive is not None:
        heats = _of_runs(inputs.runs, inputs.archive, config.queries)
    if not heats:
        return Section("attention", title, missing=f"No attention matrices are here: {_how_to_attend(inputs)}.")
    lead = (
        "Mean weight with which each step of the decoder (row) looks at each frame of the window (column); rows sum to "
        "1. Windows are rebuilt in reverse, so weight is local near the diagonal from top right to bottom left.",
    )
    return Section("attention", title, lead, parts=tuple(heats))


def _how_to_attend(inputs: Inputs) -> str:
    if inputs.results.kind == "reproduction":
        return "`sgela-fast reproduce` adds them once its cells of Figure 3a are finished"
    if inputs.archive is None:
        return inputs.why_no_archive
    return "name run folders of models with attention (las, bas or mbas) with --runs"


def _of_runs(runs: Sequence[Path], archive: Archive, windows: int) -> list[Heat]:
    """Mean attention of each run's model over about so many windows, from recordings drawn evenly."""
    heats: list[Heat] = []
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
        for axis, matrix in zip(AXES, found.matrices, strict=False):
            heats.append(_heat(f"{run.name}, {archive.path.name}, {found.windows:,} windows, axis {axis}", matrix))
    return heats


def _matrices(value: Any) -> Floats | None:
    """``(A, T, T)`` of what is nested so deep."""
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.ndim == 3 and found.shape[1] == found.shape[2] and np.isfinite(found).all() else None


def _heat(caption: str, matrix: Floats) -> Heat:
    names = tuple(str(place) for place in range(1, len(matrix) + 1))
    cells = Heat.coloured(matrix, matrix.max() or 1.0, digits=2)
    return Heat(caption, "frame of the window", "step of the decoder", names, names, cells)
