"""The figures of results as rows, the same way for an evaluation and a reproduction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.report.page import per_cent
from sgela_fast.reproduction.results import FIGURES, CellResult, ResultsFolder
from sgela_fast.reproduction.rows import Intervals, Row, rows_of

if TYPE_CHECKING:
    from sgela_fast.report.inputs import Results

TITLES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "nauc_cmc": "nAUC (CMC)",
    "nauc_roc": "nAUC (ROC)",
    "mean_ap": "mAP",
    "mean_inp": "mINP",
}
PROTOCOLS = {"C": "classifier", "G": "nearest gallery windows"}
SELECTIONS = {
    "validation": "chosen on held-out training recordings",
    "last": "last epoch, nothing chosen",
    "best-on-test": "best on test: chosen on the test set itself, optimistic",
    "none": "nothing trained or chosen",
}


def text(row: Row, name: str) -> str:
    """A figure with what is known of its spread: deviation of several runs, interval over persons."""
    if name not in row.mean:
        return "–"
    shown = per_cent(row.mean[name])
    if name in row.deviation:
        shown += f"\u00a0±\u00a0{per_cent(row.deviation[name])}"
    ends = row.interval.get(name)
    return shown if ends is None else f"{shown} ({per_cent(ends[0])}\u00a0to\u00a0{per_cent(ends[1])})"


def rows(results: Results) -> list[Row]:
    """The rows of a reproduction or of an evaluation, those of several runs with their intervals over persons."""
    settings = results.head.get("settings", {})
    settings = settings.get("evaluation", settings)
    intervals = Intervals(
        ResultsFolder(results.path).read_probes,
        int(settings.get("resamples", EvaluationConfig.resamples)),
        float(settings.get("confidence", EvaluationConfig.confidence)),
    )
    return rows_of(cells_of(results), intervals)


def cells_of(results: Results) -> list[CellResult]:
    """Cells of a reproduction, or the outcomes of an evaluation in the form of such cells."""
    return list(results.cells) if results.kind == "reproduction" else list(_of_evaluation(results.head))


def selection_in_words(selection: str | None) -> str:
    """How the tested weights were chosen."""
    return SELECTIONS.get(selection or "", selection or "not stated")


def _of_evaluation(head: dict[str, Any]) -> Iterable[CellResult]:
    for store in head["stores"]:
        for outcome in store["outcomes"]:
            name, seed = store["store"], outcome["seed"]
            yield CellResult(
                cell=f"{name}/{outcome['split']}/{outcome['protocol']}/{seed}",
                table="evaluation",
                row=name,
                label=name,
                dataset="",
                protocol=outcome["protocol"],
                selection=outcome["selection"],
                split=outcome["split"],
                seed=seed or 0,
                persons=outcome["persons"],
                probes=outcome["probe_windows"],
                figures=_in_per_cent(outcome["windows"]),
                interval={
                    FIGURES[figure]: (100 * low, 100 * high)
                    for figure, (low, high) in outcome["windows"].get("intervals", {}).items()
                    if figure in FIGURES
                },
                recordings=_in_per_cent(outcome["recordings"]),
                chance=100 * outcome["chance"],
                probes_file=outcome.get("probes_file"),
                values={level: outcome[level]["cmc"] for level in ("windows", "recordings")},
                notes=[
                    *(f"{count:,} {reason} left out" for reason, count in outcome["left_out"].items()),
                    *outcome["notes"],
                ],
            )


def _in_per_cent(figures: dict[str, Any]) -> dict[str, float | None]:
    found = {f"rank{place}": value for place, value in figures["rank"].items()}
    found |= {name: figures.get(name) for name in FIGURES if not name.startswith("rank")}
    return {FIGURES[name]: None if value is None else 100 * value for name, value in found.items() if name in FIGURES}
