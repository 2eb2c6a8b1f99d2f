"""Stores are read by other tools as they are, whatever the dtype, and feed PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from sgela_fast.encoding.dataset import StoreDataset
from sgela_fast.encoding.export_store import export_parquet
from sgela_fast.encoding.storage import pack, unpack
from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError

MakeStore = Callable[..., Store]
DTYPES = ("float32", "float16", "bfloat16", "int8")


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store("store", {"a_0": 30, "b_0": 30, "b_1": 30, "tiny_0": 3}, part_mb=0.006)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stored_values_are_as_near_as_their_dtype_allows(make_store: MakeStore, dtype: str) -> None:
    lengths = {"a_0": 30, "b_0": 30}
    exact = make_store("exact", lengths).values()
    found = make_store("rounded", lengths, dtype=dtype)
    largest = np.abs(exact).max(axis=(1, 2), keepdims=True)
    allowed = {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8, "int8": 1 / 253}[dtype]
    assert (np.abs(found.values() - exact) <= allowed * largest + 1e-9).all()
    assert found.raw(0).dtype == {"bfloat16": np.uint16}.get(dtype, np.dtype(dtype.replace("bfloat16", "u2")))


def test_bfloat16_rounds_as_torch_does() -> None:
    values = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)
    values[0] = [0.0, -0.0, np.inf, -np.inf, 1e-40, 3.4e38, 1 + 2**-8]
    stored, _ = pack(values, "bfloat16")
    expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    assert np.array_equal(unpack(stored, "bfloat16"), expected)
    nan, _ = pack(np.array([[np.nan]], np.float32), "bfloat16")
    assert np.isnan(unpack(nan, "bfloat16")).all()


def test_int8_is_read_with_the_scale_of_each_row_alone(make_store: MakeStore) -> None:
    store = make_store("store", {"a_0": 30}, dtype="int8", pooling="mean")
    part = np.load(store.path / "part-00000.npy")
    scales = pq.read_table(store.path / "part-00000.parquet")["scale"].to_numpy()
    assert part.dtype == np.int8
    assert np.array_equal(part * scales[:, None], store.values()[: len(part)])
    zero, scale = pack(np.zeros((2, 3), np.float32), "int8")
    assert scale is not None
    assert np.array_equal(unpack(zero, "int8", scale), np.zeros((2, 3)))


def test_pandas_reads_the_rows(store: Store) -> None:
    pandas = pytest.importorskip("pandas")
    files = sorted(store.path.glob("part-*.parquet"))
    frame = pandas.concat(map(pandas.read_parquet, files), ignore_index=True)
    assert len(frame) == len(store)
    assert list(frame["person"].unique()) == ["a", "b"]
    assert (frame["quality"] == 1).all()


def test_polars_reads_the_rows(store: Store) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(f"{store.path}/part-*.parquet")
    assert frame["window"].to_list() == list(range(len(store)))
    assert frame.group_by("recording").len().height == 3


def test_duckdb_reads_the_rows(store: Store) -> None:
    duckdb = pytest.importorskip("duckdb")
    query = f"select person, count(*), avg(quality) from '{store.path}/part-*.parquet' group by person order by person"
    with duckdb.connect() as connection:
        rows = connection.execute(query).fetchall()
    assert [(person, quality) for person, _, quality in rows] == [("a", 1.0), ("b", 1.0)]
    assert sum(count for _, count, _ in rows) == len(store)


def test_numpy_and_json_alone_read_the_values(store: Store) -> None:
    info = json.loads((store.path / "store.json").read_text())
    parts = [np.load(store.path / f"part-{shard['part']:05d}.npy", mmap_mode="r") for shard in info["shards"]]
    assert len(parts) > 1
    assert np.array_equal(np.concatenate(parts), store.values())


@pytest.mark.parametrize("dtype", DTYPES)
def test_exported_vectors_are_read_by_pandas_polars_and_duckdb(
    make_store: MakeStore, tmp_path: Path, dtype: str
) -> None:
    pandas, polars, duckdb = (pytest.importorskip(name) for name in ("pandas", "polars", "duckdb"))
    store = make_store("store", {"a_0": 30, "b_0": 30}, dtype=dtype, part_mb=0.001)
    files = export_parquet(store, tmp_path / "vectors")
    assert len(files) > 1
    expected = store.values().reshape(len(store), -1)
    field = pq.read_schema(files[0]).field("values")
    assert not field.nullable
    assert not field.type.value_field.nullable
    assert field.type.list_size == expected.shape[1]
    assert field.metadata[b"shape"] == b"3,12"
    assert np.array_equal(np.stack(pandas.concat(map(pandas.read_parquet, files))["values"].to_list()), expected)
    assert np.array_equal(polars.read_parquet(tmp_path / "vectors" / "*.parquet")["values"].to_numpy(), expected)
    with duckdb.connect() as connection:
        query = f"""select values from '{tmp_path}/vectors/*.parquet' order by "window" """
        assert np.array_equal(np.array([row[0] for row in connection.execute(query).fetchall()]), expected)
        like = f"select list_cosine_similarity(values::FLOAT[], values::FLOAT[]) from '{tmp_path}/vectors/*.parquet'"
        assert all(abs(row[0] - 1) < 1e-5 for row in connection.execute(like).fetchall())


def test_batches_visit_every_window_once(store: Store) -> None:
    whole = store.values()
    for shuffle in (False, True):
        batches = list(store.batches(7, columns=["recording"], shuffle=shuffle, seed=3))
        rows = np.concatenate([batch.rows for batch in batches])
        assert sorted(rows) == list(range(len(store)))
        assert (list(rows) == sorted(rows)) is not shuffle
        assert np.array_equal(np.concatenate([batch.values for batch in batches]), whole[rows])
        names = [name for batch in batches for name in batch.columns["recording"]]
        assert names == [store.table["recording"][int(row)].as_py() for row in rows]
    some = list(store.batches(4, rows=np.arange(len(store)) % 2 == 0))
    assert sum(len(batch.rows) for batch in some) == (len(store) + 1) // 2
    with pytest.raises(DataError, match="has no column 'height'"):
        next(store.batches(4, columns=["height"]))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_torch_loader_reads_the_store(store: Store, workers: int) -> None:
    dataset = StoreDataset(store, columns=["person"])
    context = {"multiprocessing_context": "spawn"} if workers else {}
    batches = list(DataLoader(dataset, batch_size=16, num_workers=workers, **context))  # type: ignore[arg-type]
    assert np.array_equal(torch.cat([batch["values"] for batch in batches]).numpy(), store.values())
    assert [name for batch in batches for name in batch["person"]] == store.table["person"].to_pylist()
    assert torch.equal(torch.cat([batch["row"] for batch in batches]), torch.arange(len(store)))


def test_a_torch_dataset_takes_a_mask(store: Store) -> None:
    mask = np.array([name == "b_1" for name in store.table["recording"].to_pylist()])
    dataset = StoreDataset(store.path, rows=mask)
    assert len(dataset) == mask.sum()
    assert np.array_equal(dataset[0]["values"].numpy(), store.values(mask)[0])
    with pytest.raises(IndexError, match="has the windows 0 to"):
        StoreDataset(store, rows=np.array([len(store)]))


@pytest.mark.parametrize("read", [Store.values, lambda store, rows: StoreDataset(store, rows=rows)])
def test_windows_are_chosen_by_whole_numbers_or_a_mask_of_all_alone(
    store: Store, read: Callable[[Store, object], object]
) -> None:
    for mask in (np.ones(3, bool), np.zeros(len(store) + 1, bool)):
        with pytest.raises(IndexError, match="needs the shape"):
            read(store, mask)
    for rows in (np.array([0.7]), np.array([[0, 1]]), np.array(1)):
        with pytest.raises(IndexError, match="by whole numbers"):
            read(store, rows)


def test_an_export_that_fails_leaves_no_vectors(store: Store, tmp_path: Path) -> None:
    sound = (store.path / "part-00001.parquet").read_bytes()
    (store.path / "part-00001.parquet").write_bytes(sound[:100] + bytes(len(sound) - 100))
    out = tmp_path / "vectors"
    with pytest.raises(DataError, match="part-00001"):
        export_parquet(store, out)
    assert not out.exists()
    (store.path / "part-00001.parquet").write_bytes(sound)
    out.mkdir()
    (out / ".part-00000.parquet.tmp").write_bytes(b"what a killed export left")
    files = export_parquet(store, out)
    assert sorted(files) == sorted(out.iterdir())
    assert sum(pq.read_metadata(file).num_rows for file in files) == len(store)
