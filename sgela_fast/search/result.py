"""What a search found, as arrays and as a table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgela_fast.encoding.store import Store
from sgela_fast.search.config import Metric
from sgela_fast.search.nearest import Scores
from sgela_fast.search.rows import Positions
from sgela_fast.search.units import Units, coded


@dataclass(frozen=True)
class SearchResult:
    """The best k of each query; R queries: windows, sequences, or recordings, as the level has it.

    Attributes:
        store: what was searched.
        units: what was ranked.
        metric: of the scores; a greater score is a better one.
        method: how the windows were found, such as ``exact`` or ``ivf``.
        recall: share of the ten nearest windows that the approximate index found in its sample; ``None`` if exact.
        scores: ``(R, k)`` float32, best first; minus infinity where fewer than k are left.
        rows: ``(R, k)`` int64, position in the store of the window that was found, or of the unit's first window; -1
            where fewer than k are left.
        queries: ``(R,)``, name of each query's recording.
        starts: ``(R,)``, first frame of the query's first window.
        threshold: score below which the query's person counts as unknown; ``None`` if that was not asked.
        false_match_rate: share of searches for persons who are not in the store whose best score reaches the threshold;
            ``None`` if the threshold was not calibrated.
    """

    store: Store
    units: Units
    metric: Metric
    method: str
    recall: float | None
    scores: Scores
    rows: Positions
    queries: tuple[str, ...]
    starts: Positions
    threshold: float | None = None
    false_match_rate: float | None = None

    @property
    def known(self) -> NDArray[np.bool_] | None:
        """``(R,)``, whether the best score reaches the threshold; ``None`` without one."""
        return None if self.threshold is None else self.scores[:, 0] >= np.float32(self.threshold)

    @cached_property
    def table(self) -> pa.Table:
        """One row a hit: ``query``, ``query_start``, ``rank`` from 1, ``score``, then what was found.

        For windows these are the store's columns; for sequences and recordings the recording, its person, first frame,
        number of windows and the store's further columns as the first window has them; for persons the person, the
        number of recordings and windows. With a threshold the column ``known`` says whether the query reaches it.
        """
        of_query, place = np.nonzero(self.rows >= 0)
        hits = self.rows[of_query, place]
        columns: dict[str, list[str] | NDArray[Any]] = {
            "query": [self.queries[query] for query in of_query],
            "query_start": self.starts[of_query],
            "rank": (place + 1).astype(np.int32),
            "score": self.scores[of_query, place],
        }
        if self.known is not None:
            columns["known"] = self.known[of_query]
        table = self.store.table.take(hits)
        if self.units.level != "window":
            codes = self.units.codes
            columns["windows"] = np.bincount(codes[codes >= 0], minlength=len(self.units))[codes[hits]]
            if self.units.level == "person":
                columns["recordings"] = self._recordings()[codes[hits]]
                table = table.select(["person"])
            else:
                table = table.drop_columns(["window", "frames", "valid"])
        return pa.table({**columns, **{name: table[name] for name in table.column_names if name not in columns}})

    def _recordings(self) -> NDArray[np.int64]:
        """Recordings of each unit."""
        codes = self.units.codes
        recordings = coded(self.store.table, "recording")[0]
        pairs = np.unique(np.stack([codes, recordings])[:, codes >= 0], axis=1)
        return np.bincount(pairs[0], minlength=len(self.units)).astype(np.int64)
