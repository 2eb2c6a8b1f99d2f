"""Which windows of a store are trained on (gallery) and which are tested (probe)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import DataError
from sgela_fast.evaluation.config import EvaluationConfig

Indices = NDArray[np.int64]


class WindowStore(Protocol):
    """What the evaluation asks of a store; :class:`sgela_fast.encoding.store.Store` has it."""

    @property
    def path(self) -> Path:
        """The folder, for messages."""

    @property
    def info(self) -> Mapping[str, Any]:
        """Content of ``store.json``."""

    @property
    def table(self) -> Any:
        """Columns of all windows, a pyarrow table."""

    def values(self, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[np.float32]:
        """Encodings of the given windows, ``(N, T, D)`` or ``(N, D)``."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Side:
    """Windows of one side, in the order of the store.

    Attributes:
        store: where their values are.
        rows: ``(N,)``, position of each window in the store.
        persons: ``(N,)``, code of each window's person.
        recordings: ``(N,)``, code of each window's recording, from 0 without gaps.
        starts: ``(N,)``, first frame of the window in its recording.
        frames: ``(N,)``, length of the window in frames.
    """

    store: WindowStore
    rows: Indices
    persons: Indices
    recordings: Indices
    starts: Indices
    frames: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: Indices) -> Side:
        """The windows at ``positions``, which may repeat."""
        recordings = np.unique(self.recordings[positions], return_inverse=True)[1]
        rows, persons, starts, frames = (
            values[positions] for values in (self.rows, self.persons, self.starts, self.frames)
        )
        return Side(self.store, rows, persons, recordings, starts, frames)


@dataclass(frozen=True)
class Sides:
    """Both sides, their persons coded alike.

    Attributes:
        train: training or gallery windows.
        test: test or probe windows.
        persons: names; a person's code is the position here.
        left_out: reason to number of windows that count on neither side.
        notes: remarks for the reader.
    """

    train: Side
    test: Side
    persons: tuple[str, ...]
    left_out: dict[str, int]
    notes: tuple[str, ...]


def divide(store: WindowStore, column: str, config: EvaluationConfig, train_store: WindowStore | None = None) -> Sides:
    """Divide a store into its two sides.

    Args:
        store: holds the test windows and, without ``train_store``, the training windows.
        column: of the table, names the side of each window. With ``train_store`` it may be empty: then all windows
            of ``train_store`` are trained on and all of ``store`` are tested.
        config: values that mark the sides, and what to leave out.
        train_store: holds the training windows.

    Raises:
        DataError: a column is missing, a side is empty, or fewer than two persons are left.
    """
    left_out: Counter[str] = Counter()
    train_from = store if train_store is None else train_store
    if not column and train_store is None:
        raise DataError(f"no split column is named for {store.path}; name one, or give a store to train on")
    test_columns = _Columns(store, column, config)
    if train_store is None:
        train_columns = test_columns
        test_columns.count_left_out((config.train_value, config.test_value), left_out)
    else:
        _require_same_encoder(train_store, store)
        train_columns = _Columns(train_store, column, config)
        train_columns.count_left_out((config.train_value,), left_out)
        test_columns.count_left_out((config.test_value,), left_out)
    train_rows, test_rows = train_columns.side(config.train_value), test_columns.side(config.test_value)
    train_names, test_names = train_columns.person[train_rows], test_columns.person[test_rows]

    known = np.isin(test_names, train_names)
    notes: list[str] = []
    if not known.all():
        unknown = sorted(set(test_names[~known].tolist()))
        listed = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        if config.unknown_persons == "error":
            raise DataError(
                f"{len(unknown)} test persons of {store.path} have no training windows ({listed}); "
                "leave them out with unknown_persons=leave-out or choose another split"
            )
        left_out["test windows of persons without training windows"] += int((~known).sum())
        notes.append(f"{len(unknown)} test persons have no training windows and are left out: {listed}")
        test_rows, test_names = test_rows[known], test_names[known]
    if not len(test_rows):
        raise DataError(f"no test person of {store.path} has training windows; choose another split column")
    if config.identities == "test":
        tested = np.isin(train_names, test_names)
        left_out["training windows of persons who are not tested"] += int((~tested).sum())
        train_rows, train_names = train_rows[tested], train_names[tested]
    names, train_codes = np.unique(train_names, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"{train_from.path} has a single person ({names[0]}) to recognise; give a store of two persons or more"
        )
    both = _shared_recordings(train_columns, train_rows, test_columns, test_rows)
    if both:
        notes.append(f"{both} recordings have windows on both sides; figures may be too good")
    return Sides(
        train=train_columns.make_side(train_rows, train_codes),
        test=test_columns.make_side(test_rows, np.searchsorted(names, test_names)),
        persons=tuple(names.tolist()),
        left_out={reason: count for reason, count in left_out.items() if count},
        notes=tuple(notes),
    )


