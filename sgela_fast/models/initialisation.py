"""Initial weights of the SGE-LA model."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sgela_fast.models.tf_layout import lstm_kernel_from_tf
from sgela_fast.reference.sgela import SGELA, StackedLSTM


def initialise(model: SGELA, seed: int) -> None:
    """Fill ``model`` with fresh weights, a function of ``seed`` alone.

    The official variant starts as the released code does: LSTM kernels uniform in (-0.1, 0.1), all drawn from one and
    the same random stream, so that on every axis each kernel is a prefix of the longest one and equal-sized kernels
    start equal; Glorot uniform for the key projection and the attentional layer; a normal of 0.1 cut at two
    deviations for the output layer; biases zero. The paper says nothing of it: its variant draws every LSTM kernel
    anew, the rest is the same.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        if model.config.variant == "official":
            _shared_stream([model.encoder, model.decoder], generator)
        else:
            for stack in (model.encoder, model.decoder):
                for parameter in stack.parameters():
                    parameter.copy_(_uniform(parameter.shape, 0.1, generator))
        for stack in (model.encoder, model.decoder):
            for index in range(stack.layers):
                stack.get_parameter(f"bias_l{index}").zero_()
        for weight in (model.key_weight, model.fusion_weight):
            if weight is not None:
                weight.copy_(_uniform(weight.shape, math.sqrt(6 / sum(weight.shape[1:])), generator))
        output = torch.empty(model.output_weight.shape, dtype=torch.float32)
        model.output_weight.copy_(nn.init.trunc_normal_(output, 0.0, 0.1, -0.2, 0.2, generator=generator))
        if model.output_bias is not None:
            model.output_bias.zero_()


def _shared_stream(stacks: list[StackedLSTM], generator: torch.Generator) -> None:
    places = [(stack, index) for stack in stacks for index in range(stack.layers)]
    shapes = []  # of TF's kernels, (I + K, 4K)
    for stack, index in places:
        _, rows, inputs = stack.get_parameter(f"weight_ih_l{index}").shape
        shapes.append((inputs + rows // 4, rows))
    stream = _uniform((max(height * width for height, width in shapes),), 0.1, generator)
    for (stack, index), (height, width) in zip(places, shapes, strict=True):
        weight_ih = stack.get_parameter(f"weight_ih_l{index}")
        weight_hh = stack.get_parameter(f"weight_hh_l{index}")
        kernel = stream[: height * width].view(height, width)
        new_ih, new_hh = lstm_kernel_from_tf(kernel, weight_ih.shape[-1])
        weight_ih.copy_(new_ih.expand_as(weight_ih))
        weight_hh.copy_(new_hh.expand_as(weight_hh))


def _uniform(shape: torch.Size | tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    # Drawn in float32 whatever the model's dtype, so that a float64 model starts from the same numbers.
    return torch.empty(shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
