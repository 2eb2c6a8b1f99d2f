"""The precision of float32 products is torch's setting, unless an environment variable says otherwise."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from sgela_fast.kernels.launch import INTERPRETED, PRECISION_VARIABLE, default_precision


def test_kernels_are_interpreted_only_where_there_is_no_device() -> None:
    assert torch.cuda.is_available() != INTERPRETED


@pytest.mark.parametrize(("setting", "precision"), [("ieee", "ieee"), ("tf32", "tf32"), ("none", "ieee")])
def test_precision_follows_torchs_setting_for_matrix_products(
    setting: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = setting
    found = default_precision()
    torch.backends.cuda.matmul.fp32_precision = before
    assert found == precision


@pytest.mark.parametrize("wanted", ["ieee", "tf32x3", "tf32"])
def test_the_environment_variable_comes_first(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, wanted)
    assert default_precision() == wanted


def test_an_unknown_precision_is_refused_with_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRECISION_VARIABLE, "fp8")
    with pytest.raises(ValueError, match="SGELA_FAST_PRECISION is 'fp8'; choose ieee, tf32x3 or tf32"):
        default_precision()
