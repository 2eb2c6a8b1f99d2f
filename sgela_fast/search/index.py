"""Search a store: exhaustively straight away, or through what :meth:`Index.build` keeps beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.atomic import make_folder
from sgela_fast.encoding.store import Store
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.search import approximate, files
from sgela_fast.search.config import Feature, IndexConfig, Level, Metric, RerankConfig
from sgela_fast.search.filters import Where, chosen_windows
from sgela_fast.search.finder import Finder, query_units
from sgela_fast.search.nearest import Exclusion
from sgela_fast.search.queries import Queries, source_of
from sgela_fast.search.result import SearchResult
from sgela_fast.search.rows import FileRows, Positions, Rows, StoreRows, prepared
from sgela_fast.search.thresholds import saved_threshold
from sgela_fast.search.units import Units, coded, units_of

Advance = Callable[[int], None]


class Index:
    """A store that can be searched. Use :meth:`open` or :meth:`build`.

    Attributes:
        store: what is searched.
        config: kind, metric and feature.
        kept: whether anything is kept beside the store.
        recall: share of the ten nearest windows that an approximate index found in its sample; ``None`` if exact.
        recalls: that share for each effort tried.
    """

    def __init__(
        self,
        store: Store,
        config: IndexConfig,
        rows: Rows,
        approximation: approximate.Approximate | None = None,
        recalls: dict[int, float] | None = None,
    ) -> None:
        self.store, self.config, self.rows, self.approximation = store, config, rows, approximation
        self.kept = not isinstance(rows, StoreRows) or approximation is not None
        self.recalls = recalls or {}
        self.recall = list(self.recalls.values())[-1] if self.recalls else None
        self._units: tuple[tuple[Level, int], Units] | None = None
        self.numbers: Positions = store.table["window"].to_numpy().astype(np.int64)

    @classmethod
    def open(cls, store: str | Path | Store, *, metric: Metric | None = None, feature: Feature | None = None) -> Index:
        """Open a store with the index that stands in it; without one it is searched exhaustively, straight from disk.

        Args:
            store: a store or its folder.
            metric: ``cosine`` by default; an index that stands there must have the same.
            feature: ``mean`` by default; likewise.

        Raises:
            DataError: the store or the index is damaged, or the index was made before the store changed.
            ConfigError: the index has another metric or feature.
            MissingDependencyError: the index needs FAISS.
        """
        store = store if isinstance(store, Store) else Store(store)
        path = files.folder_of(store) / files.INDEX
        if not path.exists():
            config = IndexConfig(metric=metric or "cosine", feature=feature or "mean")
            return cls(store, config, StoreRows(store, config.metric, config.feature))
        content = files.read_head(path, files.INDEX_SCHEMA, store)
        try:
            config = IndexConfig(**content["config"])
            recalls = {int(effort): float(recall) for effort, recall in content["recalls"].items()}
            checksum, effort = str(content["sha256"]), int(content["effort"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error!r}); {files.AGAIN}") from error
        for name, wanted, found in (("metric", metric, config.metric), ("feature", feature, config.feature)):
            if wanted is not None and wanted != found:
                raise ConfigError(f"{path} has {name} {found}, not {wanted}; leave {name} out or build another index")
        rows: Rows = StoreRows(store, config.metric, config.feature)
        data = files.folder_of(store) / (files.ROWS if config.kind == "exact" else files.FAISS)
        try:
            if config.kind == "exact":
                kept = FileRows(data)
                if (len(kept), kept.width, str(kept.array.dtype)) != (len(store), rows.width, config.dtype):
                    raise ValueError(f"it holds {kept.array.dtype} {kept.array.shape}")
                return cls(store, config, kept, None, recalls)
            if files.file_sha256(data) != checksum:
                raise ValueError("it does not fit its checksum")
            return cls(store, config, rows, approximate.load(data, rows, config, effort), recalls)
        except (OSError, ValueError) as error:
            raise DataError(f"{data} is damaged ({error}); {files.AGAIN}") from error

    @classmethod
    def build(
        cls, store: str | Path | Store, config: IndexConfig | None = None, *, advance: Advance = lambda windows: None
    ) -> Index:
        """Make the index of a store and keep it in the store's folder ``index``, in place of an earlier one.

        Args:
            store: a store or its folder.
            config: kind, metric and feature.
            advance: called with the number of windows done since.

        Raises:
            DataError: the store is damaged or holds a value that is not finite.
            OutputError: the index cannot be written.
            MissingDependencyError: the kind needs FAISS.
        """
        store = store if isinstance(store, Store) else Store(store)
        config = config or IndexConfig()
        if config.kind != "exact":
            approximate.import_faiss()  # before anything is removed
        rows = StoreRows(store, config.metric, config.feature)
        folder = make_folder(files.folder_of(store))
        files.remove(store, files.INDEX, files.ROWS, files.FAISS)
        built: approximate.Approximate | None = None
        recalls: dict[int, float] = {}
        if config.kind == "exact":
            checksum = files.write_rows(folder / files.ROWS, rows, config, advance)
        else:
            built = approximate.build(rows, config, advance)
            index = cls(store, config, rows, built)
            recalls = approximate.tune(built, rows, index.numbers)
            checksum = approximate.save(built, folder / files.FAISS)
        content = {
            "config": asdict(config),
            "sha256": checksum,
            "effort": built.effort if built else 0,
            "recalls": {str(effort): round(recall, 6) for effort, recall in recalls.items()},
        }
        files.write_head(folder / files.INDEX, files.INDEX_SCHEMA, store, content)
        kept: Rows = FileRows(folder / files.ROWS) if built is None else rows
        return cls(store, config, kept, built, recalls)

    def verify(self) -> None:
        """Compare the kept rows with their checksum; FAISS's file is compared whenever it is opened.

        Raises:
            DataError: they differ.
        """
        folder = files.folder_of(self.store)
        if isinstance(self.rows, FileRows):
            content = files.read_head(folder / files.INDEX, files.INDEX_SCHEMA, self.store)
            if files.file_sha256(folder / files.ROWS) != content["sha256"]:
                raise DataError(f"{folder / files.ROWS} is damaged (it does not fit its checksum); {files.AGAIN}")

    def search(
        self,
        queries: Queries | NDArray[np.floating[Any]] | str,
        k: int = 10,
        *,
        where: Where = None,
        level: Level = "window",
        best: int = 1,
        sequence: int = 10,
        exact: bool = False,
        include_own: bool = False,
        rerank: RerankConfig | None = None,
        threshold: float | Literal["calibrated"] | None = None,
        advance: Advance = lambda windows: None,
    ) -> SearchResult:
        """Find what is nearest to each query.

        At level ``window`` each query window is ranked against the store's windows. At ``sequence`` the query's
        recordings are cut into sequences as the store's are; at ``recording`` and ``person`` whole query recordings are
        ranked against recordings and persons. The score of such a unit is the mean over the query's windows of the mean
        of each window's ``best`` matches in the unit. With an approximate index the units are those of each query
        window's 100 nearest windows, scored exactly.

        Args:
            queries: encodings, as an array ``(Q, T, D)`` or ``(Q, D)`` of one recording, the name of a recording in
                the store, or :class:`~sgela_fast.search.queries.Queries`.
            k: how many to find.
            where: which windows are searched at all; see :func:`sgela_fast.search.filters.chosen_windows`.
            level: what is ranked.
            best: matches of a query window in a unit that are averaged.
            sequence: windows of a sequence.
            exact: search exhaustively, whatever index there is.
            include_own: also find windows of the recording that a query comes from.
            rerank: rank the nearest windows anew by their neighbourhoods; at level ``window`` alone.
            threshold: score below which the query counts as unknown, or ``calibrated`` for the saved one of the level.
            advance: called with the number of windows compared since, for each block of queries.

        Raises:
            ConfigError: an argument is out of range or contradicts another one.
            DataError: the store has no such recording or column, a query does not fit the store or is not finite.
        """
        _check(k, level, best, sequence, rerank, threshold, self.config.metric)
        queries = self._queries(queries)
        chosen = saved_threshold(self, level, best, sequence) if threshold == "calibrated" else None
        vectors = self.prepared(queries)
        allowed = chosen_windows(self.store, where)
        units = self._units_of(level, sequence)
        hidden = [] if include_own else self._own(queries)
        approximation = None if exact else self._worthwhile(allowed)
        find = Finder(self.rows, self.numbers, allowed, self.config.metric, approximation, self.config.tile_mb, advance)
        groups = query_units(queries, level, sequence)
        if level == "window":
            if rerank is None:
                scores, rows = find.windows(vectors, k, hidden)
            else:
                scores, rows = find.reranked(vectors, k, hidden, rerank)
        else:
            scores, codes = find.units(vectors, groups, units, k, best, hidden)
            rows = np.where(codes >= 0, units.first[codes] if len(units) else -1, -1)
        first = np.unique(groups, return_index=True)[1]
        return SearchResult(
            store=self.store,
            units=units,
            metric=self.config.metric,
            method=("exact" if approximation is None else self.config.kind) + (", re-ranked" if rerank else ""),
            recall=None if approximation is None else self.recall,
            scores=scores,
            rows=rows,
            queries=tuple(queries.names[group] for group in queries.groups[first]),
            starts=queries.starts[first],
            threshold=chosen.threshold if chosen else None if threshold is None else float(threshold),
            false_match_rate=chosen.false_match_rate if chosen else None,
        )

    def _queries(self, queries: Queries | NDArray[np.floating[Any]] | str) -> Queries:
        if isinstance(queries, str):
            return Queries.of_recordings(self.store, queries)
        return queries if isinstance(queries, Queries) else Queries.of_array(queries)

    def prepared(self, queries: Queries) -> Tensor:
        """Query rows ``(Q, D)``."""
        encoder = str(self.store.info.get("model_hash", ""))
        if queries.encoder and encoder and queries.encoder != encoder:
            raise DataError(
                f"{queries.names[0]} was encoded by another model than {self.store.path}; encode it with the same one"
            )
        if queries.feature and queries.feature != self.store.feature:
            raise DataError(
                f"{queries.names[0]} was encoded as {queries.feature} but {self.store.path} holds "
                f"{self.store.feature}; encode it with --encoding.feature {self.store.feature}"
            )
        feature: Feature = self.config.feature if self.store.pooling == "none" else "mean"
        rows = prepared(queries.values, self.config.metric, feature)
        if rows.shape[1] != self.rows.width:
            raise DataError(
                f"{queries.names[0]} has windows of {' x '.join(map(str, queries.values.shape[1:]))} numbers, which "
                f"make {rows.shape[1]} features where {self.store.path} has {self.rows.width}; encode the query with "
                "the store's model and settings"
            )
        return rows

    @cached_property
    def _recordings(self) -> tuple[Positions, list[str]]:
        return coded(self.store.table, "recording")

    def _units_of(self, level: Level, sequence: int) -> Units:
        """Units of a level, those of the last search if they are the same."""
        key = (level, sequence if level == "sequence" else 0)
        if self._units is None or self._units[0] != key:
            self._units = key, units_of(self.store.table, level, sequence)
        return self._units[1]

    def _own(self, queries: Queries) -> list[Exclusion]:
        """Hide each query's own recording, where it comes from what the store was encoded from."""
        if queries.source != source_of(self.store):
            return []
        codes, names = self._recordings
        code_of = {name: code for code, name in enumerate(names)}
        found = []
        for group, name in enumerate(queries.names):
            rows = np.flatnonzero(codes == code_of.get(name, -1))
            if len(rows):
                found.append(Exclusion(np.flatnonzero(queries.groups == group), rows))
        return found

    def _worthwhile(self, allowed: NDArray[np.bool_]) -> approximate.Approximate | None:
        """The approximate index, unless a filter leaves so few windows that comparing them all is no dearer."""
        found = self.approximation
        few = found is not None and not allowed.all() and allowed.sum() <= 2 * found.share * len(allowed)
        return None if few else found


def _check(
    k: int,
    level: Level,
    best: int,
    sequence: int,
    rerank: RerankConfig | None,
    threshold: float | str | None,
    metric: Metric,
) -> None:
    for name, value in (("k", k), ("best", best), ("sequence", sequence)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")
    if level not in get_args(Level):
        raise ConfigError(f"level is {level!r}; choose window, sequence, recording or person")
    if isinstance(threshold, str) and threshold != "calibrated":
        raise ConfigError(f"threshold is {threshold!r}; give a number, or 'calibrated'")
    if rerank is None:
        return
    if level != "window":
        raise ConfigError(f"re-ranking is for level window, not {level}; leave one of them out")
    if metric == "inner-product":
        raise ConfigError("re-ranking needs distances, which an inner product is not; use cosine or euclidean")
    if threshold == "calibrated":
        raise ConfigError("the calibrated threshold is for plain scores; leave out the threshold or the re-ranking")
