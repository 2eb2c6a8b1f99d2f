"""Batch-all triplet loss of embeddings in strips (GaitSet's and SelfGait's fine-tuning objective)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TripletLoss(NamedTuple):
    """Scalars of a batch.

    Attributes:
        total: mean over strips of the mean over a strip's triplets that still cost something.
        active: share of all triplets that do, not differentiable.
        distance: mean distance of two different clips of a batch, not differentiable.
    """

    total: Tensor
    active: Tensor
    distance: Tensor


def batch_all_triplet(embeddings: Tensor, labels: Tensor, margin: float = 0.2) -> TripletLoss:
    """Every anchor with every clip of its own person and every clip of another one, each strip by itself.

    Args:
        embeddings: ``(S, N, E)``.
        labels: persons ``(N,)``, whole numbers.
        margin: by which another person's clip must be farther away than one's own.

    Returns:
        Zeros where no triplet costs anything, or the batch has none. A strip without a triplet that costs something
        counts as 0 in the mean over strips.
    """
    # Exact for near twins, unlike the expansion into products; its gradient at distance 0 is 0.
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")  # (S, N, N)
    same = labels[:, None] == labels[None, :]
    own = same & torch.logical_not(torch.eye(len(labels), dtype=torch.bool, device=labels.device))
    triplets = own[:, :, None] & torch.logical_not(same)[:, None, :]  # (N, N, N): anchor, own, other
    anchor, near, far = triplets.nonzero(as_tuple=True)  # of M triplets
    costs = (margin + distances[:, anchor, near] - distances[:, anchor, far]).clamp_min(0)  # (S, M)
    active = (costs > 0).sum(dim=1)  # (S,)
    total = (costs.sum(dim=1) / active.clamp_min(1)).mean()
    share = active.sum() / max(costs.numel(), 1)
    pairs = max(len(labels) * (len(labels) - 1), 1) * len(embeddings)
    return TripletLoss(total, share, distances.detach().sum() / pairs)
