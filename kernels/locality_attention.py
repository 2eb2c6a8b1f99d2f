"""`locality_attention` on CUDA devices: forward and backward through the Triton kernels.

Short sequences (up to 10 keys) take the rows kernels, one launch each way; longer ones the tiled kernels, one launch
forward and three backward. Tiles are chosen by heuristics, or by timing a few where the environment variable
SGELA_FAST_AUTOTUNE is 1 (``locality_attention_autotune.py``). Outputs are allocated here and written once; nothing
waits for the device, so that calls can be captured in a CUDA graph.
Never run on a GPU yet: interpreter and ahead-of-time compilation only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from sgela_fast.kernels.launch import INTERPRETED, Precision
from sgela_fast.kernels.locality_attention_autotune import fastest
from sgela_fast.kernels.locality_attention_launch import (
    LAS,
    Gradients,
    Problem,
    Regime,
    plan_rows_backward,
    plan_rows_forward,
    plan_tiles_backward,
    plan_tiles_forward,
    rows_tiles,
)
from sgela_fast.kernels.locality_attention_tuning import RowsTiles

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    centers: Tensor | None,
    key_padding_mask: Tensor | None,
    first_step: int,
    direction: int,
    sigma: float,
    window: float | None,
    scale: float,
    mode: int,
    detach_target: bool,
    *,
    regime: Regime | None = None,
    precision: Precision | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Context, loss, log-sum and moment, with the arguments of the op's schema.

    Args:
        query: ``(N0, N1, Tq, K)``; like key and value with unit stride in the last dimension, any in the others.
        key: ``(N0, N1, Tk, K)``.
        value: ``(N0, N1, Tk, Kv)`` or ``None`` for the keys.
        centers: ``(N0, N1, Tq)`` float32, or ``None``.
        key_padding_mask: ``(N0, N1, Tk)`` bool, True where a key is padding, or ``None``.
        first_step: decoding step of the first query row.
        direction: -1 positions from the end, 1 from the start, 0 as ``centers`` says.
        sigma: width of the locality mask.
        window: half width outside which the mask is 0, or ``None``.
        scale: factor on the scores.
        mode: 0 bas, 1 mbas, 2 las.
        detach_target: whether the masked alignment is a constant for the gradient.
        regime: ``rows`` (sequences held in registers) or ``tiles``; by default what suits the sizes.
        precision: of float32 products in the tiled kernels. By default ``tf32`` if torch's setting for matrix products
            on CUDA is that, else ``ieee``. The rows kernels always compute in float32.

    Returns:
        ``context (N0, N1, Tq, Kv)``; float32 ``loss (N0, N1)``, ``log_sum (N0, N1, Tq)``, ``moment (N0, N1, Tq)``.

    Raises:
        ValueError: shapes, strides, dtypes or devices would make a kernel read out of bounds, or ``regime`` is ``rows``
            for a sequence too large for it.
    """
    problem = Problem(
        query, key, value, centers, key_padding_mask,
        first_step, direction, sigma, window, scale, mode, detach_target,
    )  # fmt: skip
    _check(problem)
    batch, rows = query.shape[:2], query.shape[2]
    context = query.new_empty(*batch, rows, problem.values)
    log_sum = query.new_empty(*batch, rows, dtype=torch.float32)
    moment = torch.empty_like(log_sum)
    loss = query.new_empty(batch, dtype=torch.float32)
    if problem.empty:
        return context.zero_(), loss.zero_(), log_sum.fill_(torch.inf), moment.zero_()
    with _on(query.device):
        short = rows_tiles(problem, regime, backward=False)
        if short:

            def run(tiles: RowsTiles) -> None:
                plan_rows_forward(problem, tiles, context, loss, log_sum, moment).run()

            run(fastest(short, run, ("rows_forward", *problem.kind())))
            return context, loss, log_sum, moment
        row_loss = torch.empty_like(log_sum) if mode == LAS and detach_target else None
        plan_tiles_forward(problem, precision, context, row_loss, log_sum, moment).run()
        loss = torch.sum(moment if row_loss is None else row_loss, dim=-1)
    return context, loss, log_sum, moment


