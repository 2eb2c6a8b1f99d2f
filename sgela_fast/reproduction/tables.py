"""Tables of a reproduction: the published figures beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgela_fast.atomic import replacing, write_text
from sgela_fast.reproduction import published
from sgela_fast.reproduction.claims import shown
from sgela_fast.reproduction.results import CellResult
from sgela_fast.reproduction.rows import ORDER, Intervals, Row, rows_of, spread

MARKDOWN = "tables.md"
PARQUET = "results.parquet"
NOTHING = "-"
SWEEPS = {"sweep-frames": "Length of a window f", "sweep-range": "Attentional range D"}


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: what it is about.
        columns: headings; the first column holds the rows' names.
        rows: texts.
        notes: sentences below it.
        words: positions of the columns that hold words; all others hold figures.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    words: tuple[int, ...] = (0,)

    def markdown(self) -> str:
        """As Markdown."""
        aligned = ["---" if place in self.words else "---:" for place in range(len(self.columns))]
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, aligned, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, *(f"\n{note}" for note in self.notes), ""])


def make_tables(
    cells: Sequence[CellResult],
    claims: Sequence[dict[str, Any]] = (),
    leakage: Sequence[dict[str, Any]] = (),
    intervals: Intervals | None = None,
) -> list[Table]:
    """Tables of whatever cells there are, of the claims that they decide, and of what speaks against them.

    Args:
        cells: finished ones.
        claims: as in ``reproduction.json``.
        leakage: likewise.
        intervals: of rows of several runs, which are shown without one if it is not given.
    """
    by_table: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(cells, intervals):
        by_table.setdefault((row.first.table, row.first.dataset), []).append(row)
    found = [
        make(rows, dataset) for name, make in (("1", _table1), ("2", _table2)) for dataset, rows in _of(by_table, name)
    ]
    if any(table == "1" for table, _ in by_table):
        found.append(_as_published())
    transfer = [row for _, rows in _of(by_table, "3") for row in rows]
    if transfer:
        found.append(_table3(transfer))
    found += _figures(cells)
    for name, title in SWEEPS.items():
        found += [_sweep(f"{title}, {dataset}", rows) for dataset, rows in _of(by_table, name)]
    found += [_size(cell) for cell in cells if cell.table == "size"]
    return [*found, *([_claims(claims)] if claims else []), *([_leakage(leakage)] if leakage else [])]


def _of(by_table: dict[tuple[str, str], list[Row]], table: str) -> list[tuple[str, list[Row]]]:
    """Data sets of a table with their rows."""
    return [(dataset, rows) for (name, dataset), rows in by_table.items() if name == table]


def write_tables(out: Path, tables: Sequence[Table], cells: Sequence[CellResult]) -> None:
    """Write ``tables.md`` and ``results.parquet`` (one row a cell, figures as columns)."""
    heading = (
        "# The paper's tables, rerun\n\nFigures are per cent. C: classifier, the epoch chosen on held-out training "
        "recordings; best on test: the step chosen on the test set, as published, optimistic; G: nearest gallery "
        "window. Of several runs the mean over splits, each the mean over its seeds, ± the sample deviation of splits "
        "(of seeds of one split). Intervals hold 95 % of resamples of persons, each with the probes of all runs. "
        "Published figures are of other persons and recordings unless the data set's name says otherwise; in the "
        "released code nAUC is the ROC area.\n\n"
    )
    write_text(out / MARKDOWN, heading + "\n".join(table.markdown() for table in tables))
    _write_parquet(out / PARQUET, cells)


def _table1(rows: Sequence[Row], dataset: str) -> Table:
    printed = published.DATASETS.get(dataset) or published.LATER.get(dataset)
    groups, lines = _grouped(rows), []
    for method in published.TABLE1:
        group, entry = groups.pop(method.row, []), published.for_method(method.row, dataset) or {}
        if group or entry:
            label = method.measured_as(group[0].first.label) if group else f"{method.label} ({method.absent})"
            lines.append([label, *_published(entry), *_measured(group, rows)])
    lines += [[group[0].first.label, *_published({}), *_measured(group, rows)] for group in groups.values()]
    columns = ["", f"published Rank-1 ({printed or 'none'})", "published nAUC", *_headings(rows)]
    notes = [] if printed else ["The paper has no figures of this data set."]
    return Table(f"Table 1, {dataset}", columns, lines, [*notes, *_tested(rows)])


def _as_published() -> Table:
    """All methods of Table 1 with all printed figures, those that need images among them."""
    columns = ["", "needs", *(f"{name} {what}" for name in published.DATASETS.values() for what in ("Rank-1", "nAUC"))]
    lines = [
        [method.label, method.needs]
        + [_number(value) for pair in zip(method.rank1, method.nauc, strict=True) for value in pair]
        for method in published.TABLE1
    ]
    note = (
        "Chosen on the respective test set. What needs depth or colour images cannot be computed from an archive of "
        "skeletons."
    )
    return Table("Table 1, as published", columns, lines, [note], words=(0, 1))


def _table2(rows: Sequence[Row], dataset: str) -> Table:
    groups, lines = _grouped(rows), []
    for row in published.TABLE2:
        group = groups.pop(row.row, [])
        label = group[0].first.label if group else f"{row.label} (not finished)"
        lines.append([label, *_published({"rank1": row.rank1, "nauc": row.nauc}), *_measured(group, rows)])
    lines += [[group[0].first.label, *_published({}), *_measured(group, rows)] for group in groups.values()]
    columns = ["", "published Rank-1 (BIWI)", "published nAUC", *_headings(rows)]
    return Table(f"Table 2, {dataset}", columns, lines, _tested(rows))


def _table3(rows: Sequence[Row]) -> Table:
    lines = []
    for group in _grouped(rows).values():
        first = group[0].first
        whose = "self" if first.row.endswith("self") else f"from {first.trained_on}"
        name = f"{first.row.partition('-')[0].upper()} on {first.dataset}, {whose}"
        lines.append([name, _published(first.published or {})[0], *_measured(group, rows)])
    lines.sort(key=lambda line: (line[0].partition(" on ")[2].partition(",")[0], line[0]))
    return Table("Table 3, transfer", ["", "published Rank-1", *_headings(rows)], lines)


def _sweep(title: str, rows: Sequence[Row]) -> Table:
    groups = sorted(_grouped(rows).values(), key=lambda group: swept(group[0].first))
    lines = [[group[0].first.label, *_measured(group, rows)] for group in groups]
    return Table(title, ["", *_headings(rows)], lines, _tested(rows))


def swept(cell: CellResult) -> int:
    """The value of f or D that a cell of a sweep is about."""
    return int(cell.row[1:])


def _figures(cells: Sequence[CellResult]) -> list[Table]:
    tables = []
    attention = _runs([cell for cell in cells if cell.table == "figure3a"])
    if attention:
        rows = [
            [name, *(_spread(own, [100 * cell.values["locality"][axis] for cell in own]) for axis in range(3))]
            for name, own in attention.items()
        ]
        columns = ["attention within one frame of its place, per cent", "x", "y", "z"]
        tables.append(Table("Figure 3a, locality", columns, rows, [f"The paper: {published.FIGURE3['a']}."]))
    curves = _runs([cell for cell in cells if cell.table == "figure3b" and cell.training])
    if curves:
        rows = []
        for name, own in curves.items():
            losses = [(cell.training or {})["curve"] for cell in own]
            points = [
                _spread(own, [curve[round(part * (len(curve) - 1))][1] for curve in losses], 4)
                for part in (0.25, 0.5, 1)
            ]
            held_out = _spread(own, [cell.values.get("held_out") for cell in own], 4)
            steps = "/".join(f"{steps:,}" for steps in dict.fromkeys(curve[-1][0] for curve in losses))
            rows.append([name, steps, *points, held_out])
        columns = ["L_R a window", "steps", "at a quarter", "at half", "at the end", "kept aside"]
        tables.append(Table("Figure 3b, reconstruction loss", columns, rows, [f"The paper: {published.FIGURE3['b']}."]))
    return tables


def _runs(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """Cells of one row and data set, over seeds and splits, by a name that says how many there are."""
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault((cell.dataset, cell.label), []).append(cell)
    return {
        f"{label}, {dataset}" + (f", {len(own)} runs" if len(own) > 1 else ""): own
        for (dataset, label), own in groups.items()
    }


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
                " / ".join(shown(claim, claim[name]) for name in ("better", "worse")),
                shown(claim, claim["difference"], signed=True),
                f"{ends[0]:+.1f} to {ends[1]:+.1f}" if ends else NOTHING,
                NOTHING if claim["p_value"] is None else f"{claim['p_value']:.4f}",
                str(len(claim["differences"])),
                claim["verdict"],
            ]
        )
    columns = ["claim", "data", "protocol", "published", "ours", "difference", "interval", "p", "runs", "verdict"]
    note = (
        "Points of Rank-1; of attention points of its share, of losses themselves. Intervals and p-values (two-sided, "
        "not corrected for the number of claims) come from resampling and flipping persons; they say nothing of what "
        "other seeds of training would give. A claim is decided where its interval leaves out 0, p is at most 0.05 and "
        "all runs agree; of transfer, where the interval lies within 3 points, or beyond. The verdict is about this "
        "data and this much training."
    )
    return Table("Claims", columns, rows, [note], words=(0, 1, 2, 9))


def _leakage(leakage: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [entry["dataset"] + (f", from {entry['trained_on']}" if entry["trained_on"] else f", {entry['split']}"),
         finding["severity"], finding["sentence"]]
        for entry in leakage
        for finding in entry["findings"]
    ]  # fmt: skip
    return Table("What could spoil the figures", ["test set", "severity", "finding"], rows, words=(0, 1, 2))


def _headings(rows: Sequence[Row]) -> list[str]:
    """Columns of figures that any of ``rows`` fills."""
    there, headings = {row.how for row in rows}, []
    if ("C", "validation") in there:
        headings += ["C Rank-1", "interval", "nAUC (CMC)", "nAUC (ROC)", "recordings"]
    if ("C", "best-on-test") in there:
        headings += ["best on test Rank-1", "its nAUC (ROC)"]
    if ("G", "none") in there:
        headings += ["G Rank-1", "interval", "mAP"]
    return headings


def _measured(group: Sequence[Row], among: Sequence[Row]) -> list[str]:
    """Texts under :func:`_headings` of ``among``, of rows of one configuration."""
    there, own = {row.how for row in among}, {row.how: row for row in group}
    texts: list[str] = []
    for how in ORDER:
        if how not in there or how == ("C", "last"):
            continue
        row = own.get(how)
        ends = row.interval.get("rank1") if row else None
        interval = f"{ends[0]:.1f} to {ends[1]:.1f}" if ends else NOTHING
        if how == ("C", "validation"):
            recordings = _text(row.recordings, row.recordings_deviation, "rank1") if row else NOTHING
            texts += [_figure(row, "rank1"), interval, _figure(row, "nauc_cmc"), _figure(row, "nauc_roc"), recordings]
        elif how == ("C", "best-on-test"):
            texts += [_figure(row, "rank1"), _figure(row, "nauc_roc")]
        else:
            texts += [_figure(row, "rank1"), interval, _figure(row, "mean_ap")]
    return texts


def _tested(rows: Sequence[Row]) -> list[str]:
    """Who and what was tested, of each split."""
    known: dict[str, CellResult] = {}
    for row in rows:
        for cell in row.cells:
            if cell.chance is not None:
                known.setdefault(cell.split, cell)
    return [
        (f"{split}: " if len(known) > 1 else "")
        + f"{cell.persons} persons, {cell.probes:,} probe windows; Rank-1 by chance {cell.chance:.1f}."
        for split, cell in known.items()
    ]


def _grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that differ in protocol and selection alone, by their key; of a transfer by data sets as well."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        cell = row.first
        key = f"{cell.dataset}/{cell.row}/{cell.trained_on}" if cell.table == "3" else cell.row
        groups.setdefault(key, []).append(row)
    return groups


def _published(entry: dict[str, Any]) -> list[str]:
    return [_number(entry.get("rank1")), _number(entry.get("nauc"))]


def _figure(row: Row | None, name: str) -> str:
    return _text(row.mean, row.deviation, name) if row else NOTHING


def _text(means: dict[str, float], deviations: dict[str, float], name: str, digits: int = 1) -> str:
    text = _number(means.get(name), digits)
    return f"{text} ± {deviations[name]:.{digits}f}" if name in deviations else text


def _spread(cells: Sequence[CellResult], values: Sequence[float | None], digits: int = 1) -> str:
    """Mean and deviation over the runs of ``cells``."""
    found = spread(zip((cell.split for cell in cells), values, strict=True))
    if found is None:
        return NOTHING
    mean, deviation = found
    return _text({"": mean}, {} if deviation is None else {"": deviation}, "", digits)


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
