"""The paper's tables beside ours: of each data set one with all protocols and selections, then all figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sgela_fast.report.config import TABLE_ROWS
from sgela_fast.report.figures import PROTOCOLS, TITLES, selection_in_words, text
from sgela_fast.report.inputs import Results
from sgela_fast.report.page import Section, Table, per_cent
from sgela_fast.reproduction.published import NEEDS, TABLE1
from sgela_fast.reproduction.rows import Row, place

COMPONENTS = ("GE", "GD", "Rev.", "BAS", "MBAS", "LAS", "AGEs")
NAMES = {
    "1": "Table 1: methods",
    "2": "Table 2: components",
    "3": "Table 3: transfer to another data set",
    "evaluation": "Figures",
}
# Short names of what a figure stands for in the tables that show all of them side by side.
SHORT: dict[tuple[str | None, str | None], str] = {
    ("C", "validation"): "C, held out",
    ("C", "last"): "C, last epoch",
    ("C", "best-on-test"): "C, best on test",
    ("G", "none"): "G",
}


def tables(results: Results) -> Section:
    """All tables of Re-ID figures."""
    found = results.rows
    if results.kind == "reproduction":
        return _reproduced(results, found)
    parts = [
        _in_detail(_caption("evaluation", how), "evaluation", [row for row in found if row.how == how])
        for how in dict.fromkeys(row.how for row in found)
    ]
    lead = (*_how_to_read(), "There is no published figure here: `sgela-fast evaluate` does not know the paper; "
            "`sgela-fast reproduce` sets its tables beside ours.")  # fmt: skip
    if not parts:
        return Section("tables", "Tables", missing="The results hold no figures; run `sgela-fast evaluate` again.")
    return Section("tables", "Tables", lead, parts=tuple(parts))


def _reproduced(results: Results, found: Sequence[Row]) -> Section:
    title = "The paper's tables beside ours"
    parts: list[Table] = []
    for key in ("1", "2", "3"):
        own = [row for row in found if row.first.table == key]
        data = dict.fromkeys(row.first.dataset for row in own)
        parts += [_side_by_side(key, [row for row in own if row.first.dataset == name], results) for name in data]
        if key == "1" and own and _printed(results, "1"):
            parts.append(_as_published(results))
    for key in ("1", "2", "3"):
        own = _in_printed_order([row for row in found if row.first.table == key], results)
        for how in sorted({row.how for row in own}, key=place):
            of_how = [row for row in own if row.how == how]
            parts.append(replace(_in_detail(f"In detail: {_caption(key, how)}", key, of_how), folded=True))
    parts += _sizes(results)
    if not parts:
        why = "No cell with figures is finished yet; go on with `sgela-fast reproduce`."
        return Section("tables", title, missing=why)
    lead = (
        "Protocol C trains a classifier on the encodings; its epoch is chosen on training recordings kept aside (held "
        "out), or on the test set itself (best on test), as published and optimistic. Protocol G takes the person of "
        "the nearest training (gallery) window; nothing is chosen.",
        *_how_to_read(),
        "Published figures are the best on their own test set, of the data set in brackets; their nAUC is the ROC area "
        "by the released code.",
    )
    return Section("tables", title, lead, parts=tuple(parts))


def _how_to_read() -> tuple[str, str]:
    return (
        "Figures are per cent. Probes are windows, except in the column for recordings, whose scores are the means of "
        "their windows' scores.",
        "Brackets hold the 95 % interval over persons, each resampled with the probes of all runs; ± is the sample "
        "deviation over splits (over seeds where there is one split) of several runs.",
    )


def _caption(key: str, how: tuple[str | None, str | None]) -> str:
    protocol, selection = how
    words = PROTOCOLS.get(protocol or "", "")
    return f"{NAMES[key]}; protocol {protocol} ({words}), {selection_in_words(selection)}; per cent"


def _side_by_side(key: str, found: Sequence[Row], results: Results) -> Table:
    """A data set's rows with the Rank-1 and nAUC of every protocol and selection beside the published ones."""
    hows = sorted({row.how for row in found}, key=place)
    first = found[0].first
    groups: dict[tuple[str, str], dict[Any, Row]] = {}
    for row in found:
        groups.setdefault((row.first.row, str(row.first.trained_on) if key == "3" else ""), {})[row.how] = row
    lines = []
    for entry in _printed(results, key):
        group = groups.pop((str(entry["row"]), ""), None) if key != "3" else None
        if group or key == "2" or (key == "1" and _entry(entry, first.dataset)):
            lines.append(_line(_label(entry, group), _entry(entry, first.dataset) or {}, group or {}, hows))
    further = sorted(groups.items(), key=lambda item: item[0] if key == "3" else ("", ""))
    for _, group in further:
        known = next(iter(group.values())).first
        lines.append(_line(known.label, known.published if known.protocol == "C" else {}, group, hows))
    source = "BIWI" if key == "2" else first.dataset.upper()
    head = ["Method", f"Rank-1 published ({source})", *(f"Rank-1, {SHORT.get(how, how)}" for how in hows)]
    classified = [how for how in hows if how[0] == "C"]
    head += [f"nAUC published ({source})", *(f"nAUC (ROC), {SHORT.get(how, how)}" for how in classified), "Runs"]
    chance = "" if first.chance is None else f", guessing {per_cent(first.chance)} %"
    caption = f"{NAMES[key]}; {first.dataset} ({first.persons} persons, {first.probes:,} probe windows{chance})"
    return Table.bounded(caption, head, lines, TABLE_ROWS, range(1, len(head))).without_empty_columns()


