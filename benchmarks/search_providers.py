"""Who searches in ``benchmarks.search``, and the float64 answer they are held to.

Windows are unit vectors around 2,000 centres in a space of 96 true dimensions, queries are windows with noise. An
approximate search is held to a recall of 0.95, which is part of the job.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Unavailable
from sgela_fast.search.approximate import Approximate, import_faiss, tune
from sgela_fast.search.approximate import build as build_index
from sgela_fast.search.config import IndexConfig, Kind
from sgela_fast.search.nearest import nearest
from sgela_fast.search.rows import Positions

K, CENTRES, DIMENSIONS, NOISE = 10, 2_000, 96, 0.5
RECALL = 0.95
_truths: dict[tuple[int, int], Tensor] = {}
LARGEST_GRAPH = 100_000  # windows; a graph of a million takes too long to build
_BLOCK = 1 << 14


class Windows(NamedTuple):
    """Rows in memory, as the search asks for them."""

    values: Tensor

    @property
    def width(self) -> int:
        """D."""
        return self.values.shape[1]

    def __len__(self) -> int:
        return len(self.values)

    def block(self, positions: Positions) -> Tensor:
        """Rows at ascending positions; neighbouring ones are not copied."""
        run = len(positions) and positions[-1] - positions[0] + 1 == len(positions)
        return self.values[positions[0] : positions[-1] + 1] if run else self.values[torch.from_numpy(positions)]


def inputs_of(case: Case) -> tuple[Windows, Tensor]:
    """Windows ``(N, D)`` and queries ``(Q, D)`` of a case."""
    if case.device != "cpu":
        raise Unavailable("searching is on the CPU")
    windows, queries, width = (int(case.settings[name]) for name in ("windows", "queries", "width"))
    rows = _drawn(windows, width)
    noise = torch.randn(queries, width, generator=torch.Generator().manual_seed(1))
    chosen = rows.values[:: max(1, windows // queries)][:queries]
    return rows, torch.nn.functional.normalize(chosen + 0.02 * noise)


@functools.lru_cache(maxsize=1)
def _drawn(windows: int, width: int) -> Windows:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(DIMENSIONS, width, generator=generator) / DIMENSIONS**0.5
    centres = torch.randn(CENTRES, DIMENSIONS, generator=generator) @ directions
    values = torch.empty(windows, width)
    for block in values.split(_BLOCK):
        torch.randn(block.shape, generator=generator, out=block)
        block.mul_(NOISE).add_(centres[torch.randint(CENTRES, (len(block),), generator=generator)])
        block.div_(block.norm(dim=1, keepdim=True))
    return Windows(values)


def truth(case: Case) -> Tensor:
    """Scores of the K nearest windows of each query in float64, ``(Q, K)``, best first."""
    windows, queries = int(case.settings["windows"]), int(case.settings["queries"])
    if (windows, queries) not in _truths:
        rows, wanted = inputs_of(case)
        best = torch.full((queries, K), -torch.inf, dtype=torch.float64)
        for block in rows.values.split(_BLOCK):
            both = torch.cat([best, wanted.double() @ block.double().T], dim=1)
            best = both.topk(K, dim=1).values
        _truths[windows, queries] = best
    return _truths[windows, queries]


def expected(case: Case, answer: str) -> Outputs:
    """Scores, the best score alone, or a recall of 1."""
    if answer == "recall":
        return {"recall": torch.ones(1, dtype=torch.float64)}
    return {"scores": truth(case)} if answer == "full" else {"best": truth(case)[:, 0]}


def tolerance(case: Case, precision: str) -> dict[str, float]:
    """Scores are rounded to float32 at the end, and products of length 1 in between."""
    return {"scores": 2e-6, "best": 2e-6, "recall": 1 - RECALL}


def prepare_exact(case: Case) -> Job:
    """This package's exhaustive search."""
    rows, queries = inputs_of(case)
    numbers = np.arange(len(rows))

    def job() -> Outputs:
        return {"scores": torch.from_numpy(nearest(queries, rows, K, positions=numbers, numbers=numbers)[0])}

    return job


def prepare_product(case: Case) -> Job:
    """One product of all queries and all windows, and the largest score of each query."""
    rows, queries = inputs_of(case)
    return lambda: {"best": (queries @ rows.values.T).amax(dim=1)}


def prepare_topk(case: Case) -> Job:
    """One product and ``torch.topk``: the matrix of all scores is in memory."""
    rows, queries = inputs_of(case)
    return lambda: {"scores": (queries @ rows.values.T).topk(K, dim=1).values}


def prepare_flat(case: Case) -> Job:
    """FAISS ``IndexFlatIP``."""
    faiss = _faiss()
    rows, queries = inputs_of(case)
    index = faiss.IndexFlatIP(rows.width)
    index.add(rows.values.numpy())
    return lambda: {"scores": torch.from_numpy(index.search(queries.numpy(), K)[0])}


def prepare_ivf(case: Case) -> Job:
    """This package's search through inverted lists."""
    return _approximate(case, "ivf")


def prepare_hnsw(case: Case) -> Job:
    """This package's search along a graph of neighbours."""
    if int(case.settings["windows"]) > LARGEST_GRAPH:
        raise Unavailable("the graph takes too long to build")
    return _approximate(case, "hnsw")


def _approximate(case: Case, kind: Kind) -> Job:
    rows, queries = inputs_of(case)
    numbers = np.arange(len(rows))
    index = _index(len(rows), rows.width, kind)
    last = truth(case)[:, -1:].numpy() - 1e-6

    def job() -> Outputs:
        scores: NDArray[Any] = index.nearest(queries, rows, K, allowed=None, numbers=numbers, exclusions=[])[0]
        return {"recall": torch.tensor([(scores >= last).mean()], dtype=torch.float64)}

    return job


@functools.lru_cache(maxsize=2)
def _index(windows: int, width: int, kind: Kind) -> Approximate:
    """Built and tuned once for all numbers of queries."""
    _faiss()
    rows = _drawn(windows, width)
    # A little more than what is asked for: the sample that sets the effort is another one.
    index = build_index(rows, IndexConfig(kind=kind, recall=0.97))
    tune(index, rows, np.arange(windows))
    return index


def _faiss() -> Any:
    try:
        faiss = import_faiss()
    except ImportError as error:
        raise Unavailable(str(error)) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


PROVIDERS = (
    Provider("exact", prepare_exact, note="tiles, candidates scored again in float64"),
    Provider("product", prepare_product, answer="best", note="one matrix product, best score alone"),
    Provider("topk", prepare_topk, note="one matrix product and torch.topk, all scores in memory"),
    Provider("FAISS flat", prepare_flat, note="IndexFlatIP"),
    Provider("ivf", prepare_ivf, answer="recall", note="inverted lists, recall@10 of 0.95 or more"),
    Provider("hnsw", prepare_hnsw, answer="recall", note="graph of neighbours, recall@10 of 0.95 or more"),
)
