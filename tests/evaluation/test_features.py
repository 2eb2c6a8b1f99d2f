"""Feature rows out of a store, and their order in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sgela_fast.encoding.store import Store
from sgela_fast.encoding.store_writer import StoreWriter
from sgela_fast.errors import DataError
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.features import Features, Standardiser
from sgela_fast.evaluation.sides import Side, divide

MakeStore = Callable[..., Store]


def train_side(store: Store) -> Side:
    return divide(store, "split", EvaluationConfig()).train


@pytest.mark.parametrize("memory", [0, 1e9])
def test_forms_are_the_stores_values(make_store: MakeStore, memory: float) -> None:
    side = train_side(make_store())
    values = torch.from_numpy(side.store.values(side.rows))
    every = torch.arange(len(side))
    assert torch.equal(Features(side, "frames", memory).take(every), values)
    assert torch.equal(Features(side, "concat", memory).take(every), values.reshape(len(side), 1, 24))
    torch.testing.assert_close(Features(side, "mean", memory).rows(), values.mean(dim=1))


@pytest.mark.parametrize("form", ["frames", "concat", "mean"])
def test_a_pooled_store_has_one_row_a_window_in_every_form(make_store: MakeStore, form: str) -> None:
    side = train_side(make_store(pooling="mean"))
    features = Features(side, form, 1e9)
    assert (features.frames, features.width) == (1, 8)
    assert torch.equal(features.rows(), torch.from_numpy(side.store.values(side.rows)))


@pytest.mark.parametrize("memory", [0, 3000, 1e9])
def test_an_epoch_sees_every_row_once_beside_its_own_window(make_store: MakeStore, memory: float) -> None:
    side = train_side(make_store())
    features = Features(side, "frames", memory)
    windows = torch.arange(3, 60)
    pieces = list(features.shuffled(windows, 8, memory, torch.Generator().manual_seed(0)))
    rows, source = (torch.cat(part) for part in zip(*pieces, strict=True))
    assert torch.equal(source.bincount(), torch.full((57,), 3))
    values = torch.from_numpy(side.store.values(side.rows))[windows]
    assert (rows[:, None] == values[source]).all(dim=2).any(dim=1).all()
    assert len(torch.unique(rows, dim=0)) == 57 * 3
    assert not torch.equal(source, source.sort().values)
    assert all(len(piece) % 8 == 0 for piece, _ in pieces[:-1])


def test_standardised_rows_have_mean_0_and_deviation_1(make_store: MakeStore) -> None:
    side = train_side(make_store())
    features, windows = Features(side, "frames", 0), torch.arange(10, 50)
    rows = features.take(windows).reshape(-1, 8)
    rows = Standardiser(features, windows)(rows)
    torch.testing.assert_close(rows.mean(dim=0), torch.zeros(8), atol=1e-6, rtol=0)
    torch.testing.assert_close(rows.std(dim=0, correction=0), torch.ones(8), atol=1e-6, rtol=0)


def test_moments_do_not_depend_on_the_blocks(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    features, windows = Features(train_side(make_store()), "frames", 1e9), torch.arange(72)
    whole = Standardiser(features, windows)
    monkeypatch.setattr("sgela_fast.evaluation.features._READ_BYTES", 500)
    pieces = Standardiser(features, windows)
    torch.testing.assert_close(pieces.mean, whole.mean)
    torch.testing.assert_close(pieces.factor, whole.factor)


def test_a_constant_feature_becomes_zero(make_store: MakeStore) -> None:
    features = Features(train_side(make_store()), "frames", 1e9)
    assert features.held is not None
    features.held[..., 2] = 0.1
    rows = Standardiser(features, torch.arange(72))(features.take(torch.arange(72)))
    assert not rows[..., 2].any()
    assert torch.isfinite(rows).all()


def test_values_that_are_not_finite_are_named(make_store: MakeStore) -> None:
    store = make_store()
    values = store.values()
    values[10, 1, 3] = np.nan
    columns = {name: store.table[name].to_pylist() for name in store.table.column_names if name != "window"}
    writer = StoreWriter(store.path.with_name("spoilt"), {**store.info, "model_hash": "0"})
    writer.add(values, columns)
    with pytest.raises(DataError, match="spoilt holds values that are not finite, first in window 10"):
        Features(train_side(writer.finish()), "frames", 1e9)
