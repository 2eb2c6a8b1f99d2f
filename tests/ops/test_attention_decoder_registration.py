"""attention_decoder as a citizen of torch: opcheck, compile, export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from sgela_fast.ops import _decoder_packing as packing
from sgela_fast.ops import attention_decoder as op
from sgela_fast.reference.attention_decoder import DecoderOutput
from sgela_fast.reference.batched_lstm import LSTMState
from tests.ops.decoder_cases import PAPER, RELEASED, Case, Inputs, draw, needs_kernels

pytestmark = needs_kernels


@pytest.mark.parametrize("variant", [PAPER, RELEASED], ids=["paper", "released"])
@pytest.mark.parametrize("fed", ["zeros", "feedback", "teacher"])
@pytest.mark.parametrize(
    ("everything", "batch", "layout", "dtype"),
    [(True, 3, "steps first", torch.float32), (False, 0, "dense", torch.float32), (False, 2, "sliced", torch.float64)],
)
def test_passes_opcheck(variant: Case, fed: str, everything: bool, batch: int, layout: str, dtype: torch.dtype) -> None:
    case = variant._replace(fed=fed, batch=batch, layout=layout, dtype=dtype, hidden=9)
    torch.library.opcheck(op.DECODE.overload, draw(case).arguments(everything))


def test_the_compiled_loop_passes_opcheck() -> None:
    arguments = draw(PAPER).arguments(True)
    torch.library.opcheck(op.DECODE_CPU.overload, (*arguments[:10], None, *arguments[10:]))


def test_the_op_itself_never_pretends_to_have_a_gradient() -> None:
    inputs = draw(PAPER)
    results = op.DECODE.overload(inputs.encoded.requires_grad_(), *inputs.arguments(True)[1:])
    assert not any(result.requires_grad for result in results)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_into_one_graph_for_any_batch(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = 0

    def counting(module: Any, example: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return torch._dynamo.lookup_backend(backend)(module, example)

    packings: list[bool] = []
    schema = packing.PACK

    class Counting:
        @staticmethod
        def overload(*arguments: Any) -> Tensor:
            packings.append(True)
            return schema.overload(*arguments)

    monkeypatch.setattr(packing, "PACK", Counting)
    weights = draw(PAPER).weights

    @torch.compile(fullgraph=True, dynamic=True, backend=counting)
    def model(encoded: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        state = LSTMState(h, c)
        found = op.attention_decoder(encoded * 0.5, state, weights, steps=6, feedback=True, backend="fused")
        return found.context + 1, found.reconstruction

    torch._dynamo.reset()
    counts = []
    for batch in (7, 11, 13):  # sizes that nothing else has: torch takes equal ones for the same
        inputs = draw(PAPER._replace(batch=batch))
        contexts, reconstruction = model(inputs.encoded, *inputs.state)
        eager = op.attention_decoder(
            inputs.encoded * 0.5, inputs.state, weights, steps=6, feedback=True, backend="fused"
        )
        assert torch.equal(contexts, eager.context + 1)
        assert torch.equal(reconstruction, eager.reconstruction)
        counts.append(graphs)
    assert counts == [counts[0]] * 3
    assert len(packings) == 1  # compiled and eager calls find the same packed weights


class Decode(torch.nn.Module):
    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs
        self.layer = torch.nn.Parameter(inputs.weights.layers[0].weight_ih, requires_grad=False)

    def forward(self, encoded: Tensor, h: Tensor, c: Tensor) -> Tensor:
        weights = self.inputs.weights
        layers = [weights.layers[0]._replace(weight_ih=self.layer), *weights.layers[1:]]
        return op.attention_decoder(
            encoded, LSTMState(h, c), weights._replace(layers=layers), steps=6, outputs="context", backend="fused"
        )


def test_exports_with_a_dynamic_batch() -> None:
    inputs, other = draw(RELEASED), draw(RELEASED._replace(batch=9, seed=1))
    module = Decode(inputs)
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        module,
        (inputs.encoded, *inputs.state),
        dynamic_shapes={"encoded": {1: batch}, "h": {2: batch}, "c": {2: batch}},
    )
    assert op.DECODE.overload in {node.target for node in program.graph.nodes}
    assert torch.equal(program.module()(other.encoded, *other.state), module(other.encoded, *other.state))


@pytest.mark.parametrize("forward_mode", ["torch.func", "dual tensors"])
def test_forward_derivatives_are_left_to_the_reference(forward_mode: str) -> None:
    inputs = draw(PAPER._replace(dtype=torch.float64))
    tangent = torch.randn_like(inputs.encoded)

    def derivative(backend: str) -> Tensor:
        def contexts(encoded: Tensor) -> Tensor:
            return inputs._replace(encoded=encoded).decode(backend=backend, outputs="context")

        if forward_mode == "torch.func":
            return torch.func.jvp(contexts, (inputs.encoded,), (tangent,))[1]
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(inputs.encoded, tangent)
            return forward_ad.unpack_dual(contexts(dual)).tangent

    assert torch.equal(derivative("auto"), derivative("reference"))
    with pytest.raises(RuntimeError, match="do not reach it, or use backend='reference'"):
        derivative("fused")


def test_vmap_is_left_to_the_reference() -> None:
    inputs = draw(PAPER)
    several = torch.randn(4, *inputs.encoded.shape).tanh()
    mapped = torch.func.vmap(lambda encoded: inputs._replace(encoded=encoded).decode(outputs="context"))(several)
    for encoded, contexts in zip(several, mapped, strict=True):
        exact = inputs._replace(encoded=encoded).decode(backend="reference", outputs="context")
        torch.testing.assert_close(contexts, exact)


def test_meta_tensors_get_the_right_shapes() -> None:
    inputs = draw(PAPER)
    meta = op.DECODE.overload(*inputs.each(lambda tensor: tensor.to("meta")).arguments(True))
    real = op.DECODE.overload(*inputs.arguments(True))
    assert len(real) == len(DecoderOutput._fields)
    assert [tensor.shape for tensor in meta] == [tensor.shape for tensor in real]
