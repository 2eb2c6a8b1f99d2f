"""Wrong input of attention_decoder gets one sentence that names the argument and the mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sgela_fast.ops import attention_decoder as op
from tests.ops.decoder_cases import PAPER, RELEASED, Inputs, draw


def replaced(inputs: Inputs, name: str, value: Any) -> Inputs:
    """``inputs`` with one argument, or one weight, changed."""
    if name in inputs.weights._fields:
        return inputs._replace(weights=inputs.weights._replace(**{name: value}))
    if name in inputs._fields:
        return inputs._replace(**{name: value})
    return inputs._replace(options=inputs.options | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "steps is 0; it must be 1 or more"),
        ("feedback", True, "teacher and feedback are both given; the decoder reads one of them"),
        ("mode", "mask", "mode is 'mask'; choose las, mbas or bas, or None"),
        ("centers", "backwards", "centers is 'backwards'; choose reverse or identity"),
        ("sigma", 0.0, "sigma is 0.0; it must be positive"),
        ("sigma", float("nan"), "sigma is nan; it must be positive"),
        ("window", -1.0, "window is -1.0; it must be 0 or more, or None"),
        ("fusion", "relu", "fusion is 'relu'; choose tanh or linear"),
        ("outputs", "contexts", "outputs is 'contexts'; choose context or all"),
        ("backend", "cuda", "backend is 'cuda'; choose auto, reference or fused"),
        ("encoded", torch.zeros(3, 6, 16), r"encoded has shape \(3, 6, 16\); it needs \(G, B, Tk, K\)"),
        ("encoded", torch.zeros(3, 5, 0, 16), "Tk and K must be 1 or more"),
        ("layers", [], "weights has no layer; it needs one or more"),
        ("output", torch.zeros(4, 16), r"weights.output has shape \(4, 16\); it needs \(G, J, K\)"),
        ("output", torch.zeros(3, 7, 16), r"output_bias has shape \(3, 4\); it needs \(3, 7\)"),
        ("fusion_weight", None, "weights.fusion is None; attention needs W_att"),
        ("key", torch.zeros(3, 16, 15), r"weights.key has shape \(3, 16, 15\); it needs \(3, 16, 16\)"),
        ("output_bias", torch.zeros(3, 5), r"weights.output_bias has shape \(3, 5\); it needs \(3, 4\)"),
        ("teacher", torch.zeros(3, 5, 7, 4), r"teacher has shape \(3, 5, 7, 4\); it needs \(3, 5, 6, 4\)"),
        ("key", torch.zeros(3, 16, 16).double(), "weights.key is torch.float64 and encoded torch.float32"),
        ("key", torch.zeros(3, 16, 16, device="meta"), "weights.key is on meta and encoded on cpu; move one of them"),
        ("output_bias", torch.zeros(3, 4).long(), "weights.output_bias is torch.int64 and encoded torch.float32"),
    ],
)
def test_bad_arguments_are_named(name: str, value: Any, message: str) -> None:
    inputs = draw(RELEASED._replace(fed="teacher"))
    if name == "fusion_weight":
        inputs = inputs._replace(weights=inputs.weights._replace(fusion=None))
    elif name == "fusion":
        inputs = inputs._replace(options=inputs.options | {"fusion": value})
    else:
        inputs = replaced(inputs, name, value)
    with pytest.raises(ValueError, match=message):
        inputs.decode()


def test_a_state_of_another_batch_is_named() -> None:
    inputs = draw(PAPER)
    state = inputs.state._replace(c=inputs.state.c[:, :, :-1])
    with pytest.raises(ValueError, match=r"c of state has shape \(2, 3, 4, 16\); it needs \(2, 3, 5, 16\)"):
        inputs._replace(state=state).decode()


def test_a_plain_pair_is_a_state_and_anything_else_is_named() -> None:
    inputs = draw(PAPER)
    pair = tuple(inputs.state)
    assert torch.equal(inputs._replace(state=pair).decode().context, inputs.decode().context)  # type: ignore[arg-type]
    for state, kinds in ((pair[:1], "Tensor"), ((pair[0], None), "Tensor, NoneType")):
        with pytest.raises(ValueError, match=rf"state is \({kinds}\); it needs two tensors, h and c"):
            inputs._replace(state=state).decode()  # type: ignore[arg-type]


def test_integers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"encoded is torch\.int64; it must be a floating-point tensor"):
        draw(PAPER).each(Tensor.long).decode()


def test_a_decoder_without_attention_has_no_contexts() -> None:
    with pytest.raises(ValueError, match="there are no contexts; give outputs='all'"):
        draw(PAPER._replace(mode=None)).decode(outputs="context")


def test_a_missing_extension_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", "the compiled extension is not there (no compiler)")
    inputs = draw(PAPER)
    with pytest.raises(RuntimeError, match=r"not there \(no compiler\), or use backend='reference'"):
        inputs.decode(backend="fused")
    assert inputs.decode(outputs="context").shape == (3, 5, 6, 16)


def test_there_is_no_kernel_for_float64_on_cuda_and_none_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op._library, "WHY_NO_TRITON", None)
    assert op.why_not_fused("cuda", torch.float64) == "there is no kernel for float64 on cuda"
    assert op.why_not_fused("cuda", torch.bfloat16) is None
    monkeypatch.setattr(op._library, "WHY_NO_TRITON", "triton is not installed")
    assert op.why_not_fused("cuda", torch.float32) == "triton is not installed"


def test_auto_does_not_take_what_no_gpu_has_run() -> None:
    assert "cuda" not in op._PROVEN
