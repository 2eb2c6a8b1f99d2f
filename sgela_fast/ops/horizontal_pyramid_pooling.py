"""Horizontal pyramid pooling as one fused op: all strips of all bins from one read of the feature map.

Sums and maxima of the smallest blocks that the bins have in common are combined upwards; the backward op writes the
gradient of the map once, from the positions of the maxima. C++ on the CPU, Triton on CUDA devices. The formula stands
in :mod:`sgela_fast.reference.horizontal_pyramid_pooling`, the scheme in ``docs/horizontal-pyramid-pooling.md``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sgela_fast.ops import _library
from sgela_fast.ops._attention_arguments import Backend
from sgela_fast.ops._pyramid_arguments import check_bins, check_features
from sgela_fast.reference import horizontal_pyramid_pooling as reference

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Devices on which the fused kernels have been run and compared, and which `auto` may therefore choose.
_PROVEN = ("cpu",)

FORWARD = _library.define(
    "horizontal_pyramid_pooling(Tensor features, int[] bins, bool strips_first, bool with_positions) "
    "-> (Tensor strips, Tensor positions)"
)
BACKWARD = _library.define(
    "horizontal_pyramid_pooling_backward(Tensor grad_strips, Tensor positions, SymInt height, SymInt width, "
    "int[] bins, bool channels_last) -> Tensor grad_features"
)

_WHY_NO_CPU_KERNEL = _library.why_no_cpu_kernel("horizontal_pyramid_pooling")


def horizontal_pyramid_pooling(
    features: Tensor,
    bins: Sequence[int] = (1, 2, 4, 8, 16),
    *,
    strips_first: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Pool each map into horizontal strips of several heights; a strip gives the mean plus the maximum of its pixels.

    For each bin b, H is cut into b strips of H / b rows. A NaN in a strip is the strip's value. Where several pixels of
    a strip are its maximum, the first of them in row-major order takes the maximum's gradient (the first NaN counts as
    the maximum). Maps are read where they lie, whatever their strides, fastest contiguous or in channels-last memory
    format. Results are the same bit for bit on every call with the same inputs, and for any number of threads.

    Args:
        features: ``(..., C, H, W)``; float32, bfloat16, float16 or float64. Sums are float32 whatever the input
            (float64 for float64), rounded once at the end.
        bins: numbers of strips, in the order of the result; each must divide H, and need not divide another.
        strips_first: put the strips first in the result, in memory too, as networks of their own for each strip want
            them.
        backend: ``fused`` (the kernels), ``reference`` (plain PyTorch) or ``auto``: ``fused`` wherever the kernels have
            been run and compared (now: the CPU), else ``reference``. The Triton kernels for CUDA devices are tested in
            the interpreter and compiled for sm_80 and sm_90, and have never been run on a GPU.

    Returns:
        ``(..., C, S)``, or with ``strips_first`` contiguous ``(S, ..., C)``, in the dtype of ``features``, under
        autocast too; S is the sum of ``bins``. Strips of the first bin come first, each bin's from top to bottom.

    Raises:
        ValueError: a bin does not divide H, maps are empty, or an argument is of the wrong kind.
        RuntimeError: ``backend="fused"`` cannot run here; the message says what is missing. Also a derivative of a
            derivative: the fused backward has none. ``torch.func.vmap`` works; ``torch.func.grad`` and its kin are the
            reference's alone, and ``auto`` takes it for them.
    """
    pyramid = check_bins(bins, backend)
    check_features(features, pyramid)
    if not _use_fused(features, backend):
        return _in_accumulation_dtype(features, pyramid, strips_first)
    *leading, channels, _height, _width = features.shape
    maps = features.unsqueeze(0) if not leading else features.flatten(0, -4)  # (N, C, H, W)
    learns = torch.is_grad_enabled() and features.requires_grad
    with contextlib.nullcontext() if learns or _library.is_transformed() else _library.past_autograd():
        strips, _ = FORWARD.overload(maps, pyramid, strips_first, learns)  # (N, C, S), strips first in memory
        if strips_first:
            return strips.permute(2, 0, 1).reshape(sum(pyramid), *leading, channels)
        return strips.reshape(*leading, channels, sum(pyramid))


