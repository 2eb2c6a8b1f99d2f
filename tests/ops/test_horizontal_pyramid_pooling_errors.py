"""Wrong input of horizontal_pyramid_pooling gets one sentence that names the argument and the mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgela_fast.ops import horizontal_pyramid_pooling as op

FEATURES = torch.zeros(2, 3, 16, 11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bins": ()}, r"bins is \(\); give one number of strips or more, each an integer of 1 or more"),
        ({"bins": 16}, "bins is 16; give numbers of strips as a sequence"),
        ({"bins": (1, 0)}, r"bins is \(1, 0\); give one number of strips or more"),
        ({"bins": (1, 2.0)}, r"bins is \(1, 2.0\); give one number of strips or more"),
        ({"bins": (True,)}, r"bins is \(True,\); give one number of strips or more"),
        ({"bins": (1, 3)}, "features has maps of 16 rows, which 3 of bins does not divide; choose others"),
        ({"bins": (32,)}, "features has maps of 16 rows, which 32 of bins does not divide; choose others"),
        ({"backend": "cuda"}, "backend is 'cuda'; choose auto, reference or fused"),
        ({"features": torch.zeros(16, 11)}, r"features has shape \(16, 11\); it needs three dimensions or more"),
        ({"features": FEATURES.long()}, "features is torch.int64; it must be a floating-point tensor"),
        (
            {"features": torch.zeros(2, 3, 0, 11)},
            "features has maps of 0 x 11 pixels; they need one row and one column",
        ),
        (
            {"features": torch.zeros(2, 3, 16, 0)},
            "features has maps of 16 x 0 pixels; they need one row and one column",
        ),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        op.horizontal_pyramid_pooling(**{"features": FEATURES, **arguments})


def test_a_missing_extension_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", "the compiled extension is not there (no compiler)")
    with pytest.raises(RuntimeError, match=r"not there \(no compiler\), or use backend='reference'"):
        op.horizontal_pyramid_pooling(FEATURES, backend="fused")
    assert op.horizontal_pyramid_pooling(FEATURES).shape == (2, 3, 31)


def test_a_dtype_without_a_kernel_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "_WHY_NO_CPU_KERNEL", None)
    assert op.why_not_fused("mps", torch.float32) is not None
    monkeypatch.setattr(op, "_DTYPES", (torch.float32,))
    with pytest.raises(RuntimeError, match="no kernel for float64 on cpu"):
        op.horizontal_pyramid_pooling(FEATURES.double(), backend="fused")


def test_auto_does_not_take_kernels_that_no_gpu_has_run() -> None:
    assert "cuda" not in op._PROVEN
