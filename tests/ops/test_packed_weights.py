"""Weights packed by hand: snapshots for inference that neither hash nor pack, in any precision."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.ops import _decoder_encoding, _lstm_packing, _packed_decoder, _packed_lstm
from sgela_fast.ops import attention_decoder as decoder_op
from sgela_fast.ops import batched_lstm as lstm_op
from sgela_fast.ops._library import Schema
from sgela_fast.reference.attention_decoder import DecoderOutput
from tests.ops import decoder_cases, lstm_cases
from tests.ops.decoder_cases import PAPER, RELEASED

PRECISIONS = ("full", "bfloat16", "int8")
LSTM = lstm_cases.Case(dtype=torch.float32, hidden=9, lengths=True)
DECODERS = {"paper": PAPER, "released": RELEASED, "no attention": PAPER._replace(mode=None)}


def lstm_inputs(case: lstm_cases.Case = LSTM) -> lstm_cases.Inputs:
    drawn = lstm_cases.draw(case)
    state = None if drawn.state is None else drawn.state._make(tensor.detach() for tensor in drawn.state)
    weights = [layer._make(tensor.detach() for tensor in layer) for layer in drawn.weights]
    return lstm_cases.Inputs(drawn.input.detach(), weights, state, drawn.lengths)


def run_lstm(inputs: lstm_cases.Inputs, weights: Any, **options: Any) -> list[Tensor]:
    output, state = lstm_op.batched_lstm(inputs.input, weights, inputs.state, lengths=inputs.lengths, **options)
    return [output, *state]


def pack_decoder(inputs: decoder_cases.Inputs, case: decoder_cases.Case, precision: Any = "full") -> Any:
    feedback = case.fed == "feedback"
    return decoder_op.pack_decoder_weights(inputs.weights, feedback=feedback, precision=precision)


def run_decoder(inputs: decoder_cases.Inputs, weights: Any, **options: Any) -> list[Tensor]:
    decoded = decoder_op.attention_decoder(inputs.encoded, inputs.state, weights, **inputs.options, **options)
    results = decoded if isinstance(decoded, DecoderOutput) else [decoded]
    return [tensor for tensor in results if tensor is not None]


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_full_precision_gives_the_bits_that_the_weights_give(dtype: torch.dtype, backend: str) -> None:
    inputs = lstm_inputs(LSTM._replace(dtype=dtype))
    packed = lstm_op.pack_lstm_weights(inputs.weights)
    assert_equal(run_lstm(inputs, packed, backend=backend), run_lstm(inputs, inputs.weights, backend=backend))


@pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("fed", ["zeros", "feedback", "teacher"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_packed_decoder_gives_the_bits_that_its_weights_give(
    case: decoder_cases.Case, fed: str, backend: str
) -> None:
    case = case._replace(fed=fed)
    inputs = decoder_cases.draw(case)
    packed = pack_decoder(inputs, case)
    assert_equal(run_decoder(inputs, packed, backend=backend), run_decoder(inputs, inputs.weights, backend=backend))
    if case.mode is not None:
        ours = run_decoder(inputs, packed, backend=backend, outputs="context")
        assert_equal(ours, run_decoder(inputs, inputs.weights, backend=backend, outputs="context"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_snapshot_does_not_follow_its_weights(precision: Any) -> None:
    inputs = lstm_inputs()
    packed = lstm_op.pack_lstm_weights(inputs.weights, precision)
    before = [run_lstm(inputs, packed, backend=backend) for backend in ("auto", "reference")]
    for layer in inputs.weights:
        for tensor in layer:
            tensor.mul_(3)
    for backend, results in zip(("auto", "reference"), before, strict=True):
        assert_equal(run_lstm(inputs, packed, backend=backend), results)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
def test_a_decoders_snapshot_does_not_follow_its_weights(precision: Any, case: decoder_cases.Case) -> None:
    inputs = decoder_cases.draw(case)
    packed = pack_decoder(inputs, case, precision)
    before = [run_decoder(inputs, packed, backend=backend) for backend in ("auto", "reference")]
    inputs.each(lambda tensor: tensor.mul_(3) if tensor is not inputs.encoded else tensor)
    again = decoder_cases.draw(case)._replace(weights=inputs.weights)
    for backend, results in zip(("auto", "reference"), before, strict=True):
        assert_equal(run_decoder(again, packed, backend=backend), results)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_of_a_packed_object_can_be_replaced(precision: Any) -> None:
    lstm = lstm_op.pack_lstm_weights(lstm_inputs().weights, precision)
    decoder = pack_decoder(decoder_cases.draw(PAPER), PAPER, precision)
    for packed in (lstm, decoder):
        for field in dataclasses.fields(packed):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(packed, field.name, None)
    assert repr(lstm) == f"PackedLSTM({precision}, groups=3, inputs=4, hidden=9, layers=2, dtype=torch.float32)"
    assert repr(decoder) == (
        f"PackedDecoder({precision}, feedback=True, groups=3, joints=4, hidden=16, layers=2, dtype=torch.float32)"
    )


def test_nothing_is_hashed_or_packed_in_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, decoding = lstm_inputs(), decoder_cases.draw(PAPER)
    lstm = {precision: lstm_op.pack_lstm_weights(inputs.weights, precision) for precision in PRECISIONS}
    decoder = {precision: pack_decoder(decoding, PAPER, precision) for precision in PRECISIONS}

    def forbidden(*_: Any) -> Any:
        raise AssertionError("a call with packed weights looked them up")

    for module in (_lstm_packing, _packed_lstm, _packed_decoder):
        monkeypatch.setattr(module, "PACK", Schema("none", forbidden))
    monkeypatch.setattr(_lstm_packing, "CONTENT_HASH", Schema("none", forbidden))
    monkeypatch.setattr(lstm_op, "packed_weights", forbidden)
    monkeypatch.setattr(_decoder_encoding, "packed_weights", forbidden)
    for precision in PRECISIONS:
        run_lstm(inputs, lstm[precision])
        run_decoder(decoding, decoder[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_are_refused_in_one_sentence(precision: Any) -> None:
    inputs, decoding = lstm_inputs(), decoder_cases.draw(PAPER)
    lstm, decoder = lstm_op.pack_lstm_weights(inputs.weights, precision), pack_decoder(decoding, PAPER, precision)
    inputs.input.requires_grad_()
    decoding.encoded.requires_grad_()
    message = r"has no gradients with packed weights: call it under torch.no_grad\(\), or give the weights themselves"
    with pytest.raises(RuntimeError, match=f"batched_lstm {message}"):
        run_lstm(inputs, lstm)
    with pytest.raises(RuntimeError, match=f"attention_decoder {message}"):
        run_decoder(decoding, decoder)
    with torch.no_grad():
        assert not run_lstm(inputs, lstm)[0].requires_grad
        assert not run_decoder(decoding, decoder)[0].requires_grad


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_that_require_gradients_can_be_packed(precision: Any) -> None:
    inputs = lstm_inputs()
    plain = run_lstm(inputs, lstm_op.pack_lstm_weights(inputs.weights, precision))
    for layer in inputs.weights:
        for tensor in layer:
            tensor.requires_grad_()
    assert_equal(run_lstm(inputs, lstm_op.pack_lstm_weights(inputs.weights, precision)), plain)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_autocast_has_no_say(precision: Any) -> None:
    inputs, decoding = lstm_inputs(), decoder_cases.draw(PAPER)
    lstm, decoder = lstm_op.pack_lstm_weights(inputs.weights, precision), pack_decoder(decoding, PAPER, precision)
    for backend in ("auto", "reference"):
        plain, decoded = run_lstm(inputs, lstm, backend=backend), run_decoder(decoding, decoder, backend=backend)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_equal(run_lstm(inputs, lstm, backend=backend), plain)
            assert_equal(run_decoder(decoding, decoder, backend=backend), decoded)


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_compiles_into_one_graph_and_exports(precision: Any) -> None:
    inputs, decoding = lstm_inputs(), decoder_cases.draw(PAPER)

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = lstm_op.pack_lstm_weights(inputs.weights, precision)
            self.decoder = pack_decoder(decoding, PAPER, precision)

        def forward(self, x: Tensor, encoded: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            output, _ = lstm_op.batched_lstm(x, self.lstm)
            state = decoding.state._make((h, c))
            decoded = decoder_op.attention_decoder(encoded, state, self.decoder, **decoding.options)
            return output, decoded.loss

    both, arguments = Both(), (inputs.input, decoding.encoded, *decoding.state)
    plain = list(both(*arguments))
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    exported = torch.export.export(both, arguments).module()
    for run in (compiled, exported):
        for ours, theirs in zip(run(*arguments), plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_without_the_extension_the_reference_takes_the_kept_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_op, "_WHY_NO_CPU_KERNEL", "the compiled extension is not there")
    monkeypatch.setattr(decoder_op, "_WHY_NO_CPU_KERNEL", "the compiled extension is not there")
    monkeypatch.setattr("sgela_fast.ops._library.why_no_cpu_kernel", lambda name: "it is not there")
    inputs, decoding = lstm_inputs(), decoder_cases.draw(PAPER)
    for precision in PRECISIONS:
        lstm, decoder = lstm_op.pack_lstm_weights(inputs.weights, precision), pack_decoder(decoding, PAPER, precision)
        assert lstm.packed is None
        assert decoder.packed is None
        assert_equal(run_lstm(inputs, lstm), run_lstm(inputs, lstm, backend="reference"))
        assert_equal(run_decoder(decoding, decoder), run_decoder(decoding, decoder, backend="reference"))
    with pytest.raises(RuntimeError, match="batched_lstm cannot run fused: the compiled extension is not there"):
        run_lstm(inputs, lstm, backend="fused")
    with pytest.raises(RuntimeError, match="attention_decoder cannot run fused: the compiled extension is not there"):
        run_decoder(decoding, decoder, backend="fused")


def test_wrong_calls_are_named() -> None:
    inputs, decoding = lstm_inputs(), decoder_cases.draw(PAPER)
    lstm, decoder = lstm_op.pack_lstm_weights(inputs.weights), pack_decoder(decoding, PAPER)
    x, encoded = inputs.input, decoding.encoded
    with pytest.raises(ValueError, match="precision is 'int4'; choose full, bfloat16 or int8"):
        lstm_op.pack_lstm_weights(inputs.weights, "int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"input is torch\.float64 and the packed weights torch.float32; convert one"):
        lstm_op.batched_lstm(x.double(), lstm)
    with pytest.raises(ValueError, match="input is on meta and the packed weights on cpu; move one"):
        lstm_op.batched_lstm(x.to("meta"), lstm)
    with pytest.raises(ValueError, match=r"input has shape \(3, 5, 6, 3\); by the weights it needs"):
        lstm_op.batched_lstm(x[..., :3], lstm)
    with pytest.raises(ValueError, match="packed weights are for inference; dropout in training needs the weights"):
        lstm_op.batched_lstm(x, lstm, dropout=0.5, training=True)
    with pytest.raises(ValueError, match=r"packed for feedback=True and the call says False; pack them again"):
        decoder_op.attention_decoder(encoded, decoding.state, decoder, steps=6)
    with pytest.raises(ValueError, match="the packed weights have attention and mode says otherwise; pack the weights"):
        decoder_op.attention_decoder(encoded, decoding.state, decoder, steps=6, feedback=True, mode=None)
    with pytest.raises(ValueError, match=r"encoded has shape \(3, 5, 6, 8\); it needs \(3, 5, 6, 16\), for packed"):
        decoder_op.attention_decoder(encoded[..., :8], decoding.state, decoder, steps=6, feedback=True)
    with pytest.raises(
        ValueError, match=r"encoded is torch\.float64 and the packed weights torch.float32; convert one"
    ):
        decoder_op.attention_decoder(encoded.double(), decoding.state, decoder, steps=6, feedback=True)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_weights_without_that_precision_are_named(precision: Any) -> None:
    doubles, decoding = lstm_inputs(LSTM._replace(dtype=torch.float64)), decoder_cases.draw(PAPER)
    message = f"is torch.float64; precision '{precision}' takes float32, bfloat16 and float16"
    with pytest.raises(ValueError, match=f"weight_ih of layer 0 {message}"):
        lstm_op.pack_lstm_weights(doubles.weights, precision)
    with pytest.raises(ValueError, match=f"weights.output {message}"):
        pack_decoder(decoding.each(Tensor.double), PAPER, precision)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_int8_refuses_weights_that_are_not_finite(value: float) -> None:
    inputs, decoding = lstm_inputs(), decoder_cases.draw(PAPER)
    inputs.weights[1].weight_hh[0, 3, 1] = value
    decoding.weights.fusion[0, 3, 1] = value  # type: ignore[index]
    with pytest.raises(ValueError, match="weight_hh of layer 1 holds NaN or infinity, which int8 cannot; mend"):
        lstm_op.pack_lstm_weights(inputs.weights, "int8")
    with pytest.raises(ValueError, match=r"weights\.fusion holds NaN or infinity, which int8 cannot; mend"):
        pack_decoder(decoding, PAPER, "int8")
    lstm_op.pack_lstm_weights(inputs.weights, "bfloat16")
