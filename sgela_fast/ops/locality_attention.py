"""Luong attention with a Gaussian locality mask and its alignment loss, as one fused op.

Scores, softmax, mask, loss L_A and context come out of one kernel, forward and backward: C++ on the CPU, Triton on CUDA
devices. The formulas stand in :mod:`sgela_fast.reference.locality_attention`; the one-pass form of the loss and the
gradients in ``docs/locality-attention.md``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any

import torch
from torch import Tensor

from sgela_fast.ops import _attention_arguments as arguments
from sgela_fast.ops import _library
from sgela_fast.ops._attention_arguments import Backend
from sgela_fast.ops._library import accumulation_dtype
from sgela_fast.reference import locality_attention as reference
from sgela_fast.reference.locality_attention import Centers, LocalityAttention, Mode

_DTYPES: dict[str, tuple[torch.dtype, ...]] = {
    "cpu": (torch.float32, torch.bfloat16, torch.float16, torch.float64),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
# Devices on which the fused kernels have been run and compared, and which `auto` may therefore choose.
_PROVEN = ("cpu",)

_CONFIGURATION = (
    "SymInt first_step, int direction, float sigma, float? window, float scale, int mode, bool detach_target"
)
FORWARD = _library.define(
    "locality_attention(Tensor query, Tensor key, Tensor? value, Tensor? centers, Tensor? key_padding_mask, "
    f"{_CONFIGURATION}) -> (Tensor context, Tensor loss, Tensor log_sum, Tensor moment)"
)
BACKWARD = _library.define(
    "locality_attention_backward(Tensor grad_context, Tensor? grad_loss, Tensor query, Tensor key, Tensor? value, "
    "Tensor? centers, Tensor? key_padding_mask, Tensor context, Tensor log_sum, Tensor moment, "
    f"{_CONFIGURATION}) -> (Tensor grad_query, Tensor grad_key, Tensor grad_value, Tensor grad_centers)"
)


_WHY_NO_CPU_KERNEL = _library.why_no_cpu_kernel("locality_attention")


def locality_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor | None = None,
    *,
    centers: Centers | Tensor | None = "reverse",
    sigma: float | Tensor,
    window: float | None = None,
    scale: float | Tensor = 1.0,
    key_padding_mask: Tensor | None = None,
    first_step: int = 0,
    mode: Mode = "las",
    detach_target: bool = False,
    return_alignment: bool = False,
    backend: Backend = "auto",
) -> LocalityAttention:
    """Attend to ``key`` with an alignment that is, or is taught to be, local (Eqs. 4 to 8 of the paper).

    Leading dimensions are broadcast. Nothing of size Tq x Tk is written to memory, forward or backward, unless the
    alignment is asked for. Results are the same bit for bit on every call with the same inputs. Inputs with a stride of
    1 in the last dimension are read where they lie, transposed heads ``(B, H, T, K)`` included; more than two leading
    dimensions are copied only if they cannot be viewed as two.

    Args:
        query: ``(..., Tq, K)``; float32, bfloat16 or float16, on the CPU also float64. Scores, softmax and loss are
            float32 whatever the inputs (float64 for float64).
        key: ``(..., Tk, K)``, dtype and device of ``query``.
        value: ``(..., Tk, Kv)``; ``None`` means ``key``, which is then read once.
        centers: ``reverse`` (p_t = Tk - 1 - t), ``identity`` (p_t = t) or a tensor ``(..., Tq)`` of positions, which
            gets a gradient if it requires one; ``None`` is ``reverse``.
        sigma: width of the locality mask, in positions; one number for a call. A tensor of one that requires a gradient
            gets it, from the reference: the kernels have none, and ``auto`` leaves such calls to it.
        window: half width outside which the mask is 0; ``None`` for none.
        scale: factor on the scores; the paper has 1. A learned one is as a learned ``sigma``; to keep the kernels,
            multiply the query by it.
        key_padding_mask: ``(..., Tk)`` bool, True where a key is padding. Padding takes no weight; a sequence of
            nothing but padding has zeros for context, loss and gradients. Padded keys and values must be finite.
        first_step: decoding step of the first query row, for decoding one row at a time.
        mode: ``bas`` (Eq. 4), ``mbas`` (Eq. 6, not renormalised) or ``las`` (context of Eq. 4, loss of Eq. 7).
        detach_target: treat the masked alignment as a constant in the loss's gradient.
        return_alignment: also return the weights that made the context. They are computed beside the kernel, in memory
            of size Tq x Tk, and are differentiable.
        backend: ``fused`` (the kernels), ``reference`` (plain PyTorch) or ``auto``: ``fused`` wherever the kernels have
            been run and compared (now: the CPU), else ``reference``.

    Returns:
        ``context (..., Tq, Kv)`` in the inputs' dtype; ``loss (...)``, one L_A a sequence, float32 (float64 for
        float64), zeros for ``bas`` and ``mbas``; ``alignment (..., Tq, Tk)`` in the inputs' dtype, or ``None``.

    Raises:
        ValueError: shapes do not fit, dtypes or devices differ, or a setting is unknown or out of range.
        RuntimeError: ``backend="fused"`` cannot run here; the message says what is missing. Also a derivative of a
            derivative: the fused backward has none. ``torch.func.vmap`` works; ``torch.func.grad`` and its kin are the
            reference's alone, and ``auto`` takes it for them.
    """
    arguments.check_settings(mode, sigma, window, backend, centers, scale, first_step)
    batch = arguments.leading_shape_of_checked(query, key, value, key_padding_mask, centers)
    settings: dict[str, Any] = {}
    fused = _use_fused(query, sigma, scale, backend)
    if return_alignment or not fused:
        settings = {"centers": centers, "sigma": sigma, "window": window, "scale": scale}
        settings |= {"key_padding_mask": key_padding_mask, "first_step": first_step}
    if not fused:
        settings |= {"mode": mode, "detach_target": detach_target, "return_alignment": return_alignment}
        return _in_accumulation_dtype(query, key, value, settings)
    if _library.autocasts(query.device.type):
        query, key, value = (_library.autocast(tensor, query.device.type) for tensor in (query, key, value))
    positions = centers.to(accumulation_dtype(query.dtype)) if isinstance(centers, Tensor) else None
    inputs = arguments.expand(batch, query, key, value, positions, key_padding_mask)
    configuration = (
        first_step,
        0 if isinstance(centers, Tensor) else arguments.DIRECTIONS[centers or "reverse"],
        arguments.as_number(sigma),
        window,
        arguments.as_number(scale),
        arguments.MODES[mode],
        detach_target,
    )
    if _library.is_transformed():
        context, loss, _, _ = _forward(batch, inputs, configuration)
    elif torch.is_grad_enabled() and any([tensor is not None and tensor.requires_grad for tensor in inputs]):  # noqa: C419
        context, loss = _EagerAttention.apply(batch, configuration, *inputs)  # type: ignore[no-untyped-call]
    else:
        with _library.past_autograd():
            context, loss, _, _ = _forward(batch, inputs, configuration)
    alignment = None
    if return_alignment:
        settings |= {"mode": "mbas" if mode == "mbas" else "bas", "return_alignment": True}
        alignment = _in_accumulation_dtype(query, key, key[..., :0], settings).alignment
    return LocalityAttention(context, loss, alignment)


def _in_accumulation_dtype(
    query: Tensor, key: Tensor, value: Tensor | None, settings: dict[str, Any]
) -> LocalityAttention:
    """The reference with the kernels' promise about dtypes: half-precision inputs are computed in float32."""
    device = query.device.type
    if _library.autocasts(device):
        # As for the kernels, autocast rounds the inputs and has no say in the arithmetic.
        query, key, value = (_library.autocast(tensor, device) for tensor in (query, key, value))
        with torch.autocast(device, enabled=False):
            return _in_accumulation_dtype(query, key, value, settings)
    exact = accumulation_dtype(query.dtype)
    result = reference.locality_attention(
        query.to(exact), key.to(exact), None if value is None else value.to(exact), **settings
    )
    alignment = None if result.alignment is None else result.alignment.to(query.dtype)
    return LocalityAttention(result.context.to(query.dtype), result.loss, alignment)


