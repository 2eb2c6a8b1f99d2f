"""The gait decoder's whole loop as one fused op, for encoding and, with gradients, for training.

All steps of LSTM layers, attention, attentional layer and input feeding run in one call: C++ on the CPU, Triton on CUDA
devices. The formulas stand in :mod:`sgela_fast.reference.attention_decoder`; what is saved by algebra in
``docs/attention-decoder.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from sgela_fast.ops import _decoder_arguments as arguments
from sgela_fast.ops import _decoder_training, _library, _packed_decoder
from sgela_fast.ops._attention_arguments import (
    DIRECTIONS,
    MODES,
    Backend,
    as_number,
    why_learned_settings_are_not_fused,
)
from sgela_fast.ops._decoder_arguments import Outputs
from sgela_fast.ops._decoder_encoding import DECODE, DECODE_CPU
from sgela_fast.ops._decoder_packing import forget_packed_weights
from sgela_fast.ops._library import autocasts
from sgela_fast.ops._packed_decoder import PackedDecoder, pack_decoder_weights
from sgela_fast.reference import attention_decoder as reference
from sgela_fast.reference.attention_decoder import DecoderOutput, DecoderWeights
from sgela_fast.reference.batched_lstm import LSTMState
from sgela_fast.reference.locality_attention import Mode

__all__ = ["PackedDecoder", "attention_decoder", "forget_packed_weights", "pack_decoder_weights", "why_not_fused"]

_DTYPES: dict[str, tuple[torch.dtype, ...]] = {
    "cpu": (torch.float32, torch.float64, torch.bfloat16, torch.float16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
_DIFFERENTIABLE = (torch.float32, torch.float64)
# Devices on which the fused op has been run and compared, and which `auto` may therefore choose.
_PROVEN = ("cpu",)
_WHY_NO_CPU_KERNEL = _library.why_no_cpu_kernel("attention_decoder_cpu")


@overload
def attention_decoder(
    encoded: Tensor,
    state: LSTMState | tuple[Tensor, Tensor],
    weights: DecoderWeights | PackedDecoder,
    *,
    steps: int,
    teacher: Tensor | None = ...,
    feedback: bool = ...,
    mode: Mode | None = ...,
    centers: Literal["reverse", "identity"] = ...,
    sigma: float | Tensor = ...,
    window: float | None = ...,
    fusion: Literal["tanh", "linear"] = ...,
    outputs: Literal["all"] = ...,
    backend: Backend = ...,
) -> DecoderOutput: ...


@overload
def attention_decoder(
    encoded: Tensor,
    state: LSTMState | tuple[Tensor, Tensor],
    weights: DecoderWeights | PackedDecoder,
    *,
    steps: int,
    teacher: Tensor | None = ...,
    feedback: bool = ...,
    mode: Mode | None = ...,
    centers: Literal["reverse", "identity"] = ...,
    sigma: float | Tensor = ...,
    window: float | None = ...,
    fusion: Literal["tanh", "linear"] = ...,
    outputs: Literal["context"],
    backend: Backend = ...,
) -> Tensor: ...


def attention_decoder(
    encoded: Tensor,
    state: LSTMState | tuple[Tensor, Tensor],
    weights: DecoderWeights | PackedDecoder,
    *,
    steps: int,
    teacher: Tensor | None = None,
    feedback: bool = False,
    mode: Mode | None = "las",
    centers: Literal["reverse", "identity"] = "reverse",
    sigma: float | Tensor = 3.0,
    window: float | None = None,
    fusion: Literal["tanh", "linear"] = "tanh",
    outputs: Outputs = "all",
    backend: Backend = "auto",
) -> DecoderOutput | Tensor:
    """Decode ``steps`` skeletons from the encoded gait states (Eqs. 2 and 4 to 10 of the paper).

    The bottom layer reads [skeleton; previous attentional vector]. The skeleton is all zeros at the first step and
    then, by choice, the true previous one (``teacher``), the previous prediction (``feedback``) or zeros again.

    Where a gradient is needed, the training pass runs: the same loop with a tape, and a backward pass to all inputs
    from all results, whose own derivative is refused (:mod:`sgela_fast.ops._decoder_training`). Its results differ from
    those of encoding by rounding. Results are the same bit for bit on every call, with any number of threads, and for a
    window whatever the others in its batch are.
    Autocast has no say in the arithmetic. The kernels read weights in an order of their own, which is kept from call to
    call (:func:`forget_packed_weights` tells how changes are noticed).

    Args:
        encoded: encoded gait states h_j of Eq. 1, ``(G, B, Tk, K)``. The kernels compute bfloat16 and float16 in
            float32 and round results; the reference computes them as they are.
        state: initial ``h`` and ``c``, the encoder's final ones, each ``(L, G, B, K)``.
        weights: the decoder's weights, of the dtype and on the device of ``encoded``. Or what
            :func:`pack_decoder_weights` made of them: then nothing is compared or packed.
        steps: decoding steps T, 1 or more.
        teacher: true skeletons in decoding order ``(G, B, T, J)``; the last one is not read.
        feedback: read the previous prediction.
        mode: kind of alignment, ``None`` for a decoder without attention.
        centers: where the locality mask expects row t: counted from the end for reverse reconstruction.
        sigma: width of the locality mask, in positions; a tensor of one that requires a gradient gets it, from the
            reference, to which ``auto`` leaves such calls.
        window: half width outside which the mask is 0; ``None`` for none.
        fusion: activation of the attentional layer.
        outputs: ``all`` for everything, or ``context`` for the contexts alone: then neither skeletons nor the last
            step's attentional vector are computed.
        backend: ``fused`` (the kernels), ``reference`` (plain PyTorch) or ``auto``: ``fused`` on the CPU unless
            ``torch.func`` is at work, else ``reference``. On CUDA devices, where no GPU has run the kernels yet,
            ``fused`` takes float32, bfloat16 and float16, up to 1024 units and no gradients.

    Returns:
        What the reference returns, or for ``outputs="context"`` the context vectors ``(G, B, T, K)``.

    Raises:
        ValueError: an argument is unknown, out of range, or does not fit the others.
        RuntimeError: ``backend="fused"`` where the kernels cannot run; a derivative of a derivative.
    """
    arguments.check_settings(steps, teacher, feedback, mode, centers, sigma, window, fusion, outputs, backend)
    state = arguments.named_state(state)
    attends = mode is not None
    settings = {
        "steps": steps,
        "teacher": teacher,
        "feedback": feedback,
        "mode": mode,
        "centers": centers,
        "sigma": sigma,
        "window": window,
        "fusion": fusion,
    }
    if isinstance(weights, PackedDecoder):
        return _decode_packed(encoded, state, weights, settings, outputs, backend)
    arguments.check_tensors(encoded, state, weights, teacher, steps, attends)
    if not _use_fused(encoded, state, weights, teacher, sigma, backend):
        return _run_reference(outputs, (encoded, state, weights), settings)
    learns = torch.is_grad_enabled() and _require_gradients(encoded, state, weights, teacher)
    results = (_decoder_training.decode if learns else DECODE.overload)(
        encoded,
        state.h,
        state.c,
        [weight for layer in weights.layers for weight in layer[:2]],
        [layer.bias for layer in weights.layers],
        weights.key if attends else None,
        weights.fusion if attends else None,
        weights.output,
        weights.output_bias,
        teacher,
        *_configuration(settings, outputs)[: -1 if learns else None],
    )
    return _named(results, outputs, attends)


def _configuration(settings: dict[str, Any], outputs: Outputs) -> tuple[Any, ...]:
    """The settings as the ops take them."""
    return (
        settings["steps"],
        settings["feedback"],
        MODES[settings["mode"] or "bas"],
        DIRECTIONS[settings["centers"]],
        as_number(settings["sigma"]),
        settings["window"],
        settings["fusion"] == "tanh",
        outputs == "all",
    )


def _named(results: Sequence[Tensor], outputs: Outputs, attends: bool) -> DecoderOutput | Tensor:
    context, loss, alignment, reconstruction, attentional, h, c = results
    if outputs == "context":
        return context
    return DecoderOutput(
        reconstruction=reconstruction,
        context=context if attends else None,
        alignment=alignment if attends else None,
        loss=loss,
        attentional=attentional,
        h=h,
        c=c,
    )


def _decode_packed(
    encoded: Tensor,
    state: LSTMState,
    packed: PackedDecoder,
    settings: dict[str, Any],
    outputs: Outputs,
    backend: Backend,
) -> DecoderOutput | Tensor:
    teacher, attends = settings["teacher"], settings["mode"] is not None
    _packed_decoder.check_call(encoded, state, packed, teacher, settings["steps"], settings["feedback"], attends)
    fused = _use_fused(encoded, state, None, teacher, settings["sigma"], backend)
    on_cpu = encoded.device.type == "cpu"
    if not fused or (packed.precision != "full" and packed.packed is None):
        decoded = _packed_decoder.run_in_pytorch(encoded, state, packed, settings)
        return decoded if outputs == "all" else cast(Tensor, decoded.context)
    configuration = _configuration(settings, outputs)
    if not isinstance(packed.weights, DecoderWeights):
        results = _packed_decoder.run_reduced(encoded, state, packed, teacher, configuration)
        return _named(results, outputs, attends)
    weights = packed.weights
    # The kernels for CUDA devices read the weights as they are.
    results = (DECODE_CPU if on_cpu else DECODE).overload(
        encoded,
        state.h,
        state.c,
        [weight for layer in weights.layers for weight in layer[:2]],
        [layer.bias for layer in weights.layers],
        *weights[1:],
        teacher,
        *([packed.packed] if on_cpu else []),
        *configuration,
    )
    return _named(results, outputs, attends)


def why_not_fused(device: str, dtype: torch.dtype) -> str | None:
    """Why the fused kernels cannot run for tensors on ``device`` (its type), or ``None`` if they can."""
    if device == "cpu" and _WHY_NO_CPU_KERNEL is not None:
        return _WHY_NO_CPU_KERNEL
    if device == "cuda" and _library.WHY_NO_TRITON is not None:
        return _library.WHY_NO_TRITON
    if dtype not in _DTYPES.get(device, ()):
        return f"there is no kernel for {str(dtype).removeprefix('torch.')} on {device}"
    return None


def _use_fused(
    encoded: Tensor,
    state: LSTMState,
    weights: DecoderWeights | None,
    teacher: Tensor | None,
    sigma: float | Tensor,
    backend: Backend,
) -> bool:
    if backend == "reference":
        return False
    missing = why_not_fused(encoded.device.type, encoded.dtype) or why_learned_settings_are_not_fused(sigma)
    if missing is None and torch.is_grad_enabled() and _require_gradients(encoded, state, weights, teacher):
        missing = _decoder_training.WHY_NO_CPU_KERNEL
        if missing is None and encoded.dtype not in _DIFFERENTIABLE:
            missing = f"there are no gradients for {str(encoded.dtype).removeprefix('torch.')} on the CPU"
        if encoded.device.type == "cuda":
            missing = "the kernels for CUDA devices have no gradients (use torch.no_grad())"
    if missing is None and _library.is_transformed_by_torch_func():
        missing = "torch.func's transformations do not reach it"
    return _library.chooses_fused("attention_decoder", backend, missing, encoded.device.type in _PROVEN)


def _require_gradients(
    encoded: Tensor, state: LSTMState, weights: DecoderWeights | None, teacher: Tensor | None
) -> bool:
    inputs: list[Tensor | None] = [encoded, *state, teacher]
    if weights is not None:
        inputs += [*weights[1:], *(tensor for layer in weights.layers for tensor in layer)]
    return any(tensor is not None and tensor.requires_grad for tensor in inputs)


def _run_reference(outputs: Outputs, inputs: tuple[Any, ...], settings: dict[str, Any]) -> DecoderOutput | Tensor:
    device = inputs[0].device.type
    if autocasts(device):
        with torch.autocast(device, enabled=False):
            return _run_reference(outputs, inputs, settings)
    decoded = reference.attention_decoder(*inputs, **settings)
    if outputs == "all":
        return decoded
    assert decoded.context is not None
    return decoded.context
