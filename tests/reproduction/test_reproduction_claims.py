"""Verdicts on the paper's claims follow from paired probes, persons and runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgela_fast.evaluation.probes import Probes
from sgela_fast.reproduction.claims import Claim, judge
from sgela_fast.reproduction.results import CellResult, ResultsFolder
from sgela_fast.reproduction.tables import make_tables

PERSONS, WINDOWS = 12, 10


def entry(folder: ResultsFolder, table: str, row: str, right: float, seed: int = 0, **known: object) -> CellResult:
    """A cell in which the share ``right`` of every person's windows is recognised."""
    person = np.repeat(np.arange(PERSONS), WINDOWS)
    hits = np.tile(np.arange(WINDOWS) < round(right * WINDOWS), PERSONS)
    probes = Probes(
        person=person,
        persons=np.array([f"p{code:02}" for code in range(PERSONS)]),
        recording=person,
        recordings=np.array([f"w{code:02}" for code in range(PERSONS)]),
        start=np.tile(np.arange(WINDOWS), PERSONS),
        rank=np.where(hits, 1, 2),
        recording_rank=np.ones(PERSONS),
    )
    name = f"{table}-{row}-{seed}-{known.get('trained_on')}"
    return CellResult(
        cell=name,
        table=table,
        row=row,
        label=row,
        dataset="one",
        protocol="C",
        selection="validation",
        seed=seed,
        persons=PERSONS,
        probes=len(person),
        figures={"rank1": 100 * float(hits.mean())},
        probes_file=folder.write_probes(name, probes),
        **known,  # type: ignore[arg-type]
    )


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path)


def verdicts(folder: ResultsFolder, cells: list[CellResult]) -> dict[str, Claim]:
    return {claim.claim: claim for claim in judge(folder, cells, resamples=100)}


@pytest.mark.parametrize(
    ("las", "bas", "verdict"), [(0.8, 0.6, "holds"), (0.6, 0.8, "does not hold"), (0.7, 0.7, "not decided")]
)
def test_a_difference_that_all_persons_share_decides(
    folder: ResultsFolder, las: float, bas: float, verdict: str
) -> None:
    published = {"rank1": 59.1, "nauc": 86.5, "dataset": "BIWI", "source": "Table 2"}
    better = entry(folder, "2", "las-reverse-ages", las, published=published)
    worse = entry(folder, "2", "bas-reverse-ages", bas, published={**published, "rank1": 55.1})
    claims = verdicts(folder, [better, worse])
    assert set(claims) == {"las-over-bas"}
    claim = claims["las-over-bas"]
    assert claim.verdict == verdict
    assert claim.difference == pytest.approx(100 * (las - bas))
    assert claim.published == {"better": 59.1, "worse": 55.1}
    assert "what another seed would change" in claim.note


def test_runs_that_disagree_decide_nothing(folder: ResultsFolder) -> None:
    cells = [
        entry(folder, "2", f"{kind}-reverse-ages", right, seed)
        for kind, rights in (("las", (0.9, 0.6)), ("bas", (0.5, 0.7)))
        for seed, right in enumerate(rights)
    ]
    claim = verdicts(folder, cells)["las-over-bas"]
    assert claim.differences == pytest.approx([40, -10])
    assert claim.interval is not None
    assert claim.interval[0] > 0
    assert claim.verdict == "not decided"


def test_best_on_test_decides_nothing(folder: ResultsFolder) -> None:
    cells = [entry(folder, "2", f"{kind}-reverse-ages", 0.5) for kind in ("las", "bas")]
    chosen = [CellResult(**{**vars(cell), "selection": "best-on-test"}) for cell in cells]
    assert judge(folder, chosen) == []


@pytest.mark.parametrize(("moved", "verdict"), [(0.7, "holds"), (0.5, "does not hold"), (0.9, "does not hold")])
def test_transfer_holds_where_it_is_close(folder: ResultsFolder, moved: float, verdict: str) -> None:
    cells = [
        entry(folder, "3", "las-self", 0.7, trained_on="one"),
        entry(folder, "3", "las-transfer", moved, trained_on="two"),
    ]
    claim = verdicts(folder, cells)["transfer-las-from-two"]
    assert claim.verdict == verdict
    assert claim.better == pytest.approx(100 * moved)


def test_losses_take_three_seeds_that_agree(folder: ResultsFolder) -> None:
    def curve(row: str, seed: int, loss: float) -> CellResult:
        return CellResult(
            cell=f"{row}{seed}",
            table="figure3b",
            row=row,
            label=row,
            dataset="one",
            seed=seed,
            values={"reconstruction": 9.0, "held_out": loss},
        )

    cells = [curve(row, seed, loss) for seed in range(3) for row, loss in (("las", 0.1 + seed), ("bas", 0.2 + seed))]
    assert verdicts(folder, cells)["las-smaller-loss"].verdict == "holds"
    assert verdicts(folder, cells[:4])["las-smaller-loss"].verdict == "not decided"
    assert verdicts(folder, [*cells[:4], curve("las", 2, 5.0), cells[5]])["las-smaller-loss"].verdict == "not decided"
    assert (
        verdicts(folder, [curve(row, seed, 1.0) for seed in range(3) for row in ("las", "bas")])[
            "las-smaller-loss"
        ].verdict
        == "not decided"
    )


def test_losses_are_shown_as_they_are_with_digits_enough_to_tell_them_apart(folder: ResultsFolder) -> None:
    losses = {"las": 0.0767, "bas": 0.0703}
    cells = [
        CellResult(row, "figure3b", row, row, "one", values={"reconstruction": 9.0, "held_out": loss})
        for row, loss in losses.items()
    ]
    (table,) = make_tables(cells, [claim.as_json() for claim in judge(folder, cells)])
    assert table.rows[0][4:6] == ["0.0767 / 0.0703", "+0.0064"]


def test_tables_give_mean_and_deviation_over_runs(folder: ResultsFolder) -> None:
    cells = [entry(folder, "2", "las-reverse-ages", right, seed) for seed, right in enumerate((0.6, 0.8))]
    cells.append(entry(folder, "2", "bas-reverse-ages", 0.5))
    claims = [claim.as_json() for claim in judge(folder, cells, resamples=50)]
    table, verdict = make_tables(cells, claims)
    by_name = {row[0]: row for row in table.rows}
    assert "70.0 ± 14.1" in by_name["las-reverse-ages"]
    assert "50.0" in by_name["bas-reverse-ages"]
    assert verdict.rows[0][0] == "las is better than bas"
    assert verdict.rows[0][4:6] == ["60.0 / 50.0", "+10.0"]
