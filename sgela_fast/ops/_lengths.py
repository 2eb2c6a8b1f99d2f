"""Lengths of sequences, as batched_lstm and gated_temporal_pooling take them: what is refused."""

from __future__ import annotations

import torch
from torch import Tensor

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_lengths(lengths: Tensor, count: int, letter: str, sharers: str, name: str, tensor: Tensor) -> None:
    """Raise ValueError unless ``lengths`` are integers, one a sequence.

    Args:
        lengths: what the caller gave.
        count: number of sequences.
        letter: by which the op's documentation calls that number.
        sharers: what has the lengths in common, ``groups`` or ``strips``.
        name: of the tensor that holds the sequences.
        tensor: that tensor.
    """
    if not isinstance(lengths, Tensor):
        raise ValueError(f"lengths is {lengths!r}; give a tensor of integers")
    if lengths.dtype not in _INTEGERS:
        raise ValueError(f"lengths is {lengths.dtype}; it must hold integers")
    if lengths.dim() != 1 or lengths.shape[0] != count:
        shape = tuple(lengths.shape)
        raise ValueError(f"lengths has shape {shape}; it needs ({letter},) = ({count},), shared by {sharers}")
    if lengths.device != tensor.device:
        raise ValueError(f"lengths is on {lengths.device} and {name} on {tensor.device}; move one of them")
