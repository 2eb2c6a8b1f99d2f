"""One optimiser step of pre-training or fine-tuning SelfGait."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sgela_fast.models.selfgait import SelfGait
from sgela_fast.reference.triplet import batch_all_triplet
from sgela_fast.training.optimiser import gradient_norm
from sgela_fast.training.selfgait.batches import Batch
from sgela_fast.training.selfgait.config import SelfGaitTrainingConfig


def build_selfgait_optimiser(model: SelfGait, config: SelfGaitTrainingConfig) -> torch.optim.SGD:
    """SGD over what the stage trains; everything else takes no gradients from here on.

    Pre-training trains the online network with projector and predictor, fine-tuning its embedder alone.
    """
    model.requires_grad_(False)
    trained = [model.online] if config.stage == "finetune" else [model.online, model.online_head]
    for module in trained:
        module.requires_grad_(True)
    return torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


class SelfGaitStepper:
    """Takes steps on a model.

    Args:
        model: what is trained.
        optimiser: of its weights.
        config: settings.
    """

    def __init__(self, model: SelfGait, optimiser: torch.optim.Optimizer, config: SelfGaitTrainingConfig) -> None:
        self.model, self.optimiser, self.config = model, optimiser, config

    def backward(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of the loss of ``batch``; returns what is worth a look, ``total`` first, without gradients."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.config.stage == "pretrain":
            output = self.model(*batch.views)
            total = self.model.loss(output)
            embeddings = output.embeddings[0]
            values = {"target_spread": spread(output.targets[0])}
        else:
            embeddings = self.model.embed(batch.views[0])
            triplets = batch_all_triplet(embeddings, batch.persons, self.config.margin)
            total = triplets.total
            values = {"active": triplets.active, "distance": triplets.distance}
        values |= {"spread": spread(embeddings), "directions": directions(embeddings)}
        total.backward()
        norm = torch.tensor(gradient_norm(self.model.parameters()))
        return {"total": total.detach(), **values, "gradient_norm": norm}

    def update(self) -> None:
        """Change the weights, and in pre-training move the target after them."""
        self.optimiser.step()
        if self.config.stage == "pretrain":
            self.model.update_target()


@torch.no_grad()
def scale_embeddings(model: SelfGait, clips: Tensor, distance: float) -> None:
    """Scale the strips' matrices so that embeddings of two clips are ``distance`` apart in the mean, strip by strip.

    Args:
        model: whose online network is changed.
        clips: ``(N, T, H, W)``, two or more.
        distance: Euclidean, above 0.
    """
    found = torch.stack([torch.pdist(strip).mean() for strip in model.embed(clips)])  # (S,)
    model.online.strip_weight.mul_((distance / found.clamp_min(1e-12))[:, None, None])


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    """How far apart the directions of a batch's embeddings lie: 0 when all have collapsed into one, about 1 at best.

    The standard deviation over the clips of a strip of the embeddings brought to length one, times sqrt(E), averaged
    over strips and features.

    Args:
        embeddings: ``(S, N, E)``.
    """
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    return unit.std(dim=1, correction=0).mean() * math.sqrt(embeddings.shape[-1])


@torch.no_grad()
def directions(embeddings: Tensor) -> Tensor:
    """In how many directions a batch's embeddings differ: 1 when all lie on one line, up to E when none prevails.

    The participation ratio of each strip's covariance, (sum of eigenvalues)^2 / sum of their squares, averaged over
    strips. Unlike :func:`spread` it looks past what all clips share.

    Args:
        embeddings: ``(S, N, E)``.
    """
    centred = embeddings - embeddings.mean(dim=1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred  # (S, E, E)
    total = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)
    squares = covariance.square().sum(dim=(1, 2))
    return (total.square() / squares.clamp_min(torch.finfo(squares.dtype).tiny)).mean()
