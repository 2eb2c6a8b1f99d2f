"""Tiles of the `attention_decoder` kernels: which block sizes, warps and stages a problem gets.

Everything here is a pure function of sizes, so that tests can compile every configuration that can be chosen. The tiles
were chosen by compiling (registers, spills, shared memory on sm_80 and sm_90), not by timing. The cells' tiles are
those of `batched_lstm`'s forward with a tape, whose epilogue takes about as many registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from sgela_fast.kernels.batched_lstm_tuning import (
    ALIGNMENT,
    ARITHMETICS,
    FEWEST_ROWS,
    MANY_PROGRAMS,
    Arithmetic,
    Tiles,
    candidates,
    choose_tiles,
)

# Hidden units that an attention kernel is compiled for; a problem takes the next one that holds it. A program keeps
# whole states in registers: beyond the last one there is no kernel.
WIDTHS = (64, 128, 256, 512, 1024)


class AttentionTiles(NamedTuple):
    """Configuration of an attention kernel: windows, hidden units; output units and depth of a product; the rest."""

    block_m: int
    block_k: int
    block_n: int
    block_d: int
    num_warps: int
    num_stages: int


class AttentionConfiguration(NamedTuple):
    """What an attention kernel can be compiled with."""

    arithmetic: Arithmetic
    tiles: AttentionTiles
    aligned: bool


class CellConfiguration(NamedTuple):
    """What a cell kernel can be compiled with, and the architecture that it is chosen for."""

    arithmetic: Arithmetic
    tiles: Tiles
    capability: int
    aligned: bool


def choose_cell_tiles(arithmetic: Arithmetic, groups: int, batch: int, hidden: int, capability: int) -> Tiles:
    """Tiles of the cells for G = ``groups``, B = ``batch`` and K = ``hidden``."""
    return choose_tiles("taped", arithmetic, groups, batch, hidden, capability)


def most_units(hidden: int) -> int:
    """The most hidden units that the kernels hold, for multiples of 16 or for numbers such as ``hidden``."""
    return WIDTHS[-1] if hidden % ALIGNMENT == 0 else WIDTHS[-2]


def choose_attention_tiles(arithmetic: Arithmetic, groups: int, batch: int, hidden: int) -> AttentionTiles:
    """Tiles of the attention kernel.

    Args:
        arithmetic: ``half`` for bfloat16 and float16, else the precision of float32 products.
        groups: G.
        batch: B.
        hidden: K, at most :func:`most_units`.
    """
    width = next(width for width in WIDTHS if width >= hidden)
    few, large = _attention_tiles(arithmetic, width)
    programs = groups * -(-batch // large.block_m)
    # Where K is no multiple of 16 nothing is read in vectors, and every element's address takes registers.
    many = batch > FEWEST_ROWS and programs >= MANY_PROGRAMS and hidden % ALIGNMENT == 0
    return large if many else few


def parts_of(tiles: AttentionTiles, groups: int, batch: int, hidden: int) -> int:
    """Programs that share the attentional layer of a batch tile: as many as make enough programs in all."""
    programs = groups * -(-batch // tiles.block_m)
    chunks = -(-hidden // tiles.block_n)
    return max(1, min(chunks, MANY_PROGRAMS // max(programs, 1)))


def _attention_tiles(arithmetic: Arithmetic, width: int) -> tuple[AttentionTiles, AttentionTiles]:
    """Tiles for few windows and for many: a thread holds up to 32 units of states, contexts and keys each."""
    block_d, stages = _DEPTHS[arithmetic]
    rows = max(16, min(64, 8192 // width))
    units = 64 if arithmetic == "half" else 32
    few_warps, many_warps = (max(2 if width == WIDTHS[0] else 4, count * width // 1024) for count in (16, rows))
    return (
        AttentionTiles(16, width, 32, block_d, few_warps, stages),
        AttentionTiles(rows, width, units, block_d, many_warps, stages),
    )


# Depth of the attentional layer's products, and stages.
_DEPTHS: dict[Arithmetic, tuple[int, int]] = {"half": (64, 3), "ieee": (16, 2), "tf32": (32, 2), "tf32x3": (32, 2)}


def all_attention_configurations() -> Iterator[AttentionConfiguration]:
    """Every configuration that :func:`choose_attention_tiles` can choose.

    TF32 is left out: it has the tiles of three products of TF32, which take more.
    """
    for arithmetic, width in product((name for name in ARITHMETICS if name != "tf32"), WIDTHS):
        few, large = _attention_tiles(arithmetic, width)
        for tiles in dict.fromkeys((few, large)):
            yield AttentionConfiguration(arithmetic, tiles, True)
        if width <= most_units(1):
            yield AttentionConfiguration(arithmetic, few, False)


def all_cell_configurations(capability: int) -> Iterator[CellConfiguration]:
    """Every configuration that :func:`choose_cell_tiles` can choose for devices of a capability."""
    for arithmetic in ARITHMETICS:
        for aligned in (True, False):
            for tiles in candidates("taped", arithmetic, capability, aligned):
                yield CellConfiguration(arithmetic, tiles, capability, aligned)
