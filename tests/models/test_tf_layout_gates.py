"""TensorFlow's LSTM cell, written in NumPy as TensorFlow defines it, against ours with converted weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgela_fast.models.tf_layout import lstm_bias_from_tf, lstm_bias_to_tf, lstm_kernel_from_tf, lstm_kernel_to_tf
from sgela_fast.reference.batched_lstm import LSTMLayer, lstm_cell

INPUTS, HIDDEN, BATCH = 5, 3, 4


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def tf_cell(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    i, j, f, o = np.split(np.concatenate([x, h], axis=1) @ kernel + bias, 4, axis=1)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
    return sigmoid(o) * np.tanh(c), c


@pytest.fixture
def tf_weights() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.normal(size=(INPUTS + HIDDEN, 4 * HIDDEN)), generator.normal(size=4 * HIDDEN)


def test_our_cell_with_converted_weights_is_tensorflows(tf_weights: tuple[np.ndarray, np.ndarray]) -> None:
    kernel, bias = tf_weights
    generator = np.random.default_rng(1)
    x = generator.normal(size=(BATCH, INPUTS))
    h, c = generator.normal(size=(2, BATCH, HIDDEN))
    weight_ih, weight_hh = lstm_kernel_from_tf(torch.from_numpy(kernel), INPUTS)
    converted = lstm_bias_from_tf(torch.from_numpy(bias)).clone()
    converted[HIDDEN : 2 * HIDDEN] += 1  # the forget bias, which neither layout stores
    layer = LSTMLayer(weight_ih[None], weight_hh[None], converted[None])
    found = lstm_cell(*(torch.from_numpy(array)[None] for array in (x, h, c)), layer)
    for ours, theirs in zip(found, tf_cell(x, h, c, kernel, bias), strict=True):
        np.testing.assert_allclose(ours[0].numpy(), theirs, rtol=0, atol=1e-14)


def test_kernels_and_biases_return_unchanged(tf_weights: tuple[np.ndarray, np.ndarray]) -> None:
    kernel, bias = (torch.from_numpy(array) for array in tf_weights)
    weight_ih, weight_hh = lstm_kernel_from_tf(kernel, INPUTS)
    assert weight_ih.shape == (4 * HIDDEN, INPUTS)
    assert weight_hh.shape == (4 * HIDDEN, HIDDEN)
    assert torch.equal(lstm_kernel_to_tf(weight_ih, weight_hh), kernel)
    assert torch.equal(lstm_bias_to_tf(lstm_bias_from_tf(bias)), bias)


def test_the_candidate_and_the_forget_gate_change_places() -> None:
    blocks = torch.arange(4.0).repeat_interleave(HIDDEN)  # TF's i, j, f, o
    assert lstm_bias_from_tf(blocks)[::HIDDEN].tolist() == [0, 2, 1, 3]


def test_equals_torchs_own_lstm(tf_weights: tuple[np.ndarray, np.ndarray]) -> None:
    kernel, bias = tf_weights
    lstm = torch.nn.LSTM(INPUTS, HIDDEN, batch_first=True).double()
    weight_ih, weight_hh = lstm_kernel_from_tf(torch.from_numpy(kernel), INPUTS)
    converted = lstm_bias_from_tf(torch.from_numpy(bias)).clone()
    converted[HIDDEN : 2 * HIDDEN] += 1
    with torch.no_grad():
        for name, tensor in [("weight_ih_l0", weight_ih), ("weight_hh_l0", weight_hh), ("bias_ih_l0", converted)]:
            lstm.get_parameter(name).copy_(tensor)
        lstm.bias_hh_l0.zero_()
    frames = np.random.default_rng(2).normal(size=(BATCH, 6, INPUTS))
    h, c = np.zeros((2, BATCH, HIDDEN))
    expected = []
    for step in range(6):
        h, c = tf_cell(frames[:, step], h, c, kernel, bias)
        expected.append(h)
    with torch.no_grad():
        found = lstm(torch.from_numpy(frames))[0].numpy()
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=0, atol=1e-14)
