"""From the arguments of `locality_attention` to kernel launches: grids, arguments, tiles. Launches nothing itself."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal, NamedTuple

import torch
import triton
from torch import Tensor

from sgela_fast.kernels.launch import INTERPRETED, Launch, Precision, default_precision
from sgela_fast.kernels.locality_attention_autotune import bucket
from sgela_fast.kernels.locality_attention_rows import rows_backward, rows_forward
from sgela_fast.kernels.locality_attention_tiles import tiles_forward
from sgela_fast.kernels.locality_attention_tiles_backward import tiles_backward_key, tiles_backward_query, tiles_delta
from sgela_fast.kernels.locality_attention_tuning import (
    DELTA_TILES,
    Arithmetic,
    RowsTiles,
    Side,
    choose_rows_tiles,
    choose_tiles,
    rows_copies,
)

Regime = Literal["rows", "tiles"]

LAS = 2
# 1 / (2 sigma^2) is cut here: the mask is 1 at the centre and 0 elsewhere already, and products must stay finite.
LARGEST_COEFFICIENT = 1e30


class Problem(NamedTuple):
    """What forward and backward share, in the order of the op's schema."""

    query: Tensor
    key: Tensor
    value: Tensor | None
    centers: Tensor | None
    key_padding_mask: Tensor | None
    first_step: int
    direction: int
    sigma: float
    window: float | None
    scale: float
    mode: int
    detach_target: bool

    @property
    def sequences(self) -> int:
        """N0 x N1."""
        return self.query.shape[0] * self.query.shape[1]

    @property
    def values(self) -> int:
        """Kv."""
        return (self.key if self.value is None else self.value).shape[-1]

    @property
    def empty(self) -> bool:
        """Whether no query row has a key."""
        return self.sequences == 0 or self.query.shape[2] == 0 or self.key.shape[2] == 0

    def kind(self) -> tuple[Hashable, ...]:
        """What the choice between configurations may depend on."""
        sizes = (self.sequences, *self.query.shape[2:], self.key.shape[2], self.values)
        options = (self.value is None, self.centers is None, self.key_padding_mask is None, self.mode)
        return (self.query.device, self.query.dtype, *(bucket(size) for size in sizes), *options)

    def arguments(self) -> dict[str, Any]:
        """The arguments that all kernels but `tiles_delta` have in common."""
        mask = None if self.key_padding_mask is None else self.key_padding_mask.view(torch.uint8)
        from_start = self.direction > 0
        return {
            "p_query": self.query,
            "p_key": self.key,
            "p_value": self.value,
            "p_centers": self.centers if self.direction == 0 else None,
            "p_mask": mask,
            "inner": self.query.shape[1],
            "queries": self.query.shape[2],
            "keys": self.key.shape[2],
            "features": self.query.shape[3],
            "values": self.values,
            **_strides("q", self.query),
            **_strides("k", self.key),
            **_strides("v", self.value),
            **_strides("c", self.centers),
            **_strides("m", mask),
            "scale": float(self.scale),
            **mask_arguments(self.sigma, self.window),
            "first_center": self.first_step if from_start else self.key.shape[2] - 1 - self.first_step,
            "center_step": 1 if from_start else -1,
            "MODE": self.mode,
            "DETACH": self.detach_target and self.mode == LAS,
        }


class Gradients(NamedTuple):
    """Incoming gradients, and what the forward saved, for the backward kernels."""

    grad_context: Tensor
    grad_loss: Tensor | None
    context: Tensor
    log_sum: Tensor
    moment: Tensor

    def arguments(self) -> dict[str, Any]:
        """Incoming gradients and their strides; the loss's only where it has one."""
        last = self.grad_context.stride(3)
        loss_strides = (0, 0) if self.grad_loss is None else self.grad_loss.stride()
        return {
            "p_grad_context": self.grad_context,
            "p_grad_loss": self.grad_loss,
            **_strides("d", self.grad_context),
            "d3": last,
            "g0": loss_strides[0],
            "g1": loss_strides[1],
        }


def rows_tiles(problem: Problem, regime: Regime | None, backward: bool) -> tuple[RowsTiles, ...]:
    """Tiles of the rows kernel, the heuristic choice first; none where the tiled kernels run.

    Raises:
        ValueError: the rows kernels are asked for and cannot hold a sequence of this size.
    """
    if regime == "tiles":
        return ()
    copies = rows_copies(backward, problem.value is not None)
    queries, keys = problem.query.shape[2], problem.key.shape[2]
    width = max(problem.query.shape[3], problem.values)
    tiles = choose_rows_tiles(queries, keys, width, copies)
    if regime == "rows" and not tiles:
        raise ValueError(f"the rows kernels do not hold {queries} rows of {keys} keys with {width} features")
    return tiles


def plan_rows_forward(
    problem: Problem, tiles: RowsTiles, context: Tensor, loss: Tensor, log_sum: Tensor, moment: Tensor
) -> Launch:
    """The one launch of the forward for short sequences."""
    outputs = {"p_context": context, "p_loss": loss, "p_log_sum": log_sum, "p_moment": moment}
    return _plan_rows(rows_forward, problem, tiles, outputs)