def _line(label: str, entry: Mapping[str, Any] | None, group: Mapping[Any, Row], hows: Sequence[Any]) -> list[str]:
    """A row of :func:`_side_by_side`; dashes where nothing was measured or printed."""
    entry = entry or {}
    own = [group.get(how) for how in hows]
    return [
        label,
        per_cent(entry.get("rank1")),
        *("–" if row is None else text(row, "rank1") for row in own),
        per_cent(entry.get("nauc")),
        *("–" if row is None else text(row, "nauc_roc") for how, row in zip(hows, own, strict=True) if how[0] == "C"),
        next((row.runs for row in own if row is not None), "–"),
    ]


def _entry(item: Mapping[str, Any], dataset: str) -> dict[str, Any] | None:
    """The figures of a printed row: of Table 1 those of a data set, of Table 2 those of BIWI."""
    if not isinstance(item.get("rank1"), Mapping):
        return {"rank1": item.get("rank1"), "nauc": item.get("nauc")}
    rank1, nauc = (item.get(name, {}).get(dataset.upper()) for name in ("rank1", "nauc"))
    return None if rank1 is None else {"rank1": rank1, "nauc": nauc}


def _label(item: Mapping[str, Any], group: Mapping[Any, Row] | None) -> str:
    """A row's name, which says where there is nothing of ours, or something else than what was printed."""
    if not group:
        return f"{item['label']} ({'needs images' if item.get('kind') in ('depth', 'multi-modal') else 'not run'})"
    own = next(iter(group.values())).first.label
    methods = (method for method in TABLE1 if method.row == item["row"])
    return next((method.measured_as(own) for method in methods), own)


def _printed(results: Results, key: str) -> list[dict[str, Any]]:
    """Rows of a published table that the reproduction has written down."""
    found = (results.head.get("published") or {}).get(f"table{key}") or []
    entries = list(found["rows"] if isinstance(found, dict) else found)
    return [entry for entry in entries if "row" in entry]


def _as_published(results: Results) -> Table:
    """Table 1 with all its figures, those of methods that need images among them."""
    entries = _printed(results, "1")
    data = list(dict.fromkeys(name for entry in entries for name in entry["rank1"]))
    head = ["Method", "Needs", *(f"{name} {what}" for name in data for what in ("Rank-1", "nAUC"))]
    lines = [
        [str(entry["label"]), NEEDS.get(str(entry.get("kind")), "–")]
        + [per_cent(entry.get(what, {}).get(name)) for name in data for what in ("rank1", "nauc")]
        for entry in entries
    ]
    caption = "Table 1 as published, with the methods that need images, which no archive of skeletons has; per cent"
    return Table(caption, tuple(head), tuple(map(tuple, lines)), tuple(range(2, len(head))))


def _in_printed_order(found: Sequence[Row], results: Results) -> list[Row]:
    """By data set, then in the order of the published table; what is not in it comes last."""
    if not found:
        return []
    places = {str(item["row"]): place for place, item in enumerate(_printed(results, found[0].first.table))}
    data = list(dict.fromkeys(row.first.dataset for row in found))
    return sorted(found, key=lambda row: (data.index(row.first.dataset), places.get(row.first.row, len(places))))


def _in_detail(caption: str, key: str, found: Sequence[Row]) -> Table:
    """All figures of one protocol and selection; 2 shows components, 3 what the encoder was trained on."""
    columns: dict[str, Callable[[Row], str]] = {"Method": lambda row: row.first.label}
    if key == "2":
        columns |= {name: partial(_component, name) for name in COMPONENTS}
    if key != "evaluation":
        columns["Data set"] = lambda row: row.first.dataset
    if key == "3":
        columns["Trained on"] = lambda row: row.first.trained_on or "–"
    words = len(columns)
    for name in (name for name in TITLES if any(name in row.mean for row in found)):
        columns[TITLES[name]] = partial(_figure, name)
    if any(row.first.published for row in found):
        columns["Rank-1 published"] = _published
    columns |= {
        "Rank-1, recordings": lambda row: per_cent(row.recordings.get("rank1")),
        "Chance": lambda row: per_cent(row.first.chance),
        "Persons": lambda row: str(row.first.persons),
        "Probes": lambda row: f"{row.first.probes:,}",
        "Runs": lambda row: row.runs,
    }
    lines = [[shown(row) for shown in columns.values()] for row in found]
    return Table.bounded(caption, tuple(columns), lines, TABLE_ROWS, range(words, len(columns)))


def _component(name: str, row: Row) -> str:
    return "✓" if row.first.components.get(name) else ""


def _published(row: Row) -> str:
    entry = row.first.published or {}
    return f"{per_cent(entry['rank1'])} ({entry['dataset']})" if entry.get("rank1") is not None else "–"


def _figure(name: str, row: Row) -> str:
    return text(row, name)


def _sizes(results: Results) -> list[Table]:
    """Parameters and operations as the model counts them, beside the published ones."""
    printed = (results.head.get("published") or {}).get("size") or {}
    beside = {
        "parameters_as_released": f"{printed['parameters_millions']} million" if printed else "–",
        "flops_of_a_window": f"{printed['gflops']} GFLOPs" if printed else "–",
    }
    words = {
        "parameters_as_released": "parameters, unused copies of the released code included",
        "flops_of_a_window": "operations (FLOPs) of a window, reconstruction included",
        "flops_of_its_ages": "operations (FLOPs) of a window's encoding alone",
    }
    found = []
    for cell in results.cells:
        if cell.table == "size":
            plain = {name: value for name, value in cell.values.items() if isinstance(value, int | float)}
            lines = [
                (words.get(name, name.replace("_", " ")), f"{value:,}", beside.get(name, "–"))
                for name, value in plain.items()
            ]
            caption = f"Size and cost: {cell.label}"
            found.append(Table(caption, ("What", "Counted by the model", "Published"), tuple(lines), (1, 2)))
    return found
