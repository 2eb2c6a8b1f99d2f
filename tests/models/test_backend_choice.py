"""Which backend and precision run: what is asked for by name is taken or refused, and every choice says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.errors import ConfigError
from sgela_fast.models.backend import choose_backend, float32_products
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import FusedSGELA, build_model
from sgela_fast.ops import attention_decoder, batched_lstm

HERE = all(op.why_not_fused("cpu", torch.float32) is None for op in (attention_decoder, batched_lstm))
compiled = pytest.mark.skipif(not HERE, reason="the compiled extension is not there")
TINY = SGELAConfig(hidden=4, joints=3, frames=2)


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch) -> str:
    why = "the compiled extension is not there (no file); install with a C++ compiler"
    for op in (attention_decoder, batched_lstm):
        monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", why)
    return why


@compiled
def test_auto_takes_the_compiled_kernels_on_the_cpu_and_names_the_instruction_set() -> None:
    choice = choose_backend("auto")
    assert choice.name == "fused"
    assert choice.reason.startswith("auto: compiled kernels, ")
    assert choice.reason.endswith(", cpu")
    assert choose_backend("fused").reason == choice.reason.replace("auto", "as asked for")


def test_auto_without_the_extension_takes_the_reference_and_says_why(no_extension: str) -> None:
    assert choose_backend("auto") == ("reference", f"auto: {no_extension}")
    model = build_model(TINY)
    assert not isinstance(model, FusedSGELA)
    assert model.choice == ("reference", f"auto: {no_extension}")


def test_the_fused_backend_without_the_extension_is_refused(no_extension: str) -> None:
    for refused in (lambda: choose_backend("fused"), lambda: build_model(TINY, "fused")):
        with pytest.raises(ConfigError) as caught:
            refused()
        assert str(caught.value) == f"backend fused cannot run on the cpu: {no_extension}, or choose auto or reference"


def test_auto_on_cuda_devices_waits_until_every_op_has_been_run_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_lstm, "_PROVEN", ("cpu",))
    choice = choose_backend("auto", "cuda")
    assert choice == ("reference", "auto: the kernels have not been run on cuda yet; ask for fused by name")
    named = choose_backend("fused", "cuda")
    assert named.name == "fused"
    missing = attention_decoder.why_not_fused("cuda", torch.float32) is not None
    always = "" if missing else " in training"
    assert named.reason == f"as asked for: kernels on cuda, but plain PyTorch for attention_decoder{always}"


def test_the_reference_is_always_there(no_extension: str) -> None:
    assert choose_backend("reference") == ("reference", "as asked for")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("quick",), "unknown backend 'quick'; choose auto, reference or fused"),
        (("auto", "cpu", "fp8"), "unknown precision 'fp8'; choose fp32, tf32, bf16, fp16 or int8"),
        (("auto", "cpu", "tf32"), "precision tf32 runs on CUDA devices alone; choose fp32 or bf16 on the CPU"),
        (("auto", "cpu", "fp16"), "precision fp16 runs on CUDA devices alone; choose fp32 or bf16 on the CPU"),
        (
            ("auto", "cuda", "int8"),
            "precision int8 runs on the CPU alone; choose bf16 on CUDA devices, or the device cpu",
        ),
        (
            ("fused", "mps"),
            "backend fused cannot run on the mps: there are no kernels for mps, or choose auto or reference",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_a_remedy(arguments: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_backend(*arguments)
    assert str(caught.value) == sentence


def test_int8_is_never_the_reference(no_extension: str) -> None:
    with pytest.raises(ConfigError, match=r"^precision int8 needs the fused backend but it cannot run: the compiled"):
        choose_backend("auto", "cpu", "int8")


@compiled
def test_int8_contradicts_the_reference() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_backend("reference", "cpu", "int8")
    assert str(caught.value) == (
        "precision int8 needs the fused backend but backend reference is asked for; or choose precision fp32 or bf16"
    )


def test_an_old_cuda_device_has_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(ConfigError) as caught:
        choose_backend("auto", "cuda", "tf32")
    assert str(caught.value) == (
        "precision tf32 needs a CUDA device of compute capability 8.0 or more and this one has 7.5; choose fp32 or fp16"
    )
    assert choose_backend("auto", "cuda", "fp16").name in ("reference", "fused")


def test_a_reduced_precision_wants_float32_weights() -> None:
    with pytest.raises(ConfigError, match=r"^precision bf16 is for float32 weights and dtype is torch.float64; choose"):
        build_model(TINY, precision="bf16", dtype=torch.float64)


@contextmanager
def setting(backend: Any, value: str) -> Iterator[None]:
    before = backend.matmul.fp32_precision
    backend.matmul.fp32_precision = value
    try:
        yield
    finally:
        backend.matmul.fp32_precision = before


@pytest.mark.parametrize(
    ("precision", "before", "inside"), [("fp32", "tf32", "ieee"), ("tf32", "ieee", "tf32"), ("bf16", "tf32", "ieee")]
)
def test_products_on_cuda_devices_follow_the_precision_and_the_setting_comes_back(
    precision: Any, before: str, inside: str
) -> None:
    cuda: Any = torch.backends.cuda
    with setting(cuda, before):
        with float32_products(precision, "cuda"):
            assert cuda.matmul.fp32_precision == inside
        assert cuda.matmul.fp32_precision == before


def test_fp32_on_the_cpu_overrules_a_process_that_allows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    mkldnn: Any = torch.backends.mkldnn
    seen: list[str] = []

    def encode(skeletons: Tensor) -> None:
        seen.append(mkldnn.matmul.fp32_precision)
        raise KeyError

    model = build_model(TINY, "reference")
    monkeypatch.setattr(model, "encode", encode)
    with setting(mkldnn, "bf16"):
        with pytest.raises(KeyError):
            model(torch.zeros(3, 1, 2, 3))
        assert mkldnn.matmul.fp32_precision == "bf16"
    assert seen == ["ieee"]
