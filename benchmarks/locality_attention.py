"""Benchmark of locality-aware attention, forward and backward, against PyTorch's ways to compute it.

    python -m benchmarks.locality_attention                  # this machine's CPU, one thread
    python -m benchmarks.locality_attention --device cuda
    python -m benchmarks.locality_attention --quick          # does it run at all?

Short sequences are the paper's: six frames, all rows at once or one decoding step. Long ones are what the op offers to
others. ``--grid standard`` thins the cross product of all sizes to what a CPU core does in minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from sgela_fast.benchmarks import locality_attention_providers as providers
from sgela_fast.benchmarks.harness.arguments import Choice, Grid
from sgela_fast.benchmarks.harness.command import main
from sgela_fast.benchmarks.harness.suite import Case, Cost, Suite

ITEM_BYTES = {"float32": 4, "bfloat16": 2}
FRAMES = 6
# Half the frames for the paper's windows; a fixed width for long sequences.
SIGMA = {"short": FRAMES / 2, "long": 32.0}
DTYPES = ("float32", "bfloat16")
BATCHES = (1, 8, 128, 1024, 4096)
LARGEST_BATCH_ON_CUDA = 65536
LONG = tuple(product((1, 8), (64, 256, 512, 2048)))  # sequences (batch times heads) and length
FEW_BATCHES, FEW_LONG = (1, 128, 4096), ((8, 64), (8, 512), (1, 2048))
# Short sequences: dtype, K, query rows and batches. Long ones: dtype, K and (sequences, length).
Short = tuple[tuple[str, int, int, tuple[int, ...]], ...]
Long = tuple[tuple[str, int, tuple[tuple[int, int], ...]], ...]
GRIDS: dict[Grid, tuple[Short, Long]] = {
    "quick": (
        (("float32", 64, FRAMES, (8,)), ("bfloat16", 64, 1, (8,))),
        (("float32", 64, ((2, 64),)),),
    ),
    "standard": (
        (
            ("float32", 256, FRAMES, BATCHES),
            ("float32", 256, 1, BATCHES),
            ("float32", 64, FRAMES, (128, 4096)),
            ("bfloat16", 256, FRAMES, FEW_BATCHES),
            ("bfloat16", 256, 1, FEW_BATCHES),
        ),
        (("float32", 64, LONG), ("float32", 256, FEW_LONG), ("bfloat16", 64, FEW_LONG)),
    ),
    "full": (
        tuple((dtype, width, rows, BATCHES) for dtype, width, rows in product(DTYPES, (256, 64), (FRAMES, 1))),
        tuple((dtype, width, LONG) for dtype, width in product(DTYPES, (64, 256))),
    ),
}


def cost(batch: int, queries: int, keys: int, width: int, item_bytes: int, *, backward: bool) -> Cost:
    """Work of one call with value = key.

    Forward reads query and key and writes the context and one loss a sequence; two matrix products. Backward reads
    query, key and the context's gradient and writes two gradients; five products, one of which repeats the scores. The
    context is not needed: delta = sum_j a_j D_j.
    """
    rows, columns = batch * queries * width * item_bytes, batch * keys * width * item_bytes
    product_flop = 2.0 * batch * queries * keys * width
    forward = Cost(2 * product_flop, 2 * rows + columns + 4 * batch)
    if not backward:
        return forward
    return Cost(forward.flop + 5 * product_flop, forward.bytes + 3 * rows + 2 * columns + 4 * batch)


def sizes(grid: Grid, device: str, given: tuple[int, ...] = ()) -> Iterator[tuple[str, str, int, int, int, int]]:
    """Family, dtype, B, Tq, Tk and K of every case; with given numbers of sequences short ones alone."""
    short, long = GRIDS[grid]
    for dtype, width, rows, batches in short:
        larger = (LARGEST_BATCH_ON_CUDA,) if device == "cuda" and max(batches) == 4096 else ()
        for batch in given or (*batches, *larger):
            yield "short", dtype, batch, rows, FRAMES, width
    if given:
        return
    for dtype, width, shapes in long:
        for heads, length in shapes:
            yield "long", dtype, heads, length, length, width


def case_of(family: str, dtype: str, batch: int, queries: int, keys: int, width: int, choice: Choice) -> list[Case]:
    """The forward case and the one with the backward pass."""
    cases = []
    for backward in (False, True):
        passes = "forward and backward" if backward else "forward"
        if family == "long":
            rows, axes = "long sequences", {"B·heads": batch, "T": queries, "K": width}
        else:
            rows = "one decoding step (Tq = 1, Tk = 6)" if queries == 1 else "all rows (Tq = Tk = 6)"
            axes = {"B": batch, "K": width}
        sizes_of_case = {"B": batch, "Tq": queries, "Tk": keys, "K": width}
        name = " ".join([passes, dtype, *(f"{axis}={value}" for axis, value in sizes_of_case.items())])
        settings: dict[str, int | float | str] = {
            **sizes_of_case,
            "family": family,
            "sigma": SIGMA[family],
            "backward": backward,
            "precision": choice.precision,
        }
        cases.append(
            Case(
                name=name,
                group=f"{passes}, {dtype}, {rows}",
                axes=axes,
                items=batch,
                cost=cost(batch, queries, keys, width, ITEM_BYTES[dtype], backward=backward),
                dtype=dtype,
                device=choice.device,
                clock="cpu",
                memory=_weighed(batch, queries, choice.grid),
                settings=settings,
            )
        )
    return cases


def _weighed(batch: int, queries: int, grid: Grid) -> bool:
    """Whether a case's peak memory is measured: the largest of each kind."""
    return (queries == FRAMES and batch >= 4096) or (batch, queries) in FEW_LONG[1:] or (grid, queries) == ("quick", 64)


def build(choice: Choice) -> Suite:
    """The suite for a device and a grid."""
    found = sizes(choice.grid, choice.device, choice.sizes)
    return Suite.of(
        providers,
        name="locality_attention",
        title="Locality-aware attention",
        unit="sequences",
        cases=(case for size in found for case in case_of(*size, choice)),
    )


if __name__ == "__main__":
    raise SystemExit(main("locality_attention"))
