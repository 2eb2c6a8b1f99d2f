"""Wrong input of locality_attention gets one sentence that names the argument and the mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgela_fast.ops import locality_attention as op

QUERY, KEY = torch.zeros(2, 6, 8), torch.zeros(2, 7, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "lass"}, "mode is 'lass'; choose las, mbas or bas"),
        ({"sigma": 0.0}, "sigma is 0.0; it must be positive"),
        ({"sigma": float("nan")}, "sigma is nan; it must be positive"),
        ({"sigma": "3"}, "sigma is '3'; give a number"),
        ({"sigma": torch.ones(2)}, r"sigma has shape \(2,\); it is one number for all sequences of a call"),
        ({"first_step": 1.5}, "first_step is 1.5; it must be an integer"),
        ({"scale": None}, "scale is None; give a number"),
        ({"centers": [3.0] * 6}, r"centers is \[3.0.*\]; give reverse, identity or a tensor of positions"),
        ({"window": -1.0}, "window is -1.0; it must be 0 or more, or None"),
        ({"centers": "backwards"}, "centers is 'backwards'; give reverse, identity or a tensor of positions"),
        ({"centers": torch.zeros(2, 7)}, r"centers has shape \(2, 7\); its last dimension must be Tq = 6"),
        ({"backend": "cuda"}, "backend is 'cuda'; choose auto, reference or fused"),
        ({"query": torch.zeros(8)}, "need two dimensions"),
        ({"query": torch.zeros(2, 6, 9)}, "query has 9 features and key 8; both need K"),
        ({"query": torch.zeros(2, 6, 8, dtype=torch.long), "key": KEY.long()}, "must be a floating-point tensor"),
        ({"key": KEY.double()}, "key is torch.float64 and query torch.float32; convert one of them"),
        ({"value": torch.zeros(2, 6, 8)}, "it needs one row for each of the 7 keys"),
        ({"value": torch.zeros(2, 7, 8).half()}, "value is torch.float16 and query torch.float32"),
        ({"key_padding_mask": torch.zeros(2, 6, dtype=torch.bool)}, "its last dimension must be Tk = 7"),
        ({"key_padding_mask": torch.zeros(2, 7)}, "it must be bool, True where a key is padding"),
        ({"key": torch.zeros(3, 7, 8)}, r"key has leading dimensions \(3,\), which do not broadcast with \(2,\)"),
        ({"key_padding_mask": torch.zeros(3, 7, dtype=torch.bool)}, "key_padding_mask has leading dimensions"),
        (
            {"centers": torch.zeros(4, 2, 6)},
            r"centers has leading dimensions \(4, 2\), more than those of query and key",
        ),
        ({"key": torch.zeros(2, 7, 8, device="meta")}, "key is on meta and query on cpu; move one of them"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        op.locality_attention(**{"query": QUERY, "key": KEY, "sigma": 1.5, **arguments})


def test_a_missing_extension_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", "the compiled extension is not there (no compiler)")
    with pytest.raises(RuntimeError, match=r"not there \(no compiler\), or use backend='reference'"):
        op.locality_attention(QUERY, KEY, sigma=1.5, backend="fused")
    assert op.locality_attention(QUERY, KEY, sigma=1.5).context.shape == (2, 6, 8)


def test_a_dtype_without_a_kernel_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert op.why_not_fused("cuda", torch.float64) is not None
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", None)
    monkeypatch.setitem(op._DTYPES, "cpu", (torch.float32,))
    with pytest.raises(RuntimeError, match="no kernel for float64 on cpu"):
        op.locality_attention(QUERY.double(), KEY.double(), sigma=1.5, backend="fused")


def test_auto_does_not_take_kernels_that_no_gpu_has_run() -> None:
    assert "cuda" not in op._PROVEN
