"""The paper's tables beside ours, the claims, and the summary in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
from sgela_fast.report.page import Section, Table, in_words, per_cent

COMPONENTS = ("GE", "GD", "Rev.", "BAS", "MBAS", "LAS", "AGEs")
PUBLISHED = ("Rank-1 published", "nAUC published")
# Which of ours stands beside which published figure: their nAUC is the ROC one.
BESIDE = {"rank1": (PUBLISHED[0], "rank1"), "nauc_roc": (PUBLISHED[1], "nauc")}
NAMES = {
    "1": "Table 1: methods",
    "2": "Table 2: components",
    "3": "Table 3: transfer to another data set",
    "sweep-frames": "Frames of a window",
    "sweep-range": "Range of the attention mask",
    "size": "Size and cost of the models",
    "evaluation": "Figures",
}
VERBS = {
    "holds": ("holds", "hold"),
    "does not hold": ("does not hold", "do not hold"),
    "not decided": ("is not decided", "are not decided"),
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
        chosen = _in_printed_order([row for row in rows if row.first.table == key], results)
        for protocol, selection in dict.fromkeys((row.first.protocol, row.first.selection) for row in chosen):
            mine = [row for row in chosen if (row.first.protocol, row.first.selection) == (protocol, selection)]
            how = f"protocol {protocol} ({PROTOCOLS.get(protocol or '', '')}), {selection_in_words(selection)}"
            found.append(_figures(f"{NAMES[key]}; {how}; per cent", key, mine, results))
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
    found = results.head.get("claims") or []
    if not found:
        why = f"{results.path.name} holds no verdicts yet; go on with `sgela-fast reproduce`."
        return Section("claims", title, missing=why)
    lead = (
        f"{_verdicts(found)}.",
        "A difference is in points of Rank-1, the row that is said to be better minus the other one. Intervals and p "
        "(two-sided, not corrected for the number of claims) come from resampling and flipping persons; they say "
        "nothing of other seeds of training. A claim is decided where its interval leaves out 0, p is at most 0.05 and "
        "all runs agree; one of transfer where its interval lies within 3 points, or beyond.",
        "A verdict is about these recordings and this much training; where there is one run, another seed may turn it.",
    )
    head = ("Claim", "Verdict", "Data set", "Protocol", "Ours", "Difference", "p", "Runs", "Published")
    table = Table.bounded("Claims", head, [_claim(item) for item in found], TABLE_ROWS, range(4, 9))
    return Section("claims", title, lead, parts=(table,))


def _claim(item: dict[str, Any]) -> list[str]:
    printed, ends, p_value = item.get("published") or {}, item.get("interval"), item.get("p_value")
    difference = f"{item['difference']:+.1f}"
    if ends:
        difference += f" ({ends[0]:+.1f}\u00a0to\u00a0{ends[1]:+.1f})"
    note = item.get("note")
    if len(item["differences"]) == 1:  # told above the table for all of them
        note = None
    return [
        f"{item['statement']} ({note})" if note else str(item["statement"]),
        str(item["verdict"]),
        str(item["dataset"]),
        str(item.get("protocol") or "–"),
        f"{item['better']:.1f} / {item['worse']:.1f}",
        difference,
        "–" if p_value is None else f"{p_value:.4f}",
        str(len(item["differences"])),
        " / ".join(per_cent(printed.get(name)) for name in ("better", "worse")) if printed else "–",
    ]


def _verdicts(found: Sequence[dict[str, Any]]) -> str:
    """Such as ``Of 12 claims 3 hold, 1 does not hold and 8 are not decided``."""
    verdicts = [str(item["verdict"]) for item in found]
    counts = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys((*VERBS, *verdicts)) if verdict in verdicts}
    many = {
        verdict: VERBS.get(verdict, (f"is {verdict}", f"are {verdict}"))[count > 1] for verdict, count in counts.items()
    }
    return f"Of {len(found)} claims {in_words([f'{count} {many[verdict]}' for verdict, count in counts.items()])}"


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
    judged = results.head.get("claims")
    if judged:
        sentences.append(f"{_verdicts(judged)}.")
    # Rows have notes of their own about how each was fitted; here stand those that no single row is about.
    if results.kind != "reproduction":
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


def _printed(results: Results, key: str) -> list[dict[str, Any]]:
    """Rows of a published table that the reproduction has written down."""
    found = (results.head.get("published") or {}).get(f"table{key}") or []
    return list(found["rows"] if isinstance(found, dict) else found)


def _in_printed_order(rows: list[Row], results: Results) -> list[Row]:
    """By data set, then in the order of the published table; what is not in it comes last."""
    if not rows:
        return rows
    places = {str(item.get("row")): place for place, item in enumerate(_printed(results, rows[0].first.table))}
    data = list(dict.fromkeys(row.first.dataset for row in rows))
    return sorted(rows, key=lambda row: (data.index(row.first.dataset), places.get(row.first.row, len(places))))


def _only_published(rows: Sequence[Row], results: Results) -> list[dict[str, str]]:
    """Methods of Table 1 that were not run, with the figures that are printed for a data set of these rows.

    They were printed for protocol C, so a table of protocol G lists none.
    """
    lines: list[dict[str, str]] = []
    if any(row.first.protocol == "G" for row in rows):
        return lines
    for dataset in dict.fromkeys(row.first.dataset for row in rows):
        there = {row.first.row for row in rows if row.first.dataset == dataset}
        for item in _printed(results, "1"):
            rank1, nauc = (item.get(name, {}).get(dataset.upper()) for name in ("rank1", "nauc"))
            if item.get("row") not in there and rank1 is not None:
                line = {"Method": f"{item['label']} (not run)", "Data set": dataset, PUBLISHED[0]: f"{rank1:g}"}
                lines.append({**line, **({} if nauc is None else {PUBLISHED[1]: f"{nauc:g}"})})
    return lines


def _figures(caption: str, key: str, rows: Sequence[Row], results: Results) -> Table:
    """One table; Table 1 lists methods that were not run, 2 shows components, 3 what the encoder was trained on."""
    columns: dict[str, Callable[[Row], str]] = {"Method": lambda row: row.first.label}
    if key == "2":
        columns |= {name: partial(_component, name) for name in COMPONENTS}
    if key != "evaluation":
        columns["Data set"] = lambda row: row.first.dataset
    if key == "3":
        columns["Trained on"] = lambda row: row.first.trained_on or "–"
    texts = len(columns)
    for name in (name for name in TITLES if any(name in row.mean for row in rows)):
        columns[TITLES[name]] = partial(_figure, name)
        if key != "evaluation" and name in BESIDE:
            title, figure = BESIDE[name]
            columns[title] = partial(_with_data_set, figure)
    columns |= {
        "Rank-1, recordings": lambda row: per_cent(row.recordings.get("rank1")),
        "Chance": lambda row: per_cent(row.first.chance),
        "Persons": lambda row: str(row.first.persons),
        "Probes": lambda row: f"{row.first.probes:,}",
        "Runs": lambda row: row.runs,
    }
    lines = [[text(row) for text in columns.values()] for row in rows]
    if key == "1":
        lines += [[line.get(title, "–") for title in columns] for line in _only_published(rows, results)]
    return Table.bounded(caption, tuple(columns), lines, TABLE_ROWS, range(texts, len(columns)))


def _component(name: str, row: Row) -> str:
    return "✓" if row.first.components.get(name) else ""


def _figure(name: str, row: Row) -> str:
    return row.text(name)


def _with_data_set(name: str, row: Row) -> str:
    figure = published(row.first, name)
    where = (row.first.published or {}).get("dataset")
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
