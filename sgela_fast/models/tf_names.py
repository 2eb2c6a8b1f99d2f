"""Tensor names of the released code's checkpoints, and our state dict built from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sgela_fast.errors import CheckpointError
from sgela_fast.models.tf_layout import lstm_bias_from_tf, lstm_bias_to_tf, lstm_kernel_from_tf, lstm_kernel_to_tf

_ENCODER = "rnn/multi_rnn_cell/cell_{layer}/lstm_cell/"
_DECODER = "decode/decoder/Attention_Wrapper/multi_rnn_cell/cell_{layer}/lstm_cell/"
KEY = "memory_layer/kernel"
FUSION = "decode/decoder/Attention_Wrapper/attention_layer/kernel"
OUTPUT = "decode/decoder/dense/kernel"
OUTPUT_BIAS = "decode/decoder/dense/bias"
# Trainable copies that the released graph makes and nothing reads.
DEAD = ("lstm_weights_layer_1", "lstm_weights_layer_2")
RECOGNITION = ("W1", "b1", "W", "Variable")


class GaitShape(NamedTuple):
    """Sizes of a gait encoder's checkpoint."""

    joints: int
    hidden: int
    layers: int


def is_gait_encoder(names: list[str]) -> bool:
    """Whether tensors of these names are one axis of the gait encoder, whole or not."""
    return not {KEY, FUSION, OUTPUT}.isdisjoint(names)


def is_recognition_network(names: list[str]) -> bool:
    """Whether tensors of these names are a recognition network."""
    return set(RECOGNITION) <= set(names) and not is_gait_encoder(names)


def wanted_names(layers: int) -> list[str]:
    """Names of the tensors that make one axis."""
    cells = [
        stack.format(layer=layer) + part
        for stack in (_ENCODER, _DECODER)
        for layer in range(layers)
        for part in ("kernel", "bias")
    ]
    return [*cells, KEY, FUSION, OUTPUT, OUTPUT_BIAS]


def gait_shape(shapes: Mapping[str, tuple[int, ...]], where: str) -> GaitShape:
    """Sizes of the model out of its tensors' shapes.

    Args:
        shapes: of all tensors, by name.
        where: the checkpoint, for messages.

    Raises:
        CheckpointError: a tensor is missing or its shape does not fit the others.
    """
    layers = 1 + max((int(found[1]) for name in shapes if (found := re.match(r"rnn/.*/cell_(\d+)/", name))), default=-1)
    missing = [name for name in wanted_names(max(layers, 1)) if name not in shapes]
    if missing:
        raise CheckpointError(f"{where} lacks the tensor {missing[0]!r}; give a gait encoder of the released code")
    if len(shapes[OUTPUT]) != 2:
        raise CheckpointError(f"{where} has {OUTPUT!r} in the shape {shapes[OUTPUT]}; give another checkpoint")
    hidden, joints = shapes[OUTPUT]
    expected = {KEY: (hidden, hidden), FUSION: (2 * hidden, hidden), OUTPUT_BIAS: (joints,)}
    for stack, inputs in ((_ENCODER, joints), (_DECODER, joints + hidden)):
        for layer in range(layers):
            name = stack.format(layer=layer)
            expected[f"{name}kernel"] = ((inputs if layer == 0 else hidden) + hidden, 4 * hidden)
            expected[f"{name}bias"] = (4 * hidden,)
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise CheckpointError(
                f"{where} has {name!r} in the shape {shapes[name]} where {shape} fits its other tensors; give a gait "
                "encoder of the released code"
            )
    return GaitShape(joints, hidden, layers)


def axis_state(tensors: Mapping[str, np.ndarray], shape: GaitShape) -> dict[str, Tensor]:
    """Our state dict of one axis, ``A = 1``, out of the released code's tensors.

    TF multiplies rows from the left, so every matrix is transposed; the attentional layer reads [state; context] in
    both. The decoder's bottom kernel reads [skeleton; attentional vector; hidden state].
    """
    state: dict[str, Tensor] = {}
    for stack, prefix, inputs in (
        ("encoder", _ENCODER, shape.joints),
        ("decoder", _DECODER, shape.joints + shape.hidden),
    ):
        for layer in range(shape.layers):
            name = prefix.format(layer=layer)
            kernel = torch.from_numpy(tensors[f"{name}kernel"])
            weight_ih, weight_hh = lstm_kernel_from_tf(kernel, inputs if layer == 0 else shape.hidden)
            state[f"{stack}.weight_ih_l{layer}"] = weight_ih
            state[f"{stack}.weight_hh_l{layer}"] = weight_hh
            state[f"{stack}.bias_l{layer}"] = lstm_bias_from_tf(torch.from_numpy(tensors[f"{name}bias"]))
    state["key_weight"] = torch.from_numpy(tensors[KEY]).T
    state["fusion_weight"] = torch.from_numpy(tensors[FUSION]).T
    state["output_weight"] = torch.from_numpy(tensors[OUTPUT]).T
    state["output_bias"] = torch.from_numpy(tensors[OUTPUT_BIAS])
    return {name: tensor[None].contiguous() for name, tensor in state.items()}


def axis_tensors(state: Mapping[str, Tensor], axis: int = 0) -> dict[str, np.ndarray]:
    """Inverse of :func:`axis_state`: tensors of one axis of our state dict, in the released code's names and layout."""
    mine = {name: tensor[axis].detach().cpu() for name, tensor in state.items()}
    tensors: dict[str, Tensor] = {}
    for stack, prefix in (("encoder", _ENCODER), ("decoder", _DECODER)):
        for layer in range(sum(name.startswith(f"{stack}.bias_l") for name in mine)):
            name = prefix.format(layer=layer)
            weights = (mine[f"{stack}.weight_ih_l{layer}"], mine[f"{stack}.weight_hh_l{layer}"])
            tensors[f"{name}kernel"] = lstm_kernel_to_tf(*weights)
            tensors[f"{name}bias"] = lstm_bias_to_tf(mine[f"{stack}.bias_l{layer}"])
    for name, tf_name in (("key_weight", KEY), ("fusion_weight", FUSION), ("output_weight", OUTPUT)):
        tensors[tf_name] = mine[name].T
    tensors[OUTPUT_BIAS] = mine["output_bias"]
    return {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}
