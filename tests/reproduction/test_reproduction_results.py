"""The folder of a reproduction is written durably and read back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.evaluation.probes import Probes
from sgela_fast.reproduction.results import RESULTS, CellResult, ResultsFolder, read_cells

CELL = CellResult(
    cell="table2/kgbd/las-reverse-ages/split/seed0/C-validation",
    table="2",
    row="las-reverse-ages",
    label="GE-GD, Rev., LAS, AGEs",
    dataset="kgbd",
    trained_on="kgbd",
    components={"GE": True, "LAS": True, "BAS": False},
    protocol="C",
    selection="validation",
    persons=3,
    probes=4,
    figures={"rank1": 75.5, "mean_ap": None},
    interval={"rank1": (71.6, 79.2)},
    published={"rank1": 59.1, "nauc": 86.5, "dataset": "BIWI", "source": "Table 2"},
    training={"steps": 4, "epochs": 0.5, "seconds": 1.0, "curve": [[2, 0.5, 0.1, None]]},
)
OTHER = CellResult(cell="size/las", table="size", row="las", label="las", dataset="", values={"parameters": 6245436})


def as_read(cell: CellResult) -> CellResult:
    """JSON has lists where the cell had tuples."""
    return CellResult(**{**vars(cell), "interval": {name: list(ends) for name, ends in cell.interval.items()}})


def test_cells_come_back_as_they_were_in_order(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "out")
    assert folder.read() == []
    folder.append([CELL])
    folder.append([OTHER])
    assert folder.read() == [as_read(CELL), OTHER]


@pytest.mark.parametrize("torn", [b'{"cell": "half', b"x" * 200_000])
def test_a_torn_last_line_is_skipped_and_cut_off_by_the_next_append(tmp_path: Path, torn: bytes) -> None:
    folder = ResultsFolder(tmp_path)
    folder.append([CELL])
    with (tmp_path / RESULTS).open("ab") as file:
        file.write(torn)
    assert folder.read() == [as_read(CELL)]
    folder.append([OTHER])
    assert folder.read() == [as_read(CELL), OTHER]


def test_a_lone_torn_line_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_bytes(b'{"cell"')
    ResultsFolder(tmp_path).append([OTHER])
    assert read_cells(tmp_path / RESULTS) == [OTHER]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_bytes(b"nonsense\n{}\n")
    with pytest.raises(DataError, match="line 1 is damaged"):
        read_cells(tmp_path / RESULTS)


def test_entries_of_a_later_release_are_ignored(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    folder.append([OTHER])
    text = (tmp_path / RESULTS).read_text()
    (tmp_path / RESULTS).write_text(text.replace('{"cell"', '{"colour": "blue", "cell"'))
    assert folder.read() == [OTHER]


def test_probes_come_back_as_they_were(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    probes = Probes(
        person=np.array([0, 1, 1], np.int32),
        persons=np.array(["anna", "bert"]),
        recording=np.array([0, 1, 1], np.int32),
        recordings=np.array(["anna_2", "bert_2"]),
        start=np.array([10, 10, 13], np.int32),
        rank=np.array([1, 2, 1], np.int32),
        recording_rank=np.array([1, 1], np.int32),
    )
    name = folder.write_probes("kgbd-las", probes)
    found = folder.read_probes(CellResult(**{**vars(CELL), "probes_file": name}))
    for item, values in vars(probes).items():
        assert np.array_equal(getattr(found, item), values), item
    (tmp_path / name).write_bytes(b"not an archive")
    with pytest.raises(DataError, match="is damaged"):
        folder.read_probes(CellResult(**{**vars(CELL), "probes_file": name}))
    with pytest.raises(DataError, match="has no probes"):
        folder.read_probes(OTHER)


def test_the_index_has_a_schema_and_is_asked_for(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "out")
    with pytest.raises(DataError, match=r"reproduction\.json is missing"):
        folder.read_index()
    folder.write_index({"settings": {"seeds": [0]}})
    assert folder.read_index()["settings"] == {"seeds": [0]}
    (tmp_path / "out" / "reproduction.json").write_text('{"schema": "other"}')
    with pytest.raises(DataError, match="read it with the release"):
        folder.read_index()
