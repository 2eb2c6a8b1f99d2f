"""One optimiser step: parts of a batch, mixed precision, several processes, clipping."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgela_fast.models.sgela import SGELA
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.optimiser import clip_gradients, gradient_norm
from sgela_fast.training.ranks import Ranks

# float16 gradients that overflow at this scale of the loss are the model's fault, not the scale's.
LEAST_SCALE = 1.0


class StepLosses(NamedTuple):
    """What a step's gradients were taken of, as Python numbers, the same in all processes.

    Attributes:
        total: what is minimised (Eq. 12), summed over the step's windows.
        reconstruction: L_R, summed.
        attention: L_A, summed.
        regularisation: the norm's term, which enters once.
        norm: L2 norm of the gradient before clipping.
    """

    total: float
    reconstruction: float
    attention: float
    regularisation: float
    norm: float


class Stepper:
    """Takes steps on a model.

    Args:
        model: what is trained.
        network: the model, or what sums its gradients over processes.
        optimiser: of the model's parameters.
        scaler: of losses in float16.
        config: settings.
        ranks: the processes that share a batch.
    """

    def __init__(
        self,
        model: SGELA,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        config: TrainingConfig,
        ranks: Ranks,
    ) -> None:
        self.model, self.network, self.optimiser = model, network, optimiser
        self.scaler, self.config, self.ranks = scaler, config, ranks

    def backward(self, batch: Tensor) -> StepLosses:
        """Gradients of the whole step's loss, from this process's share ``(A, B, T, J)`` of its windows.

        All terms over windows are sums, so parts and processes add up. The norm's term is the first part's of the
        leading process: anywhere else it would be counted once more.
        """
        config = self.model.config
        self.optimiser.zero_grad(set_to_none=True)
        sums: list[Tensor] = []
        parts = batch.chunk(self.config.accumulate, dim=1)
        for index, part in enumerate(parts):
            last = index + 1 == len(parts)
            with self.ranks.collecting(self.network, last), self.model.arithmetic(), self.ranks.guard():
                losses = self.model.loss(self.network(part))
                minimised = losses.total
                if index > 0 or not self.ranks.leads:
                    minimised = (
                        config.lambda_reconstruction * losses.reconstruction
                        + config.lambda_attention * losses.attention
                    )
                self.scaler.scale(minimised).backward()
            sums.append(torch.stack([losses.reconstruction.detach(), losses.attention.detach()]))
        self.scaler.unscale_(self.optimiser)
        norm = gradient_norm(self.model.parameters())
        both = torch.stack(sums).sum(dim=0, dtype=torch.float64).tolist()
        reconstruction, attention = self.ranks.sum(both)
        regularisation = losses.regularisation.item()
        total = config.lambda_reconstruction * reconstruction + config.lambda_attention * attention + regularisation
        return StepLosses(total, reconstruction, attention, regularisation, norm)

    def may_update(self, losses: StepLosses) -> bool:
        """Whether loss and gradients are finite, or so large by the scale alone, which the next step lowers."""
        scaled = self.scaler.is_enabled() and self.scaler.get_scale() > LEAST_SCALE
        return math.isfinite(losses.total) and (scaled or math.isfinite(losses.norm))

    def update(self) -> None:
        """Clip the gradients and change the weights; gradients that overflowed change the scale alone."""
        clip_gradients(self.model.parameters(), self.config.clip or 0.0)
        self.scaler.step(self.optimiser)
        self.scaler.update()
