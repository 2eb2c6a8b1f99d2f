"""The paper's claims with what was found, and what speaks against the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgela_fast.report.config import TABLE_ROWS
from sgela_fast.report.inputs import Results
from sgela_fast.report.page import Section, Table, in_words, per_cent
from sgela_fast.reproduction.claims import shown

VERBS = {
    "holds": ("holds", "hold"),
    "does not hold": ("does not hold", "do not hold"),
    "not decided": ("is not decided", "are not decided"),
}
NAMES = {
    "serious": ("serious finding", "serious findings"),
    "warning": ("warning", "warnings"),
    "unknown": ("check that could not be made", "checks that could not be made"),
}
SEVERITIES = ("serious", "warning", "unknown", "fine")


def claims(results: Results) -> Section:
    """The claims of the paper with what the reproduction found."""
    title = "Claims and verdicts"
    if results.kind == "evaluation":
        why = "Nothing to judge claims by: `sgela-fast evaluate` does not know the paper; `sgela-fast reproduce` does."
        return Section("claims", title, missing=why)
    found = results.head.get("claims") or []
    if not found:
        why = f"{results.path.name} holds no verdicts yet; go on with `sgela-fast reproduce`."
        return Section("claims", title, missing=why)
    lead = (
        f"{verdicts(found)}.",
        "A difference is in points of Rank-1 (of attention in points of its share, of losses the loss itself), the row "
        "that is said to be better minus the other one. Intervals and p (two-sided, not corrected for the number of "
        "claims) come from resampling and flipping persons; they say nothing of other seeds of training. A claim is "
        "decided where its interval leaves out 0, p is at most 0.05 and all runs agree; one of transfer where its "
        "interval lies within 3 points, or beyond.",
        "A verdict is about these recordings and this much training; where there is one run, another seed may turn it.",
    )
    head = ("Claim", "Verdict", "Data set", "Protocol", "Ours", "Difference", "p", "Runs", "Published")
    table = Table.bounded("Claims", head, [_claim(item) for item in found], TABLE_ROWS, range(4, 9))
    return Section("claims", title, lead, parts=(table,))


def verdicts(found: Sequence[dict[str, Any]]) -> str:
    """Such as ``Of 12 claims 3 hold, 1 does not hold and 8 are not decided``."""
    each = [str(item["verdict"]) for item in found]
    counts = {verdict: each.count(verdict) for verdict in dict.fromkeys((*VERBS, *each)) if verdict in each}
    many = {
        verdict: VERBS.get(verdict, (f"is {verdict}", f"are {verdict}"))[count > 1] for verdict, count in counts.items()
    }
    return f"Of {len(found)} claims {in_words([f'{count} {many[verdict]}' for verdict, count in counts.items()])}"


def leakage(results: Results) -> Section:
    """Window overlap, persons on both sides, places that name persons: gravest first, all test sets of a finding."""
    title = "What could spoil the figures"
    tested = results.head.get("leakage") or []
    if not tested:
        why = f"{results.path.name} holds no checks yet; `sgela-fast reproduce` makes them once a cell is finished."
        return Section("leakage", title, missing=why)
    sets: dict[tuple[str, str], list[str]] = {}
    for item in tested:
        where = f"from {item['trained_on']}" if item.get("trained_on") else item["split"]
        for finding in item["findings"]:
            sets.setdefault((finding["severity"], finding["sentence"]), []).append(f"{item['dataset']} ({where})")
    rows = [
        (f"{sentence[0].upper()}{sentence[1:]}", severity, ", ".join(names))
        for (severity, sentence), names in sorted(sets.items(), key=lambda item: _gravity(item[0][0]))
    ]
    counts = {word: sum(severity == word for _, severity, _ in rows) for word in SEVERITIES}
    grave = [f"{counts[word]} {NAMES[word][counts[word] > 1]}" for word in NAMES if counts[word]]
    lead = (
        "Checked were test frames among the training frames, frames given to two persons, persons whom their place in "
        "the room gives away and, of a transfer, persons of both data sets.",
        f"To be kept in mind beside the figures: {in_words(grave)}."
        if grave
        else "Nothing was found that speaks against the figures.",
    )
    table = Table.bounded("Findings", ("Finding", "Severity", "Test sets"), rows, TABLE_ROWS)
    return Section("leakage", title, lead, parts=(table,))


def _gravity(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0


def _claim(item: dict[str, Any]) -> list[str]:
    printed, ends, p_value = item.get("published") or {}, item.get("interval"), item.get("p_value")
    difference = shown(item, item["difference"], signed=True)
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
        f"{shown(item, item['better'])} / {shown(item, item['worse'])}",
        difference,
        "–" if p_value is None else f"{p_value:.4f}",
        str(len(item["differences"])),
        " / ".join(per_cent(printed.get(name)) for name in ("better", "worse")) if printed else "–",
    ]
