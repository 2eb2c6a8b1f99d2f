"""bfloat16 and int8 weights in the compiled kernels, against plain PyTorch with the same rounded weights.

A kernel's state differs from the reference's by float32 rounding, and where it stands that close to the middle between
two integers it may be rounded to the other one: one activation then moves by one step, max|h| / 127, and every gate by
up to the largest weight times that. So whole runs are compared loosely, and each step sharply: from the kernel's own
states before it and from those of the layer below, which are the same numbers for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.tolerances import relative_bound
from sgela_fast.ops import attention_decoder as decoder_op
from sgela_fast.ops import batched_lstm as lstm_op
from sgela_fast.reference.attention_decoder import DecoderOutput
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState
from sgela_fast.reference.int8 import ReducedLayer, lstm_step, multiply
from tests.ops import decoder_cases, lstm_cases
from tests.ops.decoder_cases import PAPER, RELEASED
from tests.ops.lstm_cases import ISAS, needs_kernels

pytestmark = needs_kernels

REDUCED = ("bfloat16", "int8")
# Of whole runs: a few steps of 1 / 127.
WHOLE_RUN = {"bfloat16": 2e-5, "int8": 4 / 127}


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    extension: Any = pytest.importorskip("sgela_fast._C")
    extension.force_isa(request.param)
    yield str(request.param)
    extension.force_isa("")


def lstm_inputs(case: lstm_cases.Case) -> lstm_cases.Inputs:
    drawn = lstm_cases.draw(case)
    state = None if drawn.state is None else drawn.state._make(tensor.detach() for tensor in drawn.state)
    weights = [layer._make(tensor.detach() for tensor in layer) for layer in drawn.weights]
    return lstm_cases.Inputs(drawn.input.detach(), weights, state, drawn.lengths)


def pack_decoder(inputs: decoder_cases.Inputs, case: decoder_cases.Case, precision: Any) -> Any:
    return decoder_op.pack_decoder_weights(inputs.weights, feedback=case.fed == "feedback", precision=precision)


def decode(inputs: decoder_cases.Inputs, packed: Any, **options: Any) -> DecoderOutput:
    result: DecoderOutput = decoder_op.attention_decoder(
        inputs.encoded, inputs.state, packed, **inputs.options, **options
    )
    return result


def assert_near(ours: Tensor, theirs: Tensor, allowed: float) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=allowed, atol=allowed)


@st.composite
def lstms(draw: st.DrawFn) -> lstm_cases.Case:
    case = draw(lstm_cases.cases([torch.float32, torch.float32, torch.bfloat16, torch.float16]))
    return case._replace(dropout=0.0)


def check_each_step(case: lstm_cases.Case, precision: Any) -> None:
    """Every step of every layer follows from the kernel's own numbers; a whole run is the chain of its steps."""
    case = case._replace(dtype=torch.float32)
    inputs = lstm_inputs(case)
    packed = lstm_op.pack_lstm_weights(inputs.weights, precision)
    whole = lstm_op.batched_lstm(inputs.input, packed, inputs.state, backend="fused")
    zeros = torch.zeros(case.layers, case.groups, case.batch, case.hidden)
    h, c = zeros, zeros
    if inputs.state is not None:
        h, c = inputs.state
    allowed = relative_bound(torch.float32, (case.inputs + case.hidden) ** 0.5)
    for step in range(case.steps):
        x = inputs.input[:, :, step]
        _, after = lstm_op.batched_lstm(x[:, :, None], packed, LSTMState(h, c), backend="fused")
        for index, layer in enumerate(packed.layers):
            assert isinstance(layer, ReducedLayer)
            gates = multiply(x, layer.weight_ih) + layer.bias[:, None]
            new_h, new_c = lstm_step(gates, h[index], c[index], layer)
            assert_near(after.h[index], new_h, allowed)
            assert_near(after.c[index], new_c, allowed)
            x = after.h[index]
        assert torch.equal(whole.output[:, :, step], after.h[-1])
        h, c = after
    assert torch.equal(whole.state.h, h)
    assert torch.equal(whole.state.c, c)


