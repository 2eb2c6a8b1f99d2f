"""batched_lstm as a citizen of torch: opcheck, compile, export, autocast, vmap, torch.func."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from sgela_fast.ops import batched_lstm as op
from sgela_fast.ops._lstm_arguments import draw_dropout_masks
from sgela_fast.ops._lstm_packing import EXACT, PACK
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState
from tests.ops.lstm_cases import Case, draw, needs_kernels

fused = functools.partial(op.batched_lstm, backend="fused")
pytestmark = needs_kernels
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def op_arguments(case: Case, device: str, gradient: bool, extras: bool, packed: bool = False) -> list[Any]:
    """The forward op's tensors; ``extras`` are states, lengths and dropout masks."""
    inputs = draw(case, device)
    for leaf in inputs.leaves():
        leaf.requires_grad_(gradient)
    weights = [tensor for layer in inputs.weights for tensor in layer]
    optional: list[Any] = [None, None, None, None]
    if extras:
        assert inputs.state is not None
        shape = (case.layers - 1, case.groups, case.batch, case.steps, case.hidden)
        masks = draw_dropout_masks(shape, 0.4, op.accumulation_dtype(case.dtype), torch.device(device))
        lengths = torch.randint(0, case.steps + 1, (case.batch,), device=device)
        optional = [*inputs.state, lengths, masks]
    kept = PACK.overload([weight.detach() for weight in weights], EXACT) if packed else None
    return [inputs.input, weights, kept, *optional]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("layout", ["dense", "steps first"])
@pytest.mark.parametrize(
    ("batch", "gradient", "extras"), [(3, True, True), (3, False, False), (0, True, False), (0, False, True)]
)
def test_forward_passes_opcheck(
    device: str, dtype: torch.dtype, layout: str, batch: int, gradient: bool, extras: bool
) -> None:
    case = Case(groups=2, batch=batch, steps=3, dtype=dtype, layout=layout)
    torch.library.opcheck(op.FORWARD.overload, (*op_arguments(case, device, gradient, extras), gradient))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_with_packed_weights_passes_opcheck(dtype: torch.dtype) -> None:
    arguments = op_arguments(Case(dtype=dtype), "cpu", False, False, packed=True)
    torch.library.opcheck(op.FORWARD.overload, (*arguments, False))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["dense", "steps first"])
@pytest.mark.parametrize(
    ("batch", "extras", "taped"), [(3, True, True), (3, False, False), (0, False, True), (0, True, False)]
)
def test_backward_passes_opcheck(
    device: str, dtype: torch.dtype, layout: str, batch: int, extras: bool, taped: bool
) -> None:
    case = Case(groups=2, batch=batch, steps=3, dtype=dtype, layout=layout)
    input, weights, _, *optional = op_arguments(case, device, False, extras)
    output, h, c, tape = op.FORWARD.overload(input, weights, None, *optional, taped)
    gradients = (torch.randn_like(output), None if extras else torch.randn_like(h), torch.randn_like(c))
    torch.library.opcheck(op.BACKWARD.overload, (*gradients, input, weights, *optional, output, tape))


