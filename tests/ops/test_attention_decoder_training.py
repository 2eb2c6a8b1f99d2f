"""attention_decoder with gradients: what the reference learns, from every result to every input."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import sgela_fast.reference.sgela as model_module
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.ops import _tape
from sgela_fast.ops.attention_decoder import attention_decoder
from sgela_fast.ops.batched_lstm import batched_lstm
from sgela_fast.reference.attention_decoder import attention_decoder as reference
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.optimiser import build_optimiser, clip_gradients
from tests.ops.decoder_cases import MISSING, PAPER, RELEASED, Case, cases, draw
from tests.ops.decoder_gradients import (
    ALWAYS,
    OF_ATTENTION,
    as_leaves,
    assert_gradients_agree,
    gradients,
    learns_like_the_reference,
    weighted_sum,
)

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

VARIANTS = pytest.mark.parametrize("variant", [PAPER, RELEASED], ids=["paper", "released"])
FED = pytest.mark.parametrize("fed", ["zeros", "feedback", "teacher"])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_drawn_calls_learn_like_the_float64_reference(case: Case) -> None:
    learns_like_the_reference(case)


@VARIANTS
@FED
@pytest.mark.parametrize("mode", ["las", "mbas", "bas", None])
def test_many_windows_learn_like_the_float64_reference(variant: Case, fed: str, mode: Any) -> None:
    """More windows than a block has, and more rows than are added up at once."""
    learns_like_the_reference(variant._replace(fed=fed, mode=mode, batch=75, groups=2, hidden=20))


@VARIANTS
def test_more_windows_than_a_stretch_learn_like_the_float64_reference(variant: Case) -> None:
    learns_like_the_reference(variant._replace(batch=530, groups=2, steps=3, keys=3, hidden=8))


@VARIANTS
@FED
@pytest.mark.parametrize("name", ALWAYS + OF_ATTENTION)
def test_each_result_alone_has_the_references_gradients(variant: Case, fed: str, name: str) -> None:
    learns_like_the_reference(variant._replace(fed=fed, groups=1, batch=3), (name,))


@VARIANTS
@FED
@pytest.mark.parametrize("mode", ["las", "mbas", "bas", None])
def test_passes_gradcheck(variant: Case, fed: str, mode: Any) -> None:
    case = variant._replace(
        fed=fed, mode=mode, groups=2, batch=2, hidden=3, joints=2, steps=3, keys=2, dtype=torch.float64, window=1.0
    )
    inputs = draw(case)
    _, leaves = as_leaves(inputs)

    def results(*tensors: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(tensors)
        output = inputs.each(lambda _: next(remaining)).decode(backend="fused")
        return tuple(result for result in output if result is not None)

    assert torch.autograd.gradcheck(results, leaves, fast_mode=True)


@pytest.mark.parametrize("fed", ["zeros", "teacher"])
@pytest.mark.parametrize("mode", ["las", "mbas"])
def test_a_tape_computed_anew_gives_the_same_bits(mode: Any, fed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = draw(RELEASED._replace(batch=530, steps=3, hidden=8, mode=mode, fed=fed, layout="steps first"))
    kept = gradients(inputs, attention_decoder)
    monkeypatch.setattr(_tape, "LIMIT_BYTES", 0)
    anew = gradients(inputs, attention_decoder)
    for one, other in zip([*kept[0], *kept[1]], [*anew[0], *anew[1]], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)  # type: ignore[arg-type]


def test_a_tape_is_kept_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = as_leaves(draw(RELEASED))

    def saved() -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda it: sizes.append(it.numel()) or it, lambda it: it):
            inputs.decode(backend="fused")
        return max(sizes)

    size = RELEASED.groups * RELEASED.batch * RELEASED.steps * RELEASED.hidden * (4 * RELEASED.layers + 1)
    monkeypatch.setattr(_tape, "LIMIT_BYTES", 4 * size)
    assert saved() == size
    monkeypatch.setattr(_tape, "LIMIT_BYTES", 4 * size - 1)
    assert saved() < size


def test_settings_of_the_limit_are_checked() -> None:
    assert _tape._limit("12") == 12 << 20
    with pytest.raises(ValueError, match="SGELA_FAST_TAPE_MB is '-1'; give a number of megabytes"):
        _tape._limit("-1")


@VARIANTS
def test_contexts_alone_learn_too(variant: Case) -> None:
    inputs = draw(variant)
    called, leaves = as_leaves(inputs)
    contexts = called.decode(backend="fused", outputs="context")
    upstream = torch.randn_like(contexts)
    found = torch.autograd.grad(contexts, leaves, upstream, allow_unused=True)
    called, leaves = as_leaves(inputs.each(Tensor.double))
    truth = torch.autograd.grad(called.decode(reference).context, leaves, upstream.double(), allow_unused=True)
    assert_gradients_agree(list(found), list(truth), 1e-4)


@pytest.mark.parametrize("wants", ["encoded", "teacher", "bias", "output_bias"])
def test_one_input_may_want_a_gradient_alone(wants: str) -> None:
    inputs = draw(RELEASED._replace(fed="teacher"))
    tensor = {
        "encoded": inputs.encoded,
        "teacher": inputs.options["teacher"],
        "bias": inputs.weights.layers[1].bias,
        "output_bias": inputs.weights.output_bias,
    }[wants]
    tensor.requires_grad_()
    names = ALWAYS + OF_ATTENTION
    (found,) = torch.autograd.grad(weighted_sum(inputs.decode(backend="fused"), names), tensor)
    (truth,) = torch.autograd.grad(weighted_sum(inputs.decode(backend="reference"), names), tensor)
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-4)


def test_results_are_those_of_encoding_to_rounding() -> None:
    for fed, mode in itertools.product(("zeros", "feedback", "teacher"), ("las", "mbas", None)):
        inputs = draw(PAPER._replace(fed=fed, mode=mode, dtype=torch.float64))
        called, _ = as_leaves(inputs)
        for one, other in zip(called.decode(backend="fused"), inputs.decode(backend="fused"), strict=True):
            if one is not None:
                torch.testing.assert_close(one.detach(), other, rtol=0, atol=1e-13)


def test_repeats_bit_for_bit() -> None:
    inputs = draw(PAPER._replace(batch=70, hidden=33))
    one, other = gradients(inputs, attention_decoder)[1], gradients(inputs, attention_decoder)[1]
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(one, other, strict=True))  # type: ignore[arg-type]


def test_without_a_window_the_weights_gradients_are_zero() -> None:
    output, found = gradients(draw(PAPER._replace(batch=0)), attention_decoder)
    assert output.reconstruction.shape == (3, 0, 6, 4)
    assert all(gradient is None or not gradient.any() for gradient in found)


def test_a_learned_width_of_the_mask_gets_its_gradient_or_is_refused() -> None:
    inputs = draw(PAPER._replace(dtype=torch.float64))
    sigma = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    inputs.options["sigma"] = sigma
    (learned,) = torch.autograd.grad(inputs.decode(backend="auto").loss.sum(), sigma)
    (expected,) = torch.autograd.grad(inputs.decode(reference).loss.sum(), sigma)
    assert torch.equal(learned, expected)
    assert learned < 0  # a wider mask costs less
    with pytest.raises(RuntimeError, match="no gradient of sigma; give a number, or use backend='reference'"):
        inputs.decode(backend="fused")


def test_a_derivative_of_a_derivative_is_refused() -> None:
    called, leaves = as_leaves(draw(RELEASED))
    output = called.decode(backend="fused")
    (gradient,) = torch.autograd.grad(output.context.sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives need backend='reference'"):
        gradient.sum().backward()


def test_vmap_over_the_kernels_is_refused() -> None:
    from sgela_fast.ops import _decoder_training as training

    inputs = draw(RELEASED)
    weights = inputs.weights
    rest = ([t for layer in weights.layers for t in layer[:2]], [layer.bias for layer in weights.layers], *weights[1:])

    def decode(encoded: Tensor) -> Tensor:
        settings = (6, False, 2, -1, 3.0, None, False, True)
        return training.FORWARD.overload(encoded, *inputs.state, *rest, None, *settings)[0]

    with pytest.raises(RuntimeError, match=r"no rule for torch.func.vmap; give backend='reference'"):
        torch.func.vmap(decode)(torch.stack([inputs.encoded] * 2))


@pytest.mark.parametrize("attention", ["las", "mbas", "bas", "none"])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_the_model_trains_as_on_the_reference(variant: Any, attention: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SGELAConfig(variant=variant, attention=attention, joints=7, hidden=20, frames=5)
    training = TrainingConfig(preset=variant, optimiser="adam")
    windows = torch.randn(4, 3, 9, 5, 7, dtype=torch.float64)

    def losses() -> list[float]:
        model = build_model(config, "reference", seed=3, dtype=torch.float64)
        optimiser = build_optimiser(model, training)
        found = []
        for batch in windows:
            optimiser.zero_grad()
            loss = model.loss(model(batch)).total
            loss.backward()
            clip_gradients(model.parameters(), training.clip or 0.0)
            optimiser.step()
            found.append(float(loss.detach()))
        return found

    expected = losses()
    monkeypatch.setattr(model_module, "batched_lstm", lambda *inputs: batched_lstm(*inputs, backend="fused"))
    monkeypatch.setattr(
        model_module,
        "attention_decoder",
        lambda *inputs, **options: attention_decoder(*inputs, **options, backend="fused"),
    )
    assert losses() == pytest.approx(expected, rel=1e-9)
