"""The training objective against its equation."""

from __future__ import annotations

import pytest
import torch

from sgela_fast.reference.losses import sgela_loss


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    shape = (3, 4, 6, 5)
    reconstruction, target = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    alignment_loss = torch.rand(3, 4, dtype=torch.float64)
    parameters = [torch.randn(7, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)]
    return reconstruction, target, alignment_loss, parameters


def test_is_the_weighted_sum_of_equation_12() -> None:
    reconstruction, target, alignment_loss, parameters = inputs()
    losses = sgela_loss(
        reconstruction, target, alignment_loss, parameters, lambda_reconstruction=2.0, lambda_attention=3.0, beta=0.1
    )
    rebuilt = float(((reconstruction - target) ** 2).sum())
    norm = sum(float((p**2).sum()) for p in parameters)
    assert float(losses.reconstruction) == pytest.approx(rebuilt)
    assert float(losses.attention) == pytest.approx(float(alignment_loss.sum()))
    assert float(losses.regularisation) == pytest.approx(0.1 * norm)
    assert float(losses.total) == pytest.approx(2 * rebuilt + 3 * float(alignment_loss.sum()) + 0.1 * norm)


def test_the_released_codes_half_halves_every_term() -> None:
    case = inputs()
    whole, half = sgela_loss(*case), sgela_loss(*case, factor=0.5)
    for name in ("total", "reconstruction", "attention", "regularisation", "per_axis"):
        torch.testing.assert_close(getattr(half, name), getattr(whole, name) / 2)


def test_nothing_is_averaged_over_the_batch() -> None:
    reconstruction, target, alignment_loss, parameters = inputs()
    once = sgela_loss(reconstruction, target, alignment_loss, parameters)
    twice = sgela_loss(*(torch.cat([t, t], 1) for t in (reconstruction, target, alignment_loss)), parameters)
    torch.testing.assert_close(twice.reconstruction, 2 * once.reconstruction)
    torch.testing.assert_close(twice.attention, 2 * once.attention)
    assert torch.equal(twice.regularisation, once.regularisation)


def test_axes_add_up_and_stand_alone() -> None:
    reconstruction, target, alignment_loss, parameters = inputs()
    losses = sgela_loss(reconstruction.requires_grad_(), target, alignment_loss, parameters)
    torch.testing.assert_close(losses.per_axis.sum(), losses.reconstruction.detach())
    assert not losses.per_axis.requires_grad
    alone = sgela_loss(reconstruction[1:2], target[1:2], alignment_loss[1:2], parameters)
    torch.testing.assert_close(alone.per_axis, losses.per_axis[1:2])


def test_weight_decay_is_in_the_gradient() -> None:
    reconstruction, target, alignment_loss, parameters = inputs()
    for parameter in parameters:
        parameter.requires_grad_()
    sgela_loss(reconstruction, target, alignment_loss, parameters, beta=0.02, factor=0.5).total.backward()
    for parameter in parameters:
        torch.testing.assert_close(parameter.grad, 0.02 * parameter.detach())


def test_a_perfect_reconstruction_costs_nothing() -> None:
    _, target, _, parameters = inputs()
    losses = sgela_loss(target, target, torch.zeros(3, 4, dtype=torch.float64), parameters, beta=0.0)
    assert float(losses.total) == 0.0
