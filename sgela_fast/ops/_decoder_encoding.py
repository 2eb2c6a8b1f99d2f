"""The gait decoder's loop without gradients, as it is registered: schemas, shape rules, and who computes it.

The public function is :func:`sgela_fast.ops.attention_decoder.attention_decoder`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sgela_fast.ops import _library, _packed_decoder
from sgela_fast.ops._decoder_packing import packed_weights

# What the ops of the decoder have in common, those with gradients included.
INPUTS = (
    "Tensor encoded, Tensor h0, Tensor c0, Tensor[] layers, Tensor[] biases, Tensor? key, Tensor? fusion, "
    "Tensor output, Tensor? output_bias, Tensor? teacher"
)
CONFIGURATION = "SymInt steps, bool feedback, int mode, int direction, float sigma, float? window, bool tanh"
RESULTS = "context", "loss", "alignment", "reconstruction", "attentional", "h", "c"
_RETURNS = ", ".join(f"Tensor {name}" for name in RESULTS)

DECODE = _library.define(f"attention_decoder({INPUTS}, {CONFIGURATION}, bool everything) -> ({_RETURNS})")
# The compiled loop itself. It packs the weights unless `packed` is what came of them.
DECODE_CPU = _library.define(
    f"attention_decoder_cpu({INPUTS}, Tensor? packed, {CONFIGURATION}, bool everything) -> ({_RETURNS})"
)


def _decode_on_cpu(*inputs: Any) -> tuple[Tensor, ...]:
    """The op on the CPU; here, since compiled graphs call it too, the packed weights are looked up."""
    tensors, configuration = inputs[:10], inputs[10:]
    layers, _biases, key, fusion, output, output_bias, teacher = tensors[3:]
    feedback = configuration[1] and teacher is None
    packed = packed_weights(layers, key, fusion, output, output_bias, feedback)
    return tuple(DECODE_CPU.overload(*tensors, packed, *configuration))


def _decode_on_cuda(*inputs: Any) -> tuple[Tensor, ...]:
    """The op on CUDA devices. The kernels take the weights as they are, but for a fold that every call makes anew."""
    decode: Callable[..., tuple[Tensor, ...]] = importlib.import_module("sgela_fast.kernels.attention_decoder").forward
    return decode(*inputs)


def _fake(
    encoded: Tensor,
    h0: Tensor,
    _c0: Tensor,
    _layers: list[Tensor],
    _biases: list[Tensor],
    _key: Tensor | None,
    fusion: Tensor | None,
    output: Tensor,
    _output_bias: Tensor | None,
    _teacher: Tensor | None,
    *configuration: Any,
) -> tuple[Tensor, ...]:
    groups, batch, keys, hidden = encoded.shape
    steps, everything, attends = configuration[-8], configuration[-1], fusion is not None

    def shape(wanted: bool, *sizes: Any) -> Tensor:
        return encoded.new_empty(sizes if wanted else (0,))

    rows, layers = (groups, batch, steps), h0.shape[0]
    return (
        shape(attends, *rows, hidden),
        shape(True, groups, batch),
        shape(everything and attends, *rows, keys),
        shape(everything, *rows, output.shape[1]),
        shape(everything, *rows, hidden),
        shape(everything, layers, *rows, hidden),
        shape(everything, layers, *rows, hidden),
    )


_library.register(DECODE, fake=_fake, cuda=_decode_on_cuda)
_library.LIBRARY.impl("attention_decoder", _decode_on_cpu, "CPU")
_library.register(DECODE_CPU, fake=_fake)


def _fake_reduced(
    encoded: Tensor,
    h0: Tensor,
    c0: Tensor,
    matrices: list[Tensor],
    biases: list[Tensor],
    _skeleton: Tensor,
    _fed_bias: Tensor | None,
    output: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    fusion = output if len(matrices) > 4 * len(biases) else None
    return _fake(encoded, h0, c0, [], [], None, fusion, output, None, None, *rest)


_library.register(_packed_decoder.REDUCED, fake=_fake_reduced)
# There is no gradient, as the public function says; a wrapper that refuses it would cost a fifth of a small call.
for _name in (
    "attention_decoder",
    "attention_decoder_cpu",
    "attention_decoder_pack",
    "attention_decoder_reduced",
    "attention_decoder_pack_reduced",
):
    for _key in ("AutogradCPU", "AutogradCUDA"):
        _library.LIBRARY.impl(_name, torch.library.fallthrough_kernel, _key)
