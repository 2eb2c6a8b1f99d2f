"""Optimisers of the two presets."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sgela_fast.models.tf_adam import TensorFlowAdam
from sgela_fast.training.config import TrainingConfig, TrainingPrecision


def build_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser that ``config`` names. Weight decay is a part of the loss (Eq. 12), not of the optimiser."""
    if config.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum)
    return TensorFlowAdam(model.parameters(), lr=config.learning_rate)


def build_scaler(device: torch.device, precision: TrainingPrecision) -> torch.amp.GradScaler:
    """Scales losses so that gradients do not vanish in float16; does nothing at any other precision."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def clip_gradients(parameters: Iterable[Tensor], bound: float) -> None:
    """Cut every gradient entry to [-bound, bound]; 0 leaves them alone."""
    if bound > 0:
        torch.nn.utils.clip_grad_value_(parameters, bound)


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """L2 norm of all gradients together."""
    squares = [p.grad.square().sum() for p in parameters if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())