def _in_accumulation_dtype(features: Tensor, bins: tuple[int, ...], strips_first: bool) -> Tensor:
    """The reference with the kernels' promise about dtypes: half precision is computed in float32, rounded once."""
    device = features.device.type
    with torch.autocast(device, enabled=False) if _library.autocasts(device) else contextlib.nullcontext():
        exact = features.to(_library.accumulation_dtype(features.dtype))
        return reference.horizontal_pyramid_pooling(exact, bins, strips_first=strips_first).to(features.dtype)


def why_not_fused(device: str, dtype: torch.dtype) -> str | None:
    """Why the fused kernels cannot run for tensors on ``device`` (its type), or ``None`` if they can."""
    if device == "cpu" and _WHY_NO_CPU_KERNEL is not None:
        return _WHY_NO_CPU_KERNEL
    if device == "cuda" and _library.WHY_NO_TRITON is not None:
        return f"{_library.WHY_NO_TRITON}; install sgela_fast[triton]"
    if device not in ("cpu", "cuda") or dtype not in _DTYPES:
        return f"there is no kernel for {str(dtype).removeprefix('torch.')} on {device}"
    return None


def _use_fused(features: Tensor, backend: Backend) -> bool:
    device = features.device.type
    missing = why_not_fused(device, features.dtype)
    return _library.chooses_fused("horizontal_pyramid_pooling", backend, missing, device in _PROVEN)


def _fake_forward(
    features: Tensor, bins: Sequence[int], strips_first: bool, with_positions: bool
) -> tuple[Tensor, Tensor]:
    maps, channels = features.shape[:2]

    def empty(dtype: torch.dtype) -> Tensor:
        if strips_first:
            return features.new_empty(sum(bins), maps, channels, dtype=dtype).permute(1, 2, 0)
        return features.new_empty(maps, channels, sum(bins), dtype=dtype)

    return empty(features.dtype), empty(torch.int32) if with_positions else features.new_empty(0, dtype=torch.int32)


def _fake_backward(
    grad_strips: Tensor, _positions: Tensor, height: int, width: int, _bins: Sequence[int], channels_last: bool
) -> Tensor:
    maps, channels = grad_strips.shape[:2]
    if channels_last:
        return grad_strips.new_empty(maps, height, width, channels).permute(0, 3, 1, 2)
    return grad_strips.new_empty(maps, channels, height, width)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, ctx.bins, ctx.strips_first, ctx.with_positions = inputs
    # Without the maxima's positions, as under a compiler that knew of no gradient, they are found again.
    ctx.save_for_backward(output[1] if ctx.with_positions else features)
    ctx.map_shape = features.shape[-2:]
    ctx.channels_last = features.stride(1) == 1 and features.stride(3) != 1
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_strips: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, None, None, None]:
    if grad_strips is None:
        return None, None, None, None
    (positions,) = ctx.saved_tensors
    if not ctx.with_positions:
        _, positions = FORWARD.overload(positions, ctx.bins, ctx.strips_first, True)
    return BACKWARD.overload(grad_strips, positions, *ctx.map_shape, ctx.bins, ctx.channels_last), None, None, None


def _on_cuda(name: str, *inputs: Any) -> Any:
    return getattr(importlib.import_module("sgela_fast.kernels.horizontal_pyramid_pooling"), name)(*inputs)


_library.register(FORWARD, fake=_fake_forward, cuda=functools.partial(_on_cuda, "forward"))
_library.register(BACKWARD, fake=_fake_backward, cuda=functools.partial(_on_cuda, "backward"))
torch.library.register_autograd(FORWARD.name, _differentiate, setup_context=_save_for_backward, lib=_library.LIBRARY)
_library.refuse_second_derivative(BACKWARD)
_library.register_vmap_over_first_dimension(FORWARD)
