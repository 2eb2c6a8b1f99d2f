"""The Triton kernels of `gated_temporal_pooling` against the float64 reference: interpreted, or on a GPU where one is.

Cases are small: the interpreter runs programs one after another. Every kernel is also compiled, without a device.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgela_fast.benchmarks.tolerances import deviation
from sgela_fast.reference.gated_temporal_pooling import gated_temporal_pooling
from tests.kernels.compiled import rows_of
from tests.ops.pooling_cases import SELFGAIT, draw, outcome

pytest.importorskip("triton")

from sgela_fast.kernels import gated_temporal_pooling as kernels

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "selfgait": ((2, 2, 5, 17, 5), {}),
    "gaitpart, cut and empty sequences": ((1, 4, 6, 16, 3), {"slope": 0.01, "lengths": [6, 2, 0, 9]}),
    "blocks of everything": ((1, 2, 33, 65, 33), {}),
    "one frame": ((1, 2, 1, 8, 4), {}),
    "one gate of other sizes": ((1, 2, 7, 8, 3), {"kernels": ((5, 3),), "windows": [7]}),
    "two gates of other sizes": ((1, 2, 5, 8, (3, 40)), {"kernels": ((1, 5), (3, 1)), "windows": [5, 3]}),
}


@pytest.mark.usefixtures("poisoned_outputs")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "dtype"), [*((name, torch.float32) for name in CASES), ("selfgait", torch.bfloat16)])
def test_values_and_gradients_are_exact(name: str, dtype: torch.dtype, device: str) -> None:
    shape, options = CASES[name]
    case = draw(*shape, kernels=options.get("kernels", SELFGAIT), dtype=dtype)
    windows, slope = options.get("windows", [3, 5]), options.get("slope", 0.0)
    lengths = None if "lengths" not in options else torch.tensor(options["lengths"])
    settings = {"windows": windows, "negative_slope": slope, "lengths": lengths}
    exact = outcome(gated_temporal_pooling, case.to(torch.float64), upstream_dtype=dtype, **settings)
    features, *weights = (tensor.detach().to(device) for tensor in case.tensors())
    there = None if lengths is None else lengths.to(device)
    output, hidden, chosen, gates = kernels.forward(features, weights, there, windows, slope, True, True)
    upstream = torch.randn(exact[0].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(output)
    saved = [hidden, chosen, gates]
    grad_features, grad_weights = kernels.backward(upstream, features, weights, there, *saved, windows, slope, True)
    for index, (result, truth) in enumerate(zip([output, grad_features, *grad_weights], exact, strict=True)):
        assert result.dtype == dtype
        assert deviation(result.cpu(), truth) < TOLERANCE[dtype], f"result {index}"
    saved[0] = hidden[:0].flatten()  # computed anew, to the same digits
    again, _ = kernels.backward(upstream, features, weights, there, *saved, windows, slope, True)
    assert torch.equal(again, grad_features)


@pytest.mark.parametrize("device", DEVICES)
def test_the_first_nan_is_the_maximum(device: str) -> None:
    case = draw(1, 2, 40, 16, 4, dtype=torch.float32, requires_grad=False)
    case.features[0, 1, 35, 3] = torch.nan
    features, *weights = (tensor.to(device) for tensor in case.tensors())
    output, _, chosen, _ = kernels.forward(features, weights, None, [3, 5], 0.0, True, False)
    assert output[0, 1].isnan().all()
    assert not output[0, 0].isnan().any()
    assert int(chosen[0, 1, 3]) == 33  # the window of 5 sees it two frames early
    assert set(chosen[0, 1].tolist()) == {33}  # as do both taps of every channel's second gate


def test_no_sequence_leaves_zeros() -> None:
    case = draw(2, 0, 4, 8, 2, dtype=torch.float32, requires_grad=False)
    features, *weights = case.tensors()
    output, *saved = kernels.forward(features, weights, None, [3, 5], 0.0, True, True)
    assert output.shape == (2, 0, 8)
    _, gradients = kernels.backward(output, features, weights, None, *saved, [3, 5], 0.0, True)
    assert not any(gradient.any() for gradient in gradients)


def test_two_launches_forward_and_four_backward() -> None:
    case = draw(3, 2, 5, 8, 2, dtype=torch.float32, requires_grad=False)
    features, *weights = case.tensors()
    problem = kernels.Problem(features, weights, None, [3, 5], 0.0)
    saved = kernels._empty_saved(problem)
    gradients = kernels.Gradients(features, weights, saved.hidden, saved.gates, saved.chosen)
    assert len(list(kernels.plan_forward(problem, features, saved))) == 2
    assert len(list(kernels.plan_backward(problem, features, saved, gradients))) == 4


@pytest.mark.slow
def test_every_kernel_compiles_without_spills_for_both_architectures() -> None:
    rows = rows_of("triton_compile_pooling")
    assert len(rows) == 6 * 2  # kernels, architectures
    assert {row["arch"] for row in rows} == {80, 90}
    assert not [row for row in rows if row["spilled"]]