@settings(deadline=None, max_examples=25)
@given(case=lstms(), precision=st.sampled_from(REDUCED))
def test_each_step_of_the_lstm_is_that_of_plain_pytorch(case: lstm_cases.Case, precision: str) -> None:
    check_each_step(case._replace(steps=min(case.steps, 6)), precision)


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("batch", [0, 1, 3, 30, 100])
def test_every_instruction_set_runs_the_same_steps(isa: str, precision: str, batch: int) -> None:
    check_each_step(lstm_cases.Case(batch=batch, steps=3, hidden=37, layers=3, inputs=5), precision)


@settings(deadline=None, max_examples=30)
@given(case=lstms(), precision=st.sampled_from(REDUCED))
def test_whole_runs_of_the_lstm_stay_near_plain_pytorch(case: lstm_cases.Case, precision: str) -> None:
    inputs = lstm_inputs(case)
    packed = lstm_op.pack_lstm_weights(inputs.weights, precision)  # type: ignore[arg-type]
    runs = [
        lstm_op.batched_lstm(inputs.input, packed, inputs.state, lengths=inputs.lengths, backend=backend)  # type: ignore[arg-type]
        for backend in ("fused", "reference")
    ]
    allowed = WHOLE_RUN[precision] + {torch.bfloat16: 8e-3, torch.float16: 1e-3}.get(case.dtype, 0.0)
    assert_near(runs[0].output, runs[1].output, allowed)
    assert_near(runs[0].state.h, runs[1].state.h, allowed)
    assert_near(runs[0].state.c, runs[1].state.c, 4 * allowed)


def test_bfloat16_weights_give_what_float32_gives_with_the_rounded_weights() -> None:
    case = lstm_cases.Case(dtype=torch.float32, hidden=64, inputs=20, batch=40)
    inputs = lstm_inputs(case)
    rounded = [LSTMLayer(*(w.bfloat16().float() for w in layer[:2]), layer.bias) for layer in inputs.weights]
    ours = lstm_op.batched_lstm(inputs.input, lstm_op.pack_lstm_weights(inputs.weights, "bfloat16"), inputs.state)
    theirs = lstm_op.batched_lstm(inputs.input, rounded, inputs.state)
    assert torch.equal(ours.output, theirs.output)


def check_each_decoding_step(case: decoder_cases.Case, precision: Any) -> None:
    """Every step follows from the kernel's own numbers of the step before and of the layer below."""
    inputs = decoder_cases.draw(case)
    packed = pack_decoder(inputs, case, precision)
    weights, found = packed.weights, decode(inputs, packed, backend="fused")
    allowed = relative_bound(torch.float32, (case.joints + 2 * case.hidden) ** 0.5)
    for step in range(case.steps):
        x = None
        for index, layer in enumerate(weights.layers):
            h, c = (
                (inputs.state.h, inputs.state.c)
                if step == 0
                else (found.h[:, :, :, step - 1], found.c[..., step - 1, :])
            )
            gates = layer.bias[:, None]
            if x is not None:
                gates = gates + multiply(x, layer.weight_ih)
            elif step > 0:
                if case.mode is not None:
                    gates = gates + multiply(found.attentional[:, :, step - 1], layer.weight_ih)
                if case.fed == "teacher":
                    gates = gates + inputs.options["teacher"][:, :, step - 1] @ weights.skeleton.mT
                elif case.fed == "feedback" and case.mode is not None:
                    gates = gates + weights.fed_bias[:, None]
                elif case.fed == "feedback":
                    gates = gates + found.reconstruction[:, :, step - 1] @ weights.skeleton.mT
            new_h, new_c = lstm_step(gates, h[index], c[index], layer)
            x = found.h[index, :, :, step]
            assert_near(x, new_h, allowed)
            assert_near(found.c[index, :, :, step], new_c, allowed)
        assert x is not None
        if found.context is not None:
            attentional = multiply(x, weights.fusion_decoded)
            attentional = attentional + multiply(found.context[:, :, step], weights.fusion_context)
            attentional = attentional.tanh() if case.fusion == "tanh" else attentional
            assert_near(found.attentional[:, :, step], attentional, allowed)


