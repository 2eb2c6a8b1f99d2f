"""Sizes and costs by formula are those of the model, and explain the published ones."""

from __future__ import annotations

from typing import Any

import pytest

from sgela_fast.models.complexity import count_parameters, counted_flops, window_flops
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model

CONFIGS: list[dict[str, Any]] = [
    {},
    {"variant": "paper"},
    {"attention": "none"},
    {"attention": "mbas", "frames": 11},
    {"joints": 25, "hidden": 96},
    {"layers": 1, "axes": 2, "frames": 4},
    {"layers": 3, "score": "dot", "hidden": 10, "joints": 14, "frames": 1},
]


@pytest.mark.parametrize("settings", CONFIGS)
def test_the_formula_counts_what_torch_counts(settings: dict[str, Any]) -> None:
    config = SGELAConfig(**settings)
    by_formula = window_flops(config)
    assert (by_formula.encoder, by_formula.total) == counted_flops(config)


@pytest.mark.parametrize("settings", CONFIGS)
def test_parameters_are_those_of_a_built_model(settings: dict[str, Any]) -> None:
    config = SGELAConfig(**{**settings, "hidden": 8})
    model = build_model(config)
    live = count_parameters(config).live
    assert live.total == sum(parameter.numel() for parameter in model.parameters())
    assert live.encoder == sum(parameter.numel() for parameter in model.encoder.parameters())


def test_a_window_of_the_papers_size_costs_75_mflop() -> None:
    found = window_flops(SGELAConfig())
    assert found.total == 3 * 24_969_216
    assert found.as_dict() == {
        "encoder": 29_048_832, "decoder": 38_486_016, "keys": 2_359_296, "attention": 110_592, "fusion": 4_718_592,
        "output": 184_320, "total": 74_907_648,
    }  # fmt: skip


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_ages_need_no_last_attentional_vector_and_only_predictions_that_are_read(variant: Any) -> None:
    config = SGELAConfig(variant=variant)
    whole, needed = window_flops(config), window_flops(config, reconstruction=False)
    assert whole.fusion * 5 == needed.fusion * 6
    assert needed.output == (whole.output * 5 // 6 if variant == "paper" else 0)
    same = ("encoder", "decoder", "keys", "attention")
    assert [getattr(needed, name) for name in same] == [getattr(whole, name) for name in same]
    with pytest.raises(ValueError, match="has no AGEs"):
        window_flops(SGELAConfig(attention="none"), reconstruction=False)


def test_published_sizes_hold_dead_copies() -> None:
    twenty, twenty_five = (count_parameters(SGELAConfig(joints=joints)) for joints in (20, 25))
    assert twenty.live.total == 3 * 2_081_812
    assert twenty.released == 7_096_380
    assert round(twenty_five.released / 1e6, 2) == 7.15
    assert round(twenty.journal / 1e6, 2) == 8.47
