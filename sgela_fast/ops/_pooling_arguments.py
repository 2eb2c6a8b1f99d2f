"""Arguments of gated_temporal_pooling: what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import get_args

import torch
from torch import Tensor

from sgela_fast.ops._attention_arguments import BACKENDS
from sgela_fast.ops._lengths import check_lengths
from sgela_fast.ops._library import autocasts
from sgela_fast.reference.gated_temporal_pooling import GateWeights, Reduction

_ROUNDED_BY_AUTOCAST = (torch.float32, torch.bfloat16, torch.float16)
_REDUCTIONS = get_args(Reduction)


def check_settings(windows: Sequence[int], negative_slope: float, reduce: str, backend: str) -> None:
    """Raise ValueError for a setting that is unknown or out of range."""
    if not windows:
        raise ValueError("windows is empty; give the frames of one gate's template or more")
    for window in windows:
        if not isinstance(window, int) or window < 1 or window % 2 == 0:
            raise ValueError(f"windows holds {window}; each must be an odd integer, to keep the number of frames")
    if not 0 <= negative_slope < math.inf:
        raise ValueError(f"negative_slope is {negative_slope}; it must be 0 or more, and finite")
    if reduce not in _REDUCTIONS:
        raise ValueError(f"reduce is {reduce!r}; choose max or none")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose auto, reference or fused")


def check_weights(weights: Sequence[GateWeights], windows: Sequence[int]) -> None:
    """Raise ValueError unless there are the weights of one gate a window, for one number of strips and of channels."""
    if isinstance(weights, torch.nn.Module):
        entries = ", ".join(GateWeights._fields)
        raise ValueError(f"weights is a {type(weights).__name__}; give its weights(), one ({entries}) a gate")
    if len(weights) != len(windows):
        raise ValueError(f"weights has {len(weights)} gates and windows {len(windows)}; there must be one a window")
    for index, gate in enumerate(weights):
        if len(gate) != 4:
            raise ValueError(f"weights[{index}] has {len(gate)} entries; it needs {', '.join(GateWeights._fields)}")
        if gate[0].dim() != 4 or gate[2].dim() != 4:
            shapes = f"{tuple(gate[0].shape)} and {tuple(gate[2].shape)}"
            needed = "they need (S, H, C, K1) and (S, C, H, K2)"
            raise ValueError(f"conv1_weight and conv2_weight of gate {index} are {shapes}; {needed}")
    strips, _, channels, _ = weights[0][0].shape
    for index, gate in enumerate(weights):
        hidden = gate[0].shape[1]
        if min(strips, channels, hidden) < 1:
            raise ValueError(f"gate {index} is for S = {strips}, C = {channels}, H = {hidden}; each must be 1 or more")
        sizes = gate[0].shape[3], gate[2].shape[3]
        if not all(size % 2 for size in sizes):
            raise ValueError(f"kernels of gate {index} have {sizes[0]} and {sizes[1]} taps; both must be odd")
        first, second = (strips, hidden, channels, sizes[0]), (strips, channels, hidden, sizes[1])
        for name, tensor, shape in zip(GateWeights._fields, gate, (first, first[:2], second, second[:2]), strict=True):
            if tensor is not None and tensor.shape != shape:
                meaning = f"{shape}, for S = {strips}, C = {channels}, H = {hidden}"
                raise ValueError(f"{name} of gate {index} has shape {tuple(tensor.shape)}; it needs {meaning}")


def check_tensors(features: Tensor, weights: Sequence[GateWeights], lengths: Tensor | None) -> None:
    """Raise ValueError for tensors whose shapes, dtypes or devices do not fit the (checked) weights."""
    strips, _, channels, _ = weights[0][0].shape
    if features.dim() != 4 or features.shape[0] != strips or features.shape[3] != channels:
        needed = f"(S, N, T, C) = ({strips}, N, T, {channels})"
        raise ValueError(f"features has shape {tuple(features.shape)}; by the weights it needs {needed}")
    if features.shape[2] < 1:
        raise ValueError(f"features has shape {tuple(features.shape)}: no frames; T must be 1 or more")
    if not features.is_floating_point():
        raise ValueError(f"features is {features.dtype}; it must be a floating-point tensor")
    if lengths is not None:
        check_lengths(lengths, features.shape[1], "N", "strips", "features", features)
    rounded = autocasts(features.device.type)
    for name, tensor in _named(weights):
        if tensor.device != features.device:
            raise ValueError(f"{name} is on {tensor.device} and features on {features.device}; move one of them")
        both = tensor.dtype in _ROUNDED_BY_AUTOCAST and features.dtype in _ROUNDED_BY_AUTOCAST
        if tensor.dtype != features.dtype and not (rounded and both):
            raise ValueError(f"{name} is {tensor.dtype} and features {features.dtype}; convert one of them")


def _named(weights: Sequence[GateWeights]) -> Iterator[tuple[str, Tensor]]:
    for index, gate in enumerate(weights):
        for name, tensor in zip(GateWeights._fields, gate, strict=True):
            if tensor is not None:
                yield f"{name} of gate {index}", tensor