def plan_rows_backward(
    problem: Problem,
    gradients: Gradients,
    tiles: RowsTiles,
    grad_query: Tensor,
    grad_key: Tensor,
    grad_value: Tensor,
    grad_centers: Tensor,
) -> Launch:
    """The one launch of the backward for short sequences."""
    outputs = {
        "p_grad_query": grad_query,
        "p_grad_key": grad_key,
        "p_grad_value": grad_value,
        "p_grad_centers": grad_centers,
    }
    return _plan_rows(rows_backward, problem, tiles, {**gradients.arguments(), **outputs})


def _plan_rows(kernel: Any, problem: Problem, tiles: RowsTiles, more: dict[str, Any]) -> Launch:
    arguments = {**problem.arguments(), **more, "sequences": problem.sequences}
    arguments |= {"KEYS": tiles.keys, "BLOCK_N": tiles.block_n, "BLOCK_K": tiles.block_k}
    programs = triton.cdiv(problem.sequences, tiles.block_n)
    return Launch(kernel, programs, arguments, tiles.num_warps, tiles.num_stages)


def plan_tiles_forward(
    problem: Problem,
    precision: Precision | None,
    context: Tensor,
    row_loss: Tensor | None,
    log_sum: Tensor,
    moment: Tensor,
) -> Launch:
    """The launch of the forward for long sequences; ``row_loss (N0, N1, Tq)`` where it differs from the moment."""
    outputs = {"p_context": context, "p_row_loss": row_loss, "p_log_sum": log_sum, "p_moment": moment}
    return _plan_tiles(tiles_forward, "forward", problem, precision, problem.query.shape[2], problem.values, outputs)


def plan_tiles_backward(
    problem: Problem,
    gradients: Gradients,
    precision: Precision | None,
    delta: Tensor,
    grad_query: Tensor,
    grad_key: Tensor,
    grad_value: Tensor,
    grad_centers: Tensor,
) -> tuple[Launch, Launch, Launch]:
    """The three launches of the backward for long sequences, in their order."""
    queries, keys = problem.query.shape[2], problem.key.shape[2]
    shared = {**gradients.arguments(), "p_log_sum": gradients.log_sum, "p_delta": delta}
    delta_arguments = {
        **gradients.arguments(),
        "p_context": gradients.context,
        "p_moment": gradients.moment,
        "p_delta": delta,
        "sequences": problem.sequences,
        "inner": problem.query.shape[1],
        "queries": queries,
        "values": problem.values,
        "BLOCK_M": DELTA_TILES.block_m,
        "BLOCK_D": DELTA_TILES.block_d,
    }
    rows = triton.cdiv(problem.sequences * queries, DELTA_TILES.block_m)
    width = problem.query.shape[3]
    query_outputs = {**shared, "p_grad_query": grad_query, "p_grad_centers": grad_centers}
    key_outputs = {**shared, "p_grad_key": grad_key, "p_grad_value": grad_value}
    return (
        Launch(tiles_delta, rows, delta_arguments, DELTA_TILES.num_warps, DELTA_TILES.num_stages),
        _plan_tiles(tiles_backward_query, "query", problem, precision, queries, width, query_outputs),
        _plan_tiles(tiles_backward_key, "key", problem, precision, keys, max(width, problem.values), key_outputs),
    )


def _plan_tiles(
    kernel: Any,
    side: Side,
    problem: Problem,
    precision: Precision | None,
    rows: int,
    width: int,
    more: dict[str, Any],
) -> Launch:
    """A tiled launch that gives each program a block of ``rows`` and a chunk of the output's ``width``."""
    if problem.query.dtype == torch.float32:
        arithmetic: Arithmetic = precision or default_precision()
    else:
        arithmetic = "half"
    tiles = choose_tiles(side, arithmetic, max(problem.query.shape[3], problem.values))
    arguments = {**problem.arguments(), **more, "UPCAST": INTERPRETED}
    arguments |= {"PRECISION": "ieee" if arithmetic == "half" else arithmetic}
    arguments |= {"WHOLE": tiles.whole, "BLOCK_M": tiles.block_m, "BLOCK_T": tiles.block_t}
    arguments |= {"BLOCK_D": tiles.block_d, "BLOCK_O": tiles.block_o}
    block = tiles.block_t if side == "key" else tiles.block_m
    chunks = max(triton.cdiv(width, tiles.block_o), 1)
    programs = triton.cdiv(rows, block) * chunks * problem.sequences
    return Launch(kernel, programs, arguments, tiles.num_warps, tiles.num_stages)


def mask_arguments(sigma: float, window: float | None) -> dict[str, float]:
    """Coefficient 1 / (2 sigma^2) and half width of the locality mask as the kernels name them."""
    # Twice a division by sigma, because the square of a small one is 0.
    coefficient = min(0.5 / max(sigma, 1e-150) / max(sigma, 1e-150), LARGEST_COEFFICIENT)
    return {"coefficient": coefficient, "window": float("inf") if window is None else float(window)}


def _strides(prefix: str, tensor: Tensor | None) -> dict[str, int]:
    """Strides of the first three dimensions as the kernels name them."""
    strides = (0, 0, 0) if tensor is None else tensor.stride()
    return {f"{prefix}{dimension}": strides[dimension] for dimension in range(3)}