def why_not_fused(device: str, dtype: torch.dtype) -> str | None:
    """Why the fused kernels cannot run for tensors on ``device`` (its type), or ``None`` if they can."""
    if device == "cpu" and _WHY_NO_CPU_KERNEL is not None:
        return _WHY_NO_CPU_KERNEL
    if device == "cuda" and _library.WHY_NO_TRITON is not None:
        return f"{_library.WHY_NO_TRITON}; install sgela_fast[triton]"
    if dtype not in _DTYPES.get(device, ()):
        return f"there is no kernel for {str(dtype).removeprefix('torch.')} on {device}"
    return None


def _use_fused(query: Tensor, sigma: float | Tensor, scale: float | Tensor, backend: Backend) -> bool:
    device = query.device.type
    missing = why_not_fused(device, query.dtype) or arguments.why_learned_settings_are_not_fused(sigma, scale)
    return _library.chooses_fused("locality_attention", backend, missing, device in _PROVEN)


def _fake_forward(query: Tensor, key: Tensor, value: Tensor | None, *_: Any) -> tuple[Tensor, ...]:
    *leading, rows, _features = query.shape
    exact = accumulation_dtype(query.dtype)
    width = (key if value is None else value).shape[-1]
    return (
        query.new_empty(*leading, rows, width),
        query.new_empty(leading, dtype=exact),
        query.new_empty(*leading, rows, dtype=exact),
        query.new_empty(*leading, rows, dtype=exact),
    )


