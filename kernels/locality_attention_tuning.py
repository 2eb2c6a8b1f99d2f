"""Tiles of the `locality_attention` kernels: which block sizes, warps and stages a problem gets.

Everything here is a pure function of sizes, so that tests can compile every configuration that can be chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

Side = Literal["forward", "query", "key"]
Arithmetic = Literal["half", "ieee", "tf32", "tf32x3"]

# Short sequences up to this many keys and query rows go to the kernels that hold a sequence in registers.
ROWS_MAX_KEYS = 16
ROWS_MAX_QUERIES = 128
# Elements (T x K) of one sequence that a program can hold; beyond, the tiled kernels take over.
ROWS_MAX_ELEMENTS = 8192
ROWS_WIDTHS = (32, 64, 128, 256, 512, 1024)


class RowsTiles(NamedTuple):
    """Configuration of a rows kernel: sequences, keys and features of a program; warps; pipeline stages."""

    block_n: int
    block_t: int
    block_k: int
    num_warps: int
    num_stages: int = 1


class Tiles(NamedTuple):
    """Configuration of a tiles kernel: query rows, keys, features of a product, features of the output; the rest."""

    block_m: int
    block_t: int
    block_d: int
    block_o: int
    whole: bool
    num_warps: int
    num_stages: int


def choose_rows_tiles(queries: int, keys: int, width: int, copies: int) -> RowsTiles | None:
    """Tiles for a short sequence, or ``None`` where the tiled kernels are the better choice.

    Args:
        queries: query rows Tq.
        keys: keys Tk.
        width: the larger of K and Kv.
        copies: blocks (T, K) that stay in registers: keys, values if they differ, and in the backward their gradients.
    """
    if keys > ROWS_MAX_KEYS or queries > ROWS_MAX_QUERIES or width > ROWS_WIDTHS[-1]:
        return None
    block_t = 8 if keys <= 8 else 16
    block_k = next(size for size in ROWS_WIDTHS if size >= width)
    if block_t * block_k > ROWS_MAX_ELEMENTS:
        return None
    return _rows_tiles(block_t, block_k, copies)


def _rows_tiles(block_t: int, block_k: int, copies: int) -> RowsTiles:
    # A warp that has a sequence to itself sums over features by shuffles alone, with no barrier. It can hold 128
    # registers a thread of keys, values and gradients; below 64 of keys it takes further sequences.
    block_n = max(1, 2048 // (block_t * block_k))
    num_warps = max(1, block_n * block_t * block_k * copies // (32 * 128))
    return RowsTiles(block_n, block_t, block_k, num_warps)


def choose_tiles(side: Side, arithmetic: Arithmetic, width: int) -> Tiles:
    """Tiles for a long sequence.

    Args:
        side: the forward kernel, or the backward kernel of the query or of the key side.
        arithmetic: ``half`` for bfloat16 and float16, else the precision of float32 products.
        width: the larger of K and Kv.
    """
    table = _TILES[side, arithmetic == "half"]
    return next(tiles for limit, tiles in table if limit is None or width <= limit)


# Delta is a plain reduction over the context's features.
DELTA_TILES = Tiles(16, 0, 128, 0, False, 4, 1)

_TILES: dict[tuple[Side, bool], tuple[tuple[int | None, Tiles], ...]] = {
    ("forward", True): (
        (64, Tiles(64, 64, 64, 64, True, 4, 2)),
        (128, Tiles(64, 64, 128, 128, True, 4, 2)),
        (None, Tiles(64, 64, 64, 256, False, 8, 2)),
    ),
    ("query", True): (
        (64, Tiles(64, 64, 64, 64, True, 4, 2)),
        (128, Tiles(64, 64, 128, 128, True, 8, 2)),
        (None, Tiles(64, 64, 64, 128, False, 8, 2)),
    ),
    ("key", True): (
        (64, Tiles(64, 64, 64, 64, True, 4, 2)),
        (128, Tiles(64, 64, 128, 128, True, 8, 2)),
        (None, Tiles(64, 64, 64, 128, False, 8, 2)),
    ),
    ("forward", False): ((None, Tiles(32, 32, 32, 128, False, 4, 2)),),
    ("query", False): ((None, Tiles(32, 32, 32, 64, False, 4, 2)),),
    ("key", False): ((None, Tiles(32, 32, 32, 64, False, 4, 2)),),
}


def all_configurations() -> Iterator[tuple[str, str, RowsTiles | Tiles]]:
    """Every (kernel, arithmetic, tiles) that the functions above can choose."""
    for block_t in (8, 16):
        for block_k in ROWS_WIDTHS:
            if block_t * block_k <= ROWS_MAX_ELEMENTS:
                for copies in (1, 2):
                    yield "rows_forward", "float32", _rows_tiles(block_t, block_k, copies)
                    yield "rows_backward", "float32", _rows_tiles(block_t, block_k, 2 * copies)