def backward(
    grad_context: Tensor,
    grad_loss: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    centers: Tensor | None,
    key_padding_mask: Tensor | None,
    context: Tensor,
    log_sum: Tensor,
    moment: Tensor,
    first_step: int,
    direction: int,
    sigma: float,
    window: float | None,
    scale: float,
    mode: int,
    detach_target: bool,
    *,
    regime: Regime | None = None,
    precision: Precision | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key, value and centers, with the arguments of the op's schema.

    Args:
        grad_context: ``(N0, N1, Tq, Kv)``, any strides.
        grad_loss: ``(N0, N1)`` float32, any strides, or ``None`` for zeros.
        query: as in :func:`forward`, like all that is not named here.
        context: of the forward, contiguous, as are the next two.
        log_sum: of the forward.
        moment: of the forward.

    Returns:
        ``grad_query``, ``grad_key``, ``grad_value`` and ``grad_centers``, contiguous; the third is empty where there is
        no value (``grad_key`` then holds both parts), the fourth where there are no centers.

    Raises:
        ValueError: as :func:`forward`.
    """
    problem = Problem(
        query, key, value, centers, key_padding_mask,
        first_step, direction, sigma, window, scale, mode, detach_target,
    )  # fmt: skip
    _check(problem)
    gradients = Gradients(grad_context, grad_loss, context, log_sum, moment)
    _check_gradients(problem, gradients)
    grad_query = query.new_empty(query.shape)
    grad_key = key.new_empty(key.shape)
    grad_value = key.new_empty(0 if value is None else value.shape)
    grad_centers = query.new_empty(0 if centers is None else centers.shape, dtype=torch.float32)
    outputs = (grad_query, grad_key, grad_value, grad_centers)
    if problem.empty:
        for output in outputs:
            output.zero_()
        return outputs
    with _on(query.device):
        short = rows_tiles(problem, regime, backward=True)
        if short:

            def run(tiles: RowsTiles) -> None:
                plan_rows_backward(problem, gradients, tiles, *outputs).run()

            run(fastest(short, run, ("rows_backward", *problem.kind())))
        else:
            for launch in plan_tiles_backward(problem, gradients, precision, torch.empty_like(log_sum), *outputs):
                launch.run()
    return outputs


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device; make that the tensors' one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _check(problem: Problem) -> None:
    query, key, value, centers, mask = problem[:5]
    batch = query.shape[:2]
    expected = {
        "query": (query, (*batch, query.shape[2], key.shape[3])),
        "key": (key, (*batch, key.shape[2], query.shape[3])),
        "value": (value, (*batch, key.shape[2], problem.values)),
        "centers": (centers, (*batch, query.shape[2])),
        "key_padding_mask": (mask, (*batch, key.shape[2])),
    }
    for name, (tensor, shape) in expected.items():
        _check_shape(name, tensor, shape, query.device)
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor is not None and (tensor.dtype != query.dtype or tensor.dtype not in _DTYPES):
            raise ValueError(
                f"{name} is {tensor.dtype}; all of query, key and value must be float32, bfloat16 or float16"
            )
        if tensor is not None and tensor.shape[3] > 1 and tensor.stride(3) != 1:
            raise ValueError(f"{name} has stride {tensor.stride(3)} in its last dimension; it must be 1")
    if centers is not None and centers.dtype != torch.float32:
        raise ValueError(f"centers is {centers.dtype}; it must be float32")
    if problem.direction == 0 and centers is None:
        raise ValueError("direction is 0, which needs centers")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"key_padding_mask is {mask.dtype}; it must be bool")
    if query.device.type != "cuda" and not INTERPRETED:
        raise ValueError(f"query is on {query.device}; the Triton kernels need a CUDA device")


def _check_gradients(problem: Problem, gradients: Gradients) -> None:
    query = problem.query
    rows = query.shape[:3]
    expected = {
        "grad_context": (gradients.grad_context, (*rows, problem.values)),
        "grad_loss": (gradients.grad_loss, query.shape[:2]),
        "context": (gradients.context, (*rows, problem.values)),
        "log_sum": (gradients.log_sum, rows),
        "moment": (gradients.moment, rows),
    }
    for name, (tensor, shape) in expected.items():
        _check_shape(name, tensor, shape, query.device)
    for name, tensor in (("context", gradients.context), ("log_sum", gradients.log_sum), ("moment", gradients.moment)):
        if not tensor.is_contiguous():
            raise ValueError(f"{name} must be contiguous")


def _check_shape(name: str, tensor: Tensor | None, shape: tuple[int, ...], device: torch.device) -> None:
    if tensor is None:
        return
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it needs {tuple(shape)}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device} and query on {device}")
