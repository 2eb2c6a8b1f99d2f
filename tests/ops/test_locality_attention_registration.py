"""locality_attention as a citizen of torch: opcheck, compile, export, autocast, vmap, CUDA graphs."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from sgela_fast.ops import locality_attention as op

fused = functools.partial(op.locality_attention, sigma=1.5, backend="fused")
CONFIGURATION = (0, -1, 1.5, None, 1.0, 2, False)  # first_step, direction, sigma, window, scale, las, detach_target


def inputs(device: str, dtype: torch.dtype, contiguous: bool, batch: int, gradient: bool, extras: bool) -> list[Any]:
    def tensor(rows: int, width: int) -> Tensor:
        dense = torch.randn(2, rows, batch, width, device=device, dtype=dtype).transpose(1, 2)
        return (dense.contiguous() if contiguous else dense).requires_grad_(gradient)

    exact = op.accumulation_dtype(dtype)
    centers = (7 * torch.rand(2, batch, 5, device=device, dtype=exact)).requires_grad_(gradient) if extras else None
    mask = torch.rand(2, batch, 7, device=device) < 0.2 if extras else None
    return [tensor(5, 13), tensor(7, 13), tensor(7, 3) if extras else None, centers, mask]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("batch", [3, 0])
@pytest.mark.parametrize(("gradient", "extras"), list(itertools.product([True, False], repeat=2)))
def test_forward_passes_opcheck(
    device: str, dtype: torch.dtype, contiguous: bool, batch: int, gradient: bool, extras: bool
) -> None:
    arguments = inputs(device, dtype, contiguous, batch, gradient, extras)
    direction = 0 if extras else -1
    torch.library.opcheck(op.FORWARD.overload, (*arguments, 0, direction, *CONFIGURATION[2:]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("extras", [True, False])
@pytest.mark.parametrize("batch", [3, 0])
def test_backward_passes_opcheck(device: str, dtype: torch.dtype, contiguous: bool, extras: bool, batch: int) -> None:
    arguments = inputs(device, dtype, contiguous, batch, False, extras)
    configuration = (0, 0 if extras else -1, *CONFIGURATION[2:])
    context, loss, log_sum, moment = op.FORWARD.overload(*arguments, *configuration)
    gradients = (torch.randn_like(context), torch.randn_like(loss))
    torch.library.opcheck(op.BACKWARD.overload, (*gradients, *arguments, context, log_sum, moment, *configuration))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_into_one_graph_for_any_batch(device: str, backend: str) -> None:
    counter = CompileCounterWithBackend(backend)

    @torch.compile(fullgraph=True, dynamic=True, backend=counter)
    def model(query: Tensor, key: Tensor) -> Tensor:
        result = fused(torch.tanh(query), key)
        return result.context.square().sum() + result.loss.sum()

    torch._dynamo.reset()
    graphs = []
    for batch in (4, 7, 13):
        query, key = (torch.randn(batch, 6, 16, device=device, requires_grad=True) for _ in range(2))
        compiled = torch.autograd.grad(model(query, key), (query, key))
        graphs.append(counter.frame_count)
        result = fused(torch.tanh(query), key)
        eager = torch.autograd.grad(result.context.square().sum() + result.loss.sum(), (query, key))
        for one, other in zip(compiled, eager, strict=True):
            torch.testing.assert_close(one, other)
    assert graphs == graphs[:1] * 3, "another batch was compiled anew"


class Attend(torch.nn.Module):
    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return fused(query, key)[:2]


def test_exports_with_a_dynamic_batch(device: str) -> None:
    query, key = (torch.randn(4, 6, 16, device=device) for _ in range(2))
    batch = torch.export.Dim("batch")
    program = torch.export.export(Attend(), (query, key), dynamic_shapes={"query": {0: batch}, "key": {0: batch}})
    assert op.FORWARD.overload in {node.target for node in program.graph.nodes}
    other = torch.randn(9, 6, 16, device=device)
    for exported, eager in zip(program.module()(other, other), fused(other, other)[:2], strict=True):
        assert torch.equal(exported, eager)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_runs_in_its_dtype_and_keeps_the_loss_in_float32(device: str, dtype: torch.dtype) -> None:
    query = torch.randn(4, 6, 16, device=device, requires_grad=True)
    key = torch.randn(4, 6, 16, device=device)
    centers = 6 * torch.rand(4, 6, device=device)
    with torch.autocast(device, dtype=dtype):
        result = fused(query, key, centers=centers)
    explicit = fused(query.to(dtype), key.to(dtype), centers=centers)
    assert (result.context.dtype, result.loss.dtype) == (dtype, torch.float32)
    assert torch.equal(result.context, explicit.context)
    assert torch.autograd.grad(result.loss.sum(), query)[0].dtype == torch.float32


def test_autocast_takes_inputs_of_different_dtypes(device: str) -> None:
    query, key = torch.randn(4, 6, 16, device=device), torch.randn(4, 6, 16, device=device, dtype=torch.bfloat16)
    with torch.autocast(device, dtype=torch.bfloat16):
        assert fused(query, key).context.dtype == torch.bfloat16


def test_autocast_leaves_float64_alone() -> None:
    query = torch.randn(4, 6, 16, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fused(query, query).context.dtype == torch.float64


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 1)])
def test_vmap_equals_a_loop(device: str, in_dims: tuple[Any, Any]) -> None:
    query = torch.randn(*((5,) if in_dims[0] == 0 else ()), 3, 6, 16, device=device)
    key = torch.randn(*{0: (5, 3), None: (3,), 1: (3, 5)}[in_dims[1]], 6, 16, device=device)
    mapped = torch.func.vmap(lambda query, key: fused(query, key)[:2], in_dims=in_dims)(query, key)
    queries = query.unbind(0) if in_dims[0] == 0 else [query] * 5
    keys = [key] * 5 if in_dims[1] is None else key.unbind(in_dims[1])
    for i, (one_query, one_key) in enumerate(zip(queries, keys, strict=True)):
        one = fused(one_query, one_key)
        assert torch.equal(mapped[0][i], one.context)
        assert torch.equal(mapped[1][i], one.loss)


def test_gradients_go_through_vmap(device: str) -> None:
    query, key = (torch.randn(5, 3, 6, 16, device=device, requires_grad=True) for _ in range(2))
    mapped = torch.func.vmap(lambda query, key: fused(query, key).loss)(query, key)
    plain = fused(query, key).loss
    for one, other in zip(
        torch.autograd.grad(mapped.sum(), (query, key)), torch.autograd.grad(plain.sum(), (query, key)), strict=True
    ):
        assert torch.equal(one, other)


def test_derivatives_of_torch_func_are_left_to_the_reference(device: str) -> None:
    query = torch.randn(5, 6, 16, device=device)

    def loss(query: Tensor, backend: Any = "auto") -> Tensor:
        return op.locality_attention(query, query, sigma=1.5, backend=backend).loss.sum()

    each = torch.func.vmap(torch.func.grad(loss))(query)
    leaf = query.clone().requires_grad_()
    torch.testing.assert_close(each, torch.autograd.grad(fused(leaf, leaf).loss.sum(), leaf)[0])
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.func.grad(loss)(query, "fused")


def test_second_derivatives_are_refused_with_a_mend(device: str) -> None:
    query = torch.randn(2, 6, 16, device=device, requires_grad=True)
    gradient = torch.autograd.grad(fused(query, query).loss.sum(), query, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.autograd.grad(gradient.sum(), query)


def test_works_in_inference_mode_and_without_gradients(device: str) -> None:
    query = torch.randn(2, 6, 16, device=device)
    with torch.inference_mode():
        inference = fused(query, query).context
    with torch.no_grad():
        assert torch.equal(inference.clone(), fused(query, query).context)


@pytest.mark.gpu
def test_is_captured_in_a_cuda_graph() -> None:
    query, key = (torch.randn(128, 6, 256, device="cuda") for _ in range(2))
    fused(query, key)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fused(query, key)
    query.copy_(torch.randn_like(query))
    graph.replay()
    fresh = fused(query, key)
    assert torch.equal(captured.context, fresh.context)
    assert torch.equal(captured.loss, fresh.loss)


@pytest.mark.gpu
def test_offsets_beyond_two_to_the_31_are_right() -> None:
    sequences = 2**31 // (6 * 256) + 3
    query = torch.randn(sequences, 6, 256, device="cuda", dtype=torch.bfloat16)
    whole, last = fused(query, query), fused(query[-2:], query[-2:])
    assert torch.equal(whole.context[-2:], last.context)
    assert torch.equal(whole.loss[-2:], last.loss)
