"""The paper's tables beside ours, the claims, and the summary in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgela_fast.report.config import TABLE_ROWS
from sgela_fast.report.figures import (
    PROTOCOLS,
    TITLES,
    Row,
    cells_of,
    published,
    rows_of,
    selection_in_words,
)
from sgela_fast.report.inputs import Results
from sgela_fast.report.page import Claim, Section, Table, in_words, per_cent
from sgela_fast.reproduction.results import CellResult

COMPONENTS = ("GE", "GD", "Rev.", "BAS", "MBAS", "LAS", "AGEs")
NAMES = {
    "1": "Table 1: methods",
    "2": "Table 2: components",
    "3": "Table 3: transfer to another data set",
    "sweep-frames": "Frames of a window",
    "sweep-range": "Range of the attention mask",
    "size": "Size and cost of the models",
    "evaluation": "Figures",
}
HOW = {
    "reproduction": "make one with `sgela-fast reproduce`",
    "evaluation": "`sgela-fast evaluate` does not know the paper; `sgela-fast reproduce` sets its tables beside ours",
}


def tables(results: Results) -> Section:
    """All tables of Re-ID figures, one for each protocol and way of choosing weights."""
    rows = rows_of(cells_of(results))
    found: list[Any] = []
    for key in NAMES:
        chosen = [row for row in rows if row.first.table == key]
        for protocol, selection in dict.fromkeys((row.first.protocol, row.first.selection) for row in chosen):
            mine = [row for row in chosen if (row.first.protocol, row.first.selection) == (protocol, selection)]
            how = f"protocol {protocol} ({PROTOCOLS.get(protocol or '', '')}), {selection_in_words(selection)}"
            found.append(_figures(f"{NAMES[key]}; {how}; per cent", key, mine))
    found += _others(results)
    if not found:
        why = "No cell with figures is finished yet; go on with `sgela-fast reproduce`."
        return Section("tables", _title(results), missing=why)
    lead = [
        "Probes are windows, except in the column for recordings, whose scores are the means of their windows' scores.",
        "Brackets hold the 95 % interval over persons of a single run; ± is the sample deviation over splits (over "
        "seeds where there is one split).",
    ]
    if results.kind == "reproduction":
        lead.append(
            "Published figures are the best on their own test set, of the data set in brackets; their nAUC is the ROC "
            "area by the released code. Ours are of the data set that the row names."
        )
    else:
        lead.append(f"There is no published figure here: {HOW['evaluation']}.")
    return Section("tables", _title(results), tuple(lead), parts=tuple(found))


def claims(results: Results) -> Section:
    """The claims of the paper with what the reproduction found."""
    title = "Claims and verdicts"
    if results.kind == "evaluation":
        return Section("claims", title, missing=f"Nothing to judge claims by: {HOW['evaluation']}.")
    found = claims_of(results)
    if not found:
        why = f"{results.path.name} holds no verdicts yet; go on with `sgela-fast reproduce`."
        return Section("claims", title, missing=why)
    counts = {
        verdict: sum(claim.verdict == verdict for claim in found) for verdict in dict.fromkeys(c.verdict for c in found)
    }
    lead = in_words([f"{count} {verdict}" for verdict, count in counts.items()])
    return Section("claims", title, (f"{len(found)} claims: {lead}.",), data={"claims": found})


def claims_of(results: Results) -> list[Claim]:
    """Verdicts of a reproduction."""
    return [
        Claim(
            str(item.get("claim", "")), str(item.get("verdict", "")), str(item.get("because", item.get("evidence", "")))
        )
        for item in results.head.get("claims") or ()
    ]


def summary(results: Results) -> tuple[str, ...]:
    """What was found, in sentences."""
    rows = rows_of(cells_of(results))
    if not rows:
        return (f"{results.path.name} holds no finished figures yet.",)
    sentences = []
    if results.kind == "reproduction":
        data = results.head.get("datasets") or []
        names = [str(item.get("name")) for item in (data.values() if isinstance(data, dict) else data)]
        what = f" on {in_words(names)}" if names else ""
        sentences.append(f"A reproduction of the paper's experiments{what}: {len(results.cells)} finished cells.")
    for protocol, selection in dict.fromkeys((row.first.protocol, row.first.selection) for row in rows):
        mine = [row for row in rows if (row.first.protocol, row.first.selection) == (protocol, selection)]
        sentences.append(_best(mine, str(protocol), selection))
    verdicts = [claim.verdict for claim in claims_of(results)]
    if verdicts:
        counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)]
        sentences.append(f"Of {len(verdicts)} claims of the paper: {in_words(counts)}.")
    notes = list(dict.fromkeys(note for row in rows for cell in row.cells for note in cell.notes))
    sentences += [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in notes[:6] if note]
    return tuple(sentences)


def _best(rows: Sequence[Row], protocol: str, selection: str | None) -> str:
    """One sentence: the best row of a protocol, the untrained encoder, chance."""
    ranked = sorted((row for row in rows if "rank1" in row.mean), key=lambda row: -row.mean["rank1"])
    if not ranked:
        return f"Protocol {protocol} has no Rank-1 yet."
    best = ranked[0]
    where = f" on {best.first.dataset}" if best.first.dataset else ""
    text = (
        f"Protocol {protocol} ({PROTOCOLS.get(protocol, '')}; {selection_in_words(selection)}): the highest Rank-1 by "
        f"window is {best.text('rank1')} % with {best.first.label}{where}, {best.first.persons} persons"
    )
    fresh = next((row for row in ranked if row.first.method == "untrained" and row is not best), None)
    if fresh is not None:
        text += f"; an untrained encoder reaches {fresh.text('rank1')} %"
    if len(ranked) > 1:
        text += f"; the lowest of {len(ranked)} is {ranked[-1].text('rank1')} % with {ranked[-1].first.label}"
    if best.first.chance is not None:
        text += f"; guessing {per_cent(best.first.chance)} %"
    return f"{text}."


def _title(results: Results) -> str:
    return "The paper's tables beside ours" if results.kind == "reproduction" else "Tables"


def _figures(caption: str, key: str, rows: Sequence[Row]) -> Table:
    """One table; Table 2 shows its components, Table 3 what the encoder was trained on."""
    names = [name for name in TITLES if any(name in row.mean for row in rows)]
    ours = key != "evaluation"
    head = ["Method"]
    cells = [[row.first.label] for row in rows]
    if key == "2":
        head += COMPONENTS
        for line, row in zip(cells, rows, strict=True):
            line += ["✓" if row.first.components.get(name) else "" for name in COMPONENTS]
    if ours:
        head.append("Data set")
        for line, row in zip(cells, rows, strict=True):
            line.append(row.first.dataset)
    if key == "3":
        head.append("Trained on")
        for line, row in zip(cells, rows, strict=True):
            line.append(row.first.trained_on or "–")
    text_columns = len(head)
    for name in names:
        head.append(TITLES[name])
        for line, row in zip(cells, rows, strict=True):
            line.append(row.text(name))
        if ours and name == "rank1":
            head.append("Rank-1 published")
            for line, row in zip(cells, rows, strict=True):
                line.append(_with_data_set(row.first, "rank1"))
        if ours and name == "nauc_roc":
            head.append("nAUC published")
            for line, row in zip(cells, rows, strict=True):
                line.append(_with_data_set(row.first, "nauc"))
    head += ["Rank-1, recordings", "Chance", "Persons", "Probes", "Runs"]
    for line, row in zip(cells, rows, strict=True):
        line += [
            per_cent(row.recordings.get("rank1")),
            per_cent(row.first.chance),
            str(row.first.persons),
            f"{row.first.probes:,}",
            row.runs,
        ]
    return Table.bounded(caption, head, cells, TABLE_ROWS, range(text_columns, len(head)))


def _with_data_set(cell: CellResult, name: str) -> str:
    figure = published(cell, name)
    where = (cell.published or {}).get("dataset")
    return figure if figure == "–" or not where else f"{figure} ({where})"


def _others(results: Results) -> list[Table]:
    """Cells that hold numbers but no Re-ID figures, such as parameters and operations."""
    found = []
    for key in NAMES:
        cells = [cell for cell in results.cells if cell.table == key and cell.protocol is None]
        names = list(dict.fromkeys(name for cell in cells for name, value in cell.values.items() if _plain(value)))
        if names:
            rows = [[cell.label, cell.dataset, *(_number(cell.values.get(name)) for name in names)] for cell in cells]
            head = ["Model", "Data set", *(name.replace("_", " ") for name in names)]
            found.append(Table.bounded(NAMES[key], head, rows, TABLE_ROWS, range(2, len(head))))
    return found


def _plain(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)
