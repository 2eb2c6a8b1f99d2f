"""The frame network channels last: values, gradients and layout of odd sizes, against the plain network."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgela_fast.models.frame_maps import frame_maps, suits
from sgela_fast.reference.selfgait import FrameNetwork

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def network(channels: tuple[int, ...]) -> FrameNetwork:
    torch.manual_seed(0)
    return FrameNetwork(channels)


def relative_distance(actual: Tensor, expected: Tensor) -> float:
    return float((actual.detach().double() - expected.detach()).norm() / expected.detach().norm().clamp_min(1e-30))


@settings(deadline=None, max_examples=25)
@given(
    frames=st.integers(1, 3),
    height=st.integers(4, 13),
    width=st.integers(4, 13),
    channels=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_values_and_gradients_are_the_plain_networks(frames: int, height: int, width: int, channels: list[int]) -> None:
    single, double = network(tuple(channels)), network(tuple(channels)).double()
    generator = torch.Generator().manual_seed(height * width)
    inputs = torch.rand(frames, 1, height, width, generator=generator).requires_grad_()
    truth = inputs.detach().double().requires_grad_()
    maps, expected = frame_maps(inputs, single), double(truth)
    assert maps.shape == expected.shape
    assert relative_distance(maps, expected) < 1e-5
    upstream = torch.randn(expected.shape, generator=generator)
    actual = torch.autograd.grad(maps, [inputs, *single.parameters()], upstream)
    for one, other in zip(
        actual, torch.autograd.grad(expected, [truth, *double.parameters()], upstream.double()), strict=True
    ):
        assert one.shape == other.shape
        assert relative_distance(one, other) < 1e-4


def test_silhouettes_that_suit() -> None:
    frames = torch.zeros(1, 1, 16, 12)
    assert suits(frames) == torch.backends.mkldnn.is_available()
    assert not suits(frames.double())
    assert not suits(frames.to("meta"))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_maps_are_channels_last_and_inputs_are_left_alone(order: torch.memory_format) -> None:
    plain = network((8, 16)).to(memory_format=order)
    frames = torch.rand(4, 1, 16, 12)
    before = frames.clone()
    with torch.inference_mode():
        maps = frame_maps(frames, plain)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(frames, before)
    double = network((8, 16)).double()
    torch.testing.assert_close(maps, double(frames.double()).float(), rtol=1e-4, atol=1e-5)


def test_compiles_whole() -> None:
    plain = network((4, 8))
    frames = torch.rand(2, 1, 16, 12)
    torch.testing.assert_close(
        torch.compile(frame_maps, backend="aot_eager", fullgraph=True)(frames, plain), plain(frames)
    )
