"""What is searched for: encodings of one or more recordings, from a store or from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgela_fast.encoding.store import Store
from sgela_fast.errors import DataError
from sgela_fast.search.rows import Positions
from sgela_fast.search.units import texts


@dataclass(frozen=True)
class Queries:
    """Query windows in groups, one group for each recording they come from.

    Attributes:
        values: ``(Q, T, D)``, or ``(Q, D)`` where the frames are pooled; a group's windows side by side, in order.
        groups: ``(Q,)``, ascending group of each window, from 0 without gaps.
        names: of the groups.
        starts: ``(Q,)``, first frame of each window in its recording.
        source: what they were encoded from, as :func:`source_of` has it, empty if unknown; a recording of the same
            name in a store of the same source is the query's own.
        encoder: hash of the model that made them, empty if unknown.
        feature: ``ages`` or ``states``, empty if unknown.
    """

    values: NDArray[np.float32]
    groups: Positions
    names: tuple[str, ...]
    starts: Positions
    source: str = ""
    encoder: str = ""
    feature: str = ""

    def __len__(self) -> int:
        return len(self.groups)

    @classmethod
    def of_array(cls, values: NDArray[np.floating], name: str = "query") -> Queries:
        """Windows of one recording.

        Args:
            values: ``(Q, T, D)`` or ``(Q, D)``.
            name: shown in results.

        Raises:
            DataError: another shape, no numbers, no window, or a value that is not finite.
        """
        found = np.asarray(values)
        if found.ndim not in (2, 3) or not np.issubdtype(found.dtype, np.floating):
            raise DataError(
                f"{name} holds {found.dtype} {found.shape}; give encodings (windows, T, D) or (windows, D) as floats"
            )
        count = len(found)
        return _checked(cls(found.astype(np.float32), np.zeros(count, np.int64), (name,), np.arange(count)), where=name)

    @classmethod
    def of_file(cls, path: str | Path) -> Queries:
        """Windows of one recording from a ``.npy`` file.

        Raises:
            DataError: the file cannot be read, or see :meth:`of_array`.
        """
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} cannot be read as a NumPy array ({error}); write it with numpy.save") from error
        if not isinstance(values, np.ndarray):
            values.close()
            raise DataError(f"{path} holds several arrays; give a .npy file of one")
        return cls.of_array(values, str(path))

    @classmethod
    def of_rows(cls, store: Store, rows: Positions | NDArray[np.bool_]) -> Queries:
        """Windows of a store; each recording makes a group.

        Raises:
            DataError: no window, or a value that is not finite.
        """
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.asarray(rows, np.int64)
        table = store.table.take(rows)
        names, first, groups = np.unique(texts(table, "recording"), return_index=True, return_inverse=True)
        starts = table["window_start"].to_numpy().astype(np.int64)
        place = np.argsort(np.argsort(first))  # groups in the order of the store
        order = np.lexsort((starts, place[groups]))
        return _checked(
            cls(
                store.values(rows[order]),
                place[groups][order],
                tuple(names[np.argsort(first)].tolist()),
                starts[order],
                source_of(store),
                str(store.info.get("model_hash", "")),
                store.feature,
            ),
            where=str(store.path),
        )

    @classmethod
    def of_recordings(cls, store: Store, names: str | Sequence[str]) -> Queries:
        """All windows of the named recordings of a store.

        Raises:
            DataError: the store has no such recording, or a value is not finite.
        """
        names = [names] if isinstance(names, str) else list(names)
        recordings = texts(store.table, "recording")
        for name in names:
            if not (recordings == name).any():
                raise DataError(
                    f"{store.path} has no recording {name!r}, but {len(np.unique(recordings))} others such as "
                    f"{str(recordings[0])!r}; name one of them, or a .npy file"
                )
        return cls.of_rows(store, np.isin(recordings, names))


def source_of(store: Store) -> str:
    """What a store was encoded from: its archive's fingerprint, or else the store itself."""
    return str(store.info.get("archive_fingerprint") or store.path.resolve())


def _checked(queries: Queries, where: str) -> Queries:
    if not len(queries):
        raise DataError(f"{where} has no query window; choose another query")
    finite = np.isfinite(queries.values.reshape(len(queries), -1)).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{where} holds a query with values that are not finite, first in window {int(np.argmin(finite))}; "
            "encode it again or leave such windows out"
        )
    return queries
