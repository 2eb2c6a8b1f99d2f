"""Micro-motion templates of all strips in one call: convolutions, gates, local pooling and the maximum over time.

On the CPU blocks of sequences run side by side through everything, their frames and gates in cache; on CUDA devices two
Triton kernels do it, and four the way back. The equations stand in
:mod:`sgela_fast.reference.gated_temporal_pooling`, what is kept for the backward pass and what it saves in
``docs/gated-temporal-pooling.md``.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sgela_fast.ops import _library, _tape
from sgela_fast.ops import _pooling_arguments as arguments
from sgela_fast.ops._attention_arguments import Backend
from sgela_fast.ops._library import accumulation_dtype, autocasts
from sgela_fast.reference import gated_temporal_pooling as reference
from sgela_fast.reference.gated_temporal_pooling import GateWeights, Reduction

_DTYPES: dict[str, tuple[torch.dtype, ...]] = {
    "cpu": (torch.float32, torch.bfloat16, torch.float16, torch.float64),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
# Devices on which the fused op has been run and compared, and which `auto` may therefore choose.
_PROVEN = ("cpu",)

_SETTINGS = "int[] windows, float negative_slope, bool maximum"
FORWARD = _library.define(
    f"gated_temporal_pooling(Tensor features, Tensor[] weights, Tensor? lengths, {_SETTINGS}, bool save_hidden) "
    "-> (Tensor output, Tensor hidden, Tensor chosen, Tensor gates)"
)
BACKWARD = _library.define(
    "gated_temporal_pooling_backward(Tensor grad_output, Tensor features, Tensor[] weights, Tensor? lengths, "
    f"Tensor hidden, Tensor chosen, Tensor gates, {_SETTINGS}) -> (Tensor grad_features, Tensor[] grad_weights)"
)

_WHY_NO_CPU_KERNEL = _library.why_no_cpu_kernel("gated_temporal_pooling")


def gated_temporal_pooling(
    features: Tensor,
    weights: Sequence[GateWeights],
    *,
    windows: Sequence[int] = (3, 5),
    negative_slope: float = 0.0,
    reduce: Reduction = "max",
    lengths: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Pool the frames of each strip in local windows, gate the templates, add them, and take the maximum over time.

    Equal to a loop over strips of ``torch.nn.Conv1d``, ``AvgPool1d`` and ``MaxPool1d``, in values and gradients
    (GaitPart's micro-motion template builder; SelfGait's, with biases and ReLU). Results are the same bit for bit on
    every call with the same inputs, whatever the number of threads. Features with a stride of 1 in the last dimension
    are read where they lie. A NaN in a frame makes the sequence's result NaN in the channels it reaches.

    Args:
        features: ``(S, N, T, C)``: S strips with weights of their own, N sequences, T frames, C channels; float32,
            bfloat16, float16 or float64. Everything in between is float32 whatever the features (float64 for float64).
        weights: of one gate a window, each a :class:`GateWeights` or its four entries; dtype and device of
            ``features``. Gates may differ in kernel sizes and hidden channels.
        windows: frames of each gate's template, odd. SelfGait and GaitPart have 3 and 5.
        negative_slope: of the activation between the convolutions: 0 is ReLU (SelfGait), 0.01 GaitPart's.
        reduce: ``max`` over time, or ``none`` for the gated templates themselves.
        lengths: ``(N,)`` integers, frames of each sequence, the same for all strips. What lies behind a sequence's end
            is never read: it pads convolutions and windows as what lies behind T does. More than T counts as T; 0 or
            less is a sequence without frames.
        backend: ``fused`` (the kernels; on CUDA devices for one or two gates and ``max``), ``reference`` (plain
            PyTorch) or ``auto``: ``fused`` wherever the kernels have been run and compared (now: the CPU), else
            ``reference``. ``torch.func`` transforms are the reference's alone.

    Returns:
        ``(S, N, C)`` for ``max``, zeros for a sequence without frames; ``(S, N, T, C)`` for ``none``, zeros behind a
        sequence's end; in the features' dtype. Among equal maxima the first takes the gradient.

    Raises:
        ValueError: shapes do not fit, dtypes or devices differ, or a setting is unknown or out of range.
        RuntimeError: ``backend="fused"`` cannot run here; the message says what is missing. Also a derivative of a
            derivative: the fused backward has none.
    """
    arguments.check_settings(windows, negative_slope, reduce, backend)
    arguments.check_weights(weights, windows)
    gates = [GateWeights(*gate) for gate in weights]
    arguments.check_tensors(features, gates, lengths)
    lengths = None if lengths is None else lengths.to(torch.int64)
    if not _use_fused(features, len(gates), reduce, backend):
        settings = {"windows": windows, "negative_slope": negative_slope, "reduce": reduce, "lengths": lengths}
        return _in_accumulation_dtype(features, gates, settings)
    flat = [tensor for gate in gates for tensor in _with_biases(gate)]
    learns = torch.is_grad_enabled() and any([tensor.requires_grad for tensor in (features, *flat)])  # noqa: C419
    strips, count, frames, _ = features.shape
    elements = strips * count * frames * sum(gate.conv1_weight.shape[1] for gate in gates)
    save_hidden = learns and _tape.keeps(elements, features.dtype)
    with nullcontext() if learns or autocasts(features.device.type) else _past_autograd():
        return FORWARD.overload(features, flat, lengths, list(windows), negative_slope, reduce == "max", save_hidden)[0]


