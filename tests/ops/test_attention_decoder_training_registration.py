"""The training pass of attention_decoder as a citizen of torch: opcheck, compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.ops import _decoder_training as training
from sgela_fast.ops.attention_decoder import attention_decoder
from sgela_fast.reference.attention_decoder import DecoderWeights
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState
from tests.ops.decoder_cases import PAPER, RELEASED, Case, draw, needs_kernels

pytestmark = needs_kernels


@pytest.mark.parametrize(
    ("variant", "fed", "save_tape", "batch", "layout"),
    [
        (PAPER, "teacher", True, 3, "steps first"),
        (PAPER, "feedback", False, 3, "dense"),
        (RELEASED, "zeros", True, 3, "dense"),
        (RELEASED, "teacher", False, 0, "dense"),
    ],
)
def test_passes_opcheck(variant: Case, fed: str, save_tape: bool, batch: int, layout: str) -> None:
    case = variant._replace(fed=fed, batch=batch, layout=layout, hidden=9)
    inputs = draw(case).each(Tensor.requires_grad_)
    torch.library.opcheck(training.FORWARD.overload, inputs.arguments(save_tape))


@pytest.mark.parametrize("taped", [True, False])
def test_the_backward_op_passes_opcheck(taped: bool) -> None:
    case = RELEASED._replace(fed="teacher")
    arguments = draw(case).arguments()
    results = training.FORWARD.overload(*arguments, taped)
    gradients = [torch.randn_like(result) for result in results[:7]]
    kept = [results[i] for i in (0, 3, 4, 5, 6, 7)] if taped else []
    backward = (*gradients, *arguments[:10], kept, *arguments[10:], True)
    torch.library.opcheck(training.BACKWARD.overload, backward, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_training_step_compiles_into_one_graph(backend: str) -> None:
    inputs = draw(PAPER._replace(fed="teacher", batch=7))

    def loss_of(encoded: Tensor, h: Tensor, c: Tensor, weights: list[Tensor], teacher: Tensor) -> Tensor:
        layers = [LSTMLayer(*weights[3 * i : 3 * i + 3]) for i in range(2)]
        found = attention_decoder(
            encoded * 0.5,
            LSTMState(h, c),
            DecoderWeights(layers, None, weights[6], weights[7], None),
            steps=6,
            teacher=teacher,
            backend="fused",
        )
        return (found.reconstruction - teacher).square().sum() + found.loss.sum()

    def gradients(function: Any) -> tuple[Tensor, ...]:
        tensors = [t for layer in inputs.weights.layers for t in layer]
        tensors = [t.detach().requires_grad_() for t in (*tensors, inputs.weights.fusion, inputs.weights.output)]
        return torch.autograd.grad(function(inputs.encoded, *inputs.state, tensors, inputs.options["teacher"]), tensors)

    torch._dynamo.reset()
    compiled = gradients(torch.compile(loss_of, fullgraph=True, backend=backend))
    for one, other in zip(compiled, gradients(loss_of), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
