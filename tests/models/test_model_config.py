"""Model settings: what the variants fill in, and what is refused."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest

from sgela_fast.errors import ConfigError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model, choose_backend


def test_official_variant_is_the_released_code() -> None:
    config = SGELAConfig(variant="official")
    assert (config.score, config.fusion, config.output_bias, config.loss_factor) == ("general", "linear", True, 0.5)
    assert (config.decoder_input, config.encoding_input) == ("zeros", "zeros")


def test_paper_variant_is_the_equations() -> None:
    config = SGELAConfig(variant="paper")
    assert (config.score, config.fusion, config.output_bias, config.loss_factor) == ("dot", "tanh", False, 1.0)
    assert (config.decoder_input, config.encoding_input) == ("teacher", "feedback")


def test_both_variants_share_the_papers_constants() -> None:
    for variant in ("official", "paper"):
        config = SGELAConfig(variant=variant)
        assert (config.frames, config.joints, config.hidden, config.layers, config.axes) == (6, 20, 256, 2, 3)
        assert (config.lambda_reconstruction, config.lambda_attention, config.beta) == (1, 1, 0.02)
        assert config.forget_bias == 1.0


def test_an_explicit_setting_outranks_the_variant() -> None:
    config = SGELAConfig(variant="official", fusion="tanh", output_bias=False)
    assert (config.fusion, config.output_bias, config.score) == ("tanh", False, "general")


def test_settings_survive_being_written_and_read() -> None:
    for variant in ("official", "paper"):
        config = SGELAConfig(variant=variant, frames=8, output_bias=True)
        assert SGELAConfig(**asdict(config)) == config


def test_mask_range_follows_the_frames_unless_given() -> None:
    assert (SGELAConfig().window, SGELAConfig().sigma) == (6, 3.0)
    assert SGELAConfig(frames=9).sigma == 4.5
    assert SGELAConfig(frames=9, mask_window=4).sigma == 2.0
    assert replace(SGELAConfig(), frames=8).window == 8


def test_width_is_that_of_all_axes() -> None:
    assert SGELAConfig().width == 768


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "journal"}, "model.variant is 'journal'; choose paper or official"),
        ({"attention": "foo"}, "model.attention is 'foo'; choose las, mbas, bas or none"),
        ({"score": "cosine"}, "model.score is 'cosine'; choose dot or general"),
        ({"fusion": "relu"}, "model.fusion is 'relu'; choose tanh or linear"),
        ({"decoder_input": "ones"}, "model.decoder_input is 'ones'; choose teacher, zeros or feedback"),
        ({"encoding_input": "ones"}, "model.encoding_input is 'ones'; choose teacher, zeros or feedback"),
        ({"frames": 0}, "model.frames is 0; it must be a finite number of at least 1"),
        ({"hidden": -1}, "model.hidden is -1; it must be a finite number of at least 1"),
        ({"mask_window": 0}, "model.mask_window is 0; it must be a finite number of at least 1"),
        ({"beta": math.inf}, "model.beta is inf; it must be a finite number of at least 0"),
        ({"lambda_attention": math.nan}, "model.lambda_attention is nan; it must be a finite number of at least 0"),
        ({"loss_factor": 0.0}, "model.loss_factor is 0.0; it must be a finite number above 0"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SGELAConfig(**wrong)
    assert str(caught.value) == message


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'magic'"):
        build_model(SGELAConfig(hidden=4), "magic")  # type: ignore[arg-type]
    assert choose_backend("reference").name == "reference"
    assert choose_backend("auto").reason