@pytest.mark.parametrize("extras", [True, False])
def test_a_missing_tape_is_computed_anew(extras: bool) -> None:
    input, weights, _, *optional = op_arguments(Case(), "cpu", False, extras)
    output, h, c, tape = op.FORWARD.overload(input, weights, None, *optional, True)
    gradients = [torch.randn_like(tensor) for tensor in (output, h, c)]
    results = [op.BACKWARD.overload(*gradients, input, weights, *optional, output, given) for given in (tape, tape[:0])]
    flat = [[*result[:3], *result[3]] for result in results]
    assert all(torch.equal(one, other) for one, other in zip(*flat, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_into_one_graph_for_any_batch(device: str, backend: str) -> None:
    counter = CompileCounterWithBackend(backend)
    weights = draw(Case(dtype=torch.float32), device).weights

    def model(x: Tensor, lengths: Tensor) -> Tensor:
        output, (h, _) = fused(torch.tanh(x), weights, lengths=lengths)
        return output.square().sum() + h.sum()

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    graphs = []
    for batch in (5, 11, 13):  # sizes of their own: equal ones would be taken for the same
        case = Case(dtype=torch.float32, batch=batch, lengths=True)
        x, _, _, lengths = draw(case, device)
        leaves = [x, *(tensor for layer in weights for tensor in layer)]
        ours, eager = (torch.autograd.grad(function(x, lengths), leaves) for function in (compiled, model))
        graphs.append(counter.frame_count)
        for one, other in zip(ours, eager, strict=True):
            torch.testing.assert_close(one, other)
    # From the first batch on: torch itself starts again for numbers that turn out to be constants.
    assert graphs == graphs[:1] * 3, "another batch was compiled anew"


class Encode(torch.nn.Module):
    def __init__(self, weights: list[LSTMLayer]) -> None:
        super().__init__()
        self.flat = torch.nn.ParameterList([tensor for layer in weights for tensor in layer])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = [LSTMLayer(*self.flat[i : i + 3]) for i in range(0, len(self.flat), 3)]
        output, (h, _) = fused(x, weights)
        return output, h


@pytest.mark.parametrize("device", DEVICES)
def test_exports_with_a_dynamic_batch(device: str) -> None:
    inputs = draw(Case(dtype=torch.float32), device)
    model = Encode(inputs.weights)
    x = inputs.input.detach()
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {1: torch.export.Dim("batch")}})
    assert op.FORWARD.overload in {node.target for node in program.graph.nodes}
    other = torch.randn(3, 11, 6, 4, device=device)
    for exported, eager in zip(program.module()(other), model(other), strict=True):
        assert torch.equal(exported, eager)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_autocast_rounds_to_its_dtype_of_the_moment(device: str, dtype: torch.dtype, backend: Any) -> None:
    inputs = draw(Case(dtype=torch.float32), device)
    with torch.autocast(device, dtype=dtype):
        output, (h, c) = op.batched_lstm(*inputs[:3], backend=backend)
    explicit = draw(Case(dtype=torch.float32), device)
    weights = [LSTMLayer(*(tensor.to(dtype) for tensor in layer)) for layer in explicit.weights]
    state = LSTMState(*(tensor.to(dtype) for tensor in explicit.state or ()))
    expected, (expected_h, expected_c) = op.batched_lstm(explicit.input.to(dtype), weights, state, backend=backend)
    for one, other in ((output, expected), (h, expected_h), (c, expected_c)):
        assert one.dtype == dtype
        assert torch.equal(one, other)
    gradients = torch.autograd.grad(output.float().sum(), inputs.leaves())
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def test_autocast_takes_inputs_of_different_dtypes_and_leaves_float64_alone() -> None:
    inputs = draw(Case(dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fused(inputs.input.bfloat16(), inputs.weights).output.dtype == torch.bfloat16
        assert fused(*draw(Case(dtype=torch.float64))[:3]).output.dtype == torch.float64


def mapped_over(inputs: list[Any], dims: list[Any]) -> list[Any]:
    """Results of single calls, stacked: what vmap must equal."""
    size = next(t.shape[d] for t, d in zip(inputs, dims, strict=True) if d is not None)
    calls = [
        run_flat(*(t if d is None else t.select(d, v) for t, d in zip(inputs, dims, strict=True))) for v in range(size)
    ]
    return [torch.stack(results) for results in zip(*calls, strict=True)]


def run_flat(x: Tensor, h: Tensor, c: Tensor, lengths: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    weights = [LSTMLayer(*flat[i : i + 3]) for i in range(0, len(flat), 3)]
    output, (h, c) = fused(x, weights, (h, c), lengths=lengths)
    return output, h, c


@pytest.mark.parametrize("mapped", ["x", "x h c", "lengths", "x weights", "weights", "weights lengths", "x h lengths"])
def test_vmap_equals_a_loop_in_values_and_gradients(mapped: str) -> None:
    case = Case(lengths=True, batch=3)
    draws = [draw(case._replace(seed=seed)) for seed in range(4)]
    columns = []
    for inputs in draws:
        assert inputs.state is not None
        columns.append([inputs.input, *inputs.state, inputs.lengths, *(t for layer in inputs.weights for t in layer)])
    tensors, dims = [], []
    for i, name in enumerate(["x", "h", "c", "lengths", *["weights"] * 6]):
        is_mapped = name in mapped.split()
        dim = (1 if i % 2 and name != "lengths" else 0) if is_mapped else None
        tensor = columns[0][i] if dim is None else torch.stack([column[i] for column in columns], dim)
        tensors.append(tensor.detach().requires_grad_(name != "lengths"))
        dims.append(dim)
    ours, looped = torch.func.vmap(run_flat, in_dims=tuple(dims))(*tensors), mapped_over(tensors, dims)
    leaves = [tensor for tensor in tensors if tensor.requires_grad]
    upstream = [torch.randn_like(tensor) for tensor in looped]
    ours = [*ours, *torch.autograd.grad(ours, leaves, upstream)]
    for one, other in zip(ours, [*looped, *torch.autograd.grad(looped, leaves, upstream)], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("lengths", [True, False])
def test_many_upstream_gradients_at_once_equal_one_after_another(lengths: bool) -> None:
    inputs = draw(Case(lengths=lengths, batch=2, state=not lengths))
    output, (h, c) = fused(*inputs[:3], lengths=inputs.lengths)
    upstream = [torch.randn(3, *tensor.shape, dtype=tensor.dtype) for tensor in (output, h, c)]
    gradients = functools.partial(torch.autograd.grad, (output, h, c), inputs.leaves(), retain_graph=True)
    batched = torch.func.vmap(lambda *one: gradients(one))(*upstream)
    singles = [gradients([tensor[v] for tensor in upstream]) for v in range(3)]
    for one, others in zip(batched, zip(*singles, strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(others), rtol=0, atol=1e-11)


def test_derivatives_by_torch_func_take_the_reference_and_say_so() -> None:
    inputs = draw(Case(state=False))

    def total(x: Tensor, backend: Any) -> Tensor:
        return op.batched_lstm(x, inputs.weights, backend=backend).output.square().sum()

    x = inputs.input.detach()
    found = torch.func.grad(total)(x, "auto")
    expected = torch.autograd.grad(total(inputs.input, "fused"), inputs.input)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    with pytest.raises(RuntimeError, match=r"torch.func's derivatives .* use backend='reference'"):
        torch.func.grad(total)(x, "fused")


def test_second_derivatives_are_refused_with_a_mend() -> None:
    inputs = draw(Case())
    output = fused(*inputs[:3]).output
    gradient = torch.autograd.grad(output.square().sum(), inputs.input, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="second derivatives need backend='reference'"):
        torch.autograd.grad(gradient.sum(), inputs.input)
    reference = op.batched_lstm(*inputs[:3], backend="reference").output
    gradient = torch.autograd.grad(reference.square().sum(), inputs.input, create_graph=True)[0]
    assert torch.autograd.grad(gradient.sum(), inputs.input)[0].any()


def test_works_in_inference_mode_and_checkpointed() -> None:
    inputs = draw(Case())
    expected = fused(*inputs[:3]).output
    with torch.inference_mode():
        assert torch.equal(fused(*inputs[:3]).output, expected)
    again = torch.utils.checkpoint.checkpoint(
        lambda x: fused(x, *inputs[1:3]).output, inputs.input, use_reentrant=False
    )
    ours, plain = (torch.autograd.grad(result.sum(), inputs.leaves()) for result in (again, expected))
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


@pytest.mark.gpu
def test_is_captured_in_a_cuda_graph() -> None:
    inputs = draw(Case(dtype=torch.float32, lengths=True), "cuda")
    x, lengths = inputs.input.detach(), inputs.lengths
    with torch.no_grad():
        fused(x, *inputs[1:3], lengths=lengths)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = fused(x, *inputs[1:3], lengths=lengths).output
        x.copy_(torch.randn_like(x))
        graph.replay()
        assert torch.equal(captured, fused(x, *inputs[1:3], lengths=lengths).output)
