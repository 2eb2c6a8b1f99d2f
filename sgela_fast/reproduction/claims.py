"""Which of the paper's claims hold on the data at hand: paired comparisons of the probes of two rows.

A difference is better row minus worse row, in points of Rank-1. Its interval comes from resampling persons, each with
the probes of all runs; it does not cover what another seed of training would change, so that runs whose differences
have different signs decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from sgela_fast.baselines.registry import BASELINES
from sgela_fast.errors import DataError
from sgela_fast.evaluation.comparison import compare
from sgela_fast.reproduction.results import CellResult, ResultsFolder

Verdict = Literal["holds", "does not hold", "not decided"]
# Transfer counts as close within so many points; the published differences are 1.6 at most.
CLOSE = 3.0
LEVEL = 0.05
FEWEST_SEEDS = 3  # before curves and matrices, which have no intervals, decide anything
_PERMUTATIONS = 9999
LOSSES = "las-smaller-loss"  # the claim whose figures are losses; all others' are per cent


class Statement(NamedTuple):
    """What the paper says of two rows of one table.

    Attributes:
        claim: key.
        words: the statement.
        table: of the rows.
        better: row that is said to be better.
        worse: the other one.
    """

    claim: str
    words: str
    table: str
    better: str
    worse: str


_BASELINES = ("d13-svm", "d13-knn", "d16-adaboost", "single-layer-lstm", "multi-layer-lstm", "pose-cnn")
STATEMENTS = (
    Statement("las-over-bas", "las is better than bas", "2", "las-reverse-ages", "bas-reverse-ages"),
    Statement("las-over-mbas", "las is better than mbas", "2", "las-reverse-ages", "mbas-reverse-ages"),
    Statement("bas-over-none", "bas is better than no attention", "2", "bas-reverse-states", "none-reverse-states"),
    Statement("las-over-none", "las is better than no attention", "2", "las-reverse-states", "none-reverse-states"),
    *(
        Statement(
            f"reverse-over-plain-{attention}",
            f"a reversed target is better than a plain one ({attention})",
            "2",
            f"{attention}-reverse-{feature}",
            f"{attention}-plain-{feature}",
        )
        for attention, feature in (("none", "states"), ("bas", "ages"), ("mbas", "ages"), ("las", "ages"))
    ),
    *(
        Statement(
            f"ages-over-states-{attention}",
            f"AGEs are better than encoded gait states ({attention})",
            "2",
            f"{attention}-reverse-ages",
            f"{attention}-reverse-states",
        )
        for attention in ("bas", "mbas", "las")
    ),
    Statement("over-supervised", "the whole is better than a supervised encoder", "2", "las-reverse-ages", "ge"),
    Statement(
        "over-untrained", "training beats fresh weights (not in the paper)", "2", "las-reverse-ages", "untrained-ages"
    ),
    *(Statement(f"over-{row}", f"ours is better than {BASELINES[row].title}", "1", "ours", row) for row in _BASELINES),
)


@dataclass(frozen=True)
class Claim:
    """A claim on one data set under one protocol.

    Attributes:
        claim: key.
        statement: in words.
        dataset: that it was tested on.
        protocol: ``C`` or ``G``; ``None`` for what is no Re-ID figure.
        better: Rank-1 of the row that is said to be better, per cent; for ``close`` claims the transferred encoder; for
            :data:`LOSSES` the loss that is said to be smaller.
        worse: that of the other row.
        difference: ``better - worse``, points.
        interval: of the difference.
        p_value: of the paired test, not corrected for the number of claims.
        differences: of the single runs.
        published: the paper's two figures, if it has them.
        verdict: ``holds``, ``does not hold`` or ``not decided``.
        note: a remark.
    """

    claim: str
    statement: str
    dataset: str
    protocol: str | None
    better: float
    worse: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    differences: list[float]
    published: dict[str, float] | None
    verdict: Verdict
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """For ``reproduction.json``."""
        return asdict(self)


def shown(claim: dict[str, Any], value: float, signed: bool = False) -> str:
    """A figure or difference of a claim (:meth:`Claim.as_json`): losses need more digits than per cent."""
    digits = 4 if claim["claim"] == LOSSES else 1
    return f"{value:{'+' if signed else ''}.{digits}f}"


@dataclass(frozen=True)
class _Rows:
    """Cells of two rows, run by run."""

    better: list[CellResult] = field(default_factory=list)
    worse: list[CellResult] = field(default_factory=list)


def judge(folder: ResultsFolder, cells: Sequence[CellResult], resamples: int = 1000) -> list[Claim]:
    """All claims that the finished cells can say something about.

    Args:
        folder: holds the probes.
        cells: finished cells.
        resamples: for the intervals; p-values take ten times as many.
    """
    found: list[Claim] = []
    datasets = list(dict.fromkeys(cell.dataset for cell in cells if cell.dataset))
    for dataset in datasets:
        own = [cell for cell in cells if cell.dataset == dataset]
        for statement in STATEMENTS:
            for protocol in ("C", "G"):
                chosen = [cell for cell in own if cell.table == statement.table and _honest(cell, protocol)]
                rows = _paired(
                    [cell for cell in chosen if cell.row == statement.better],
                    [cell for cell in chosen if cell.row == statement.worse],
                )
                found += _compared(folder, statement.claim, statement.words, dataset, protocol, rows, resamples)
        found += _transfers(folder, own, dataset, resamples)
        found += _inner(own, dataset)
    return found


def _transfers(folder: ResultsFolder, cells: Sequence[CellResult], dataset: str, resamples: int) -> list[Claim]:
    found: list[Claim] = []
    for protocol in ("C", "G"):
        chosen = [cell for cell in cells if cell.table == "3" and _honest(cell, protocol)]
        for attention in ("bas", "las"):
            mine = [cell for cell in chosen if cell.row == f"{attention}-self"]
            moved = [cell for cell in chosen if cell.row == f"{attention}-transfer"]
            for source in dict.fromkeys(str(cell.trained_on) for cell in moved):
                rows = _paired([cell for cell in moved if cell.trained_on == source], mine)
                name = f"transfer-{attention}-from-{source}"
                words = f"an encoder of {source} is within {CLOSE:g} points of the own one ({attention})"
                found += _compared(folder, name, words, dataset, protocol, rows, resamples, _close)
    return found


def _inner(cells: Sequence[CellResult], dataset: str) -> list[Claim]:
    """What Figure 3 shows: more local attention and a smaller loss with las."""
    found: list[Claim] = []
    for table, claim, words, value, wanted in (
        ("figure3a", "las-more-local", "attention of las is more local than that of bas, per cent", _locality, 1),
        ("figure3b", LOSSES, "las ends with a smaller reconstruction loss than bas", _loss, -1),
    ):
        chosen = [cell for cell in cells if cell.table == table]
        rows = _paired([cell for cell in chosen if cell.row == "las"], [cell for cell in chosen if cell.row == "bas"])
        if not rows.better:
            continue
        pairs = [(value(one), value(two)) for one, two in zip(rows.better, rows.worse, strict=True)]
        differences = [one - two for one, two in pairs]
        better, worse = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        signs = {wanted * ((difference > 0) - (difference < 0)) for difference in differences}
        verdict: Verdict = "not decided"
        if len(pairs) >= FEWEST_SEEDS and signs in ({1}, {-1}):
            verdict = "holds" if signs == {1} else "does not hold"
        note = f"{len(pairs)} runs, no interval"
        found.append(
            Claim(
                claim,
                words,
                dataset,
                None,
                better,
                worse,
                better - worse,
                None,
                None,
                differences,
                None,
                verdict,
                note,
            )
        )
    return found


def _locality(cell: CellResult) -> float:
    shares = cell.values["locality"]
    return 100 * float(sum(shares) / len(shares))


def _loss(cell: CellResult) -> float:
    held_out = cell.values.get("held_out")
    return float(cell.values["reconstruction"] if held_out is None else held_out)


def _honest(cell: CellResult, protocol: str) -> bool:
    return cell.protocol == protocol and cell.selection != "best-on-test" and cell.probes_file is not None


def _paired(better: Sequence[CellResult], worse: Sequence[CellResult]) -> _Rows:
    """The same splits and seeds of both."""
    others = {(cell.split, cell.seed): cell for cell in worse}
    pairs = [(cell, others[cell.split, cell.seed]) for cell in better if (cell.split, cell.seed) in others]
    return _Rows([one for one, _ in pairs], [two for _, two in pairs])


def _compared(
    folder: ResultsFolder,
    claim: str,
    words: str,
    dataset: str,
    protocol: str,
    rows: _Rows,
    resamples: int,
    decide: Callable[[tuple[float, float]], Verdict] | None = None,
) -> list[Claim]:
    if not rows.better:
        return []
    differences = [
        float(one.figures["rank1"] or 0) - float(two.figures["rank1"] or 0)
        for one, two in zip(rows.better, rows.worse, strict=True)
    ]
    entry = {
        name: cells[0].published["rank1"]
        for name, cells in (("better", rows.better), ("worse", rows.worse))
        if protocol == "C" and cells[0].published and cells[0].published.get("rank1") is not None
    }
    try:
        found = compare(
            [folder.read_probes(cell) for cell in rows.worse],
            [folder.read_probes(cell) for cell in rows.better],
            resamples=resamples,
            permutations=min(_PERMUTATIONS, 10 * resamples),
        ).figures["rank1"]
    except DataError as error:
        note = f"not compared: {error}"
        better, worse = (
            sum(float(cell.figures["rank1"] or 0) for cell in cells) / len(cells) for cells in (rows.better, rows.worse)
        )
        return [
            Claim(
                claim, words, dataset, protocol, better, worse, better - worse, None, None, differences, entry or None,
                "not decided", note,
            )
        ]  # fmt: skip
    entry = entry if len(entry) == 2 else {}
    interval = found.interval and (100 * found.interval[0], 100 * found.interval[1])
    verdict: Verdict = "not decided"
    if interval is not None:
        verdict = (decide or _better)(interval)
        if decide is None and found.p_value is not None and found.p_value > LEVEL:
            verdict = "not decided"  # with few persons an interval is too narrow
    note = "one run: what another seed would change is not in the interval" if len(differences) == 1 else ""
    if decide is None and len({difference > 0 for difference in differences}) > 1:
        verdict, note = "not decided", "the runs' differences have different signs"
    return [
        Claim(
            claim,
            words,
            dataset,
            protocol,
            100 * found.other,
            100 * found.first,
            100 * found.difference,
            interval,
            found.p_value,
            differences,
            entry or None,
            verdict,
            note,
        )
    ]


def _better(interval: tuple[float, float]) -> Verdict:
    low, high = interval
    return "holds" if low > 0 else "does not hold" if high < 0 else "not decided"


def _close(interval: tuple[float, float]) -> Verdict:
    low, high = interval
    if low >= -CLOSE and high <= CLOSE:
        return "holds"
    return "does not hold" if low > CLOSE or high < -CLOSE else "not decided"
