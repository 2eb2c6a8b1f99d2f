"""Claims about the reference of gated temporal pooling."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgela_fast.reference.gated_temporal_pooling import GateWeights, Reduction, gated_temporal_pooling
from tests.ops.pooling_cases import draw, strip_by_strip

OPEN = 50.0  # a gate's logit at which sigmoid is 1 in float64


def always_open(channels: int, window_count: int) -> list[GateWeights]:
    """Gates of one strip that let everything pass."""
    conv1 = torch.zeros(1, 1, channels, 1, dtype=torch.float64)
    conv2 = torch.zeros(1, channels, 1, 1, dtype=torch.float64)
    gate = GateWeights(conv1, None, conv2, torch.full((1, channels), OPEN, dtype=torch.float64))
    return [gate] * window_count


@pytest.mark.parametrize("reduce", ["max", "none"])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
@pytest.mark.parametrize(("bias", "negative_slope"), [(True, 0.0), (False, 0.01)], ids=["selfgait", "gaitpart"])
def test_equals_plain_modules_strip_by_strip(frames: int, bias: bool, negative_slope: float, reduce: Reduction) -> None:
    case = draw(4, 3, frames, 6, 3, bias=bias)
    settings: dict[str, Any] = {"negative_slope": negative_slope, "reduce": reduce}
    output, loop = gated_temporal_pooling(*case, **settings), strip_by_strip(case, **settings)
    torch.testing.assert_close(output, loop)
    upstream = torch.randn_like(output)
    for ours, theirs in zip(
        torch.autograd.grad(output, case.tensors(), upstream),
        torch.autograd.grad(loop, case.tensors(), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_means_count_the_pads_and_maxima_ignore_them() -> None:
    frames = torch.tensor([-6.0, -3.0, -9.0], dtype=torch.float64).view(1, 1, 3, 1)
    templates = gated_temporal_pooling(frames, always_open(1, 1), windows=(3,), reduce="none")
    assert templates.flatten().tolist() == pytest.approx([-3.0 - 3.0, -6.0 - 3.0, -4.0 - 3.0])


def test_open_gates_of_one_frame_double_it_and_take_the_maximum() -> None:
    frames = torch.randn(1, 2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(gated_temporal_pooling(frames, always_open(3, 1), windows=(1,)), 2 * frames.amax(dim=2))


def test_shut_gates_leave_nothing() -> None:
    gates = [gate._replace(conv2_bias=-OPEN * torch.ones(1, 3, dtype=torch.float64)) for gate in always_open(3, 2)]
    assert gated_temporal_pooling(torch.randn(1, 2, 5, 3, dtype=torch.float64), gates).abs().max() < 1e-15


@pytest.mark.parametrize("reduce", ["max", "none"])
def test_frames_behind_the_end_are_as_if_they_were_not_there(reduce: Reduction) -> None:
    case = draw(2, 4, 7, 5, 2)
    lengths = torch.tensor([7, 3, 0, 1])
    features = case.features.detach().clone()
    for sequence, length in enumerate(lengths):
        features[:, sequence, length:] = torch.nan
    features.requires_grad_()
    output = gated_temporal_pooling(features, case.weights, reduce=reduce, lengths=lengths)
    for sequence, length in enumerate(lengths.tolist()):
        if length == 0:
            assert not output[:, sequence].any()
            continue
        alone = gated_temporal_pooling(features[:, sequence, None, :length], case.weights, reduce=reduce)[:, 0]
        found = output[:, sequence] if reduce == "max" else output[:, sequence, :length]
        torch.testing.assert_close(found, alone)
        if reduce == "none":
            assert not output[:, sequence, length:].any()
    gradients = torch.autograd.grad(output.sum(), [features, *case.tensors()[1:]])
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][:, 1, 3:].any()


def test_the_first_of_equal_frames_takes_the_gradient() -> None:
    frames = torch.zeros(1, 1, 4, 1, dtype=torch.float64, requires_grad=True)
    gated_temporal_pooling(frames, always_open(1, 1), windows=(1,)).sum().backward()
    assert frames.grad is not None
    assert frames.grad.flatten().tolist() == [2.0, 0.0, 0.0, 0.0]


def test_derivatives_are_those_of_the_values() -> None:
    case = draw(2, 2, 4, 3, 2)

    def pooled(features: torch.Tensor, *flat: torch.Tensor) -> torch.Tensor:
        gates = [GateWeights(*flat[:4]), GateWeights(*flat[4:])]
        return gated_temporal_pooling(features, gates)

    assert torch.autograd.gradcheck(pooled, case.tensors())
