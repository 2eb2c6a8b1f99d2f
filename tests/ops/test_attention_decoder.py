"""attention_decoder against the float64 reference over drawn shapes, and what it promises beside equality."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from sgela_fast.ops.attention_decoder import attention_decoder
from sgela_fast.reference.attention_decoder import DecoderOutput
from sgela_fast.reference.attention_decoder import attention_decoder as reference
from tests.ops.decoder_cases import (
    PAPER,
    RELEASED,
    Case,
    agrees_with_the_reference,
    assert_agree,
    bound,
    cases,
    draw,
    needs_kernels,
)

pytestmark = needs_kernels
drawn = functools.partial(settings, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VARIANTS = pytest.mark.parametrize("variant", [PAPER, RELEASED], ids=["paper", "released"])
FED = pytest.mark.parametrize("fed", ["zeros", "feedback", "teacher"])


def equal(ours: DecoderOutput, other: DecoderOutput) -> bool:
    pairs = zip(ours, other, strict=True)
    return all(one is two is None or torch.equal(one, two) for one, two in pairs)  # type: ignore[arg-type]


@drawn(max_examples=300)
@given(case=cases())
def test_equals_the_float64_reference_field_by_field(case: Case) -> None:
    agrees_with_the_reference(case)


@VARIANTS
@FED
@pytest.mark.parametrize("mode", ["las", "mbas", "bas", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_variants_in_all_modes(variant: Case, fed: str, mode: Any, dtype: torch.dtype) -> None:
    agrees_with_the_reference(variant._replace(fed=fed, mode=mode, dtype=dtype, steps=7, keys=5))


@VARIANTS
def test_full_size(variant: Case) -> None:
    agrees_with_the_reference(variant._replace(groups=2, batch=7, joints=20, hidden=256))


@VARIANTS
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 13, 73, 150])
def test_any_number_of_windows(variant: Case, batch: int) -> None:
    agrees_with_the_reference(variant._replace(groups=1, batch=batch))


@pytest.mark.parametrize("keys", [1, 33, 300])
def test_any_number_of_encoded_states(keys: int) -> None:
    agrees_with_the_reference(RELEASED._replace(keys=keys, steps=3, sigma=40.0))


@pytest.mark.parametrize("fed", ["zeros", "feedback"])
@VARIANTS
def test_large_scores_stay_finite_and_exact(variant: Case, fed: str) -> None:
    case = variant._replace(hidden=128, fed=fed, dtype=torch.float64)
    inputs = draw(case)
    inputs = inputs._replace(encoded=inputs.encoded.sign() * 0.999)
    assert_agree(inputs.decode(backend="fused"), inputs.decode(reference), bound(case))


def test_the_folded_bias_of_the_output_layer_is_not_read_at_the_first_step() -> None:
    case = PAPER._replace(bias=True, dtype=torch.float64)
    inputs = draw(case)
    assert inputs.weights.output_bias is not None
    inputs.weights.output_bias.mul_(30)  # wrong by far if it entered one step early or late
    ours, exact = inputs.decode(backend="fused"), inputs.decode(reference)
    assert_agree(ours, exact, bound(case))
    zeros = inputs._replace(options=inputs.options | {"feedback": False}).decode(backend="fused")
    assert torch.equal(ours.context[:, :, 0], zeros.context[:, :, 0])
    assert not torch.allclose(ours.context[:, :, 1], zeros.context[:, :, 1])


def test_feedback_equals_a_teacher_that_repeats_the_predictions() -> None:
    case = PAPER._replace(dtype=torch.float64)
    inputs = draw(case)
    free = inputs.decode(backend="fused")
    taught = inputs._replace(options=inputs.options | {"feedback": False, "teacher": free.reconstruction})
    assert_agree(taught.decode(backend="fused"), free, bound(case))


def test_the_last_teacher_frame_is_not_read() -> None:
    inputs = draw(PAPER._replace(fed="teacher"))
    before = inputs.decode(backend="fused")
    inputs.options["teacher"][:, :, -1] = torch.nan
    assert equal(inputs.decode(backend="fused"), before)


@VARIANTS
@FED
def test_contexts_alone_are_the_contexts_of_everything(variant: Case, fed: str) -> None:
    inputs = draw(variant._replace(fed=fed, hidden=33))
    contexts, everything = (inputs.decode(backend="fused", outputs=outputs) for outputs in ("context", "all"))
    assert torch.equal(contexts, everything.context)


@VARIANTS
@pytest.mark.parametrize("batch", [1, 40, 100])
def test_a_window_does_not_depend_on_the_others(variant: Case, batch: int) -> None:
    inputs = draw(variant._replace(batch=batch))
    whole = inputs.decode(backend="fused", outputs="context")
    for window in {0, batch // 2, batch - 1}:

        def one(tensor: Tensor, window: int = window) -> Tensor:
            return tensor[..., window : window + 1, :, :] if tensor is inputs.encoded else tensor[..., [window], :]

        alone = inputs._replace(encoded=one(inputs.encoded), state=type(inputs.state)(*map(one, inputs.state)))
        assert torch.equal(alone.decode(backend="fused", outputs="context")[:, 0], whole[:, window])


def test_groups_do_not_mix() -> None:
    inputs = draw(RELEASED)
    before = inputs.decode(backend="fused", outputs="context")
    inputs.weights.layers[0].weight_ih[1] += 1
    inputs.encoded[1] += 1
    after = inputs.decode(backend="fused", outputs="context")
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert not torch.allclose(after[1], before[1])


@VARIANTS
def test_repeats_bit_for_bit(variant: Case) -> None:
    inputs = draw(variant._replace(batch=20))
    assert equal(inputs.decode(backend="fused"), inputs.decode(backend="fused"))


def test_inputs_are_left_as_they_are() -> None:
    inputs = draw(PAPER._replace(fed="teacher"))
    before = inputs.each(Tensor.clone)
    inputs.decode(backend="fused")
    kept: list[Tensor] = []
    inputs.each(lambda tensor: kept.append(tensor) or tensor)  # type: ignore[func-returns-value]
    originals: list[Tensor] = []
    before.each(lambda tensor: originals.append(tensor) or tensor)  # type: ignore[func-returns-value]
    assert all(torch.equal(one, other) for one, other in zip(kept, originals, strict=True))


def test_a_nan_stays_in_its_window() -> None:
    inputs = draw(PAPER)
    inputs.encoded[0, 2, 1, 3] = torch.nan
    contexts = inputs.decode(backend="fused", outputs="context")
    assert contexts[0, 2].isnan().all()
    contexts[0, 2] = 0
    assert contexts.isfinite().all()


def test_auto_is_fused_with_gradients_and_without() -> None:
    inputs = draw(PAPER)
    fused = inputs.decode(backend="fused")
    assert equal(inputs.decode(), fused)
    inputs.weights.layers[0].weight_hh.requires_grad_()
    found = inputs.decode()
    assert "attention_decoder_forward_tape" in type(found.context.grad_fn).__name__
    with torch.no_grad():
        assert equal(inputs.decode(), fused)


@pytest.mark.parametrize(("dtype", "step"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype: torch.dtype, step: float) -> None:
    inputs = draw(PAPER).each(lambda tensor: tensor.to(dtype))
    found = inputs.decode(backend="fused", outputs="context")
    expected = inputs.each(Tensor.float).decode(backend="fused", outputs="context")
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=step, atol=1e-6)


def test_auto_learns_by_the_reference_in_half_precision() -> None:
    inputs = draw(PAPER).each(Tensor.bfloat16)
    assert equal(inputs.decode(), inputs.decode(backend="fused"))
    inputs.weights.layers[0].weight_hh.requires_grad_()
    found = inputs.decode()
    assert equal(found, inputs.decode(reference))
    assert found.context.requires_grad
    with pytest.raises(RuntimeError, match="attention_decoder cannot run fused"):
        inputs.decode(backend="fused")


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_autocast_has_no_say(backend: str) -> None:
    inputs = draw(PAPER)
    before = inputs.decode(backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert equal(inputs.decode(backend=backend), before)


def test_works_in_inference_mode() -> None:
    inputs = draw(PAPER)
    before = inputs.decode(backend="fused", outputs="context")
    with torch.inference_mode():
        assert torch.equal(inputs.decode(outputs="context"), before)


def test_takes_the_results_of_any_lstm() -> None:
    case = PAPER._replace(hidden=8)
    inputs = draw(case)
    lstm = torch.nn.LSTM(4, 8, num_layers=2, batch_first=True)
    with torch.no_grad():
        encoded, (h, c) = lstm(torch.randn(case.batch, case.keys, 4))
    shared = encoded.expand(case.groups, *encoded.shape)  # (G, B, Tk, K)
    state = type(inputs.state)(*(s[:, None].expand(-1, case.groups, -1, -1) for s in (h, c)))
    found = attention_decoder(shared, state, inputs.weights, **inputs.options, backend="fused")
    exact = inputs._replace(encoded=shared, state=state).each(Tensor.double).decode(reference)
    assert_agree(found, exact, bound(case))
