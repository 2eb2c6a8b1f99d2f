"""Who encodes windows in ``benchmarks.encoding``, and the float64 answer they are held to."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from sgela_fast.benchmarks import others
from sgela_fast.benchmarks.batched_lstm_providers import lstms_of, shape_of
from sgela_fast.benchmarks.harness.suite import Case, Job, Outputs, Provider
from sgela_fast.benchmarks.lstm_work import distinct, repeated, tolerance_of
from sgela_fast.models.config import Precision, SGELAConfig, Variant
from sgela_fast.models.sgela import build_model
from sgela_fast.reference.attention_decoder import DecoderWeights, attention_decoder
from sgela_fast.reference.batched_lstm import LSTMState
from sgela_fast.reference.sgela import SGELA

AXES = 3


def config_of(case: Case) -> SGELAConfig:
    """The model of a case."""
    groups, inputs, hidden, layers, frames = shape_of(case)
    variant: Variant = "paper" if case.settings["variant"] == "paper" else "official"
    return SGELAConfig(variant=variant, joints=inputs, axes=groups, frames=frames, hidden=hidden, layers=layers)


def windows_of(case: Case) -> Tensor:
    """Centred windows ``(B, T, J, A)`` in metres, the same for all providers."""
    config = config_of(case)
    return _draw(int(case.settings["B"]), (config.frames, config.joints, config.axes), case.device)


@functools.lru_cache(maxsize=1)
def _draw(batch: int, shape: tuple[int, ...], device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    # Joints of a person lie within half a metre of the hip, and move by centimetres from frame to frame.
    body = torch.randn(distinct(batch), 1, *shape[1:], generator=generator) / 3
    moved = torch.randn(distinct(batch), *shape, generator=generator) / 30
    return repeated(body + moved, batch, 0).contiguous().to(device)


def reference_model(case: Case, dtype: torch.dtype = torch.float32) -> SGELA:
    """Fresh weights, the same for all providers, in plain PyTorch."""
    return build_model(config_of(case), "reference", seed=1, dtype=dtype, device=case.device).eval()


def expected(case: Case, _answer: str) -> Outputs:
    """The reference in float64, of the windows that differ."""
    batch = int(case.settings["B"])
    with torch.inference_mode():
        ages = reference_model(case, torch.float64).ages(windows_of(case)[: distinct(batch)].double())
    return {"ages": repeated(ages, batch, 0)}


def tolerance(case: Case, precision: str) -> dict[str, float]:
    """Largest deviation, relative to the largest entry."""
    return {"ages": tolerance_of(precision, case)}


def _job(ages: Any, case: Case) -> Job:
    windows = windows_of(case)

    def job() -> Outputs:
        with torch.inference_mode():
            return {"ages": ages(windows)}

    return job


def _fused(precision: Precision, case: Case) -> Job:
    model = build_model(config_of(case), "fused", precision, seed=1, device=case.device).eval()
    return _job(model.freeze().ages, case)


def prepare_fused(case: Case) -> Job:
    """The model on this package's ops, weights packed once; with ``--precision tf32`` by TF32."""
    return _fused("tf32" if case.settings["precision"] == "tf32" else "fp32", case)


def prepare_fused_bf16(case: Case) -> Job:
    """The same with bfloat16 weights."""
    return _fused("bf16", case)


def prepare_fused_int8(case: Case) -> Job:
    """The same with weights and states of 8 bits."""
    return _fused("int8", case)


def prepare_eager(case: Case) -> Job:
    """The reference."""
    return _job(reference_model(case).ages, case)


class WithModules(nn.Module):
    """The reference with ``torch.nn.LSTM`` for its encoder; attention and input feeding keep it out of the decoder."""

    def __init__(self, model: SGELA) -> None:
        super().__init__()
        self.model = model
        self.encoders: nn.Module = lstms_of(model.encoder.weights())

    def forward(self, windows: Tensor) -> Tensor:
        """AGEs ``(B, T, A * K)`` of ``windows (B, T, J, A)``."""
        model, config = self.model, self.model.config
        found = [lstm(windows[..., axis].contiguous()) for axis, lstm in enumerate(self.encoders.children())]
        encoded = torch.stack([result[0] for result in found])  # (A, B, T, K)
        state = LSTMState(*(torch.stack([result[1][index] for result in found], dim=1) for index in (0, 1)))
        decoded = attention_decoder(
            encoded,
            state,
            DecoderWeights(
                model.decoder.weights(), model.key_weight, model.fusion_weight, model.output_weight, model.output_bias
            ),
            steps=config.frames,
            feedback=config.encoding_input == "feedback",
            mode="las",
            sigma=config.sigma,
            window=float(config.window),
            fusion=config.fusion or "linear",
        )
        assert decoded.context is not None
        return decoded.context.movedim(0, 2).flatten(2)


