"""`horizontal_pyramid_pooling` on CUDA devices: Triton kernels, forward and backward, and their launches.

    y_P = mean_{p in P} x_p + max_{p in P} x_p          for each strip P of each bin
    dx_p = sum_{P with p} dy_P / |P| + sum_{P with p as first maximum} dy_P

Forward, a program owns a tile of maps, reads each pixel once, reduces it to the blocks that all bins have in common, in
registers, and these to the strips of every bin. Where there are too many blocks for that, each bin is a launch of its
own. Backward, a program owns a tile of maps and writes every pixel once: it looks up the strips that the pixel lies in,
a gradient and a position for each bin. No atomics, so that results are the same bit for bit.

Prefixes: i_ index, o_ offsets, p_ pointers, b_ values of a block, m_ masks. M maps, L blocks, P pixels of a block.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from sgela_fast.kernels.launch import Launch

# More blocks of a map than this are not combined in registers.
MOST_BLOCKS = 64
# Values of a program's tile.
TILE = 2048
_TYPES = {torch.float64: tl.float64}
# Sizes that change from call to call and that no address's alignment depends on: one compilation serves all.
_ANY_VALUE = ["channels", "tiles_of_image"]
_NO_POSITION = tl.constexpr(2**31 - 1)


@triton.jit
def _first_maximum(b_values, m_nan, b_position, m_inside, b_largest, m_has_nan):
    """Positions of what counts as maximum: the first NaN, else the first of the largest values. Along the last axis."""
    m_wanted = tl.where(m_has_nan, m_nan, b_values == b_largest)
    return tl.min(tl.where(m_wanted & m_inside, b_position, _NO_POSITION), 2)


@triton.jit(do_not_specialize=_ANY_VALUE)
def pool_forward(
    p_features,
    p_strips,
    p_positions,
    channels,
    tiles_of_image,
    first_block,
    width,
    stride_n,
    stride_c,
    stride_h,
    stride_w,
    map_stride,
    strip_stride,
    BINS: tl.constexpr,
    PLACES: tl.constexpr,
    BLOCK_STRIPS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_P: tl.constexpr,
    EXACT: tl.constexpr,
):
    """Strips, and positions if they are wanted, of BLOCK_M maps of one image.

    Args:
        p_features: maps, whose pixels are `stride_h` and `stride_w` apart.
        p_strips: results; strip s of map m at `m * map_stride + s * strip_stride`.
        p_positions: int32 in the same places, or None.
        channels: maps of an image.
        tiles_of_image: programs for an image.
        first_block: of those that this launch reduces; not 0 only where there is one bin, whose strips the blocks are.
        width: W.
        BINS: numbers of strips; PLACES: the first strip of each in the results; BLOCK_STRIPS: powers of two that hold
            the strips of each, or those of this launch.
        BLOCKS: blocks of a map; BLOCK_PIXELS: pixels of one.
        BLOCK_L: blocks of this launch, a power of two; BLOCK_P: pixels of a block at a time.
        EXACT: type of the arithmetic.
    """
    i_program = tl.program_id(0)
    i_image = (i_program // tiles_of_image).to(tl.int64)
    o_c = (i_program % tiles_of_image) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_l = first_block + tl.arange(0, BLOCK_L)
    m_c = o_c < channels
    m_l = o_l < BLOCKS
    p_map = p_features + i_image * stride_n + o_c.to(tl.int64) * stride_c
    b_sum = tl.zeros([BLOCK_M, BLOCK_L], EXACT)
    b_largest = tl.full([BLOCK_M, BLOCK_L], -float("inf"), EXACT)
    b_nan = tl.zeros([BLOCK_M, BLOCK_L], tl.int32)
    b_position = tl.full([BLOCK_M, BLOCK_L], _NO_POSITION, tl.int32)
    for first in range(0, BLOCK_PIXELS, BLOCK_P):
        o_p = first + tl.arange(0, BLOCK_P)
        o_pixel = o_l[:, None] * BLOCK_PIXELS + o_p[None, :]  # (L, P)
        m_pixel = (m_l[:, None] & (o_p < BLOCK_PIXELS)[None, :])[None]
        o_memory = (o_pixel // width).to(tl.int64) * stride_h + (o_pixel % width) * stride_w
        b_pixel = tl.load(p_map[:, None, None] + o_memory[None], mask=m_c[:, None, None] & m_pixel, other=0.0)
        b_pixel = b_pixel.to(EXACT)  # (M, L, P)
        b_sum += tl.sum(b_pixel, 2)
        m_nan = (b_pixel != b_pixel) & m_pixel
        b_chunk = tl.max(tl.where(m_pixel & (m_nan == 0), b_pixel, -float("inf")), 2)
        if p_positions is not None:
            b_chunk_nan = tl.max(m_nan.to(tl.int32), 2)
            b_first = _first_maximum(
                b_pixel, m_nan, o_pixel[None], m_pixel, b_chunk[:, :, None], b_chunk_nan[:, :, None] > 0
            )
            m_taken = (b_nan == 0) & ((b_chunk_nan > 0) | (b_chunk > b_largest) | (b_position == _NO_POSITION))
            b_position = tl.where(m_taken, b_first, b_position)
            b_nan |= b_chunk_nan
        b_largest = tl.maximum(b_largest, b_chunk)
    p_strips += (i_image * channels + o_c)[:, None] * map_stride
    if p_positions is not None:
        p_positions += (i_image * channels + o_c)[:, None] * map_stride
    for i in tl.static_range(len(BINS)):
        o_s = first_block + tl.arange(0, BLOCK_STRIPS[i])
        # Which blocks a strip is made of. (1, S, L)
        m_part = ((o_l // (BLOCKS // BINS[i]))[None, :] == o_s[:, None])[None] & m_l[None, None, :]
        b_strip = tl.sum(tl.where(m_part, b_sum[:, None, :], 0.0), 2)  # (M, S)
        b_top = tl.max(tl.where(m_part, b_largest[:, None, :], -float("inf")), 2)
        b_value = b_strip * tl.full([1, 1], BINS[i] / (BLOCKS * BLOCK_PIXELS), EXACT) + b_top
        o_memory = (PLACES[i] + o_s)[None, :].to(tl.int64) * strip_stride
        m_strip = m_c[:, None] & (o_s < BINS[i])[None, :]
        tl.store(p_strips + o_memory, b_value.to(p_strips.dtype.element_ty), mask=m_strip)
        if p_positions is not None:
            m_nan = b_nan[:, None, :] > 0
            m_has_nan = tl.max(tl.where(m_part, b_nan[:, None, :], 0), 2)[:, :, None] > 0
            b_first = _first_maximum(
                b_largest[:, None, :], m_nan, b_position[:, None, :], m_part, b_top[:, :, None], m_has_nan
            )
            tl.store(p_positions + o_memory, b_first, mask=m_strip)


@triton.jit(do_not_specialize=_ANY_VALUE)
def pool_backward(
    p_grad_strips,
    p_positions,
    p_grad_features,
    channels,
    tiles_of_image,
    image_stride,
    channel_stride,
    pixel_stride,
    grad_map_stride,
    grad_strip_stride,
    map_stride,
    strip_stride,
    BINS: tl.constexpr,
    PLACES: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    EXACT: tl.constexpr,
):
    """Gradients of BLOCK_M maps of one image, BLOCK_Q pixels at a time.

    Args:
        p_grad_strips: gradient of strip s of map m at `m * grad_map_stride + s * grad_strip_stride`.
        p_positions: int32, at `m * map_stride + s * strip_stride`.
        p_grad_features: dense, pixels `pixel_stride` apart.
        channels: maps of an image; tiles_of_image: programs for an image.
        BINS, PLACES, BLOCKS, BLOCK_PIXELS, EXACT: as in the forward pass.
    """
    i_program = tl.program_id(0)
    i_image = (i_program // tiles_of_image).to(tl.int64)
    o_c = (i_program % tiles_of_image) * BLOCK_M + tl.arange(0, BLOCK_M)
    m_c = (o_c < channels)[:, None]
    o_map = (i_image * channels + o_c)[:, None]
    p_map = p_grad_features + i_image * image_stride + o_c[:, None].to(tl.int64) * channel_stride
    for first in range(0, BLOCKS * BLOCK_PIXELS, BLOCK_Q):
        o_q = first + tl.arange(0, BLOCK_Q)
        m_q = m_c & (o_q < BLOCKS * BLOCK_PIXELS)[None, :]
        b_gradient = tl.zeros([BLOCK_M, BLOCK_Q], EXACT)
        for i in tl.static_range(len(BINS)):
            o_s = (PLACES[i] + o_q // (BLOCKS // BINS[i] * BLOCK_PIXELS))[None, :].to(tl.int64)
            o_memory = o_map * grad_map_stride + o_s * grad_strip_stride
            b_strip = tl.load(p_grad_strips + o_memory, mask=m_q, other=0.0).to(EXACT)
            b_position = tl.load(p_positions + o_map * map_stride + o_s * strip_stride, mask=m_q, other=-1)
            b_gradient += b_strip * tl.full([1, 1], BINS[i] / (BLOCKS * BLOCK_PIXELS), EXACT)
            b_gradient += tl.where(b_position == o_q[None, :], b_strip, 0.0)
        o_memory = o_q[None, :].to(tl.int64) * pixel_stride
        tl.store(p_map + o_memory, b_gradient.to(p_grad_features.dtype.element_ty), mask=m_q)


class Problem(NamedTuple):
    """What the launches share: N images of C maps, H x W, and the bins."""

    images: int
    channels: int
    height: int
    width: int
    bins: tuple[int, ...]
    dtype: torch.dtype

    @property
    def blocks(self) -> int:
        """L, the least common multiple of the bins."""
        return math.lcm(*self.bins)

    def arguments(self) -> dict[str, Any]:
        """The constants of both kernels."""
        return {
            "BINS": self.bins,
            "PLACES": tuple(sum(self.bins[:i]) for i in range(len(self.bins))),
            "BLOCKS": self.blocks,
            "BLOCK_PIXELS": self.height * self.width // self.blocks,
            "EXACT": _TYPES.get(self.dtype, tl.float32),
        }

    def maps_of_tile(self, values: int, channels_last: bool) -> int:
        """Maps of a program whose maps take ``values`` at a time; enough for whole sectors of channels-last memory."""
        wanted = max(TILE // values, 8 if channels_last else 1)
        return max(1, min(wanted, 32, triton.next_power_of_2(max(self.channels, 1))))


def plan_forward(
    problem: Problem, features: Tensor, strips: Tensor, positions: Tensor | None, *, channels_last: bool
) -> list[Launch]:
    """The launches of the forward pass: one, or for many blocks one for each bin and ``MOST_BLOCKS`` of its strips."""
    if problem.blocks > MOST_BLOCKS and len(problem.bins) > 1:
        launches, place = [], 0
        for count in problem.bins:
            part = [None if one is None else one[..., place : place + count] for one in (strips, positions)]
            single = problem._replace(bins=(count,))
            launches += plan_forward(single, features, part[0], part[1], channels_last=channels_last)  # type: ignore[arg-type]
            place += count
        return launches
    constants = problem.arguments()
    blocks = min(triton.next_power_of_2(problem.blocks), MOST_BLOCKS)
    pixels = min(triton.next_power_of_2(constants["BLOCK_PIXELS"]), 4 if channels_last else 64, TILE // (2 * blocks))
    # Blocks of a map are combined with each other's strips.
    maps = min(problem.maps_of_tile(blocks * pixels, channels_last), max(1, 2 * TILE // blocks**2))
    tiles = triton.cdiv(problem.channels, maps)
    arguments = {
        "p_features": features,
        "p_strips": strips,
        "p_positions": positions,
        "channels": problem.channels,
        "tiles_of_image": tiles,
        "width": problem.width,
        **dict(zip(("stride_n", "stride_c", "stride_h", "stride_w"), features.stride(), strict=True)),
        "map_stride": _map_stride(strips),
        "strip_stride": strips.stride(2),
        **constants,
        "BLOCK_STRIPS": tuple(min(triton.next_power_of_2(count), blocks) for count in problem.bins),
        "BLOCK_M": maps,
        "BLOCK_L": blocks,
        "BLOCK_P": pixels,
    }
    return [
        Launch(pool_forward, problem.images * tiles, {**arguments, "first_block": first}, num_warps=4, num_stages=2)
        for first in range(0, problem.blocks, blocks)
    ]


def plan_backward(problem: Problem, grad_strips: Tensor, positions: Tensor, grad_features: Tensor) -> Launch:
    """The launch of the backward pass."""
    channels_last = grad_features.stride(3) != 1
    pixels = min(triton.next_power_of_2(problem.height * problem.width), 32 if channels_last else 256)
    maps = problem.maps_of_tile(pixels, channels_last)
    tiles = triton.cdiv(problem.channels, maps)
    arguments = {
        "p_grad_strips": grad_strips,
        "p_positions": positions,
        "p_grad_features": grad_features,
        "channels": problem.channels,
        "tiles_of_image": tiles,
        "image_stride": grad_features.stride(0),
        "channel_stride": grad_features.stride(1),
        "pixel_stride": grad_features.stride(3),
        "grad_map_stride": _map_stride(grad_strips),
        "grad_strip_stride": grad_strips.stride(2),
        "map_stride": _map_stride(positions),
        "strip_stride": positions.stride(2),
        **problem.arguments(),
        "BLOCK_M": maps,
        "BLOCK_Q": pixels,
    }
    return Launch(pool_backward, problem.images * tiles, arguments, num_warps=4, num_stages=2)


def forward(features: Tensor, bins: Sequence[int], strips_first: bool, with_positions: bool) -> tuple[Tensor, Tensor]:
    """Strips and positions, with the arguments of the op's schema: features ``(N, C, H, W)``, any strides."""
    problem = Problem(*features.shape, tuple(bins), features.dtype)  # type: ignore[call-arg]
    strips = _empty(problem, features, features.dtype, strips_first)
    positions = _empty(problem, features, torch.int32, strips_first) if with_positions else None
    if features.numel() > 0:
        channels_last = features.stride(1) == 1 and features.stride(3) != 1
        for launch in plan_forward(problem, features, strips, positions, channels_last=channels_last):
            launch.run()
    return strips, features.new_empty(0, dtype=torch.int32) if positions is None else positions


