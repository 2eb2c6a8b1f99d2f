"""Cases of gated_temporal_pooling, shared by the tests of the reference, the op, its kernels and its module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgela_fast.benchmarks.tolerances import deviation, relative_bound
from sgela_fast.reference.gated_temporal_pooling import GateWeights, MicroMotionTemplate, gated_temporal_pooling

SELFGAIT = ((3, 1), (3, 3))


class Case(NamedTuple):
    """Features ``(S, N, T, C)`` and gates, drawn at random."""

    features: Tensor
    weights: list[GateWeights]

    def tensors(self) -> list[Tensor]:
        """The features and all weights, in the order of the gates."""
        return [self.features, *(tensor for gate in self.weights for tensor in gate if tensor is not None)]

    def to(self, dtype: torch.dtype) -> Case:
        """A copy without history, of another dtype."""

        def converted(tensor: Tensor) -> Tensor:
            return tensor.detach().to(dtype, copy=True).requires_grad_(tensor.requires_grad)

        gates = [GateWeights(*(None if t is None else converted(t) for t in gate)) for gate in self.weights]  # type: ignore[arg-type]
        return Case(converted(self.features), gates)


def draw(
    strips: int,
    count: int,
    frames: int,
    channels: int,
    hidden: int | Sequence[int],
    *,
    kernels: Sequence[tuple[int, int]] = SELFGAIT,
    bias: bool = True,
    dtype: torch.dtype = torch.float64,
    requires_grad: bool = True,
) -> Case:
    """A case whose gates are neither open nor shut."""
    widths = [hidden] * len(kernels) if isinstance(hidden, int) else hidden

    def weight(*shape: int) -> Tensor:
        scale = (shape[-1] * shape[-2]) ** -0.5 if len(shape) == 4 else 0.3
        return (torch.randn(shape, dtype=torch.float64) * scale).to(dtype).requires_grad_(requires_grad)

    gates = [
        GateWeights(
            weight(strips, width, channels, first),
            weight(strips, width) if bias else None,
            weight(strips, channels, width, second),
            weight(strips, channels) if bias else None,
        )
        for width, (first, second) in zip(widths, kernels, strict=True)
    ]
    features = torch.randn(strips, count, frames, channels, dtype=torch.float64).to(dtype)
    return Case(features.requires_grad_(requires_grad), gates)


def strip_by_strip(
    case: Case, *, windows: Sequence[int] = (3, 5), negative_slope: float = 0.0, reduce: str = "max"
) -> Tensor:
    """The same by a loop over strips of plain modules, with the case's own tensors as their parameters."""
    outputs = []
    for strip, frames in enumerate(case.features.unbind()):
        kernels = [(gate.conv1_weight.shape[3], gate.conv2_weight.shape[3]) for gate in case.weights]
        first = case.weights[0]
        total = torch.zeros_like(frames)
        for gate, window, sizes in zip(case.weights, windows, kernels, strict=True):
            module = MicroMotionTemplate(
                frames.shape[2],
                gate.conv1_weight.shape[1],
                windows=(window,),
                kernel_sizes=(sizes,),
                bias=first.conv1_bias is not None,
                negative_slope=negative_slope,
            )
            parameters = {
                name: tensor[strip]
                for name, tensor in zip(("0.weight", "0.bias", "2.weight", "2.bias"), gate, strict=True)
                if tensor is not None
            }
            named = {f"gates.0.{name}": tensor for name, tensor in parameters.items()}
            total = total + torch.func.functional_call(module, named, frames.transpose(1, 2)).transpose(1, 2)
        outputs.append(total.max(dim=1).values if reduce == "max" else total)
    return torch.stack(outputs)


def outcome(
    function: Callable[..., Tensor], case: Case, upstream_dtype: torch.dtype | None = None, **settings: Any
) -> list[Tensor]:
    """Value of ``function`` and its gradients to all tensors; the upstream gradient is rounded to a dtype first."""
    value = function(*case, **settings)
    upstream = torch.randn(value.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    upstream = upstream.to(upstream_dtype or value.dtype).to(value)
    return [value.detach(), *torch.autograd.grad(value, case.tensors(), upstream)]


def assert_close_to_exact(results: Sequence[Tensor], case: Case, **settings: Any) -> None:
    """Compare values and gradients with the float64 reference on the same, rounded, numbers."""
    dtype = case.features.dtype
    exact = outcome(gated_temporal_pooling, case.to(torch.float64), upstream_dtype=dtype, **settings)
    # Logits are sums of products of up to 3 H numbers near 1, hidden channels of 3 C.
    bound = relative_bound(dtype, magnitude=4.0)
    for index, (result, truth) in enumerate(zip(results, exact, strict=True)):
        assert result.dtype == dtype
        assert deviation(result, truth) < bound, f"result {index} of {settings}"
