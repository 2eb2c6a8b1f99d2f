"""Tensors in the released code's names and layout mean to our model what they mean to the released graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgela_fast.errors import CheckpointError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.models.tf_names import GaitShape, axis_state, axis_tensors, gait_shape, is_gait_encoder, wanted_names

SHAPE = GaitShape(joints=3, hidden=4, layers=2)
FRAMES = 5
CELL = "multi_rnn_cell/cell_{layer}/lstm_cell/"
ENCODER, DECODER = f"rnn/{CELL}", f"decode/decoder/Attention_Wrapper/{CELL}"

Arrays = dict[str, np.ndarray]
States = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def tensors() -> Arrays:
    """Random weights of one axis in float64; no two gates, layers or directions are alike."""
    shapes = {
        "memory_layer/kernel": (4, 4),
        "decode/decoder/Attention_Wrapper/attention_layer/kernel": (8, 4),
        "decode/decoder/dense/kernel": (4, 3),
        "decode/decoder/dense/bias": (3,),
    }
    for stack, inputs in ((ENCODER, 3), (DECODER, 3 + 4)):
        for layer in range(2):
            shapes[f"{stack.format(layer=layer)}kernel"] = ((inputs if layer == 0 else 4) + 4, 16)
            shapes[f"{stack.format(layer=layer)}bias"] = (16,)
    random = np.random.default_rng(3)
    return {name: random.uniform(-1, 1, shape) for name, shape in shapes.items()}


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def cells(tensors: Arrays, stack: str, x: np.ndarray, states: States) -> np.ndarray:
    """One step of both layers as TensorFlow's LSTMCell takes it; replaces ``states`` of (c, h), returns the top h."""
    for layer, (c, h) in enumerate(states):
        name = stack.format(layer=layer)
        z = np.concatenate([x, h], axis=1) @ tensors[f"{name}kernel"] + tensors[f"{name}bias"]
        i, j, f, o = np.split(z, 4, axis=1)
        c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(j)
        x = sigmoid(o) * np.tanh(c)
        states[layer] = (c, x)
    return x


def released_graph(tensors: Arrays, windows: np.ndarray, feedback: bool) -> tuple[np.ndarray, np.ndarray]:
    """Contexts ``(B, T, K)`` and outputs ``(B, T, J)`` of windows ``(B, T, J)``, in TensorFlow's layout throughout."""
    batch, frames, joints = windows.shape
    zeros = np.zeros((batch, 4))
    states = [(zeros, zeros), (zeros, zeros)]
    memory = np.stack([cells(tensors, ENCODER, windows[:, t], states) for t in range(frames)], axis=1)  # (B, T, K)
    keys = memory @ tensors["memory_layer/kernel"]
    skeleton, attention = np.zeros((batch, joints)), zeros
    contexts, outputs = [], []
    for _ in range(frames):
        top = cells(tensors, DECODER, np.concatenate([skeleton, attention], axis=1), states)
        weights = np.exp(np.einsum("bk,btk->bt", top, keys))
        context = np.einsum("bt,btk->bk", weights / weights.sum(axis=1, keepdims=True), memory)
        fused = np.concatenate([top, context], axis=1)
        attention = fused @ tensors["decode/decoder/Attention_Wrapper/attention_layer/kernel"]
        output = attention @ tensors["decode/decoder/dense/kernel"] + tensors["decode/decoder/dense/bias"]
        skeleton = output if feedback else skeleton
        contexts.append(context)
        outputs.append(output)
    return np.stack(contexts, axis=1), np.stack(outputs, axis=1)


@pytest.mark.parametrize("feedback", [False, True], ids=["zeros", "own predictions"])
def test_our_model_computes_what_the_released_graph_does(tensors: Arrays, feedback: bool) -> None:
    config = SGELAConfig(frames=FRAMES, joints=3, hidden=4, axes=1)
    model = build_model(config, dtype=torch.float64)
    model.load_state_dict(axis_state(tensors, SHAPE))
    windows = np.random.default_rng(4).normal(size=(7, FRAMES, 3))
    with torch.no_grad():
        ours = model(torch.from_numpy(windows)[None], "feedback" if feedback else "zeros")
    contexts, outputs = released_graph(tensors, windows, feedback)
    assert np.abs(ours.context[0].numpy() - contexts).max() < 1e-13
    assert np.abs(ours.reconstruction[0].numpy() - outputs).max() < 1e-13


def test_the_way_back_is_exact(tensors: Arrays) -> None:
    back = axis_tensors(axis_state(tensors, SHAPE))
    assert back.keys() == tensors.keys() == set(wanted_names(2))
    assert all(np.array_equal(back[name], values) for name, values in tensors.items())


def test_sizes_are_read_off_the_shapes(tensors: Arrays) -> None:
    shapes = {name: values.shape for name, values in tensors.items()}
    assert gait_shape(shapes, "here") == SHAPE
    assert is_gait_encoder(list(shapes))
    for name in tensors:
        if name.endswith("kernel"):
            wrong = {**shapes, name: tuple(size + 1 for size in shapes[name])}
            with pytest.raises(CheckpointError, match=r"^here has '.* in the shape .* fits its other tensors"):
                gait_shape(wrong, "here")
