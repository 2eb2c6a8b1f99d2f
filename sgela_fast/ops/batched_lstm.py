"""G independent LSTMs of equal shape in one call: any number of layers, gates and weights as in ``torch.nn.LSTM``.

On the CPU groups and blocks of windows run side by side through all layers, with packed weights and no barrier between
steps; on CUDA devices there are three ways to run, among which ``_lstm_cuda.py`` chooses. The equations stand in
:mod:`sgela_fast.reference.batched_lstm`, what is kept for the backward pass in ``docs/batched-lstm.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sgela_fast.ops import _library, _lstm_arguments, _lstm_cuda, _lstm_vmap, _tape
from sgela_fast.ops._attention_arguments import Backend
from sgela_fast.ops._library import accumulation_dtype, autocasts
from sgela_fast.ops._lstm_packing import forget_packed_weights as forget_packed_weights
from sgela_fast.ops._lstm_packing import packed_weights
from sgela_fast.ops._packed_lstm import PackedLSTM as PackedLSTM
from sgela_fast.ops._packed_lstm import check_call as check_packed_call
from sgela_fast.ops._packed_lstm import pack_lstm_weights as pack_lstm_weights
from sgela_fast.ops._packed_lstm import run_reduced
from sgela_fast.reference import batched_lstm as reference
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Devices on which the fused op has been run and compared, and which `auto` may therefore choose.
_PROVEN = ("cpu",)
_TAPE_ROWS = 6

FORWARD = _library.define(
    "batched_lstm(Tensor input, Tensor[] weights, Tensor? packed, Tensor? h0, Tensor? c0, Tensor? lengths, "
    "Tensor? dropout_masks, bool save_tape) -> (Tensor output, Tensor h_n, Tensor c_n, Tensor tape)"
)
BACKWARD = _library.define(
    "batched_lstm_backward(Tensor? grad_output, Tensor? grad_h_n, Tensor? grad_c_n, Tensor input, Tensor[] weights, "
    "Tensor? h0, Tensor? c0, Tensor? lengths, Tensor? dropout_masks, Tensor output, Tensor tape) "
    "-> (Tensor grad_input, Tensor grad_h0, Tensor grad_c0, Tensor[] grad_weights)"
)

_WHY_NO_CPU_KERNEL = _library.why_no_cpu_kernel("batched_lstm")


class BatchedLSTMResult(NamedTuple):
    """What :func:`batched_lstm` returns: the nesting is that of ``torch.nn.LSTM``, ``output, (h_n, c_n) = ...``.

    Attributes:
        output: of the top layer, ``(G, B, T, K)``.
        state: final ``h`` and ``c`` of all layers, each ``(L, G, B, K)``.
    """

    output: Tensor
    state: LSTMState


def batched_lstm(
    input: Tensor,
    weights: Sequence[LSTMLayer] | PackedLSTM,
    initial_state: LSTMState | tuple[Tensor, Tensor] | None = None,
    *,
    lengths: Tensor | None = None,
    dropout: float = 0.0,
    training: bool = False,
    backend: Backend = "auto",
) -> BatchedLSTMResult:
    """Run G independent LSTMs over their sequences.

    Equal to G calls of ``torch.nn.LSTM`` in values and gradients. Results are the same bit for bit on every call with
    the same inputs, whatever the number of threads. An input with a stride of 1 in the last dimension is read where it
    lies.

    A call on the CPU that needs no gradients keeps the weights in the order that the kernels read (as much memory again
    as the weights take) until the first weight tensor is gone or ``forget_packed_weights()`` is called. The next call
    takes them if the weights hold the same numbers: all their bytes are hashed, in every call. Optimiser steps,
    ``load_state_dict``, writes through ``.data``, through NumPy or in inference mode are therefore all followed; what
    is not noticed is a write by another thread while a call is under way. Weights that are made anew for each call are
    packed in each. Nothing is kept under autocast, ``torch.compile``, ``torch.export`` and ``torch.func``
    transformations.

    Args:
        input: ``(G, B, T, I)``; float32, bfloat16, float16 or float64. Gates and cell state are computed in float32
            whatever the input (float64 for float64).
        weights: ``(weight_ih, weight_hh, bias)`` of each layer, bottom first: ``(G, 4K, I)``, then ``(G, 4K, K)`` for
            the layers above; ``(G, 4K, K)``; ``(G, 4K)``, the sum of torch's two biases. Row blocks i, f, g, o; dtype
            and device of ``input``. Or what :func:`pack_lstm_weights` made of them: then nothing is hashed or packed,
            there are no gradients, and autocast has no say.
        initial_state: ``h`` and ``c`` of all layers, each ``(L, G, B, K)``; zeros if ``None``.
        lengths: ``(B,)`` integers, the same for all groups. Behind the end of a sequence the output is 0 and the state
            stays as it is, as with a packed sequence in ``torch.nn.LSTM``. More than T counts as T; 0 or less is a
            sequence without steps, whose final state is the initial one.
        dropout: probability with which, in training, an element of a layer's output is set to 0 on its way to the next
            layer; the others grow by 1 / (1 - dropout). Drawn from torch's generator of the device.
        training: whether dropout applies.
        backend: ``fused`` (the compiled kernels, or what ``_lstm_cuda`` chooses on CUDA devices), ``reference`` (plain
            PyTorch) or ``auto``: ``fused`` wherever it has been run and compared (now: the CPU), else ``reference``.
            Derivatives by ``torch.func.grad`` and its kin are the reference's alone.

    Returns:
        ``output`` ``(G, B, T, K)`` and the final ``(h, c)``, each ``(L, G, B, K)``, in the input's dtype.

    Raises:
        ValueError: shapes do not fit, dtypes or devices differ, or a setting is unknown or out of range.
        RuntimeError: ``backend="fused"`` cannot run here; the message says what is missing. Also a derivative of a
            derivative: the fused backward has none. Also a gradient with packed weights.
    """
    _lstm_arguments.check_settings(dropout, backend)
    if isinstance(weights, PackedLSTM):
        return _with_packed_weights(input, weights, initial_state, lengths, training and dropout > 0, backend)
    _lstm_arguments.check_weights(weights)
    _lstm_arguments.check_tensors(input, weights, initial_state, lengths)
    groups, batch, steps, _ = input.shape
    hidden = weights[0][1].shape[2]
    masks = None
    if training and dropout > 0 and len(weights) > 1:
        shape = (len(weights) - 1, groups, batch, steps, hidden)
        masks = _lstm_arguments.draw_dropout_masks(shape, dropout, accumulation_dtype(input.dtype), input.device)
    if not _use_fused(input, backend):
        layers = [LSTMLayer(*layer) for layer in weights]
        state = None if initial_state is None else LSTMState(*initial_state)
        return _in_accumulation_dtype(input, layers, state, lengths, masks)
    flat = [tensor for layer in weights for tensor in layer]
    h0, c0 = (None, None) if initial_state is None else initial_state
    given = [input, *flat] if initial_state is None else [input, *flat, *initial_state]
    learns = torch.is_grad_enabled() and any([tensor.requires_grad for tensor in given])  # noqa: C419
    packed = None if learns or autocasts(input.device.type) else packed_weights(flat)
    lengths = None if lengths is None else lengths.to(torch.int64)
    elements = len(weights) * groups * batch * steps * _TAPE_ROWS * hidden
    save_tape = learns and _tape.keeps(elements, input.dtype)
    with nullcontext() if learns or _library.is_transformed() else _library.past_autograd():
        output, h_n, c_n, _ = FORWARD.overload(input, flat, packed, h0, c0, lengths, masks, save_tape)
    return BatchedLSTMResult(output, LSTMState(h_n, c_n))


def _with_packed_weights(
    input: Tensor,
    weights: PackedLSTM,
    state: LSTMState | tuple[Tensor, Tensor] | None,
    lengths: Tensor | None,
    drops: bool,
    backend: Backend,
) -> BatchedLSTMResult:
    check_packed_call(input, weights, state, lengths, drops)
    device = input.device.type
    if autocasts(device):
        with torch.autocast(device, enabled=False):
            return _with_packed_weights(input, weights, state, lengths, drops, backend)
    fused = _use_fused(input, backend)
    lengths = None if lengths is None else lengths.to(torch.int64)
    if weights.precision != "full":
        return BatchedLSTMResult(*run_reduced(input, weights, state, lengths, fused))
    layers = [LSTMLayer(*layer) for layer in cast(Sequence[LSTMLayer], weights.layers)]
    if not fused:
        return _in_accumulation_dtype(input, layers, None if state is None else LSTMState(*state), lengths, None)
    h0, c0 = (None, None) if state is None else state
    flat = [tensor for layer in layers for tensor in layer]
    with nullcontext() if _library.is_transformed() else _library.past_autograd():
        output, h_n, c_n, _ = FORWARD.overload(input, flat, weights.packed, h0, c0, lengths, None, False)
    return BatchedLSTMResult(output, LSTMState(h_n, c_n))


def _in_accumulation_dtype(
    input: Tensor, layers: list[LSTMLayer], state: LSTMState | None, lengths: Tensor | None, masks: Tensor | None
) -> BatchedLSTMResult:
    """The reference with the kernels' promise about dtypes: half-precision inputs are computed in float32."""
    device = input.device.type
    if autocasts(device):
        # As for the kernels, autocast rounds the inputs and has no say in the arithmetic.
        layers = [LSTMLayer(*(_library.autocast(tensor, device) for tensor in layer)) for layer in layers]
        state = None if state is None else LSTMState(*(_library.autocast(tensor, device) for tensor in state))
        with torch.autocast(device, enabled=False):
            return _in_accumulation_dtype(_library.autocast(input, device), layers, state, lengths, masks)
    dtype, exact = input.dtype, accumulation_dtype(input.dtype)
    output, final = reference.batched_lstm(
        input.to(exact),
        [LSTMLayer(*(tensor.to(exact) for tensor in layer)) for layer in layers],
        None if state is None else LSTMState(*(tensor.to(exact) for tensor in state)),
        lengths=lengths,
        dropout_masks=masks,
    )
    return BatchedLSTMResult(output.to(dtype), LSTMState(final.h.to(dtype), final.c.to(dtype)))