@settings(deadline=None, max_examples=30)
@given(case=decoder_cases.cases([torch.float32]), precision=st.sampled_from(REDUCED))
def test_each_decoding_step_is_that_of_plain_pytorch(case: decoder_cases.Case, precision: str) -> None:
    check_each_decoding_step(case, precision)


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("case", [PAPER, RELEASED], ids=["paper", "released"])
@pytest.mark.parametrize("batch", [0, 1, 3, 80])
def test_every_instruction_set_decodes_the_same_steps(
    isa: str, precision: str, case: decoder_cases.Case, batch: int
) -> None:
    check_each_decoding_step(case._replace(batch=batch, hidden=37, layers=2), precision)


@settings(deadline=None, max_examples=30)
@given(case=decoder_cases.cases([torch.float32, torch.bfloat16, torch.float16]), precision=st.sampled_from(REDUCED))
def test_whole_decodings_stay_near_plain_pytorch(case: decoder_cases.Case, precision: str) -> None:
    inputs = decoder_cases.draw(case)
    packed = pack_decoder(inputs, case, precision)
    ours, theirs = (decode(inputs, packed, backend=backend) for backend in ("fused", "reference"))
    allowed = WHOLE_RUN[precision] + {torch.bfloat16: 1.6e-2, torch.float16: 2e-3}.get(case.dtype, 0.0)
    for name in ("context", "attentional", "h"):
        one, other = getattr(ours, name), getattr(theirs, name)
        if other is not None:
            assert_near(one, other, 4 * allowed)


