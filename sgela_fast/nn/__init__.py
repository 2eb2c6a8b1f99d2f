"""Modules around the ops, for models of any kind: ``from sgela_fast.nn import LocalityAttention``."""

from __future__ import annotations

from sgela_fast.nn.batched_lstm import BatchedLSTM
from sgela_fast.nn.gated_temporal_pooling import GatedTemporalPooling
from sgela_fast.nn.horizontal_pyramid_pooling import HorizontalPyramidPooling
from sgela_fast.nn.locality_attention import AttentionOutput, LocalityAttention

__all__ = [
    "AttentionOutput",
    "BatchedLSTM",
    "GatedTemporalPooling",
    "HorizontalPyramidPooling",
    "LocalityAttention",
]
