"""Settings of the search. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sgela_fast.errors import ConfigError
from sgela_fast.models.checks import require_at_least, require_choices

Kind = Literal["exact", "ivf", "hnsw"]
Metric = Literal["cosine", "inner-product", "euclidean"]
Feature = Literal["mean", "concat"]
Level = Literal["window", "sequence", "recording", "person"]


@dataclass(frozen=True)
class IndexConfig:
    """What is kept beside a store to search it faster.

    Attributes:
        kind: ``exact`` keeps one prepared row a window, ready for a matrix product; ``ivf`` (inverted lists) and
            ``hnsw`` (a graph of neighbours) look at a part of the windows only, and need FAISS.
        metric: ``cosine``, ``inner-product``, or ``euclidean``, whose score is minus the distance.
        feature: a window's row: the ``mean`` over its frames, or all frames side by side (``concat``).
        dtype: of the rows that ``exact`` keeps.
        lists: inverted lists of ``ivf``; 0 for four times the square root of the number of windows.
        links: neighbours of each window in ``hnsw``.
        effort: lists looked at (``ivf``) or candidates kept (``hnsw``); 0 for the least that reaches ``recall``.
        recall: share of the ten nearest windows to be found.
        recall_queries: windows of the store for which that share is measured.
        tile_mb: memory for one tile of rows and scores, in MiB.
        seed: of the sample.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    kind: Kind = "exact"
    metric: Metric = "cosine"
    feature: Feature = "mean"
    dtype: Literal["float32", "float16"] = "float32"
    lists: int = 0
    links: int = 32
    effort: int = 0
    recall: float = 0.95
    recall_queries: int = 200
    tile_mb: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        require_choices(
            "index",
            self,
            {
                "kind": get_args(Kind),
                "metric": get_args(Metric),
                "feature": get_args(Feature),
                "dtype": ("float32", "float16"),
            },
        )
        require_at_least("index", self, 0, "lists", "effort", "seed")
        require_at_least("index", self, 1, "tile_mb", "recall_queries")
        require_at_least("index", self, 2, "links")
        if not 0 < self.recall <= 1:
            raise ConfigError(f"index.recall is {self.recall}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class RerankConfig:
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017).

    Attributes:
        candidates: nearest windows that are ranked anew; the others are left out of the result.
        neighbours: k1, the neighbours in which reciprocity is looked for.
        expansion: k2, the neighbours over which the encodings of neighbourhoods are averaged.
        weight: lambda, the share of the plain distance in the new one.

    Raises:
        ConfigError: a setting is out of range.
    """

    candidates: int = 50
    neighbours: int = 20
    expansion: int = 6
    weight: float = 0.3

    def __post_init__(self) -> None:
        require_at_least("rerank", self, 1, "candidates", "neighbours", "expansion")
        if not 0 <= self.weight <= 1:
            raise ConfigError(f"rerank.weight is {self.weight}; it must be from 0 to 1")
        if self.expansion > self.neighbours:
            raise ConfigError(f"rerank.expansion is {self.expansion}; it must be at most rerank.neighbours")


@dataclass(frozen=True)
class CalibrationConfig:
    """How the threshold below which a person counts as unknown is found.

    Attributes:
        false_match_rate: share of searches for persons who are not in the store that may still name somebody.
        level: what is searched for when the threshold is used; each level has a threshold of its own.
        best: best matches of a query window that are averaged; see :meth:`sgela_fast.search.index.Index.search`.
        sequence: windows of a sequence.
        queries: at most so many validation windows are searched for, whole recordings drawn at random; 0 for all.
        resamples: bootstrap resamples of persons for the intervals; 0 for no intervals.
        confidence: of the intervals.
        seed: of the draws.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    false_match_rate: float = 0.01
    level: Level = "recording"
    best: int = 1
    sequence: int = 10
    queries: int = 20000
    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        require_choices("calibration", self, {"level": get_args(Level)})
        require_at_least("calibration", self, 1, "best", "sequence")
        require_at_least("calibration", self, 0, "queries", "resamples", "seed")
        for name in ("false_match_rate", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"calibration.{name} is {getattr(self, name)}; it must be between 0 and 1")
