"""Packed weights of attention_decoder, kept from one call to the next for as long as the weights stay what they are.

Reading all weights to see whether they have changed, as batched_lstm does, would take a third of the time in which one
window is decoded. So what is kept is told by the tensors: the same objects, the same memory, the same version counters.
These counters miss who writes through ``parameter.data`` or NumPy, so some hundred samples of the contents are compared
as well: optimisers, weight averages and loaded checkpoints, which move all weights at once, are followed anyway. Of
tensors made in inference mode, which have no counters, all bytes are hashed.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sgela_fast.ops import _library
from sgela_fast.ops._lstm_packing import CONTENT_HASH

PACK = _library.define(
    "attention_decoder_pack(Tensor[] layers, Tensor? key, Tensor? fusion, Tensor output, Tensor? output_bias, "
    "bool feedback) -> Tensor packed"
)
SAMPLE = _library.define("attention_decoder_sample(Tensor[] tensors) -> int")


class _Packed(NamedTuple):
    tensors: tuple[weakref.ref[Tensor], ...]
    versions: tuple[tuple[int, int], ...]
    content: int
    packed: Tensor


# By the bottom layer's weight_ih, then by whether feedback is folded in; both go when that tensor goes.
_CACHE: WeakIdKeyDictionary = WeakIdKeyDictionary()


def packed_weights(
    layers: Sequence[Tensor],
    key: Tensor | None,
    fusion: Tensor | None,
    output: Tensor,
    output_bias: Tensor | None,
    feedback: bool,
) -> Tensor | None:
    """The packed form of the weights, or ``None`` if it must not be kept: they are not plain contiguous CPU tensors.

    Args:
        layers: weight_ih and weight_hh of each layer.
        key: as in ``DecoderWeights``; so are the next three.
        fusion: W_att.
        output: W_F.
        output_bias: its bias.
        feedback: whether predictions are fed back.
    """
    tensors = [tensor for tensor in (*layers, key, fusion, output, output_bias) if tensor is not None]
    if not all(_is_plain(tensor) for tensor in tensors):
        return None
    # Before packing: a change that another thread makes meanwhile is found by the next call.
    counted = not any(tensor.is_inference() for tensor in tensors)
    versions = tuple((tensor.data_ptr(), tensor._version if counted else 0) for tensor in tensors)
    content = int((SAMPLE if counted else CONTENT_HASH).overload(tensors))
    by_feedback: dict[bool, _Packed] = _CACHE.setdefault(layers[0], {})
    kept = by_feedback.get(feedback)
    if kept is None or not _is_still(kept, tensors, versions, content):
        packed = PACK.overload(list(layers), key, fusion, output, output_bias, feedback)
        kept = _Packed(tuple(weakref.ref(tensor) for tensor in tensors), versions, content, packed)
        by_feedback[feedback] = kept
    return kept.packed


def forget_packed_weights() -> None:
    """Give back the memory of all packed weights; the next calls pack anew.

    Call it after changing single weights through ``parameter.data`` or NumPy, which nothing else may notice.
    """
    _CACHE.clear()


def _is_still(kept: _Packed, tensors: list[Tensor], versions: tuple[tuple[int, int], ...], content: int) -> bool:
    return (
        kept.content == content
        and kept.versions == versions
        and len(kept.tensors) == len(tensors)
        and all(reference() is tensor for reference, tensor in zip(kept.tensors, tensors, strict=True))
    )


def _is_plain(tensor: Tensor) -> bool:
    usual = type(tensor) in (Tensor, torch.nn.Parameter)
    return usual and tensor.device.type == "cpu" and tensor.is_contiguous()
