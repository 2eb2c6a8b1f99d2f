"""gated_temporal_pooling as a citizen of torch: opcheck, compile, export, autocast, torch.func."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from sgela_fast.nn import GatedTemporalPooling
from sgela_fast.ops import gated_temporal_pooling as op
from sgela_fast.reference.gated_temporal_pooling import GateWeights
from tests.ops.pooling_cases import draw

fused = functools.partial(op.gated_temporal_pooling, backend="fused")
MISSING = op._WHY_NO_CPU_KERNEL
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("maximum", "save_hidden", "count"), [(True, True, 3), (False, False, 3), (True, False, 0)])
def test_both_passes_pass_opcheck(dtype: torch.dtype, maximum: bool, save_hidden: bool, count: int) -> None:
    case = draw(2, count, 5, 6, 3, dtype=dtype)
    flat = [tensor for gate in case.weights for tensor in gate if tensor is not None]
    settings = ([3, 5], 0.01, maximum)
    lengths = None if save_hidden else torch.arange(count)
    torch.library.opcheck(op.FORWARD.overload, (case.features, flat, lengths, *settings, save_hidden))
    with torch.no_grad():
        output, *saved = op.FORWARD.overload(case.features, flat, lengths, *settings, save_hidden)
    inputs = (case.features.detach(), [tensor.detach() for tensor in flat], lengths)
    torch.library.opcheck(op.BACKWARD.overload, (torch.randn_like(output), *inputs, *saved, *settings))


def test_compiles_into_one_graph_for_any_number_of_sequences() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    module = GatedTemporalPooling(2, 8, backend="fused")

    def loss(x: Tensor, lengths: Tensor) -> Tensor:
        return module(torch.tanh(x), lengths).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=counter)
    graphs = []
    for count in (5, 11, 13):
        x = torch.randn(2, count, 9, 8, requires_grad=True)
        lengths = torch.randint(1, 10, (count,))
        leaves = [x, *module.parameters()]
        ours, eager = (torch.autograd.grad(function(x, lengths), leaves) for function in (compiled, loss))
        graphs.append(counter.frame_count)
        for one, other in zip(ours, eager, strict=True):
            torch.testing.assert_close(one, other)
    assert graphs == graphs[:1] * 3, "another number of sequences was compiled anew"


def test_exports_with_a_dynamic_number_of_sequences() -> None:
    module = GatedTemporalPooling(2, 8, backend="fused").eval()
    features = torch.randn(2, 4, 9, 8)
    shapes = {"features": {1: torch.export.Dim("sequences")}, "lengths": None}
    program = torch.export.export(module, (features, None), dynamic_shapes=shapes)
    assert op.FORWARD.overload in {node.target for node in program.graph.nodes}
    other = torch.randn(2, 11, 9, 8)
    assert torch.equal(program.module()(other, None), module(other))


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_rounds_to_its_dtype_of_the_moment(dtype: torch.dtype, backend: Any) -> None:
    case = draw(2, 3, 6, 8, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        output = op.gated_temporal_pooling(*case, backend=backend)
    assert output.dtype == dtype
    assert torch.equal(output, op.gated_temporal_pooling(*case.to(dtype), backend=backend))
    gradients = torch.autograd.grad(output.float().sum(), case.tensors())
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def test_under_torch_func_auto_is_the_reference_and_fused_says_why_not() -> None:
    case = draw(2, 3, 6, 4, 2, requires_grad=False)
    gates = [GateWeights(*gate) for gate in case.weights]
    batch = torch.stack([case.features, case.features + 1])
    mapped = torch.func.vmap(lambda x: op.gated_temporal_pooling(x, gates))(batch)
    torch.testing.assert_close(mapped[1], op.gated_temporal_pooling(batch[1], gates))
    gradient = torch.func.grad(lambda x: op.gated_temporal_pooling(x, gates).sum())(case.features)
    assert gradient.shape == case.features.shape
    with pytest.raises(RuntimeError, match="transforms do not reach it, or use backend='reference'"):
        torch.func.vmap(lambda x: fused(x, gates))(batch)
