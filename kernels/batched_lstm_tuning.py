"""Tiles of the `batched_lstm` phase kernels: which block sizes, warps and stages a problem gets.

Everything here is a pure function of sizes, so that tests can compile every configuration that can be chosen. The tiles
were chosen by compiling (registers, spills, shared memory on sm_80 and sm_90), not by timing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple

Side = Literal["forward", "taped", "backward"]
Arithmetic = Literal["half", "ieee", "tf32", "tf32x3"]

# A matrix instruction has 16 rows: up to here a batch gets programs of few hidden units each, so that there are many.
FEWEST_ROWS = 16
# Programs of one layer from which larger tiles are taken: two for each of an H200's 132 multiprocessors.
MANY_PROGRAMS = 264
# Depth of the products with the lowest layer's input, which is narrow as a rule (20 joints).
BLOCK_I = 32
# Compute capability (times ten) from which the compiler has products that read their operands from shared memory.
HOPPER = 90


class Tiles(NamedTuple):
    """Configuration of a phase kernel: windows and hidden units of a program, depth of a product; warps; stages."""

    block_m: int
    block_h: int
    block_d: int
    num_warps: int
    num_stages: int


class Configuration(NamedTuple):
    """What a phase kernel can be compiled with, and the architecture that it is chosen for."""

    side: Side
    arithmetic: Arithmetic
    tiles: Tiles
    capability: int
    aligned: bool


# Tiles for few rows, for most batches and, where larger ones read less from L2, for large batches: the largest that do
# not spill. The forward without a tape may take 128 x 64 windows and units in half precision: its
# accumulators are half of all registers, and a tape's addresses and six stores would spill.
_FORWARD: dict[Arithmetic, tuple[Tiles, ...]] = {
    "half": (Tiles(16, 16, 128, 2, 3), Tiles(64, 32, 64, 4, 3), Tiles(128, 32, 64, 8, 3)),
    "ieee": (Tiles(16, 16, 32, 4, 3), Tiles(64, 32, 16, 8, 3)),
    "tf32": (Tiles(16, 16, 64, 2, 3), Tiles(64, 32, 32, 4, 3)),
    "tf32x3": (Tiles(16, 16, 32, 2, 3), Tiles(64, 32, 32, 4, 3)),
}
_HOPPER_HALF = (*_FORWARD["half"][:2], Tiles(128, 64, 64, 8, 3))
_AMPERE_TF32X3 = (_FORWARD["tf32x3"][0], Tiles(64, 16, 32, 4, 3))
_BACKWARD: dict[Arithmetic, tuple[Tiles, ...]] = {
    "half": (Tiles(16, 32, 128, 2, 3), Tiles(64, 32, 64, 4, 4), Tiles(64, 64, 64, 8, 3)),
    "ieee": (Tiles(16, 32, 32, 4, 3), Tiles(64, 64, 16, 8, 3)),
    "tf32": (Tiles(16, 32, 64, 2, 3), Tiles(64, 32, 32, 4, 3)),
    "tf32x3": (Tiles(16, 32, 64, 2, 3), Tiles(64, 32, 32, 4, 3)),
}
# Where K is no multiple of 16 nothing is read in vectors, and every element's address takes registers.
_UNALIGNED_FORWARD = Tiles(64, 32, 16, 8, 3)
_UNALIGNED_TF32X3 = Tiles(64, 16, 16, 8, 3)
_UNALIGNED_BACKWARD = Tiles(64, 32, 32, 8, 3)
ALIGNMENT = 16
ARITHMETICS = tuple(_FORWARD)
SIDES: tuple[Side, ...] = ("forward", "taped", "backward")


def candidates(side: Side, arithmetic: Arithmetic, capability: int, aligned: bool) -> tuple[Tiles, ...]:
    """Tiles for few rows, for most batches and, where there is a third, for large batches; or one for all.

    Args:
        side: the forward kernel without or with a tape, or the backward kernel.
        arithmetic: ``half`` for bfloat16 and float16, else the precision of float32 products.
        capability: of the device, times ten.
        aligned: whether the hidden units are a multiple of 16.
    """
    if not aligned:
        if side == "backward":
            return (_UNALIGNED_BACKWARD,)
        return (_UNALIGNED_TF32X3 if arithmetic == "tf32x3" else _UNALIGNED_FORWARD,)
    if side == "backward":
        return _BACKWARD[arithmetic]
    if side == "forward" and arithmetic == "half" and capability >= HOPPER:
        return _HOPPER_HALF
    if arithmetic == "tf32x3" and capability < HOPPER:
        return _AMPERE_TF32X3
    return _FORWARD[arithmetic]


def choose_tiles(
    side: Side, arithmetic: Arithmetic, groups: int, batch: int, hidden: int, capability: int = HOPPER
) -> Tiles:
    """Tiles for G = ``groups``, B = ``batch`` and K = ``hidden``; other arguments as for :func:`candidates`."""
    few, *more = candidates(side, arithmetic, capability, hidden % ALIGNMENT == 0)
    if batch <= FEWEST_ROWS or not more:
        return few
    large = more[-1]
    programs = groups * _blocks(batch, large.block_m) * _blocks(hidden, large.block_h)
    return large if programs >= MANY_PROGRAMS else more[0]


def all_configurations(capability: int) -> Iterator[Configuration]:
    """Every configuration that :func:`choose_tiles` can choose for devices of a capability.

    The forward kernel without a tape is left out where it has the tiles of the one with a tape, which takes more.
    """
    for arithmetic, aligned in product(ARITHMETICS, (True, False)):
        taped = candidates("taped", arithmetic, capability, aligned)
        for side in SIDES:
            for tiles in candidates(side, arithmetic, capability, aligned):
                if side != "forward" or tiles not in taped:
                    yield Configuration(side, arithmetic, tiles, capability, aligned)


def _blocks(size: int, block: int) -> int:
    return -(-size // block)