def _past_autograd() -> Any:
    return nullcontext() if _library.is_transformed() else _library.past_autograd()


def _with_biases(gate: GateWeights) -> list[Tensor]:
    conv1, bias1, conv2, bias2 = gate
    bias1 = conv1.new_zeros(conv1.shape[:2]) if bias1 is None else bias1
    return [conv1, bias1, conv2, conv2.new_zeros(conv2.shape[:2]) if bias2 is None else bias2]


def _in_accumulation_dtype(features: Tensor, weights: list[GateWeights], settings: dict[str, Any]) -> Tensor:
    """The reference with the kernels' promise about dtypes: half-precision inputs are computed in float32."""
    device = features.device.type
    if autocasts(device):
        # As for the kernels, autocast rounds the inputs and has no say in the arithmetic.
        weights = [GateWeights(*(_library.autocast(tensor, device) for tensor in gate)) for gate in weights]
        with torch.autocast(device, enabled=False):
            return _in_accumulation_dtype(_library.autocast(features, device), weights, settings)
    exact = accumulation_dtype(features.dtype)
    wide = [GateWeights(*(tensor.to(exact) for tensor in _with_biases(gate))) for gate in weights]
    return reference.gated_temporal_pooling(features.to(exact), wide, **settings).to(features.dtype)


def why_not_fused(device: str, dtype: torch.dtype, gates: int = 2, reduce: Reduction = "max") -> str | None:
    """Why the kernels cannot run for tensors on ``device`` (its type), or ``None`` if they can."""
    if device == "cpu" and _WHY_NO_CPU_KERNEL is not None:
        return _WHY_NO_CPU_KERNEL
    if device == "cuda" and _library.WHY_NO_TRITON is not None:
        return f"{_library.WHY_NO_TRITON}; install sgela_fast[triton]"
    if dtype not in _DTYPES.get(device, ()):
        return f"there is no kernel for {str(dtype).removeprefix('torch.')} on {device}"
    if device == "cuda" and (gates > 2 or reduce != "max"):
        return "on cuda there are kernels for one or two gates and reduce='max' alone"
    return None


def _use_fused(features: Tensor, gates: int, reduce: Reduction, backend: Backend) -> bool:
    device = features.device.type
    missing = why_not_fused(device, features.dtype, gates, reduce)
    if missing is None and _library.is_transformed_by_torch_func():
        missing = "torch.func's transforms do not reach it"
    return _library.chooses_fused("gated_temporal_pooling", backend, missing, device in _PROVEN)


def _fake_forward(
    features: Tensor,
    weights: list[Tensor],
    _lengths: Tensor | None,
    windows: list[int],
    _negative_slope: float,
    maximum: bool,
    save_hidden: bool,
) -> tuple[Tensor, ...]:
    strips, count, frames, channels = features.shape
    exact = accumulation_dtype(features.dtype)
    hidden = sum(weight.shape[1] for weight in weights[::4])
    return (
        features.new_empty((strips, count, channels) if maximum else (strips, count, frames, channels)),
        features.new_empty((strips, count, frames, hidden) if save_hidden else (0,), dtype=exact),
        features.new_empty((strips, count, channels) if maximum else (0,), dtype=torch.int32),
        features.new_empty((len(windows), strips, count, channels) if maximum else (0,), dtype=exact),
    )


def _fake_backward(
    _grad_output: Tensor, features: Tensor, weights: list[Tensor], *_: Any
) -> tuple[Tensor, list[Tensor]]:
    return features.new_empty(features.shape), [weight.new_empty(weight.shape) for weight in weights]


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    features, weights, lengths, *ctx.settings, _save_hidden = inputs
    ctx.save_for_backward(features, lengths, *output[1:], *weights)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_output: Tensor | None, *_: None) -> tuple[Any, ...]:
    features, lengths, hidden, chosen, gates, *weights = ctx.saved_tensors
    if grad_output is None:
        return None, [None] * len(weights), None, None, None, None, None
    grad_features, grad_weights = BACKWARD.overload(
        grad_output, features, weights, lengths, hidden, chosen, gates, *ctx.settings
    )
    return grad_features, list(grad_weights), None, None, None, None, None


def _autocast_kernel(device: str, key: str) -> Any:
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def kernel(features: Tensor, weights: list[Tensor], *rest: Any) -> Any:
        rounded = [_library.autocast(tensor, device) for tensor in (features, *weights)]
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return FORWARD.overload(rounded[0], rounded[1:], *rest)

    return kernel


def _on_cuda(name: str, *inputs: Any) -> Any:
    """The Triton launcher ``name``."""
    return getattr(importlib.import_module("sgela_fast.kernels.gated_temporal_pooling"), name)(*inputs)


_library.register(FORWARD, fake=_fake_forward, cuda=functools.partial(_on_cuda, "forward"))
_library.register(BACKWARD, fake=_fake_backward, cuda=functools.partial(_on_cuda, "backward"))
torch.library.register_autograd(FORWARD.name, _differentiate, setup_context=_save_for_backward, lib=_library.LIBRARY)
_library.refuse_second_derivative(BACKWARD)
_library.refuse_batched_gradients(BACKWARD)
for _device, _key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
    _library.LIBRARY.impl("gated_temporal_pooling", _autocast_kernel(_device, _key), _key)
