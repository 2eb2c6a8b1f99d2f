"""Tiles of the `batched_lstm` phase kernels: which block sizes, warps and stages a problem gets.

Everything here is a pure function of sizes, so that tests can compile every configuration that can be chosen. The tiles
were chosen by compiling (registers, spills, shared memory on sm_80 and sm_90), not by timing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

Side = Literal["forward", "backward"]
Arithmetic = Literal["half", "ieee", "tf32", "tf32x3"]
SIDES: tuple[Side, ...] = ("forward", "backward")
ARITHMETICS: tuple[Arithmetic, ...] = ("half", "ieee", "tf32", "tf32x3")

# A matrix instruction has 16 rows: up to here a batch gets programs of its own for few hidden units each.
FEWEST_ROWS = 16
# Programs of one layer from which larger tiles are taken: two for each of an H200's 132 multiprocessors.
MANY_PROGRAMS = 264
# Widths of the lowest layer's input that one block holds; wider ones are read in blocks of the hidden dimension's size.
NARROW_INPUT = 32


class Tiles(NamedTuple):
    """Configuration of a phase kernel: windows and hidden units of a program, depth of a product; warps; stages."""

    block_m: int
    block_h: int
    block_d: int
    num_warps: int
    num_stages: int


class Configuration(NamedTuple):
    """What a phase kernel can be compiled with."""

    side: Side
    arithmetic: Arithmetic
    tiles: Tiles
    block_i: int  # depth of the product with the lowest layer's input; 0 in the backward


# (side, arithmetic) -> tiles for few rows, for most batches and, where larger ones pay, for large batches.
_TILES: dict[tuple[Side, Arithmetic], tuple[Tiles, ...]] = {
    ("forward", "half"): (Tiles(16, 16, 128, 2, 3), Tiles(64, 32, 64, 4, 3), Tiles(128, 64, 64, 8, 3)),
    ("backward", "half"): (Tiles(16, 32, 128, 2, 3), Tiles(64, 32, 64, 4, 4), Tiles(128, 64, 64, 8, 3)),
    ("forward", "ieee"): (Tiles(16, 16, 32, 4, 3), Tiles(64, 32, 16, 8, 3)),
    ("backward", "ieee"): (Tiles(16, 32, 32, 4, 3), Tiles(64, 64, 16, 8, 3)),
    ("forward", "tf32"): (Tiles(16, 16, 64, 2, 3), Tiles(64, 32, 32, 4, 3)),
    ("backward", "tf32"): (Tiles(16, 32, 64, 2, 3), Tiles(64, 32, 32, 4, 3)),
    ("forward", "tf32x3"): (Tiles(16, 16, 64, 2, 3), Tiles(64, 32, 32, 4, 3)),
    ("backward", "tf32x3"): (Tiles(16, 32, 64, 2, 3), Tiles(64, 32, 32, 4, 3)),
}


def choose_tiles(side: Side, arithmetic: Arithmetic, groups: int, batch: int, hidden: int) -> Tiles:
    """Tiles for a problem.

    Args:
        side: the forward or the backward kernel.
        arithmetic: ``half`` for bfloat16 and float16, else the precision of float32 products.
        groups: independent LSTMs G.
        batch: windows B.
        hidden: hidden units K.
    """
    few, *more = _TILES[side, arithmetic]
    if batch <= FEWEST_ROWS:
        return few
    large = more[-1]
    return large if groups * _tiles(batch, large.block_m) * _tiles(hidden, large.block_h) >= MANY_PROGRAMS else more[0]


def choose_block_i(features: int, tiles: Tiles) -> int:
    """Depth of the product with the lowest layer's input of ``features`` columns."""
    return NARROW_INPUT if features <= NARROW_INPUT else tiles.block_d


def all_configurations() -> Iterator[Configuration]:
    """Every configuration that the functions above can choose."""
    for (side, arithmetic), choices in _TILES.items():
        for tiles in choices:
            depths = sorted({NARROW_INPUT, tiles.block_d}) if side == "forward" else [0]
            for block_i in depths:
                yield Configuration(side, arithmetic, tiles, block_i)


def _tiles(size: int, block: int) -> int:
    return -(-size // block)
