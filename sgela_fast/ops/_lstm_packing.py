"""Packed weights of batched_lstm, kept from one call to the next for as long as the weights stay what they are.

The compiled forward pass reads weights in an order of its own. Bringing them there takes about as long as one window
does, so it pays to do it once, and to notice when it must be done again. Version counters do not tell: they stand still
when somebody writes through ``parameter.data`` (old optimisers, weight averages), NumPy or from another process, and
tensors made in inference mode have none. So the key is the content: 64 bits over all bytes, taken anew in every call
for about a sixth of the price of packing. What is kept belongs to the first weight tensor and goes when it goes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sgela_fast.ops import _library

CONTENT_HASH = _library.define("content_hash(Tensor[] tensors) -> int")
PACK = _library.define("batched_lstm_pack(Tensor[] weights, int kind) -> Tensor packed")
# Kinds of packing: the weights as they are, in float32 or float64. 1 is bfloat16, 2 int8 (_packed_lstm.py).
EXACT = 0
_PLAIN = (Tensor, torch.nn.Parameter)


class _Packed(NamedTuple):
    content: int
    packed: Tensor


_CACHE: WeakIdKeyDictionary = WeakIdKeyDictionary()


def packed_weights(weights: list[Tensor]) -> Tensor | None:
    """The packed form of ``weights`` for a call that needs no gradients, or ``None`` if it must not be kept.

    It is kept for plain contiguous CPU tensors alone, and never while a graph is traced.

    Args:
        weights: as the op takes them: weight_ih, weight_hh and bias of each layer.
    """
    if _is_traced() or not all([_is_plain(weight) for weight in weights]):  # noqa: C419
        return None
    # Before packing: a change that another thread makes meanwhile is found by the next call.
    content = CONTENT_HASH.overload(weights)
    kept: _Packed | None = _CACHE.get(weights[0])
    if kept is None or kept.content != content:
        kept = _Packed(content, PACK.overload(weights, EXACT))
        _CACHE[weights[0]] = kept
    return kept.packed


def forget_packed_weights() -> None:
    """Give back the memory of all packed weights; the next calls pack anew."""
    _CACHE.clear()


def _is_traced() -> bool:
    return _library.is_transformed() or torch._C._is_tracing() or torch._C._len_torch_dispatch_stack() > 0


def _is_plain(weight: Tensor) -> bool:
    return type(weight) in _PLAIN and weight.is_cpu and weight.is_contiguous()
