"""The plan: which cells there are, what they share, and what comes first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.reproduction import published
from sgela_fast.reproduction.cells import Cell, plan
from sgela_fast.reproduction.config import JobConfig, ReproductionConfig
from sgela_fast.reproduction.datasets import DataSet, open_datasets
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording

Settings = Callable[..., ReproductionConfig]
ROWS = {row.row: row for row in published.TABLE2}


@pytest.fixture(scope="module")
def data(walks: tuple[str, str]) -> list[DataSet]:
    return [DataSet(name, Archive(path)) for name, path in zip(("one", "two"), walks, strict=True)]


def gain(better: str, worse: str) -> tuple[float, float]:
    one, other = ROWS[better], ROWS[worse]
    return round(one.rank1 - other.rank1, 1), round(one.nauc - other.nauc, 1)


def test_the_rows_of_table_2_have_the_gains_that_the_paper_tells_of() -> None:
    assert gain("none-plain-states", "ge") == (5.4, 4.5)
    assert gain("bas-reverse-states", "none-reverse-states") == (6.6, 3.1)
    assert gain("las-reverse-states", "bas-reverse-states") == (4.4, 1.2)
    by_ages = [gain(f"{kind}-reverse-ages", f"{kind}-reverse-states") for kind in ("bas", "mbas", "las")]
    assert (max(one for one, _ in by_ages), max(one for _, one in by_ages)) == (1.8, 0.7)
    pairs = [("none", "states"), ("bas", "ages"), ("mbas", "ages"), ("las", "ages")]
    by_reverse = [gain(f"{kind}-reverse-{read}", f"{kind}-plain-{read}")[0] for kind, read in pairs]
    assert (min(by_reverse), max(by_reverse)) == (1.4, 9.4)


def test_the_published_tables_agree_where_they_show_the_same() -> None:
    ours = published.for_method("ours", "biwi")
    last = published.for_ablation("las-reverse-ages")
    own = published.for_transfer("las", "biwi", transferred=False)
    assert ours is not None
    assert last is not None
    assert own is not None
    assert ours["rank1"] == last["rank1"] == own["rank1"]
    assert published.for_method("ours", "kgbd") == {
        "rank1": 87.7,
        "nauc": 96.3,
        "dataset": "KGBD",
        "source": "Table 1",
    }
    assert published.for_method("d13-svm", "kgbd") is None
    assert published.for_method("ours", "walkers") is None


def test_every_published_row_of_table_2_is_planned_under_both_protocols(
    data: list[DataSet], settings: Settings
) -> None:
    cells = [cell.result for cell in plan(settings(tables=("2",)), data[:1])]
    names = [cell.cell for cell in cells]
    assert len(set(names)) == len(names)
    for row, method in ROWS.items():
        for how in ("C-validation", "G"):
            (cell,) = [cell for cell in cells if cell.cell == f"table2/one/{row}/split/seed0/{how}"]
            assert cell.components == method.components
            assert cell.published is None or cell.published["rank1"] == method.rank1
    assert {cell.row for cell in cells} - ROWS.keys() == {"untrained-ages", "untrained-states"}


def test_transfer_has_all_ordered_pairs_and_the_own_encoders(data: list[DataSet], settings: Settings) -> None:
    cells = plan(settings(tables=("3",), protocols=("C",)), data)
    found = {(cell.result.dataset, cell.result.row, cell.result.trained_on) for cell in cells}
    assert found == {
        (tested, f"{kind}-{'self' if tested == trained else 'transfer'}", trained)
        for tested in ("one", "two")
        for trained in ("one", "two")
        for kind in ("bas", "las")
    }
    for cell in cells:
        assert cell.work.store is not None
        assert cell.work.store.encoder.data == cell.result.trained_on
        assert cell.work.store.data == cell.result.dataset
    assert not plan(settings(tables=("3",)), data[:1])


def test_tables_share_what_they_both_show(data: list[DataSet], settings: Settings) -> None:
    cells = {cell.result.cell: cell for cell in plan(settings(), data)}
    names = ("table1/one/ours", "table2/one/las-reverse-ages", "table3/one/las-self")
    assert len({cells[f"{name}/split/seed0/C-validation"].work for name in names}) == 1


def test_the_sweep_over_D_has_the_encoder_of_the_other_tables_at_D_equal_f(
    data: list[DataSet], settings: Settings
) -> None:
    cells = {cell.result.cell: cell for cell in plan(settings(tables=("2", "sweeps"), ranges=(2, 6)), data[:1])}

    def store(name: str) -> object:
        return cells[f"{name}/split/seed0/G"].work.store

    assert store("sweep-range/one/D6") == store("table2/one/las-reverse-ages")
    assert store("sweep-range/one/D2") != store("sweep-range/one/D6")
    assert store("sweep-frames/one/f6") == store("sweep-range/one/D6")


def first_place(cells: list[Cell], part: str) -> int:
    return next(place for place, cell in enumerate(cells) if part in cell.result.cell)


def test_what_tells_most_comes_first(data: list[DataSet], settings: Settings) -> None:
    config = settings(
        tables=("1", "2", "3", "sweeps", "size"), selections=("validation", "best-on-test"), seeds=(0, 1), frames=(4,)
    )
    cells = plan(config, data)
    order = [
        first_place(cells, part)
        for part in (
            "size/",
            "/one/las-reverse-ages/split/seed0/C-validation",
            "/one/untrained-ages",
            "/two/las-reverse-ages/split/seed0/C-validation",
            "/one/mbas-plain-ages",
            "table3/one/las-transfer",
            "best-on-test",
            "/seed1/",
            "sweep-frames",
        )
    ]
    assert order == sorted(order)


def test_ours_comes_before_the_baselines(data: list[DataSet], settings: Settings) -> None:
    cells = plan(settings(tables=("1",)), data[:1])
    order = [first_place(cells, f"table1/one/{row}/") for row in ("ours", "untrained", "d13-svm", "lda")]
    assert order == sorted(order)


def test_further_test_sides_are_data_sets_of_their_own(tmp_path: Path) -> None:
    writer = ArchiveWriter(tmp_path / "ias.sga", get_layout("kinect-v1"), {"by": "tests"})
    for side in ("train", "test-a", "test-b", "other"):
        joints = np.ones((30, 20, 3), np.float32)
        writer.add(Recording(side, joints, "kinect-v1", person="p", extra={"split": side}))
    writer.finish()
    (data,) = open_datasets([f"ias-lab={tmp_path / 'ias.sga'}"], tmp_path, ("split",), "train")
    assert [condition.name for condition in data.conditions("split", "train")] == ["ias-lab-a", "ias-lab-b"]
    (data,) = open_datasets([str(tmp_path / "ias.sga")], tmp_path, ("split",), "train")
    assert [condition.name for condition in data.conditions("split", "train")] == ["ias-a", "ias-b"]
    assert data.conditions("split_2", "train") == []
    with pytest.raises(DataError, match="has no test recordings"):
        open_datasets([str(tmp_path / "ias.sga")], tmp_path, ("split_2",), "train")


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90m", 5400), ("45s", 45), ("600", 600), ("", None)])
def test_budgets_are_read_as_times(text: str, seconds: float | None) -> None:
    assert JobConfig(budget=text).seconds == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "0", "h", "inf", "1d"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="budget is"):
        JobConfig(budget=text)
