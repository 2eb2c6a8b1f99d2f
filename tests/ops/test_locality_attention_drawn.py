"""locality_attention against the float64 reference, forward and backward, over drawn shapes and settings."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgela_fast.benchmarks.tolerances import SMALLEST, relative_bound, score_magnitude
from sgela_fast.ops.locality_attention import locality_attention
from sgela_fast.reference.locality_attention import locality_attention as reference

try:
    from sgela_fast import _C  # type: ignore[attr-defined]

    ISAS = _C.build_info()["isas"]
except ImportError:
    ISAS = []


class Case(NamedTuple):
    seed: int
    dtype: torch.dtype
    batch: tuple[int, ...]
    queries: int
    keys: int
    features: int
    width: int | None
    layout: str
    centers: str
    padding: float
    options: dict[str, Any]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    long = draw(st.booleans())
    return Case(
        seed=draw(st.integers(0, 2**31)),
        dtype=draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])),
        batch=draw(st.sampled_from([(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (2, 0)])),
        queries=draw(st.integers(1, 70) if long else st.integers(1, 8)),
        keys=draw(st.integers(30, 150) if long else st.integers(1, 17)),
        features=draw(st.sampled_from([1, 3, 8, 16, 20, 33, 64, 100, 257])),
        width=draw(st.sampled_from([None, None, 1, 7, 16, 40, 130])),
        layout=draw(st.sampled_from(["dense", "transposed", "sliced", "expanded"])),
        centers=draw(st.sampled_from(["reverse", "identity", "tensor"])),
        padding=draw(st.sampled_from([0.0, 0.0, 0.3, 0.9])),
        options={
            "mode": draw(st.sampled_from(["las", "las", "mbas", "bas"])),
            "sigma": draw(st.sampled_from([0.3, 1.5, 3.0, 40.0])),
            "window": draw(st.sampled_from([None, None, 0.0, 2.0, 5.5])),
            "scale": draw(st.sampled_from([1.0, 0.25, -0.7])),
            "first_step": draw(st.sampled_from([0, 0, 1, 5])),
            "detach_target": draw(st.booleans()),
        },
    )


def laid_out(dense: Tensor, layout: str) -> Tensor:
    """The same numbers behind other strides."""
    if layout == "transposed" and dense.dim() >= 3:
        return dense.transpose(-2, -3).contiguous().transpose(-2, -3)
    if layout == "sliced":
        wide = dense.new_full((*dense.shape[:-1], dense.shape[-1] + 3), float("nan"))
        wide[..., 1:-2] = dense
        return wide[..., 1:-2]
    if layout == "expanded" and dense.dim() >= 3 and dense.shape[0] > 0:
        return dense[:1].expand(dense.shape)
    return dense


def leaves_of(case: Case, device: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(case.seed)

    def normal(*shape: int) -> Tensor:
        # Scores of a few units, whatever the number of features.
        size = case.features**-0.25
        return laid_out(
            size * torch.randn(*shape, generator=generator, dtype=torch.float64).to(case.dtype), case.layout
        )

    leaves = {"query": normal(*case.batch, case.queries, case.features)}
    leaves["key"] = normal(*case.batch, case.keys, case.features)
    if case.width is not None:
        leaves["value"] = normal(*case.batch, case.keys, case.width)
    if case.centers == "tensor":
        exact = torch.float64 if case.dtype == torch.float64 else torch.float32
        uniform = torch.rand(*case.batch, case.queries, generator=generator, dtype=torch.float64)
        # Never on the edge of a window, where a rounding decides.
        leaves["centers"] = ((case.keys + 2) * uniform - 1 + 0.01).to(exact)
    return {name: leaf.to(device) for name, leaf in leaves.items()}


def agrees(case: Case, device: str) -> None:
    leaves = leaves_of(case, device)
    generator = torch.Generator().manual_seed(case.seed + 1)
    padding = None
    if case.padding:
        padding = (torch.rand(*case.batch, case.keys, generator=generator) < case.padding).to(device)
    width = case.features if case.width is None else case.width
    weight = torch.randn(*case.batch, case.queries, width, generator=generator).to(device, case.dtype)
    weight_of_loss = torch.randn(case.batch, generator=generator).to(device)

    def run(function: Any, inputs: dict[str, Tensor], **options: Any) -> list[Tensor]:
        inputs = {name: leaf.detach().requires_grad_() for name, leaf in inputs.items()}
        query, key, value = inputs["query"], inputs["key"], inputs.get("value")
        centers = inputs.get("centers", case.centers)
        result = function(query, key, value, centers=centers, key_padding_mask=padding, **case.options, **options)
        total = (result.context * weight.to(result.context.dtype)).sum()
        if case.options["mode"] == "las":
            total = total + (result.loss * weight_of_loss.to(result.loss.dtype)).sum()
        gradients = torch.autograd.grad(total, list(inputs.values()), allow_unused=True, materialize_grads=True)
        return [result.context.detach(), result.loss.detach(), *gradients]

    fused = run(locality_attention, leaves, backend="fused")
    exact = run(reference, {name: leaf.double() for name, leaf in leaves.items()})
    magnitude = score_magnitude(leaves["query"], leaves["key"], case.options["scale"])
    bound = relative_bound(case.dtype, magnitude)
    for name, result, truth in zip(["context", "loss", *leaves], fused, exact, strict=True):
        # The terms of a gradient are of size 1 and cancel where a row's weight has gathered on one key: there the error
        # is one of the terms.
        size = float(truth.abs().max()) if truth.numel() else 0.0
        size = size if name in ("context", "loss") else max(size, 1.0)
        allowed = 2 * bound * size + SMALLEST[case.dtype]
        assert result.shape == truth.shape, name
        assert bool(((result.double() - truth).abs() <= allowed).all()), f"{name}: beyond {allowed:.1e}"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_equals_the_float64_reference(case: Case) -> None:
    agrees(case, "cpu")


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_every_instruction_set_equals_the_float64_reference(isa: str, case: Case) -> None:
    _C.force_isa(isa)
    try:
        agrees(case, "cpu")
    finally:
        _C.force_isa("")


@pytest.mark.gpu
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases().filter(lambda case: case.dtype != torch.float64))
def test_equals_the_float64_reference_on_the_gpu(case: Case) -> None:
    agrees(case, "cuda")


@pytest.mark.parametrize("mode", ["bas", "mbas", "las"])
@pytest.mark.parametrize("keys", [5, 40])
@pytest.mark.parametrize("window", [None, 2.25])
def test_gradients_are_those_of_finite_differences(mode: Any, keys: int, window: float | None) -> None:
    query = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    key = torch.randn(2, keys, 4, dtype=torch.float64, requires_grad=True)
    value = torch.randn(2, keys, 2, dtype=torch.float64, requires_grad=True)
    # Off the grid by more than the finite difference: the edges of a window are not differentiable.
    centers = (torch.tensor([[0.5, 2.1, 3.9], [1.1, 0.1, 4.4]], dtype=torch.float64)).requires_grad_()
    padding = torch.zeros(2, keys, dtype=torch.bool)
    padding[0, 1] = True

    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value, centers = tensors
        return locality_attention(
            query,
            key,
            value,
            centers=centers,
            sigma=1.3,
            window=window,
            mode=mode,
            key_padding_mask=padding,
            backend="fused",
        )[:2]

    assert torch.autograd.gradcheck(run, (query, key, value, centers))
