"""horizontal_pyramid_pooling as a citizen of torch: opcheck, compile, export, autocast, vmap."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from sgela_fast.ops import horizontal_pyramid_pooling as op

fused = functools.partial(op.horizontal_pyramid_pooling, bins=(1, 2, 3), backend="fused")


@pytest.mark.parametrize(
    ("dtype", "layout", "batch", "gradient", "with_positions"),
    [
        (torch.float32, torch.contiguous_format, 3, True, True),
        (torch.bfloat16, torch.channels_last, 3, True, True),
        (torch.float32, torch.channels_last, 3, True, False),
        (torch.float32, torch.contiguous_format, 0, True, True),
        (torch.float16, torch.contiguous_format, 3, False, False),
    ],
)
@pytest.mark.parametrize("strips_first", [True, False])
def test_forward_passes_opcheck(
    device: str,
    dtype: torch.dtype,
    layout: Any,
    batch: int,
    gradient: bool,
    with_positions: bool,
    strips_first: bool,
) -> None:
    features = torch.randn(batch, 4, 6, 5, device=device, dtype=dtype).contiguous(memory_format=layout)
    arguments = (features.requires_grad_(gradient), [1, 2, 3], strips_first, with_positions)
    torch.library.opcheck(op.FORWARD.overload, arguments)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("batch", [3, 0])
def test_backward_passes_opcheck(device: str, channels_last: bool, batch: int) -> None:
    features = torch.randn(batch, 4, 6, 5, device=device)
    strips, positions = op.FORWARD.overload(features, [1, 2, 3], True, True)
    torch.library.opcheck(op.BACKWARD.overload, (torch.randn_like(strips), positions, 6, 5, [1, 2, 3], channels_last))


def test_the_gradient_does_not_need_positions_from_the_forward_pass(device: str) -> None:
    features = torch.randn(2, 4, 6, 5, device=device, requires_grad=True)
    with_positions, without = (op.FORWARD.overload(features, [1, 2, 3], True, kept)[0] for kept in (True, False))
    upstream = torch.randn_like(without)
    gradients = [torch.autograd.grad(strips, features, upstream)[0] for strips in (with_positions, without)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("strips_first", [True, False])
def test_compiles_into_one_graph_for_any_batch(device: str, strips_first: bool) -> None:
    counter = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, dynamic=True, backend=counter)
    def model(features: Tensor) -> Tensor:
        return fused(torch.tanh(features), strips_first=strips_first).square().sum()

    torch._dynamo.reset()
    graphs = []
    for batch in (4, 7, 13):
        features = torch.randn(batch, 2, 3, 6, 5, device=device, requires_grad=True)
        compiled = torch.autograd.grad(model(features), features)[0]
        graphs.append(counter.frame_count)
        eager = torch.autograd.grad(fused(torch.tanh(features), strips_first=strips_first).square().sum(), features)[0]
        torch.testing.assert_close(compiled, eager)
    assert graphs == graphs[:1] * 3, "another batch was compiled anew"


class Pool(torch.nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return fused(features)


def test_exports_with_a_dynamic_batch(device: str) -> None:
    batch = torch.export.Dim("batch")
    features = torch.randn(4, 4, 6, 5, device=device)
    program = torch.export.export(Pool(), (features,), dynamic_shapes={"features": {0: batch}})
    assert op.FORWARD.overload in {node.target for node in program.graph.nodes}
    other = torch.randn(9, 4, 6, 5, device=device)
    assert torch.equal(program.module()(other), fused(other))


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_the_dtype_and_the_digits(device: str, backend: Any, dtype: torch.dtype) -> None:
    features = torch.randn(4, 4, 6, 5, device=device, dtype=dtype, requires_grad=True)
    with torch.autocast(device, dtype=torch.bfloat16):
        pooled = op.horizontal_pyramid_pooling(features, (1, 2, 3), backend=backend)
    assert pooled.dtype == dtype
    assert torch.equal(pooled, op.horizontal_pyramid_pooling(features, (1, 2, 3), backend=backend))
    assert torch.autograd.grad(pooled.sum(), features)[0].dtype == dtype


@pytest.mark.parametrize("in_dim", [0, 1])
@pytest.mark.parametrize("strips_first", [True, False])
def test_vmap_equals_a_loop(device: str, in_dim: int, strips_first: bool) -> None:
    features = torch.randn(3, 5, 4, 6, 5, device=device, requires_grad=True)
    pool = functools.partial(fused, strips_first=strips_first)
    mapped = torch.func.vmap(pool, in_dims=in_dim)(features)
    looped = torch.stack([pool(one) for one in features.unbind(in_dim)])
    assert torch.equal(mapped, looped)
    gradients = [torch.autograd.grad(result.square().sum(), features)[0] for result in (mapped, looped)]
    assert torch.equal(*gradients)


def test_many_upstream_gradients_at_once_equal_a_loop(device: str) -> None:
    features = torch.randn(2, 4, 6, 5, device=device, requires_grad=True)
    pooled = fused(features)
    upstream = torch.randn(3, *pooled.shape, device=device)
    together = torch.autograd.grad(pooled, features, upstream, is_grads_batched=True, retain_graph=True)[0]
    for one, each in zip(together, upstream, strict=True):
        assert torch.equal(one, torch.autograd.grad(pooled, features, each, retain_graph=True)[0])


def test_derivatives_of_torch_func_are_left_to_the_reference(device: str) -> None:
    features = torch.randn(2, 4, 6, 5, device=device)

    def total(features: Tensor, backend: Any = "auto") -> Tensor:
        return op.horizontal_pyramid_pooling(features, (1, 2, 3), backend=backend).square().sum()

    leaf = features.clone().requires_grad_()
    expected = torch.autograd.grad(fused(leaf).square().sum(), leaf)[0]
    torch.testing.assert_close(torch.func.grad(total)(features), expected)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.func.grad(total)(features, "fused")


def test_second_derivatives_are_refused_with_a_mend(device: str) -> None:
    features = torch.randn(2, 4, 6, 5, device=device, requires_grad=True)
    gradient = torch.autograd.grad(fused(features).square().sum(), features, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.autograd.grad(gradient.sum(), features)


def test_works_in_inference_mode_and_without_gradients(device: str) -> None:
    features = torch.randn(2, 4, 6, 5, device=device, requires_grad=True)
    with torch.inference_mode():
        inference = fused(features)
    with torch.no_grad():
        assert torch.equal(inference.clone(), fused(features))
    assert torch.equal(inference.clone(), fused(features).detach())
