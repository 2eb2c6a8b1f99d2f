"""Tables of a reproduction: every published row has its place, every row says how sure it is, nothing is misnamed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgela_fast.evaluation.probes import Probes
from sgela_fast.reproduction import published
from sgela_fast.reproduction.results import CellResult, ResultsFolder
from sgela_fast.reproduction.rows import Intervals, rows_of
from sgela_fast.reproduction.tables import Table, make_tables

PERSONS = np.array([f"p{code}" for code in range(10)])


def cell(row: str, table: str = "1", dataset: str = "kgbd", label: str = "", **known: object) -> CellResult:
    entries = {"protocol": "C", "selection": "validation", "figures": {"rank1": 50.0}, **known}
    name = "/".join(map(str, (table, dataset, row, *entries.values())))
    return CellResult(name, table, row, label or row, dataset, **entries)  # type: ignore[arg-type]


def titled(tables: list[Table], title: str) -> Table:
    return next(table for table in tables if table.title == title)


def measured(folder: ResultsFolder, split: str, seed: int, hits: np.ndarray) -> CellResult:
    """A run in which ``hits`` of ``(persons, windows)`` are recognised."""
    person = np.repeat(np.arange(len(hits)), hits.shape[1])
    start = np.tile(np.arange(hits.shape[1]), len(hits))
    rank = np.where(hits.ravel(), 1, 2)
    probes = Probes(person, PERSONS, person, PERSONS, start, rank, np.ones(len(hits)))
    name = folder.write_probes(f"{split}-{seed}", probes)
    figures = {"rank1": 100 * float(hits.mean())}
    return cell("ours", split=split, seed=seed, figures=figures, probes_file=name)


def test_rows_of_several_runs_have_an_interval_over_persons_beside_their_deviation(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    generator = np.random.default_rng(0)
    hits = {
        (split, seed): generator.random((10, count)) < chance
        for split, count, chance in (("split", 4, 0.4), ("split_2", 6, 0.8))
        for seed in (0, 1)
    }
    cells = [measured(folder, *run, of_run) for run, of_run in hits.items()]
    (row,) = rows_of(cells, Intervals(folder.read_probes, 2000))
    means = {run: 100 * of_run.mean() for run, of_run in hits.items()}
    of_split = [np.mean([means[split, 0], means[split, 1]]) for split in ("split", "split_2")]
    assert row.mean["rank1"] == pytest.approx(np.mean(of_split))
    assert row.deviation["rank1"] == pytest.approx(np.std(of_split, ddof=1))
    drawn = np.random.default_rng(1).integers(0, 10, (4000, 10))
    resampled = np.mean([100 * of_run.mean(1)[drawn].mean(1) for of_run in hits.values()], axis=0)
    np.testing.assert_allclose(row.interval["rank1"], np.percentile(resampled, [2.5, 97.5]), atol=1.5)
    table = make_tables(cells, intervals=Intervals(folder.read_probes, 2000))[0]
    line = next(line for line in table.rows if line[0] == "Ours (LAS, AGEs)")
    low, high = row.interval["rank1"]
    assert line[3:5] == [f"{row.mean['rank1']:.1f} ± {row.deviation['rank1']:.1f}", f"{low:.1f} to {high:.1f}"]


def test_the_network_in_posegaits_place_does_not_pass_for_it() -> None:
    table = titled(make_tables([cell("pose-cnn", label="Pose features v1 + CNN")]), "Table 1, kgbd")
    assert "Pose features v1 + CNN (in the place of PoseGait)" in [row[0] for row in table.rows]
    assert "PoseGait" not in [row[0] for row in table.rows]
    unfinished = titled(make_tables([cell("ours")]), "Table 1, kgbd")
    assert ["PoseGait (not run)", "90.6", "97.8"] in [row[:3] for row in unfinished.rows]
    assert not any("images" in note for note in unfinished.notes)  # no such row has figures of KGBD


def test_rows_that_need_images_are_listed_with_all_their_published_figures() -> None:
    tables = make_tables([cell("ours", dataset="walkers"), cell("ours", dataset="biwi")])
    table = titled(tables, "Table 1, as published")
    assert len(table.rows) == len(published.TABLE1)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    energy = rows["Gait Energy Image"]
    assert (energy["needs"], energy["BIWI Rank-1"], energy["IAS-B nAUC"]) == ("depth images", "21.4", "66.0")
    assert energy["KGBD Rank-1"] == "-"
    assert rows["PCM + skeleton"]["needs"] == "images and skeletons"
    own = titled(tables, "Table 1, biwi")
    assert ["Gait Energy Image (needs depth images)", "21.4", "73.2"] in [row[:3] for row in own.rows]


def test_table_2_has_all_published_rows_whatever_is_finished() -> None:
    table = make_tables([cell("las-reverse-ages", table="2"), cell("untrained-ages", table="2", label="Untrained")])[0]
    assert [row[0] for row in table.rows[:2]] == ["GE (not finished)", "GE, GD (not finished)"]
    assert table.rows[0][1:4] == ["36.1", "75.6", "-"]
    assert [row[0] for row in table.rows[-2:]] == ["las-reverse-ages", "Untrained"]
    assert len(table.rows) == len(published.TABLE2) + 1


def test_sweeps_stand_in_the_order_of_their_values() -> None:
    cells = [cell(f"f{frames}", table="sweep-frames", label=f"f = {frames}") for frames in (6, 10, 4)]
    table = titled(make_tables(cells), "Length of a window f, kgbd")
    assert [row[0] for row in table.rows] == ["f = 4", "f = 6", "f = 10"]


def test_figures_of_several_runs_are_one_row_with_a_deviation() -> None:
    cells = [
        cell(
            "las", "figure3a", protocol=None, figures={}, label="LAS", seed=seed, values={"locality": [share, 0.5, 0.5]}
        )
        for seed, share in enumerate((0.7, 0.8))
    ]
    curves = [
        cell("las", "figure3b", protocol=None, figures={}, label="LAS", seed=seed, values={"held_out": loss})
        for seed, loss in enumerate((0.1, 0.2))
    ]
    trained = [CellResult(**{**vars(item), "training": {"curve": [[4, 1.0, 0, None]]}}) for item in curves]
    locality, losses = make_tables([*cells, *trained])
    assert locality.rows == [["LAS, kgbd, 2 runs", "75.0 ± 7.1", "50.0 ± 0.0", "50.0 ± 0.0"]]
    assert losses.rows[0][-1] == "0.1500 ± 0.0707"


def test_words_stand_on_the_left_and_figures_on_the_right() -> None:
    leaks = [
        {"dataset": "one", "split": "split", "trained_on": None, "findings": [{"severity": "fine", "sentence": "a"}]}
    ]
    (table,) = make_tables([], leakage=leaks)
    assert "| --- | --- | --- |" in table.markdown()