def _fake_backward(
    _grad_context: Tensor,
    _grad_loss: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    centers: Tensor | None,
    *_: Any,
) -> tuple[Tensor, ...]:
    return (
        query.new_empty(query.shape),
        key.new_empty(key.shape),
        key.new_empty(0) if value is None else value.new_empty(value.shape),
        query.new_empty((0,) if centers is None else centers.shape, dtype=accumulation_dtype(query.dtype)),
    )


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    context, _loss, log_sum, moment = output
    ctx.save_for_backward(*inputs[:5], context, log_sum, moment)
    ctx.configuration = inputs[5:]
    ctx.mark_non_differentiable(log_sum, moment)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_context: Tensor | None, grad_loss: Tensor | None, *_: Any) -> tuple[Any, ...]:
    query, key, value, centers, mask, context, log_sum, moment = ctx.saved_tensors
    if grad_context is None:
        if grad_loss is None:
            return (None,) * (5 + len(ctx.configuration))
        grad_context = context.new_zeros(()).expand(context.shape)
    inputs = (query, key, value, centers, mask)
    with _library.past_autograd() if not torch.is_grad_enabled() else contextlib.nullcontext():
        grad_query, grad_key, grad_value, grad_centers = BACKWARD.overload(
            grad_context, grad_loss, *inputs, context, log_sum, moment, *ctx.configuration
        )
    return (
        grad_query,
        grad_key,
        None if value is None else grad_value,
        None if centers is None else grad_centers,
        None,
        *((None,) * len(ctx.configuration)),
    )


def _forward(batch: torch.Size, inputs: arguments.Inputs, configuration: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The op for inputs ``(..., T, K)``: context and loss lead with ``batch``; log-sum and moment are the kernels'."""
    context, loss, log_sum, moment = FORWARD.overload(*arguments.for_kernels(inputs, len(batch)), *configuration)
    return arguments.from_kernels(context, batch), arguments.from_kernels(loss, batch), log_sum, moment


class _EagerAttention(torch.autograd.Function):
    """The registered derivative with less on the way to it, for eager calls outside transforms.

    One window's attention takes less time than torch's registered autograd kernel and the nodes of two views.
    """

    @staticmethod
    def forward(ctx: Any, batch: torch.Size, configuration: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, Tensor]:
        with _library.past_autograd():
            context, loss, log_sum, moment = _forward(batch, inputs, configuration)
        ctx.save_for_backward(*inputs, context, log_sum, moment)
        ctx.batch, ctx.configuration = batch, configuration
        ctx.set_materialize_grads(False)
        return context, loss

    @staticmethod
    def backward(ctx: Any, grad_context: Tensor | None, grad_loss: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, context, log_sum, moment = ctx.saved_tensors
        if grad_context is None:
            grad_context = context.new_zeros(()).expand(context.shape)
        leading = len(ctx.batch)
        # With create_graph the registered backward must be seen: it refuses to be differentiated.
        with contextlib.nullcontext() if torch.is_grad_enabled() else _library.past_autograd():
            gradients = BACKWARD.overload(
                arguments.one_or_two_leading(grad_context, leading),
                None if grad_loss is None else arguments.one_or_two_leading(grad_loss, leading),
                *arguments.for_kernels(inputs, leading),
                arguments.one_or_two_leading(context, leading),
                log_sum,
                moment,
                *ctx.configuration,
            )
            shaped = (
                None if tensor is None else gradient.view(tensor.shape)
                for tensor, gradient in zip(inputs[:4], gradients, strict=True)
            )
            return None, None, *shaped, None


def _on_cuda(name: str, *inputs: Any) -> tuple[Tensor, ...]:
    """The Triton launcher ``name``; it takes both leading dimensions."""
    launch = getattr(importlib.import_module("sgela_fast.kernels.locality_attention"), name)
    if inputs[0].dim() == 4:
        return launch(*inputs)
    results = launch(*(value.unsqueeze(0) if isinstance(value, Tensor) else value for value in inputs))
    return tuple(result.squeeze(0) for result in results)  # "no gradient", of size 0, stays as it is


_library.register(FORWARD, fake=_fake_forward, cuda=functools.partial(_on_cuda, "forward"))
_library.register(BACKWARD, fake=_fake_backward, cuda=functools.partial(_on_cuda, "backward"))
torch.library.register_autograd(FORWARD.name, _differentiate, setup_context=_save_for_backward, lib=_library.LIBRARY)
_library.refuse_second_derivative(BACKWARD)
_library.register_autocast(FORWARD, tensors=(0, 1, 2))
_library.register_vmap_over_first_dimension(FORWARD)
_library.register_vmap_over_first_dimension(BACKWARD)