@pytest.mark.parametrize("case", [PAPER, RELEASED], ids=["paper", "released"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("packs", [False, True])
def test_a_decoder_in_half_precision_computes_in_float32(case: Any, dtype: torch.dtype, packs: bool) -> None:
    inputs = decoder_cases.draw(case._replace(dtype=dtype, hidden=33, batch=9))
    weights = pack_decoder(inputs, case, "full") if packs else inputs.weights
    ours = decode(inputs, weights, backend="fused")
    exact = inputs.each(Tensor.float)
    theirs = decode(exact, exact.weights, backend="fused")
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other.to(dtype))


@pytest.mark.parametrize("precision", REDUCED)
def test_the_number_of_threads_changes_no_bit(precision: Any) -> None:
    inputs, decoding = lstm_inputs(lstm_cases.Case(dtype=torch.float32, batch=70)), decoder_cases.draw(PAPER)
    packed, decoder = lstm_op.pack_lstm_weights(inputs.weights, precision), pack_decoder(decoding, PAPER, precision)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            lstm = lstm_op.batched_lstm(inputs.input, packed, inputs.state)
            found.append([lstm.output, *lstm.state, *decode(decoding, decoder)])
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("precision", REDUCED)
def test_a_window_does_not_depend_on_the_others(precision: Any) -> None:
    inputs = lstm_inputs(lstm_cases.Case(dtype=torch.float32, batch=40, hidden=20))
    packed = lstm_op.pack_lstm_weights(inputs.weights, precision)
    together = lstm_op.batched_lstm(inputs.input, packed).output
    for window in (0, 7, 39):
        assert torch.equal(lstm_op.batched_lstm(inputs.input[:, [window]], packed).output, together[:, [window]])


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_state_that_is_not_finite_spoils_its_window_alone(isa: str, precision: Any, value: float) -> None:
    inputs = lstm_inputs(lstm_cases.Case(dtype=torch.float32, batch=9, hidden=20))
    assert inputs.state is not None
    packed = lstm_op.pack_lstm_weights(inputs.weights, precision)
    clean = lstm_op.batched_lstm(inputs.input, packed, inputs.state).output
    inputs.state.h[0, 1, 4, 3] = value
    spoilt = lstm_op.batched_lstm(inputs.input, packed, inputs.state).output
    others = torch.ones(3, 9, dtype=torch.bool)
    others[1, 4] = False
    assert torch.equal(spoilt[others], clean[others])
    if precision == "int8" or value != value:
        assert bool(spoilt[1, 4].isnan().all())


@pytest.mark.parametrize("precision", REDUCED)
def test_a_nan_in_the_encoded_states_spoils_its_window_alone(isa: str, precision: Any) -> None:
    inputs = decoder_cases.draw(RELEASED)
    packed = pack_decoder(inputs, RELEASED, precision)
    clean = decode(inputs, packed)
    inputs.encoded[1, 2, 3, 4] = torch.nan
    spoilt = decode(inputs, packed)
    others = torch.ones(3, 5, dtype=torch.bool)
    others[1, 2] = False
    assert torch.equal(spoilt.h[:, others], clean.h[:, others])
    assert bool(spoilt.h[:, 1, 2, 1:].isnan().all())


@pytest.mark.parametrize("precision", REDUCED)
def test_weights_of_zeros_give_the_bias_alone(precision: Any) -> None:
    inputs = lstm_inputs(lstm_cases.Case(dtype=torch.float32))
    zeros = [LSTMLayer(layer.weight_ih * 0, layer.weight_hh * 0, layer.bias) for layer in inputs.weights]
    packed = lstm_op.pack_lstm_weights(zeros, precision)
    ours, theirs = lstm_op.batched_lstm(inputs.input, packed), lstm_op.batched_lstm(inputs.input, zeros)
    assert torch.equal(ours.output, theirs.output)


def test_weights_packed_for_another_instruction_set_are_packed_again() -> None:
    extension: Any = pytest.importorskip("sgela_fast._C")
    inputs, decoding = lstm_inputs(lstm_cases.Case(dtype=torch.float32)), decoder_cases.draw(PAPER)
    packed, decoder = lstm_op.pack_lstm_weights(inputs.weights, "int8"), pack_decoder(decoding, PAPER, "int8")
    before = lstm_op.batched_lstm(inputs.input, packed).output, decode(decoding, decoder).h
    try:
        extension.force_isa("baseline")
        after = lstm_op.batched_lstm(inputs.input, packed).output, decode(decoding, decoder).h
    finally:
        extension.force_isa("")
    for one, other in zip(before, after, strict=True):
        assert_near(one, other, WHOLE_RUN["int8"])


@pytest.mark.parametrize("precision", REDUCED)
def test_the_ops_pass_opcheck(precision: Any) -> None:
    from sgela_fast.ops import _packed_decoder, _packed_lstm

    inputs, decoding = lstm_inputs(lstm_cases.Case(dtype=torch.float32)), decoder_cases.draw(PAPER)
    packed, decoder = lstm_op.pack_lstm_weights(inputs.weights, precision), pack_decoder(decoding, PAPER, precision)
    state = inputs.state
    assert state is not None
    arguments = (inputs.input, _packed_lstm.flat(packed), packed.packed, *state, None)
    torch.library.opcheck(_packed_lstm.REDUCED.overload, arguments)
    weights = decoder.weights
    biases = [layer.bias for layer in weights.layers]
    fixed = (weights.skeleton, weights.fed_bias, weights.output, weights.output_bias, None, decoder.packed)
    settings = (6, True, 2, -1, 3.0, None, True, True)
    tensors = (decoding.encoded, *decoding.state, _packed_decoder._flat(weights), biases)
    torch.library.opcheck(_packed_decoder.REDUCED.overload, (*tensors, *fixed, *settings))
