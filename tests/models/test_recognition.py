"""The recognition network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sgela_fast.errors import CheckpointError, ConfigError
from sgela_fast.models.recognition import RecognitionNetwork, initialise_recognition, recognition_from_tf


def tensors(width: int = 5, hidden: int = 4, persons: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"W1": (width, hidden), "b1": (hidden,), "W": (hidden, persons), "Variable": (persons,)}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_logits_are_two_products_with_a_relu_between() -> None:
    source, rows = tensors(), np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    logits = recognition_from_tf(source)(torch.from_numpy(rows)).detach().numpy()
    expected = np.maximum(rows @ source["W1"] + source["b1"], 0) @ source["W"] + source["Variable"]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_windows_logits_are_the_mean_of_its_frames() -> None:
    network, windows = recognition_from_tf(tensors()), torch.randn(4, 6, 5)
    one_by_one = torch.stack([network(window).mean(dim=0) for window in windows]).detach()
    torch.testing.assert_close(network.window_logits(windows), one_by_one)


@pytest.mark.parametrize(("initial", "deviations"), [("official", (1, 1)), ("scaled", (1 / 16, math.sqrt(1 / 128)))])
def test_initial_weights_have_their_deviation(initial: str, deviations: tuple[float, float]) -> None:
    network = RecognitionNetwork(512, 64, 256)
    initialise_recognition(network, initial)  # type: ignore[arg-type]
    assert network.hidden_weight.std().item() == pytest.approx(deviations[0], rel=0.02)
    assert network.output_weight.std().item() == pytest.approx(deviations[1], rel=0.02)
    assert not network.hidden_bias.any()
    assert not network.output_bias.any()


def test_initial_weights_are_a_function_of_the_seed() -> None:
    networks = [RecognitionNetwork(8, 3, 4) for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialise_recognition(network, "scaled", seed)
        torch.rand(1)
    assert torch.equal(networks[0].hidden_weight, networks[1].hidden_weight)
    assert not torch.equal(networks[0].hidden_weight, networks[2].hidden_weight)


def test_golden_names_are_known_and_others_ignored() -> None:
    source = tensors()
    renamed = {"W1": source["W1"], "b1": source["b1"], "W2": source["W"], "b2": source["Variable"], "W/Adam3": 0}
    assert torch.equal(recognition_from_tf(renamed).output_weight, recognition_from_tf(source).output_weight)


def test_a_missing_tensor_is_named() -> None:
    source = tensors()
    del source["Variable"]
    with pytest.raises(CheckpointError, match="lacks the tensor Variable or b2"):
        recognition_from_tf(source)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CheckpointError, match="do not fit together"):
        recognition_from_tf({**tensors(), "b1": np.zeros(9, np.float32)})
    with pytest.raises(CheckpointError, match="two axes"):
        recognition_from_tf({**tensors(), "W1": np.zeros(9, np.float32)})


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="persons of the recognition network is 0"):
        RecognitionNetwork(8, 0)
