"""Tiny walkers, and settings small enough to reproduce a table in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgela_fast.baselines.config import BaselineConfig
from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig
from sgela_fast.models.config import SGELAConfig
from sgela_fast.reproduction.config import ReproductionConfig
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.walker import write_walkers
from sgela_fast.training.config import TrainingConfig

SMALL = ReproductionConfig(
    selections=("validation",),
    model=SGELAConfig(hidden=4),
    training=TrainingConfig(
        batch=8,
        max_steps=4,
        log_every=1,
        checkpoint_every=1,
        tensorboard=False,
        threads=1,
        validation=0.2,
        device="cpu",
    ),
    evaluation=EvaluationConfig(resamples=20, recognition=RecognitionConfig(max_epochs=2), device="cpu", threads=1),
    baselines=BaselineConfig(epochs=1, hidden=4, rounds=2),
)


@pytest.fixture(scope="session")
def walks(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two archives, ``one.sga`` and ``two.sga``, of three persons with three walks."""
    folder = tmp_path_factory.mktemp("archives")
    for seed, name in enumerate(("one", "two")):
        write_walkers(folder / f"{name}.sga", WalkerConfig(persons=3, walks=3, min_frames=50, max_frames=56, seed=seed))
    return str(folder / "one.sga"), str(folder / "two.sga")


@pytest.fixture(scope="session")
def settings() -> Callable[..., ReproductionConfig]:
    """Small settings, with changes; ``training`` takes those of the training."""

    def make(training: dict[str, Any] | None = None, **changes: Any) -> ReproductionConfig:
        return replace(SMALL, training=replace(SMALL.training, **(training or {})), **changes)

    return make


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "out"
