"""What was found, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from sgela_fast.report.figures import PROTOCOLS, selection_in_words, text
from sgela_fast.report.inputs import Results
from sgela_fast.report.page import in_words, per_cent
from sgela_fast.report.verdicts import verdicts
from sgela_fast.reproduction.rows import Row

NOTES = 6
OURS = ("ours", "las-reverse-ages")  # the paper's own model, in Table 1 and in Table 2


def summary(results: Results) -> tuple[str, ...]:
    """Highest and lowest Rank-1, ours, the untrained encoder and chance, of each data set and protocol; verdicts."""
    found = results.rows
    if not found:
        return (f"{results.path.name} holds no finished figures yet.",)
    sentences = []
    if results.kind == "reproduction":
        data = results.head.get("datasets") or []
        names = [str(item.get("name")) for item in (data.values() if isinstance(data, dict) else data)]
        what = f" on {in_words(names)}" if names else ""
        sentences.append(f"A reproduction of the paper's experiments{what}: {len(results.cells)} finished cells.")
    hows = {row.how for row in found}
    # The test set's own choice says nothing that a summary should repeat, unless there is nothing else.
    honest = [row for row in found if row.first.selection != "best-on-test" or hows == {("C", "best-on-test")}]
    for dataset in dict.fromkeys(row.first.dataset for row in honest):
        own = [row for row in honest if row.first.dataset == dataset]
        sentences += [_of([row for row in own if row.how == how]) for how in dict.fromkeys(row.how for row in own)]
    judged = results.head.get("claims")
    if judged:
        sentences.append(f"{verdicts(judged)}.")
    # Rows have notes of their own about how each was fitted; here stand those that no single row is about.
    if results.kind != "reproduction":
        notes = list(dict.fromkeys(note for row in found for cell in row.cells for note in cell.notes))
        sentences += [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in notes[:NOTES] if note]
    return tuple(sentences)


def _of(found: Sequence[Row]) -> str:
    """One sentence about a data set under one protocol."""
    first = found[0].first
    where = f"{first.dataset}, protocol" if first.dataset else "Protocol"
    opening = f"{where} {first.protocol} ({PROTOCOLS.get(str(first.protocol), '')}; "
    opening += f"{selection_in_words(first.selection)}), {first.persons} persons"
    ranked = sorted((row for row in found if "rank1" in row.mean), key=lambda row: -row.mean["rank1"])
    if not ranked:
        return f"{opening}: no Rank-1 yet."
    best = ranked[0]
    words = f"{opening}: the highest Rank-1 by window is {text(best, 'rank1')} % with {best.first.label}"
    if len(ranked) > 1:
        words += f", the lowest of {len(ranked)} rows is {text(ranked[-1], 'rank1')} % with {ranked[-1].first.label}"
    told = (best, ranked[-1])
    others = {
        "ours": next((row for row in ranked if row.first.row in OURS), None),
        "an untrained encoder": next((row for row in ranked if row.first.method == "untrained"), None),
    }
    for name, row in others.items():
        if row is not None and row not in told:
            words += f"; {name} {text(row, 'rank1')} %"
    if best.first.chance is not None:
        words += f"; guessing {per_cent(best.first.chance)} %"
    return f"{words}."
