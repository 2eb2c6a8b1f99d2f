"""Adam as TensorFlow 1 computes it, the optimiser of the released code's encoder and recognition network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

BETA2 = 0.999


class TensorFlowAdam(torch.optim.Adam):
    """Adam with epsilon where TensorFlow 1 puts it.

    TensorFlow adds epsilon to the square root of the uncorrected second moment, PyTorch to the corrected one, so
    PyTorch's epsilon is worth TensorFlow's divided by sqrt(1 - beta2^n) at step n. The two part only where gradients
    are tiny; with a recognition network's unscaled initial weights most are, and whole weights move by a step's length.

    Args:
        parameters: what is trained.
        lr: learning rate.
        epsilon: TensorFlow's.
        fused: let PyTorch update all parameters in one kernel.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, epsilon: float = 1e-8, *, fused: bool | None = None
    ) -> None:
        super().__init__(parameters, lr=lr, betas=(0.9, BETA2), eps=epsilon, fused=fused)
        self._epsilon = epsilon

    def step(self, closure: Any = None) -> Any:
        """Take one step."""
        for group in self.param_groups:
            taken = next((self.state[p]["step"] for p in group["params"] if "step" in self.state[p]), 0)
            group["eps"] = self._epsilon / math.sqrt(1 - BETA2 ** (int(taken) + 1))
        return super().step(closure)