class _Columns:
    """The columns of one store that are needed, as arrays over its windows."""

    def __init__(self, store: WindowStore, column: str, config: EvaluationConfig) -> None:
        self.store, self.column = store, column
        table = store.table
        for name in ("person", "recording", "valid", "window_start", "frames", *([column] if column else [])):
            if name not in table.column_names:
                have = ", ".join(table.column_names)
                mend = "encode an archive that names the persons" if name == "person" else "name another split column"
                raise DataError(f"{store.path} has no column {name!r}, only {have}; {mend}")
        self.person = texts(table, "person")
        self.recording = texts(table, "recording")
        self.value = texts(table, column) if column else np.full(len(store), "", np.str_)
        self.starts = table["window_start"].to_numpy().astype(np.int64)
        self.frames = table["frames"].to_numpy().astype(np.int64)
        named = self.person != ""
        if not named.any():
            raise DataError(f"{store.path} names no person in column 'person'; encode an archive that names them")
        lost = ~table["valid"].to_numpy().astype(bool) & (not config.keep_invalid)
        self.nameless, self.lost = ~named, named & lost
        self.counted = named & ~lost

    def side(self, value: str) -> Indices:
        """Counted windows whose split value is ``value``."""
        wanted = self.value == value if self.column else np.ones(len(self.value), bool)
        rows = np.flatnonzero(self.counted & wanted)
        if not len(rows):
            if wanted.any():
                raise DataError(
                    f"all {int(wanted.sum())} windows of {self.store.path} with {self.column or 'any split'} = "
                    f"{value!r} lack a person or have a lost joint; count the latter with keep_invalid"
                )
            present = Counter(self.value.tolist())
            listed = ", ".join(f"{name or 'nothing'} ({count})" for name, count in present.most_common(5))
            raise DataError(
                f"column {self.column!r} of {self.store.path} never says {value!r}; it holds {listed}; "
                "name another split column, or the values with --train_value and --test_value"
            )
        return rows

    def count_left_out(self, values: tuple[str, ...], left_out: Counter[str]) -> None:
        """Count the windows that belong to no side; ``values`` are those of the column that are used."""
        left_out["windows without a person"] += int(self.nameless.sum())
        left_out["windows with a lost joint"] += int(self.lost.sum())
        if self.column:
            elsewhere = self.counted & ~np.isin(self.value, values)
            left_out[f"windows whose {self.column} is neither side"] += int(elsewhere.sum())

    def make_side(self, rows: Indices, codes: Indices) -> Side:
        # Two persons of one recording are scored apart, hence the pair.
        pairs = np.char.add(np.char.add(self.recording[rows], "\t"), self.person[rows])
        recordings = np.unique(pairs, return_inverse=True)[1]
        return Side(self.store, rows, codes.astype(np.int64), recordings, self.starts[rows], self.frames[rows])


def texts(table: Any, name: str) -> NDArray[np.str_]:
    """A column as fixed-width text, missing entries empty."""
    encoded = table[name].cast("string").fill_null("").combine_chunks().dictionary_encode()
    # An empty table has an empty dictionary; the extra entry keeps its dtype text.
    distinct = np.array([*encoded.dictionary.to_pylist(), ""], np.str_)
    return distinct[encoded.indices.to_numpy(zero_copy_only=False)]


def _require_same_encoder(train_store: WindowStore, store: WindowStore) -> None:
    for key in ("model_hash", "feature", "pooling", "frames", "dim"):
        one, other = train_store.info.get(key), store.info.get(key)
        if one != other:
            raise DataError(
                f"{train_store.path} and {store.path} differ in {key} ({one} and {other}); "
                "encode both archives with the same model and settings"
            )


def _shared_recordings(train: _Columns, train_rows: Indices, test: _Columns, test_rows: Indices) -> int:
    fingerprints = [columns.store.info.get("archive_fingerprint") for columns in (train, test)]
    if train is not test and fingerprints[0] != fingerprints[1]:
        return 0  # the same name need not be the same recording
    return len(np.intersect1d(train.recording[train_rows], test.recording[test_rows]))
