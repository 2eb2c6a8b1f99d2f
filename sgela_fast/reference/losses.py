"""Training objective of the gait encoder (Eq. 3, 7 and 12)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Losses(NamedTuple):
    """Scalars.

    Attributes:
        total: what is minimised (Eq. 12).
        reconstruction: L_R, summed over axes, windows, frames and joints, times the loss factor (Eq. 3).
        attention: L_A, summed likewise (Eq. 7).
        regularisation: beta times the squared norm of all parameters, times the loss factor.
        per_axis: reconstruction of each axis, ``(A,)``, not differentiable.
    """

    total: Tensor
    reconstruction: Tensor
    attention: Tensor
    regularisation: Tensor
    per_axis: Tensor


def sgela_loss(
    reconstruction: Tensor,
    target: Tensor,
    alignment_loss: Tensor,
    parameters: Iterable[Tensor],
    *,
    lambda_reconstruction: float = 1.0,
    lambda_attention: float = 1.0,
    beta: float = 0.02,
    factor: float = 1.0,
) -> Losses:
    """Add up the objective of all axes; the axes share no weight, so each minimises its own part.

    Args:
        reconstruction: ``(A, B, T, J)``.
        target: likewise, in decoding order.
        alignment_loss: L_A of each sequence, ``(A, B)``.
        parameters: everything that the squared norm covers; biases included, as in the released code.
        lambda_reconstruction: weight of L_R.
        lambda_attention: weight of L_A.
        beta: weight of the squared norm.
        factor: 1 for plain sums of squares, 1/2 for the released code's half sums.
    """
    per_axis = factor * (reconstruction - target).square().sum(dim=(1, 2, 3))  # (A,), Eq. 3
    rebuilt = per_axis.sum()
    attention = factor * alignment_loss.sum()  # Eq. 7
    norm = torch.stack([parameter.square().sum() for parameter in parameters]).sum()
    regularisation = beta * factor * norm
    total = lambda_reconstruction * rebuilt + lambda_attention * attention + regularisation  # Eq. 12
    return Losses(total, rebuilt, attention, regularisation, per_axis.detach())
