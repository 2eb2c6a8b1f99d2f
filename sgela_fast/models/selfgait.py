"""The SelfGait model on its backends: plain PyTorch, or the fused ops under the same state dict."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sgela_fast.models.backend import BackendChoice, choose_backend
from sgela_fast.models.config import Backend
from sgela_fast.models.frame_maps import frame_maps, suits
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.ops import gated_temporal_pooling as temporal_op
from sgela_fast.ops import horizontal_pyramid_pooling as pyramid_op
from sgela_fast.ops.gated_temporal_pooling import gated_temporal_pooling
from sgela_fast.ops.horizontal_pyramid_pooling import horizontal_pyramid_pooling
from sgela_fast.reference import selfgait as reference

__all__ = ["FusedSelfGait", "SelfGait", "build_selfgait", "initialise_selfgait"]

# The ops under the fused model.
OPS: tuple[Any, ...] = (pyramid_op, temporal_op)


class SelfGait(reference.SelfGait):
    """The model in plain PyTorch; ``choice`` says which backend this is, and why."""

    def __init__(
        self,
        config: SelfGaitConfig,
        choice: BackendChoice = BackendChoice("reference", "as asked for"),  # noqa: B008
    ) -> None:
        super().__init__(config)
        self.choice = choice

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.online.strip_weight.device


class FusedSelfGait(SelfGait):
    """The model on :func:`horizontal_pyramid_pooling` and :func:`gated_temporal_pooling`; one call moves the target.

    Convolutions are torch's, channels last on the CPU (:func:`sgela_fast.models.frame_maps.frame_maps`).
    """

    def map_frames(self, frames: Tensor, network: reference.FrameNetwork) -> Tensor:
        """As the reference, channels last where that is faster."""
        return frame_maps(frames, network) if suits(frames) else super().map_frames(frames, network)

    def pool_strips(self, maps: Tensor) -> Tensor:
        """As the reference, by the fused op."""
        return horizontal_pyramid_pooling(maps, self.config.bins, strips_first=True, backend="fused")

    def pool_time(self, strips: Tensor, gates: reference.TemporalGates) -> Tensor:
        """As the reference, by the fused op."""
        return gated_temporal_pooling(strips, gates.weights(), windows=reference.WINDOWS, backend="fused")

    def update_target(self) -> None:
        """As the reference, all tensors in one multi-tensor call."""
        targets, online = (list(tensors) for tensors in zip(*self.followed(), strict=True))
        get_ema_multi_avg_fn(self.config.momentum)(targets, online, 0)


@torch.no_grad()
def initialise_selfgait(model: reference.SelfGait, seed: int) -> None:
    """Fill ``model`` with fresh weights, a function of ``seed`` alone, and make the target a copy.

    Convolutions on frames are drawn uniformly as He et al. (2015) have it for their leaky ReLU, the strips' matrices as
    Glorot and Bengio (2010); gates, projector and predictor as torch draws its own layers, within 1 / sqrt(inputs).
    """
    generator = torch.Generator().manual_seed(seed)

    def fill(parameter: Tensor, bound: float) -> None:
        # Drawn in float32 on the CPU whatever the model's dtype, so that a float64 model starts from the same numbers.
        parameter.copy_(torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator))

    for kernel in model.online.frames.parameters():
        fill(kernel, math.sqrt(6 / ((1 + reference.SLOPE**2) * kernel[0].numel())))
    gates = model.online.gates
    assert gates is not None
    for gate in gates.weights():
        for weight, bias in ((gate.conv1_weight, gate.conv1_bias), (gate.conv2_weight, gate.conv2_bias)):
            assert bias is not None
            fill(weight, 1 / math.sqrt(weight[0, 0].numel()))
            fill(bias, 1 / math.sqrt(weight[0, 0].numel()))
    fill(model.online.strip_weight, math.sqrt(6 / sum(model.online.strip_weight.shape[1:])))
    for layer in model.online_head.modules():
        if isinstance(layer, nn.Linear):
            fill(layer.weight, 1 / math.sqrt(layer.in_features))
            fill(layer.bias, 1 / math.sqrt(layer.in_features))
    model.copy_target()


def build_selfgait(
    config: SelfGaitConfig,
    backend: Backend = "auto",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> SelfGait:
    """Build a model with fresh weights.

    Args:
        config: what the model is.
        backend: ``reference`` is plain PyTorch, ``fused`` the fused ops, ``auto`` the faster one that is proven on the
            device; ``model.choice`` says which it is and why.
        seed: the weights are a function of it alone, whatever the backend.
        dtype: of weights and arithmetic.
        device: where the weights live.

    Raises:
        ConfigError: the backend cannot run on the device.
    """
    choice = choose_backend(backend, device, ops=OPS)
    model = (FusedSelfGait if choice.name == "fused" else SelfGait)(config, choice)
    initialise_selfgait(model, seed)
    return model.to(device=device, dtype=dtype)
