"""Packed weights of attention_decoder are reused while the weights are what they were, and never longer."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.ops import _decoder_packing as packing
from sgela_fast.ops.attention_decoder import attention_decoder, forget_packed_weights
from sgela_fast.reference.attention_decoder import DecoderWeights
from sgela_fast.reference.attention_decoder import attention_decoder as reference
from tests.ops.decoder_cases import PAPER, RELEASED, Inputs, bound, draw, needs_kernels

pytestmark = needs_kernels
LARGE = PAPER._replace(hidden=80, joints=10, batch=2)


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    forget_packed_weights()
    yield
    forget_packed_weights()


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows by one entry for each packing: whether feedback was folded in."""
    times: list[bool] = []
    schema = packing.PACK

    class Counting:
        @staticmethod
        def overload(*arguments: Any) -> Tensor:
            times.append(arguments[-1])
            return schema.overload(*arguments)

    monkeypatch.setattr(packing, "PACK", Counting)
    return times


def is_exact(inputs: Inputs) -> bool:
    ours = inputs.decode(backend="fused", outputs="context")
    exact = inputs.each(Tensor.double).decode(reference).context
    return float((ours.double() - exact).abs().max()) < bound(LARGE)


def test_weights_are_packed_once(packed: list[bool]) -> None:
    inputs = draw(LARGE)
    for _ in range(3):
        assert is_exact(inputs)
    assert packed == [True]


def test_folded_and_unfolded_weights_are_kept_side_by_side(packed: list[bool]) -> None:
    free = draw(LARGE)
    zeros = free._replace(options=free.options | {"feedback": False})
    for _ in range(2):
        assert is_exact(free)
        assert is_exact(zeros)
    assert packed == [True, False]


def test_a_teacher_needs_no_packing_of_its_own(packed: list[bool]) -> None:
    inputs = draw(LARGE._replace(fed="teacher"))
    assert is_exact(inputs)
    assert is_exact(inputs._replace(options=inputs.options | {"teacher": None}))
    assert packed == [False]


def weight_of(name: str) -> Callable[[DecoderWeights], Tensor]:
    return {
        "bottom weight_ih": lambda weights: weights.layers[0].weight_ih,
        "bottom weight_hh": lambda weights: weights.layers[0].weight_hh,
        "upper weight_ih": lambda weights: weights.layers[1].weight_ih,
        "key": lambda weights: weights.key,
        "fusion": lambda weights: weights.fusion,
        "output": lambda weights: weights.output,
        "output_bias": lambda weights: weights.output_bias,
    }[name]  # type: ignore[return-value]


