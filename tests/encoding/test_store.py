"""The store: what is written comes back, and nothing damaged or unfinished is taken for whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sgela_fast.encoding.store import Store
from sgela_fast.encoding.store_writer import StoreWriter
from sgela_fast.errors import DataError, OutputError

INFO = {"pooling": "none", "dtype": "float32", "frames": 3, "dim": 4, "model_hash": "abc"}


def columns(count: int, start: int = 0) -> dict[str, list[object]]:
    return {
        "recording": [f"r{start}"] * count,
        "person": [None] * count,
        "window_start": list(range(count)),
        "frames": [3] * count,
        "valid": [True] * count,
        "split": ["train"] * count,
    }


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(25, 3, 4)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, values: np.ndarray) -> Path:
    """A store of three parts."""
    writer = StoreWriter(tmp_path / "store", INFO, part_bytes=10 * 48)
    for start in range(0, 25, 5):
        writer.add(values[start : start + 5], columns(5, start))
    writer.finish(note=7)
    return tmp_path / "store"


def test_values_come_back_whatever_the_parts(folder: Path, values: np.ndarray) -> None:
    store = Store(folder)
    assert store.info["parts"] == 3
    assert len(store) == 25
    assert np.array_equal(store.values(), values)
    rows = np.array([24, 0, 9, 10, 10, 3])
    assert np.array_equal(store.values(rows), values[rows])
    assert store.values(np.array([], np.int64)).shape == (0, 3, 4)


def test_a_mask_picks_windows(folder: Path, values: np.ndarray) -> None:
    mask = np.arange(25) % 3 == 0
    assert np.array_equal(Store(folder).values(mask), values[mask])


@pytest.mark.parametrize("rows", [np.array([25]), np.array([3, -1]), np.ones(24, bool)])
def test_windows_that_do_not_exist_are_refused(folder: Path, rows: np.ndarray) -> None:
    with pytest.raises(IndexError, match=r"has the windows 0 to 24|needs the shape"):
        Store(folder).values(rows)


def test_windows_are_numbered_through_all_parts(folder: Path) -> None:
    table = Store(folder).table
    assert table["window"].to_pylist() == list(range(25))
    assert table["recording"].to_pylist()[::5] == ["r0", "r5", "r10", "r15", "r20"]
    assert table["person"].null_count == 25
    assert Store(folder).info["note"] == 7


def test_numpy_and_parquet_alone_read_it(folder: Path, values: np.ndarray) -> None:
    parts = sorted(folder.glob("part-*.npy"))
    assert np.array_equal(np.concatenate([np.load(part) for part in parts]), values)
    assert sum(pq.read_table(part.with_suffix(".parquet")).num_rows for part in parts) == 25


def test_half_precision_is_stored_as_such_and_read_as_float32(tmp_path: Path, values: np.ndarray) -> None:
    writer = StoreWriter(tmp_path / "half", {**INFO, "dtype": "float16"})
    writer.add(values, columns(25))
    store = writer.finish()
    assert np.load(tmp_path / "half" / "part-00000.npy").dtype == np.float16
    assert store.values().dtype == np.float32
    assert np.abs(store.values() - values).max() <= np.abs(values).max() * 2**-11


def test_pooled_values_have_no_frame_axis(tmp_path: Path, values: np.ndarray) -> None:
    writer = StoreWriter(tmp_path / "pooled", {**INFO, "pooling": "mean"})
    writer.add(values[:, 0], columns(25))
    assert writer.finish().values().shape == (25, 4)


def test_verify_finds_a_changed_bit(folder: Path) -> None:
    Store(folder).verify()
    path = folder / "part-00001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"part-00001\.npy does not fit its checksum"):
        Store(folder).verify()


def test_truncated_values_are_named(folder: Path) -> None:
    path = folder / "part-00002.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"part-00002\.npy cannot be read"):
        Store(folder).values()


def test_truncated_table_is_named(folder: Path) -> None:
    path = folder / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"part-00000\.parquet cannot be read"):
        Store(folder)


def test_a_missing_part_is_named(folder: Path) -> None:
    (folder / "part-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"part-00001\.parquet cannot be read"):
        Store(folder)


def test_pickled_values_are_refused(folder: Path) -> None:
    np.save(folder / "part-00000.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        Store(folder).values()


def test_a_store_without_its_index_is_unfinished(folder: Path) -> None:
    (folder / "store.json").unlink()
    with pytest.raises(DataError, match="is an unfinished store"):
        Store(folder)


def test_another_schema_version_is_refused(folder: Path) -> None:
    index = folder / "store.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "schema_version": 99}))
    with pytest.raises(DataError, match="version 99 but this release reads"):
        Store(folder)


@pytest.mark.parametrize(
    "change", [{"parts": "3"}, {"windows": -1}, {"dim": None}, {"frames": 0}, {"pooling": "median"}, {"dtype": "f9"}]
)
def test_impossible_settings_are_damage(folder: Path, change: dict[str, object]) -> None:
    index = folder / "store.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(DataError, match=rf"store\.json is damaged \({next(iter(change))} is"):
        Store(folder)


def test_a_damaged_index_is_named(folder: Path) -> None:
    (folder / "store.json").write_text('{"schema": ')
    with pytest.raises(DataError, match=r"store\.json is damaged"):
        Store(folder)


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(OutputError, match=r"holds 'thesis.txt'"):
        StoreWriter(tmp_path, INFO)
    assert (tmp_path / "thesis.txt").read_text() == "keep me"


def test_a_finished_store_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(OutputError, match="already holds a store"):
        StoreWriter(folder, INFO)


def test_what_an_interrupted_job_left_is_made_anew(tmp_path: Path, values: np.ndarray) -> None:
    abandoned = StoreWriter(tmp_path / "store", INFO, part_bytes=10 * 48)
    abandoned.add(values, columns(25))
    writer = StoreWriter(tmp_path / "store", INFO)
    writer.add(values[:5], columns(5))
    assert np.array_equal(writer.finish().values(), values[:5])


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to write"):
        StoreWriter(tmp_path / "store", INFO).finish()