def prepare_modules(case: Case) -> Job:
    """The encoder by ``torch.nn.LSTM``."""
    return _job(WithModules(reference_model(case)).eval(), case)


def prepare_dynamic_int8(case: Case) -> Job:
    """The same, quantised; the decoder's cells are no modules and stay float32."""
    others.cpu_only(case)
    model = WithModules(reference_model(case))
    model.encoders = others.quantized(model.encoders)
    return _job(model.eval(), case)


class Ages(nn.Module):
    """``ages`` as a module's forward."""

    def __init__(self, model: SGELA) -> None:
        super().__init__()
        self.model = model

    def forward(self, windows: Tensor) -> Tensor:
        """AGEs ``(B, T, A * K)`` of ``windows (B, T, J, A)``."""
        return self.model.ages(windows)


def prepare_compiled(case: Case) -> Job:
    """The reference, compiled."""
    windows = windows_of(case)
    if len(windows) > 1:
        torch._dynamo.mark_dynamic(windows, 0)
    return _job(_compiled_ages(config_of(case), case.device, "default", len(windows) == 1), case)


def prepare_autotuned(case: Case) -> Job:
    """The reference, compiled with a search over kernels."""
    others.searched_only(case)
    return _job(_compiled_ages(config_of(case), case.device, "max-autotune-no-cudagraphs", case.settings["B"]), case)


@functools.cache
def _compiled_ages(config: SGELAConfig, device: str, mode: str, _size: object) -> Any:
    model = build_model(config, "reference", seed=1, device=device).eval()
    return others.compiled(Ages(model), mode, None)


def prepare_onnx(case: Case) -> Job:
    """ONNX Runtime."""
    return _foreign_job(others.onnx_session(_onnx_model(case), torch.get_num_threads()), case)


def prepare_onnx_int8(case: Case) -> Job:
    """ONNX Runtime's own dynamic quantisation."""
    return _foreign_job(
        others.onnx_session(others.onnx_quantized(_onnx_model(case), per_channel=False), torch.get_num_threads()), case
    )


def prepare_openvino(case: Case) -> Job:
    """OpenVINO."""
    return _foreign_job(others.openvino_session(_onnx_model(case), torch.get_num_threads()), case)


def _onnx_model(case: Case) -> bytes:
    others.cpu_only(case)
    return _exported(config_of(case))


@functools.cache
def _exported(config: SGELAConfig) -> bytes:
    example = torch.zeros(4, config.frames, config.joints, config.axes)
    return others.onnx_export(Ages(build_model(config, "reference", seed=1).eval()), example)


def _foreign_job(call: others.Session, case: Case) -> Job:
    feeds = {"windows": windows_of(case).numpy()}

    def job() -> Outputs:
        return {"ages": call(feeds)["ages"]}

    return job


PROVIDERS = (
    Provider("fused", prepare_fused, graph=True),
    Provider("fused bf16", prepare_fused_bf16, note="bfloat16 weights", precision="bfloat16", graph=True),
    Provider("fused int8", prepare_fused_int8, note="8-bit weights and states", precision="int8"),
    Provider("eager", prepare_eager, note="reference", graph=True),
    Provider("nn.LSTM", prepare_modules, note="encoder by nn.LSTM, decoder as the reference", graph=True),
    Provider("compile", prepare_compiled, note="torch.compile of the reference", compiles=True, graph=True),
    Provider("autotune", prepare_autotuned, note="torch.compile with max-autotune, fixed size", compiles=True),
    Provider("torch int8", prepare_dynamic_int8, note="nn.LSTM by quantize_dynamic, float32 decoder", precision="int8"),
    Provider("ONNX Runtime", prepare_onnx, note="the exported reference"),
    Provider("ONNX int8", prepare_onnx_int8, note="the same by quantize_dynamic", precision="int8"),
    Provider("OpenVINO", prepare_openvino, note="the exported reference"),
)
