"""Wrong input of batched_lstm gets one sentence that names the argument and the mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgela_fast.ops import batched_lstm as op
from sgela_fast.reference.batched_lstm import LSTMLayer

# G = 2, B = 3, T = 4, I = 5, K = 6, L = 2
INPUT = torch.zeros(2, 3, 4, 5)
LOWER = LSTMLayer(torch.zeros(2, 24, 5), torch.zeros(2, 24, 6), torch.zeros(2, 24))
UPPER = LSTMLayer(torch.zeros(2, 24, 6), torch.zeros(2, 24, 6), torch.zeros(2, 24))
STATE = (torch.zeros(2, 2, 3, 6), torch.zeros(2, 2, 3, 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropout": 1.5}, "dropout is 1.5; it is a probability, from 0 to 1"),
        ({"dropout": float("nan")}, "dropout is nan; it is a probability"),
        ({"backend": "cuda"}, "backend is 'cuda'; choose auto, reference or fused"),
        ({"weights": []}, "weights has no layer; it needs weight_ih, weight_hh and bias"),
        ({"weights": [LOWER[:2]]}, r"weights\[0\] has 2 tensors; it needs weight_ih, weight_hh and bias"),
        ({"weights": [LOWER._replace(weight_ih=torch.zeros(24, 5))]}, r"\(24, 5\) and .*; they need \(G, 4K, I\)"),
        ({"weights": [LOWER._replace(weight_ih=torch.zeros(2, 24, 0))]}, "for G = 2, I = 0, K = 6; each must be 1"),
        (
            {"weights": [LOWER._replace(weight_ih=torch.zeros(2, 20, 5))]},
            r"weight_ih of layer 0 has shape \(2, 20, 5\); it needs \(2, 24, 5\), for G = 2, I = 5, K = 6",
        ),
        (
            {"weights": [LOWER._replace(weight_hh=torch.zeros(3, 24, 6))]},
            r"weight_hh of layer 0 has shape \(3, 24, 6\); it needs \(2, 24, 6\)",
        ),
        ({"weights": [LOWER._replace(bias=torch.zeros(24))]}, r"bias of layer 0 has shape \(24,\); it needs \(2, 24\)"),
        ({"weights": [LOWER, LOWER]}, r"weight_ih of layer 1 has shape \(2, 24, 5\); it needs \(2, 24, 6\)"),
        ({"input": torch.zeros(3, 4, 5)}, r"input has shape \(3, 4, 5\); .* needs \(G, B, T, I\) = \(2, B, T, 5\)"),
        ({"input": torch.zeros(3, 3, 4, 5)}, r"input has shape \(3, 3, 4, 5\); by the weights it needs"),
        ({"input": torch.zeros(2, 3, 4, 6)}, r"input has shape \(2, 3, 4, 6\); by the weights it needs"),
        ({"input": torch.zeros(2, 3, 0, 5)}, r"input has shape \(2, 3, 0, 5\): no steps; T must be 1 or more"),
        ({"input": INPUT.long()}, "input is torch.int64; it must be a floating-point tensor"),
        ({"input": INPUT.double()}, "weight_ih of layer 0 is torch.float32 and input torch.float64; convert one"),
        ({"weights": torch.nn.LSTM(5, 6)}, r"weights is a LSTM; give one \(weight_ih, weight_hh, bias\) a layer, as"),
        ({"initial_state": (None, None)}, "h of initial_state is None; give two tensors, or None in place of both"),
        ({"lengths": [1, 2, 3]}, r"lengths is \[1, 2, 3\]; give a tensor of integers"),
        ({"initial_state": STATE[:1]}, "initial_state has 1 tensors; it needs two, h and c"),
        (
            {"initial_state": (STATE[0], STATE[1][0])},
            r"c of initial_state has shape \(2, 3, 6\); it needs \(L, G, B, K\) = \(2, 2, 3, 6\)",
        ),
        (
            {"initial_state": (STATE[0].double(), STATE[1])},
            "h of initial_state is torch.float64 and input torch.float32",
        ),
        ({"lengths": torch.ones(3)}, "lengths is torch.float32; it must hold integers"),
        (
            {"lengths": torch.ones(2, 3, dtype=torch.long)},
            r"lengths has shape \(2, 3\); it needs \(B,\) = \(3,\), shared",
        ),
        ({"lengths": torch.ones(3, dtype=torch.long, device="meta")}, "lengths is on meta and input on cpu; move one"),
        ({"input": INPUT.to("meta")}, "weight_ih of layer 0 is on cpu and input on meta; move one of them"),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str, backend: str) -> None:
    given = {"input": INPUT, "weights": [LOWER, UPPER], "backend": backend, **arguments}
    with pytest.raises(ValueError, match=message):
        op.batched_lstm(**given)


def test_a_missing_extension_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", "the compiled extension is not there (no compiler)")
    with pytest.raises(RuntimeError, match=r"not there \(no compiler\), or use backend='reference'"):
        op.batched_lstm(INPUT, [LOWER, UPPER], backend="fused")
    assert op.batched_lstm(INPUT, [LOWER, UPPER]).output.shape == (2, 3, 4, 6)


def test_a_dtype_or_device_without_a_kernel_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", None)
    monkeypatch.setattr(op, "_DTYPES", (torch.float64,))
    with pytest.raises(RuntimeError, match="no kernel for float32 on cpu"):
        op.batched_lstm(INPUT, [LOWER, UPPER], backend="fused")
    assert op.why_not_fused("xpu", torch.float64) == "there is no kernel for float64 on xpu"
    assert op.why_not_fused("cuda", torch.float64) is None


def test_on_the_meta_device_there_are_shapes_alone() -> None:
    weights = [LSTMLayer(*(tensor.to("meta") for tensor in layer)) for layer in (LOWER, UPPER)]
    output, (h, c) = op.batched_lstm(INPUT.to("meta"), weights)
    assert output.shape == (2, 3, 4, 6)
    assert h.shape == c.shape == (2, 2, 3, 6)
