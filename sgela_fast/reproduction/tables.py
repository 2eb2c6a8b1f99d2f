"""Tables of a reproduction: the published figures beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgela_fast.atomic import replacing, write_text
from sgela_fast.reproduction import published
from sgela_fast.reproduction.results import CellResult

MARKDOWN = "tables.md"
PARQUET = "results.parquet"
NOTHING = "-"
_HOW = (("C", "validation"), ("C", "best-on-test"), ("G", "none"))
_SWEEPS = {"sweep-frames": "Length of a window f", "sweep-range": "Attentional range D"}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: what it is about.
        columns: headings; the first column holds the rows' names.
        rows: texts.
        notes: sentences below it.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """As Markdown."""
        aligned = ["---", *("---:" for _ in self.columns[1:])]
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, aligned, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, *(f"\n{note}" for note in self.notes), ""])


def make_tables(
    cells: Sequence[CellResult], claims: Sequence[dict[str, Any]] = (), leakage: Sequence[dict[str, Any]] = ()
) -> list[Table]:
    """Tables of whatever cells there are, of the claims that they decide, and of what speaks against them."""
    found = [
        make([cell for cell in cells if (cell.table, cell.dataset) == (name, dataset)], dataset)
        for name, make in (("1", _table1), ("2", _table2))
        for dataset in _distinct(cell.dataset for cell in cells if cell.table == name)
    ]
    third = [cell for cell in cells if cell.table == "3"]
    if third:
        found.append(_table3(third))
    found += _figures(cells)
    for table, title in _SWEEPS.items():
        for dataset in _distinct(cell.dataset for cell in cells if cell.table == table):
            own = [cell for cell in cells if (cell.table, cell.dataset) == (table, dataset)]
            rows = [[group[0].label, *_measured(group)] for group in _groups(own)]
            found.append(Table(f"{title}, {dataset}", ["", *_headings(own)], rows))
    found += [_size(cell) for cell in cells if cell.table == "size"]
    return [*found, *([_claims(claims)] if claims else []), *([_leakage(leakage)] if leakage else [])]


def write_tables(out: Path, tables: Sequence[Table], cells: Sequence[CellResult]) -> None:
    """Write ``tables.md`` and ``results.parquet`` (one row a cell, figures as columns)."""
    heading = (
        "# The paper's tables, rerun\n\nFigures are per cent. C: classifier, the epoch chosen on held-out training "
        "recordings; best on test: the step chosen on the test set, as published, optimistic; G: nearest gallery "
        "window. Published figures are of other persons and recordings unless the data set's name says otherwise; in "
        "the released code nAUC is the ROC area.\n\n"
    )
    write_text(out / MARKDOWN, heading + "\n".join(table.markdown() for table in tables))
    _write_parquet(out / PARQUET, cells)


def _table1(cells: Sequence[CellResult], dataset: str) -> Table:
    printed = published.DATASETS.get(dataset) or published.LATER.get(dataset)
    rows = []
    for method in published.TABLE1:
        group = [cell for cell in cells if cell.row == method.row]
        entry = published.for_method(method.row, dataset)
        if not group and entry is None:
            continue
        rank1, nauc = (entry["rank1"], entry["nauc"]) if entry else (None, None)
        unmeasured = [NOTHING] * len(_headings(cells))
        rows.append([method.label, _number(rank1), _number(nauc), *(_measured(group, cells) if group else unmeasured)])
    extra = [group for group in _groups(cells) if group[0].row not in {method.row for method in published.TABLE1}]
    rows += [[group[0].label, NOTHING, NOTHING, *_measured(group, cells)] for group in extra]
    notes = []
    if printed:
        notes.append("Rows without figures of ours need depth or colour images, which no archive of skeletons has.")
    else:
        notes.append("The paper has no figures of this data set.")
    columns = ["", f"published Rank-1 ({printed or 'none'})", "published nAUC", *_headings(cells)]
    return Table(f"Table 1, {dataset}", columns, rows, [*notes, *_chance(cells)])


def _table2(cells: Sequence[CellResult], dataset: str) -> Table:
    rows = []
    for group in _in_order(_groups(cells), [row.row for row in published.TABLE2]):
        entry = group[0].published or {}
        rows.append([group[0].label, _number(entry.get("rank1")), _number(entry.get("nauc")), *_measured(group, cells)])
    columns = ["", "published Rank-1 (BIWI)", "published nAUC", *_headings(cells)]
    return Table(f"Table 2, {dataset}", columns, rows, _chance(cells))


def _table3(cells: Sequence[CellResult]) -> Table:
    rows = []
    for group in _groups(cells, trained_on=True):
        first = group[0]
        entry = first.published or {}
        whose = "self" if first.row.endswith("self") else f"from {first.trained_on}"
        name = f"{first.row.partition('-')[0].upper()} on {first.dataset}, {whose}"
        rows.append([name, _number(entry.get("rank1")), *_measured(group, cells)])
    rows.sort(key=lambda row: (row[0].partition(" on ")[2].partition(",")[0], row[0]))
    return Table("Table 3, transfer", ["", "published Rank-1", *_headings(cells)], rows)


def _figures(cells: Sequence[CellResult]) -> list[Table]:
    tables = []
    attention = [cell for cell in cells if cell.table == "figure3a"]
    if attention:
        rows = [
            [f"{cell.label}, {cell.dataset}, {cell.split}, seed {cell.seed}"]
            + [f"{100 * share:.1f}" for share in cell.values["locality"]]
            for cell in attention
        ]
        columns = ["attention within one frame of its place, per cent", "x", "y", "z"]
        tables.append(Table("Figure 3a, locality", columns, rows, [f"The paper: {published.FIGURE3['a']}."]))
    curves = [cell for cell in cells if cell.table == "figure3b" and cell.training]
    if curves:
        rows = []
        for cell in curves:
            curve = (cell.training or {})["curve"]
            points = [curve[round(part * (len(curve) - 1))] for part in (0.25, 0.5, 1.0)]
            held_out = cell.values.get("held_out")
            name = f"{cell.label}, {cell.dataset}, {cell.split}, seed {cell.seed}"
            rows.append([name, f"{curve[-1][0]:,}", *(f"{point[1]:.4f}" for point in points), _number(held_out, 4)])
        columns = ["L_R a window", "steps", "at a quarter", "at half", "at the end", "kept aside"]
        tables.append(Table("Figure 3b, reconstruction loss", columns, rows, [f"The paper: {published.FIGURE3['b']}."]))
    return tables


def _size(cell: CellResult) -> Table:
    printed = published.SIZE
    rows = [
        [name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)]
        for name, value in cell.values.items()
        if isinstance(value, (int, float, str))
    ]
    rows.append(["published parameters", f"{printed['parameters_millions']} M"])
    rows.append(["published GFLOPs", f"{printed['gflops']}"])
    return Table("Size", ["", cell.label], rows)


def _claims(claims: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for claim in claims:
        entry, ends = claim["published"] or {}, claim["interval"]
        printed = " / ".join(_number(entry.get(name)) for name in ("better", "worse")) if entry else NOTHING
        rows.append(
            [
                claim["statement"],
                claim["dataset"],
                claim["protocol"] or NOTHING,
                printed,
                f"{claim['better']:.1f} / {claim['worse']:.1f}",
                f"{claim['difference']:+.1f}",
                f"{ends[0]:+.1f} to {ends[1]:+.1f}" if ends else NOTHING,
                NOTHING if claim["p_value"] is None else f"{claim['p_value']:.4f}",
                str(len(claim["differences"])),
                claim["verdict"],
            ]
        )
    columns = ["claim", "data", "protocol", "published", "ours", "difference", "interval", "p", "runs", "verdict"]
    note = (
        "Points of Rank-1. Intervals and p-values (two-sided, not corrected for the number of claims) come from "
        "resampling and flipping persons; they say nothing of what other seeds of training would give. A claim is "
        "decided where its interval leaves out 0, p is at most 0.05 and all runs agree; of transfer, where the "
        "interval lies within 3 points, or beyond. The verdict is about this data and this much training."
    )
    return Table("Claims", columns, rows, [note])


def _leakage(leakage: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [entry["dataset"] + (f", from {entry['trained_on']}" if entry["trained_on"] else f", {entry['split']}"),
         finding["severity"], finding["sentence"]]
        for entry in leakage
        for finding in entry["findings"]
    ]  # fmt: skip
    return Table("What could spoil the figures", ["test set", "severity", "finding"], rows)


def _headings(cells: Sequence[CellResult]) -> list[str]:
    """Columns of figures that any of ``cells`` fills."""
    there = {(cell.protocol, cell.selection) for cell in cells}
    headings = []
    if ("C", "validation") in there:
        headings += ["C Rank-1", "interval", "nAUC (CMC)", "nAUC (ROC)", "recordings"]
    if ("C", "best-on-test") in there:
        headings += ["best on test Rank-1", "its nAUC (ROC)"]
    if ("G", "none") in there:
        headings += ["G Rank-1", "interval", "mAP"]
    return headings


def _measured(group: Sequence[CellResult], among: Sequence[CellResult] | None = None) -> list[str]:
    """Texts under :func:`_headings` of ``among``."""
    there = {(cell.protocol, cell.selection) for cell in (among or group)}
    texts: list[str] = []
    for how in _HOW:
        if how not in there:
            continue
        own = [cell for cell in group if (cell.protocol, cell.selection) == how]
        rank1 = _spread([cell.figures.get("rank1") for cell in own])
        ends = own[0].interval.get("rank1") if len(own) == 1 else None
        interval = f"{ends[0]:.1f} to {ends[1]:.1f}" if ends else NOTHING
        if how == ("C", "validation"):
            texts += [rank1, interval]
            texts += [_spread([cell.figures.get(name) for cell in own]) for name in ("nauc_cmc", "nauc_roc")]
            texts.append(_spread([cell.recordings.get("rank1") for cell in own]))
        elif how == ("C", "best-on-test"):
            texts += [rank1, _spread([cell.figures.get("nauc_roc") for cell in own])]
        else:
            texts += [rank1, interval, _spread([cell.figures.get("mean_ap") for cell in own])]
    return texts


def _chance(cells: Sequence[CellResult]) -> list[str]:
    known = [cell for cell in cells if cell.chance is not None]
    if not known:
        return []
    first = known[0]
    return [f"{first.persons} persons, {first.probes:,} probe windows; Rank-1 by chance {first.chance:.1f}."]


def _groups(cells: Sequence[CellResult], trained_on: bool = False) -> list[list[CellResult]]:
    """Cells of one row each, over protocols, seeds and splits, in order of appearance."""
    groups: dict[tuple[str | None, ...], list[CellResult]] = {}
    for cell in cells:
        key = (cell.dataset, cell.row, cell.trained_on if trained_on else None)
        groups.setdefault(key, []).append(cell)
    return list(groups.values())


def _in_order(groups: list[list[CellResult]], rows: Sequence[str]) -> list[list[CellResult]]:
    places = {row: place for place, row in enumerate(rows)}
    return sorted(groups, key=lambda group: (places.get(group[0].row, len(rows)), group[0].row))


def _spread(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    text = f"{statistics.fmean(known):.1f}"
    return text if len(known) == 1 else f"{text} ± {statistics.stdev(known):.1f}"


def _number(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _write_parquet(path: Path, cells: Sequence[CellResult]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = ("cell", "table", "row", "label", "dataset", "trained_on", "method", "protocol", "selection", "split")
    texts = {name: [getattr(cell, name) for cell in cells] for name in plain}
    numbers = {name: [getattr(cell, name) for cell in cells] for name in ("seed", "persons", "probes")}
    columns: dict[str, pa.Array] = {name: pa.array(values, pa.string()) for name, values in texts.items()}
    columns |= {name: pa.array(values, pa.int64()) for name, values in numbers.items()}
    names = _distinct(name for cell in cells for name in cell.figures)
    real = pa.float64()
    columns |= {name: pa.array([cell.figures.get(name) for cell in cells], real) for name in names}
    columns |= {f"recordings_{name}": pa.array([cell.recordings.get(name) for cell in cells], real) for name in names}
    for place, end in enumerate(("low", "high")):
        ends = [cell.interval["rank1"][place] if "rank1" in cell.interval else None for cell in cells]
        columns[f"rank1_{end}"] = pa.array(ends, real)
    columns["chance"] = pa.array([cell.chance for cell in cells], real)
    for name in ("rank1", "nauc"):
        columns[f"published_{name}"] = pa.array([(cell.published or {}).get(name) for cell in cells], real)
    columns["published_dataset"] = pa.array([(cell.published or {}).get("dataset") for cell in cells], pa.string())
    columns["seconds"] = pa.array([cell.seconds for cell in cells], real)
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
