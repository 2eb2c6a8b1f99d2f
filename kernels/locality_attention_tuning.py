"""Tiles of the `locality_attention` kernels: which block sizes, warps and stages a problem gets.

Everything here is a pure function of sizes, so that tests can compile every configuration that can be chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple

Side = Literal["forward", "query", "key"]
Arithmetic = Literal["half", "ieee", "tf32", "tf32x3"]
KERNEL_OF_SIDE: dict[Side, str] = {
    "forward": "tiles_forward",
    "query": "tiles_backward_query",
    "key": "tiles_backward_key",
}

# Numbers of keys and features that a rows kernel is compiled for; a problem takes the next ones that hold it. Above ten
# keys registers run short and the compiler takes tens of seconds: the tiled kernels take over.
ROWS_KEYS = (6, 10)
ROWS_WIDTHS = (64, 128, 256, 512)
# With more query rows than this the tiled kernels, which spread them over programs, take over.
ROWS_MAX_QUERIES = 128
# Rows of keys, values and gradients that a thread can have a share of: not ten keys with values and both gradients.
_ROWS_MAX_BLOCKS = 20
# Elements of keys, values and gradients that a thread can hold beside its query row and addresses.
_ROWS_ELEMENTS_OF_A_THREAD = 144


class RowsTiles(NamedTuple):
    """Configuration of a rows kernel: keys, sequences and features of a program; warps; pipeline stages."""

    keys: int
    block_n: int
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


class Configuration(NamedTuple):
    """What a kernel can be compiled with, and the widest K and Kv that choose it (any beyond 128 for the last one)."""

    kernel: str
    arithmetic: Arithmetic
    separate_values: bool
    width: int
    tiles: RowsTiles | Tiles


def choose_rows_tiles(queries: int, keys: int, width: int, copies: int) -> tuple[RowsTiles, ...]:
    """Tiles for a short sequence, the heuristic choice first; none where the tiled kernels are the better choice.

    Args:
        queries: query rows Tq.
        keys: keys Tk.
        width: the larger of K and Kv.
        copies: how many blocks (Tk, width) stay in registers: see :func:`rows_copies`.
    """
    block_t = next((size for size in ROWS_KEYS if size >= keys), None)
    block_k = next((size for size in ROWS_WIDTHS if size >= width), None)
    if block_t is None or block_k is None or queries > ROWS_MAX_QUERIES or block_t * copies > _ROWS_MAX_BLOCKS:
        return ()
    return _rows_tiles(block_t, block_k, copies)


def rows_copies(backward: bool, separate_values: bool) -> int:
    """Blocks (Tk, K) that a rows kernel holds: keys, separate values in the forward, gradients in the backward."""
    return 1 + int(backward) + int(separate_values)


def _rows_tiles(keys: int, block_k: int, copies: int) -> tuple[RowsTiles, ...]:
    # A warp reads 256 features at a time, of one sequence or of several, which makes 16-byte accesses in half types
    # too; half of that where keys and two gradients would fill the registers. As long as one warp holds a sequence,
    # sums over features are shuffles alone, with no barrier.
    block_n = max(1, (256 if copies < 3 else 128) // block_k)
    elements = block_n * keys * block_k * copies
    num_warps = 1
    while elements > 32 * num_warps * _ROWS_ELEMENTS_OF_A_THREAD:
        num_warps *= 2
    tiles = RowsTiles(keys, block_n, block_k, num_warps)
    if num_warps == 1 and block_n == 1 and elements > 32 * 96:
        # Half the registers, so twice the warps of an SM, against a barrier for each sum: only a device can tell.
        return tiles, tiles._replace(num_warps=2)
    return (tiles,)


def choose_tiles(side: Side, arithmetic: Arithmetic, width: int) -> Tiles:
    """Tiles for a long sequence.

    Args:
        side: the forward kernel, or the backward kernel of the query or of the key side.
        arithmetic: ``half`` for bfloat16 and float16, else the precision of float32 products.
        width: the larger of K and Kv.
    """
    return next(tiles for limit, tiles in _TILES[side, _TABLE[arithmetic]] if limit is None or width <= limit)


# Delta is a plain reduction over the context's features.
DELTA_TILES = Tiles(16, 0, 128, 0, False, 4, 1)

_TABLE: dict[Arithmetic, str] = {"half": "half", "ieee": "ieee", "tf32": "tf32", "tf32x3": "tf32"}
# (side, arithmetic) -> (widest K or Kv, tiles). Chosen by compiling: the largest tiles that do not spill registers on
# sm_80 and sm_90. Exact products go through the plain float32 units and need small tiles.
_TILES: dict[tuple[Side, str], tuple[tuple[int | None, Tiles], ...]] = {
    ("forward", "half"): (
        (64, Tiles(64, 64, 64, 64, True, 4, 2)),
        (128, Tiles(64, 64, 128, 128, True, 4, 2)),
        (None, Tiles(64, 64, 64, 256, False, 8, 2)),
    ),
    ("query", "half"): (
        (64, Tiles(64, 32, 64, 64, True, 4, 2)),
        (128, Tiles(64, 32, 128, 128, True, 4, 2)),
        (None, Tiles(64, 64, 64, 128, False, 8, 2)),
    ),
    ("key", "half"): (
        (64, Tiles(32, 64, 64, 64, True, 4, 2)),
        (128, Tiles(64, 64, 128, 128, True, 8, 2)),
        (None, Tiles(64, 64, 64, 128, False, 8, 2)),
    ),
    ("forward", "ieee"): (
        (64, Tiles(64, 32, 32, 64, False, 8, 2)),
        (None, Tiles(64, 32, 32, 128, False, 8, 2)),
    ),
    ("query", "ieee"): (
        (64, Tiles(32, 32, 32, 64, False, 8, 2)),
        (None, Tiles(64, 32, 32, 128, False, 8, 2)),
    ),
    ("key", "ieee"): ((None, Tiles(64, 32, 32, 64, False, 8, 2)),),
    ("forward", "tf32"): (
        (64, Tiles(64, 32, 32, 64, False, 8, 2)),
        (None, Tiles(64, 32, 32, 128, False, 8, 2)),
    ),
    ("query", "tf32"): ((None, Tiles(64, 32, 32, 64, False, 8, 2)),),
    ("key", "tf32"): ((None, Tiles(32, 32, 32, 64, False, 8, 2)),),
}


def all_configurations() -> Iterator[Configuration]:
    """Every configuration that the functions above can choose."""
    for arithmetic in _TABLE:
        for keys, width in product(ROWS_KEYS, ROWS_WIDTHS):
            for separate, backward in product((False, True), repeat=2):
                kernel = "rows_backward" if backward else "rows_forward"
                if arithmetic in ("half", "ieee"):
                    for rows_tiles in choose_rows_tiles(1, keys, width, rows_copies(backward, separate)):
                        yield Configuration(kernel, arithmetic, separate, width, rows_tiles)
        for side, kernel in KERNEL_OF_SIDE.items():
            for limit, tiles in _TILES[side, _TABLE[arithmetic]]:
                for separate in (False, True):
                    yield Configuration(kernel, arithmetic, separate, limit or 256, tiles)