def backward(
    grad_strips: Tensor, positions: Tensor, height: int, width: int, bins: Sequence[int], channels_last: bool
) -> Tensor:
    """Gradient of the maps, with the arguments of the op's schema; dense in the layout that is asked for."""
    images, channels = grad_strips.shape[:2]
    problem = Problem(images, channels, height, width, tuple(bins), grad_strips.dtype)
    if channels_last:
        grad_features = grad_strips.new_empty(images, height, width, channels).permute(0, 3, 1, 2)
    else:
        grad_features = grad_strips.new_empty(images, channels, height, width)
    if grad_features.numel() > 0:
        gradients, places = (one if _is_merged(one) else one.contiguous() for one in (grad_strips, positions))
        plan_backward(problem, gradients, places, grad_features).run()
    return grad_features


def _empty(problem: Problem, like: Tensor, dtype: torch.dtype, strips_first: bool) -> Tensor:
    count = sum(problem.bins)
    if strips_first:
        return like.new_empty(count, problem.images, problem.channels, dtype=dtype).permute(1, 2, 0)
    return like.new_empty(problem.images, problem.channels, count, dtype=dtype)


def _is_merged(strips: Tensor) -> bool:
    """Whether images and channels are one dimension in memory."""
    images, channels, _ = strips.shape
    return images == 1 or channels == 1 or strips.stride(0) == channels * strips.stride(1)


def _map_stride(strips: Tensor) -> int:
    return strips.stride(1) if strips.shape[1] > 1 else strips.stride(0)
