"""`sgela-fast store` looks at stores and changes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sgela_fast.cli.main import main
from sgela_fast.encoding.store import Store
from sgela_fast.encoding.store_writer import StoreWriter

INFO = {"pooling": "mean", "dtype": "float32", "frames": 3, "dim": 4, "model_hash": "abc"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of three persons with a part each."""
    writer = StoreWriter(tmp_path / "store", {**INFO, "recordings": 3}, part_bytes=1)
    for number, person in enumerate(("anna", "bert", "carl")):
        columns = {"recording": [f"{person}_0"] * 4, "person": [person] * 4, "window_start": [0, 3, 6, 9]}
        values = np.random.default_rng(number).normal(size=(4, 4))
        writer.add(values, {**columns, "frames": [3] * 4, "valid": [True] * 4})
    writer.finish()
    return tmp_path / "store"


def test_info_says_what_is_in_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "info", str(folder)]) == 0
    assert "persons     3" in capsys.readouterr().out
    assert main(["store", "info", str(folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["windows"], facts["parts"], facts["values"]) == (12, 3, "4 float32")


def test_delete_compact_verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "delete", str(folder), "--person", "bert", "--recording", "carl_0"]) == 0
    assert "deleted     8 windows of 2 recordings; 2 parts changed" in capsys.readouterr().out
    assert main(["store", "compact", str(folder)]) == 0
    assert main(["store", "verify", str(folder)]) == 0
    assert "1 parts with 4 windows fit their checksums" in capsys.readouterr().out
    assert Store(folder).table["person"].unique().to_pylist() == ["anna"]


def test_compact_takes_the_size_of_parts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "compact", str(folder), "--part_mb", "0.000125"]) == 0  # 131 bytes hold two parts of 64
    assert "3 before, 2 after" in capsys.readouterr().out


def test_merge_and_export(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert main(["store", "delete", str(folder), "--person", "bert"]) == 0
    assert main(["store", "delete", str(other), "--person", "anna", "carl"]) == 0
    assert main(["store", "merge", str(folder), str(other), "--out", str(tmp_path / "both")]) == 0
    assert main(["store", "export", str(tmp_path / "both"), "--to", "parquet", "--out", str(tmp_path / "files")]) == 0
    tables = [pq.read_table(file) for file in sorted((tmp_path / "files").iterdir())]
    assert sum(table.num_rows for table in tables) == 12
    exported = np.concatenate([np.stack(table["values"].to_numpy()) for table in tables])
    assert np.array_equal(exported, Store(tmp_path / "both").values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["merge", "a", "b"], "`store merge` needs --out"),
        (["export", "a", "--out", "b"], "`store export` needs --to parquet and --out"),
        (["info", "a", "b"], "`store info` takes one store, not 2"),
        (["rename", "a"], "action is 'rename'; choose info, verify"),
    ],
)
def test_contradictions_get_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["store", *arguments]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1
    assert sentence in printed[0]
