"""attention_decoder on CUDA devices through the public function and the registered op."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.ops import attention_decoder as op
from sgela_fast.reference.attention_decoder import attention_decoder as reference
from tests.ops.decoder_cases import PAPER, RELEASED, Case, Inputs, assert_agree, bound, draw

pytestmark = pytest.mark.gpu
VARIANTS = pytest.mark.parametrize("variant", [PAPER, RELEASED], ids=["paper", "released"])


def on_cuda(case: Case) -> Inputs:
    return draw(case).each(lambda tensor: tensor.cuda())


@pytest.fixture(autouse=True)
def _exact() -> Any:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


@VARIANTS
@pytest.mark.parametrize("fed", ["zeros", "feedback", "teacher"])
@pytest.mark.parametrize("mode", ["las", "mbas", "bas", None])
@pytest.mark.parametrize("batch", [1, 150])
def test_fused_equals_the_float64_reference(variant: Case, fed: str, mode: Any, batch: int) -> None:
    case = variant._replace(fed=fed, mode=mode, batch=batch, hidden=72, steps=5, keys=7)
    inputs = on_cuda(case)
    ours = inputs.decode(backend="fused")
    assert_agree(ours, inputs.each(Tensor.double).decode(reference), bound(case))
    if mode is not None:
        assert torch.equal(inputs.decode(backend="fused", outputs="context"), ours.context)


@VARIANTS
def test_auto_is_the_reference(variant: Case) -> None:
    inputs = on_cuda(variant)
    ours, exact = inputs.decode(), inputs.decode(reference)
    assert torch.equal(ours.context, exact.context)


def test_a_gradient_is_refused_and_auto_gives_it() -> None:
    inputs = on_cuda(PAPER)
    inputs.encoded.requires_grad_()
    with pytest.raises(RuntimeError, match="the kernels for CUDA devices have no gradients"):
        inputs.decode(backend="fused")
    assert inputs.decode().context.requires_grad


@VARIANTS
def test_packed_weights_serve_the_kernels(variant: Case) -> None:
    inputs = on_cuda(variant)
    packed = op.pack_decoder_weights(inputs.weights, feedback=inputs.options["feedback"])
    with torch.no_grad():
        ours = op.attention_decoder(inputs.encoded, inputs.state, packed, **inputs.options, backend="fused")
        plain = inputs.decode(backend="fused")
    assert torch.equal(ours.context, plain.context)


@VARIANTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("everything", [True, False])
def test_passes_opcheck(variant: Case, dtype: torch.dtype, everything: bool) -> None:
    inputs = on_cuda(variant._replace(dtype=dtype, hidden=16, batch=3))
    weights, options = inputs.weights, inputs.options
    arguments = (
        inputs.encoded,
        *inputs.state,
        [weight for layer in weights.layers for weight in layer[:2]],
        [layer.bias for layer in weights.layers],
        *weights[1:],
        options["teacher"],
        *op._configuration(options, "all" if everything else "context"),
    )
    torch.library.opcheck(op.DECODE.overload, arguments)
