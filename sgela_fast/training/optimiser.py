"""Optimisers of the two presets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sgela_fast.training.config import TrainingConfig


class TensorFlowAdam(torch.optim.Adam):
    """Adam with epsilon where TensorFlow 1 puts it.

    TensorFlow adds epsilon to the square root of the uncorrected second moment, PyTorch to the corrected one, so
    PyTorch's epsilon is worth TensorFlow's divided by sqrt(1 - beta2^n) at step n. The two part only where gradients
    are tiny.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, epsilon: float = 1e-8) -> None:
        super().__init__(parameters, lr=lr, betas=(0.9, 0.999), eps=epsilon)
        self._epsilon = epsilon

    def step(self, closure: Any = None) -> Any:
        """Take one step."""
        for group in self.param_groups:
            taken = next((self.state[p]["step"] for p in group["params"] if "step" in self.state[p]), 0)
            group["eps"] = self._epsilon / math.sqrt(1 - group["betas"][1] ** (int(taken) + 1))
        return super().step(closure)


def build_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser that ``config`` names. Weight decay is a part of the loss (Eq. 12), not of the optimiser."""
    if config.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum)
    return TensorFlowAdam(model.parameters(), lr=config.learning_rate)


def clip_gradients(parameters: Iterable[Tensor], bound: float) -> None:
    """Cut every gradient entry to [-bound, bound]; 0 leaves them alone."""
    if bound > 0:
        torch.nn.utils.clip_grad_value_(parameters, bound)


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """L2 norm of all gradients together."""
    squares = [p.grad.square().sum() for p in parameters if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())
