"""Who decodes in ``benchmarks.attention_decoder``, and the float64 answer they are held to."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgela_fast.benchmarks import others
from sgela_fast.benchmarks.encoding_providers import config_of, reference_model
from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider, Unavailable
from sgela_fast.benchmarks.lstm_work import distinct, repeated, tolerance_of
from sgela_fast.models.config import SGELAConfig
from sgela_fast.ops.attention_decoder import attention_decoder, pack_decoder_weights, why_not_fused
from sgela_fast.reference import attention_decoder as reference
from sgela_fast.reference.attention_decoder import DecoderWeights
from sgela_fast.reference.batched_lstm import LSTMLayer, LSTMState
from sgela_fast.reference.sgela import SGELA


class Inputs(NamedTuple):
    """Encoded states ``(G, B, T, K)`` and the initial states of all layers, each ``(L, G, B, K)``."""

    encoded: Tensor
    h: Tensor
    c: Tensor


def inputs_of(case: Case) -> Inputs:
    """Inputs of a case, the same for all providers."""
    config = config_of(case)
    return _draw(int(case.settings["B"]), (config.axes, config.frames, config.hidden, config.layers), case.device)


@functools.lru_cache(maxsize=1)
def _draw(batch: int, shape: tuple[int, ...], device: str) -> Inputs:
    groups, frames, hidden, layers = shape
    generator = torch.Generator().manual_seed(0)
    drawn = distinct(batch)
    encoded = torch.tanh(torch.randn(groups, drawn, frames, hidden, generator=generator) / 4)
    h, c = (torch.randn(layers, groups, drawn, hidden, generator=generator) / 4 for _ in range(2))
    made = (repeated(encoded, batch, 1), repeated(torch.tanh(h), batch, 2), repeated(c, batch, 2))
    return Inputs(*(tensor.contiguous().to(device) for tensor in made))


def weights_of(model: SGELA) -> DecoderWeights:
    """The decoder's weights, without gradients."""
    with torch.no_grad():
        layers = [LSTMLayer(*(tensor.detach() for tensor in layer)) for layer in model.decoder.weights()]
    key, fusion, bias = (
        None if tensor is None else tensor.detach()
        for tensor in (model.key_weight, model.fusion_weight, model.output_bias)
    )
    return DecoderWeights(layers, key, fusion, model.output_weight.detach(), bias)


def settings_of(config: SGELAConfig) -> dict[str, Any]:
    """How the model's variant decodes while it encodes."""
    return {
        "steps": config.frames,
        "feedback": config.encoding_input == "feedback",
        "mode": "las",
        "sigma": config.sigma,
        "window": float(config.window),
        "fusion": config.fusion or "linear",
    }


def expected(case: Case, _answer: str) -> Outputs:
    """The reference in float64, of the windows that differ."""
    batch = int(case.settings["B"])
    drawn, given = distinct(batch), inputs_of(case)
    with torch.inference_mode():
        found = reference.attention_decoder(
            given.encoded[:, :drawn].double(),
            LSTMState(given.h[:, :, :drawn].double(), given.c[:, :, :drawn].double()),
            weights_of(reference_model(case, torch.float64)),
            **settings_of(config_of(case)),
        )
    assert found.context is not None
    return {"context": repeated(found.context, batch, 1)}


def tolerance(case: Case, precision: str) -> dict[str, float]:
    """Largest deviation, relative to the largest entry."""
    return {"context": tolerance_of(precision, case)}


def _packed(precision: Any, case: Case) -> Job:
    reason = why_not_fused(case.device, torch.float32)
    if reason is not None:
        raise Unavailable(reason)
    given, settings = inputs_of(case), settings_of(config_of(case))
    packed = pack_decoder_weights(weights_of(reference_model(case)), feedback=settings["feedback"], precision=precision)
    state = LSTMState(given.h, given.c)

    def job() -> Outputs:
        with torch.inference_mode():
            context = attention_decoder(given.encoded, state, packed, **settings, outputs="context", backend="fused")
        return {"context": context}

    return job


def prepare_fused(case: Case) -> Job:
    """This package's op, weights packed once."""
    return _packed("full", case)


def prepare_fused_bf16(case: Case) -> Job:
    """Weights stored as bfloat16."""
    return _packed("bfloat16", case)


def prepare_fused_int8(case: Case) -> Job:
    """Weights and states of 8 bits."""
    return _packed("int8", case)


def _context(given: Inputs, weights: DecoderWeights, settings: dict[str, Any]) -> Tensor:
    found = reference.attention_decoder(given.encoded, LSTMState(given.h, given.c), weights, **settings)
    assert found.context is not None
    return found.context


def _job_of(run: Any, case: Case) -> Job:
    given, settings = inputs_of(case), settings_of(config_of(case))
    weights = weights_of(reference_model(case))

    def job() -> Outputs:
        with torch.inference_mode():
            return {"context": run(given, weights, settings)}

    return job


def prepare_eager(case: Case) -> Job:
    """The reference."""
    return _job_of(_context, case)


def prepare_compiled(case: Case) -> Job:
    """The reference, compiled; what is not asked for is not computed."""
    given = inputs_of(case)
    if given.h.shape[2] > 1:
        torch._dynamo.mark_dynamic(given.encoded, 1)
        torch._dynamo.mark_dynamic(given.h, 2)
        torch._dynamo.mark_dynamic(given.c, 2)
    key = (case.settings["B"] == 1, case.settings["variant"], case.device)
    return _job_of(others.compiled(_context, "default", key), case)


PROVIDERS = (
    Provider("fused", prepare_fused, graph=True),
    Provider("fused bf16", prepare_fused_bf16, note="bfloat16 weights", precision="bfloat16", graph=True),
    Provider("fused int8", prepare_fused_int8, note="8-bit weights and states", precision="int8"),
    Provider("eager", prepare_eager, note="reference", graph=True),
    Provider("compile", prepare_compiled, note="torch.compile of the reference", compiles=True, graph=True),
)
