"""Training settings: what the presets fill in, and what is refused."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest

from sgela_fast.errors import ConfigError
from sgela_fast.training.config import TrainingConfig


def test_official_preset_is_the_released_code() -> None:
    config = TrainingConfig(preset="official")
    assert (config.optimiser, config.clip, config.shuffle) == ("adam", 5.0, "once-per-axis")
    assert (config.learning_rate, config.batch, config.epochs) == (0.0005, 128, 400)


def test_paper_preset_is_section_4_1() -> None:
    config = TrainingConfig(preset="paper")
    assert (config.optimiser, config.momentum, config.learning_rate, config.batch) == ("sgd", 0.9, 0.0005, 128)


def test_settings_survive_being_written_and_read() -> None:
    config = TrainingConfig(preset="paper", clip=0.0)
    assert config.clip == 0.0
    assert TrainingConfig(**asdict(config)) == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "mine"}, "training.preset is 'mine'; choose paper or official"),
        ({"optimiser": "adamw"}, "training.optimiser is 'adamw'; choose adam or sgd"),
        ({"shuffle": "always"}, "training.shuffle is 'always'; choose once-per-axis, once or epoch"),
        ({"device": "tpu"}, "training.device is 'tpu'; choose auto, cpu or cuda"),
        ({"backend": "magic"}, "training.backend is 'magic'; choose auto, reference or fused"),
        ({"batch": 0}, "training.batch is 0; it must be a finite number of at least 1"),
        ({"max_steps": -1}, "training.max_steps is -1; it must be a finite number of at least 0"),
        ({"budget_minutes": math.nan}, "training.budget_minutes is nan; it must be a finite number of at least 0"),
        ({"clip": -1.0}, "training.clip is -1.0; it must be a finite number of at least 0"),
        ({"seed": -1}, "training.seed is -1; it must be a finite number of at least 0"),
        ({"seed": 2**63}, "training.seed is 9223372036854775808; it must be below 2^63"),
        ({"learning_rate": 0.0}, "training.learning_rate is 0.0; it must be a finite number above 0"),
        ({"learning_rate": math.inf}, "training.learning_rate is inf; it must be a finite number above 0"),
        ({"validation": 1.0}, "training.validation is 1.0; it must be in [0, 1)"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(**wrong)
    assert str(caught.value) == message
