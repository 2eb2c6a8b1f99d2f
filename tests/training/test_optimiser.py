"""Adam as TensorFlow 1 has it, and clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from sgela_fast.models.tf_adam import TensorFlowAdam
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.optimiser import build_optimiser, clip_gradients, gradient_norm

# From far below epsilon = 1e-8 to large ones.
SIZES = np.array([0.0, 1e-14, 1e-11, 1e-9, 1e-8, 1e-6, 1e-2, 1.0, 5.0])


def tf1_adam(start: np.ndarray, gradients: list[np.ndarray], lr: float) -> np.ndarray:
    """TensorFlow 1's update: lr sqrt(1 - b2^n) / (1 - b1^n) m / (sqrt(v) + eps)."""
    weights, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for n, gradient in enumerate(gradients, 1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        weights -= lr * math.sqrt(1 - 0.999**n) / (1 - 0.9**n) * m / (np.sqrt(v) + 1e-8)
    return weights


def run(optimiser: torch.optim.Optimizer, weight: nn.Parameter, gradients: list[np.ndarray]) -> np.ndarray:
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        optimiser.step()
    return weight.detach().numpy()


@pytest.fixture
def gradients() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [SIZES * generator.normal(size=SIZES.shape) for _ in range(5)]


def test_five_steps_equal_tensorflows(gradients: list[np.ndarray]) -> None:
    weight = nn.Parameter(torch.zeros(len(SIZES), dtype=torch.float64))
    found = run(TensorFlowAdam([weight], lr=5e-4), weight, gradients)
    np.testing.assert_allclose(found, tf1_adam(np.zeros(len(SIZES)), gradients, 5e-4), rtol=1e-10, atol=1e-18)


def test_torchs_adam_parts_from_it_where_gradients_are_tiny(gradients: list[np.ndarray]) -> None:
    weight = nn.Parameter(torch.zeros(len(SIZES), dtype=torch.float64))
    found = run(torch.optim.Adam([weight], lr=5e-4), weight, gradients)
    expected = tf1_adam(np.zeros(len(SIZES)), gradients, 5e-4)
    np.testing.assert_allclose(found[SIZES > 1e-3], expected[SIZES > 1e-3], rtol=1e-4)
    tiny = (SIZES > 0) & (SIZES < 1e-7)
    assert np.all(np.abs(found[tiny] / expected[tiny]) > 1.1)


def test_two_groups_of_parameters_step_alike(gradients: list[np.ndarray]) -> None:
    weights = [nn.Parameter(torch.zeros(len(SIZES), dtype=torch.float64)) for _ in range(2)]
    optimiser = TensorFlowAdam(weights, lr=5e-4)
    for gradient in gradients:
        for weight in weights:
            weight.grad = torch.from_numpy(gradient)
        optimiser.step()
    assert torch.equal(weights[0], weights[1])


def test_sgd_has_the_papers_momentum() -> None:
    model = nn.Linear(1, 1, bias=False)
    start = model.weight.item()
    optimiser = build_optimiser(model, TrainingConfig(preset="paper"))
    for _ in range(2):
        model.weight.grad = torch.ones(1, 1)
        optimiser.step()
    assert model.weight.item() == pytest.approx(start - 0.0005 * (1 + 1.9), abs=1e-7)


def test_presets_choose_the_optimiser() -> None:
    assert isinstance(build_optimiser(nn.Linear(1, 1), TrainingConfig(preset="official")), TensorFlowAdam)
    assert isinstance(build_optimiser(nn.Linear(1, 1), TrainingConfig(preset="paper")), torch.optim.SGD)


def test_clipping_cuts_entries_and_not_the_norm() -> None:
    weight = nn.Parameter(torch.zeros(4))
    weight.grad = torch.tensor([-9.0, -1.0, 4.0, 100.0])
    clip_gradients([weight], 5.0)
    assert weight.grad.tolist() == [-5.0, -1.0, 4.0, 5.0]


def test_a_bound_of_zero_clips_nothing() -> None:
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.tensor([100.0])
    clip_gradients([weight], 0.0)
    assert weight.grad.item() == 100.0


def test_gradient_norm_is_that_of_all_together() -> None:
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(3))]
    weights[0].grad, weights[1].grad = torch.tensor([1.0, 2.0]), torch.tensor([2.0])
    assert gradient_norm(weights) == pytest.approx(3.0)