WEIGHTS = ["bottom weight_ih", "bottom weight_hh", "upper weight_ih", "key", "fusion", "output", "output_bias"]
WRITES: dict[str, Callable[[Tensor], Any]] = {
    "in place": lambda weight: weight.mul_(1.5),
    "one element": lambda weight: weight.view(-1)[weight.numel() // 2 + 1].add_(3),
    "through a view": lambda weight: weight[1:].add_(0.5),
    "copied into": lambda weight: weight.copy_(torch.randn_like(weight) * 0.3),
    "all through .data": lambda weight: weight.data.mul_(1.5),
    "another .data": lambda weight: setattr(weight, "data", weight.detach() * 1.5),
    "all through NumPy": lambda weight: weight.numpy().__imul__(1.5),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("write", WRITES)
def test_a_changed_weight_is_packed_again(packed: list[bool], name: str, write: str) -> None:
    inputs = draw(LARGE._replace(projected=True, bias=True))
    assert is_exact(inputs)
    WRITES[write](weight_of(name)(inputs.weights))
    assert is_exact(inputs)
    assert is_exact(inputs)
    assert packed == [True, True]


def test_another_tensor_in_the_same_place_is_packed_again(packed: list[bool]) -> None:
    inputs = draw(LARGE)
    assert is_exact(inputs)
    fusion = inputs.weights.fusion
    assert fusion is not None
    assert is_exact(inputs._replace(weights=inputs.weights._replace(fusion=fusion * 2)))
    assert is_exact(inputs)
    assert len(packed) == 3


def test_biases_of_the_layers_may_change_without_packing(packed: list[bool]) -> None:
    inputs = draw(LARGE)
    assert is_exact(inputs)
    layers = [layer._replace(bias=layer.bias + 0.5) for layer in inputs.weights.layers]
    assert is_exact(inputs._replace(weights=inputs.weights._replace(layers=layers)))
    inputs.weights.layers[0].bias.data.add_(1)
    assert is_exact(inputs)
    assert packed == [True]


def test_weights_made_in_inference_mode_are_followed(packed: list[bool]) -> None:
    with torch.inference_mode():
        inputs = draw(LARGE)
        assert is_exact(inputs)
        assert is_exact(inputs)
        inputs.weights.layers[1].weight_hh[0, 0, 1] += 5
        assert is_exact(inputs)
    assert len(packed) == 2


def test_an_optimiser_step_is_followed(packed: list[bool]) -> None:
    inputs = draw(LARGE).each(nn.Parameter)
    weights = [weight for layer in inputs.weights.layers for weight in layer]
    optimiser = torch.optim.Adam(weights, lr=0.1)
    with torch.no_grad():
        assert is_exact(inputs)
    inputs.decode(backend="reference").loss.sum().backward()
    optimiser.step()
    with torch.no_grad():
        assert is_exact(inputs)
    assert len(packed) == 2


def test_a_model_packs_once_and_again_for_a_new_state_dict(packed: list[bool]) -> None:
    config = SGELAConfig(variant="paper", hidden=16, joints=5)
    model, other = (build_model(config, seed=seed) for seed in (0, 1))
    encoded, state = torch.rand(3, 2, 6, 16), torch.rand(2, 3, 2, 16)

    def contexts(of: Any, function: Callable[..., Any], **options: Any) -> Tensor:
        weights = DecoderWeights(
            of.decoder.weights(), of.key_weight, of.fusion_weight, of.output_weight, of.output_bias
        )
        return function(encoded, (state, state), weights, steps=6, feedback=True, **options)

    with torch.no_grad():
        for _ in range(3):
            contexts(model, _decode, backend="fused", outputs="context")
        assert len(packed) == 1
        model.load_state_dict(other.state_dict())
        ours = contexts(model, _decode, backend="fused", outputs="context")
        assert len(packed) == 2
        torch.testing.assert_close(ours, contexts(other, _reference).context, rtol=0, atol=1e-5)


def _decode(encoded: Tensor, state: Any, weights: DecoderWeights, **options: Any) -> Any:
    return attention_decoder(encoded, _state(state), weights, **options)


def _reference(encoded: Tensor, state: Any, weights: DecoderWeights, **options: Any) -> Any:
    return reference(encoded, _state(state), weights, **options)


def _state(state: Any) -> Any:
    return draw(RELEASED).state._make(state)


def test_what_is_packed_goes_with_the_weights() -> None:
    inputs = draw(LARGE)
    assert is_exact(inputs)
    assert len(packing._CACHE) == 1
    del inputs
    gc.collect()
    assert len(packing._CACHE) == 0


@pytest.mark.parametrize("layout", ["transposed", "subclass"])
def test_unusual_weights_are_right_though_not_kept(packed: list[bool], layout: str) -> None:
    class Marked(Tensor):
        pass

    inputs = draw(LARGE)
    hidden = inputs.weights.layers[1].weight_hh
    unusual = hidden.mT.contiguous().mT if layout == "transposed" else hidden.as_subclass(Marked)
    layers = [inputs.weights.layers[0], inputs.weights.layers[1]._replace(weight_hh=unusual)]
    assert is_exact(inputs._replace(weights=inputs.weights._replace(layers=layers)))
    assert packed == []