def why_not_fused(device: str, dtype: torch.dtype) -> str | None:
    """Why the fused op cannot run for tensors on ``device`` (its type), or ``None`` if it can."""
    if device == "cpu" and _WHY_NO_CPU_KERNEL is not None:
        return _WHY_NO_CPU_KERNEL
    if device not in ("cpu", "cuda") or dtype not in _DTYPES:
        return f"there is no kernel for {str(dtype).removeprefix('torch.')} on {device}"
    return None


def _use_fused(input: Tensor, backend: Backend) -> bool:
    device = input.device.type
    missing = why_not_fused(device, input.dtype)
    return _library.chooses_fused("batched_lstm", backend, missing, device in _PROVEN)


def _fake_forward(input: Tensor, weights: list[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    groups, batch, steps, _ = input.shape
    layers, hidden = len(weights) // 3, weights[1].shape[2]
    taped = layers * groups * batch * steps * _TAPE_ROWS * hidden if rest[-1] else 0
    state = (layers, groups, batch, hidden)
    return (
        input.new_empty(groups, batch, steps, hidden),
        input.new_empty(state),
        input.new_empty(state),
        input.new_empty(taped, dtype=accumulation_dtype(input.dtype)),
    )


def _fake_backward(
    _grad_output: Tensor | None,
    _grad_h_n: Tensor | None,
    _grad_c_n: Tensor | None,
    input: Tensor,
    weights: list[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    return (
        input.new_empty(input.shape),
        input.new_empty((0,) if h0 is None else h0.shape),
        input.new_empty((0,) if c0 is None else c0.shape),
        [weight.new_empty(weight.shape) for weight in weights],
    )


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, weights, _packed, h0, c0, lengths, masks, _save_tape = inputs
    result, _h_n, _c_n, tape = output
    ctx.save_for_backward(input, h0, c0, lengths, masks, result, tape, *weights)
    ctx.mark_non_differentiable(tape)
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None, grad_c_n: Tensor | None, _grad_tape: None
) -> tuple[Any, ...]:
    input, h0, c0, lengths, masks, output, tape, *weights = ctx.saved_tensors
    if grad_output is None and grad_h_n is None and grad_c_n is None:
        return None, [None] * len(weights), None, None, None, None, None, None
    grad_input, grad_h0, grad_c0, grad_weights = BACKWARD.overload(
        grad_output, grad_h_n, grad_c_n, input, weights, h0, c0, lengths, masks, output, tape
    )
    grad_h0, grad_c0 = None if h0 is None else grad_h0, None if c0 is None else grad_c0
    return grad_input, list(grad_weights), None, grad_h0, grad_c0, None, None, None


def _autocast_kernel(device: str, key: str) -> Any:
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def kernel(
        input: Tensor, weights: list[Tensor], _packed: Any, h0: Any, c0: Any, lengths: Any, masks: Any, save_tape: bool
    ) -> Any:
        # Packed weights are those before rounding, and masks are never rounded.
        input, h0, c0 = (_library.autocast(tensor, device) for tensor in (input, h0, c0))
        weights = [_library.autocast(weight, device) for weight in weights]
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return FORWARD.overload(input, weights, None, h0, c0, lengths, masks, save_tape)

    return kernel


_library.register(FORWARD, fake=_fake_forward, cuda=_lstm_cuda.forward)
_library.register(BACKWARD, fake=_fake_backward, cuda=_lstm_cuda.backward)
torch.library.register_autograd(FORWARD.name, _differentiate, setup_context=_save_for_backward, lib=_library.LIBRARY)
_library.refuse_second_derivative(BACKWARD)
_library.refuse_batched_gradients(BACKWARD)
for _device, _key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
    _library.LIBRARY.impl("batched_lstm", _autocast_kernel(_device, _key), _key)
torch.library.register_vmap(FORWARD.name, _lstm_vmap.forward_rule(FORWARD), lib=_library.LIBRARY)
torch.library.register_vmap(BACKWARD.name, _lstm_vmap.backward_rule(BACKWARD), lib=_library.LIBRARY)
