"""Settings of training SelfGait. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sgela_fast.errors import ConfigError
from sgela_fast.models.checks import require_at_least, require_choices, require_positive
from sgela_fast.models.config import Backend

Stage = Literal["pretrain", "finetune"]
SECTION = "selfgait_training"


@dataclass(frozen=True)
class SelfGaitTrainingConfig:
    """How SelfGait is trained.

    Attributes:
        stage: ``pretrain`` (no labels, the model's objective) or ``finetune`` (batch-all triplets of labelled persons).
        split: whom to train on: ``casia-b-74``, ``casia-b-62``, ``ou-mvlp`` or ``released``; empty for everybody.
        subjects: how many persons to train on instead, the first by name; 0 for what ``split`` says.
        labels: share of the training side whose labels ``finetune`` knows; smaller shares are parts of larger ones.
        label_unit: whether that is a share of the ``subjects`` or of everybody's ``sequences``.
        persons: of a batch, P.
        clips: of each person of a batch, K.
        sampling: how ``pretrain`` fills a batch: ``sequences`` (P x K of anybody's, no labels) or ``persons`` (P
            persons with K each, which looks at labels, as the released code does); by the model's variant if left
            out. ``finetune`` always takes persons.
        margin: of the triplets.
        start_distance: before ``finetune``, scale each strip's matrix so that two clips of the first batch are so far
            apart in the mean; 0 leaves them. Pre-training does not care how large embeddings are, a margin does.
        max_steps: optimiser steps.
        budget_minutes: stop cleanly when this much time has been spent training, resumed parts included; 0 for none.
        learning_rate: of the first step, and of all others unless ``decay_steps`` is set.
        decay_steps: steps in which the learning rate falls to 0 along half a cosine; 0 keeps it constant.
        momentum: of SGD.
        weight_decay: of SGD, on all weights.
        seed: of initial weights, batches, labelled persons and flips.
        device: ``auto``, ``cpu`` or ``cuda``.
        backend: ``auto``, ``reference`` or ``fused``.
        threads: CPU threads; 0 leaves torch's own choice.
        checkpoint_every: optimiser steps between checkpoints.
        keep_checkpoints: how many checkpoints are kept, newest first.
        log_every: optimiser steps between log entries.
        tensorboard: write TensorBoard scalars.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    stage: Stage = "pretrain"
    split: Literal["", "casia-b-74", "casia-b-62", "ou-mvlp", "released"] = ""
    subjects: int = 0
    labels: float = 1.0
    label_unit: Literal["subjects", "sequences"] = "subjects"
    persons: int = 8
    clips: int = 16
    sampling: Literal["sequences", "persons"] | None = None
    margin: float = 0.2
    start_distance: float = 0.0
    max_steps: int = 9000
    budget_minutes: float = 0.0
    learning_rate: float = 0.03
    decay_steps: int = 0
    momentum: float = 0.9
    weight_decay: float = 4e-4
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Backend = "auto"
    threads: int = 0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 50
    tensorboard: bool = False

    def __post_init__(self) -> None:
        require_choices(
            SECTION,
            self,
            {
                "stage": ("pretrain", "finetune"),
                "split": ("", "casia-b-74", "casia-b-62", "ou-mvlp", "released"),
                "label_unit": ("subjects", "sequences"),
                "device": ("auto", "cpu", "cuda"),
                "backend": ("auto", "reference", "fused"),
            },
        )
        if self.sampling is not None:
            require_choices(SECTION, self, {"sampling": ("sequences", "persons")})
        if self.stage == "finetune" and self.sampling == "sequences":
            raise ConfigError(f"{SECTION}.sampling is sequences but triplets need persons; leave it out for finetune")
        require_at_least(SECTION, self, 1, "persons", "clips", "max_steps")
        require_at_least(SECTION, self, 1, "checkpoint_every", "keep_checkpoints", "log_every")
        require_at_least(SECTION, self, 0, "subjects", "budget_minutes", "momentum", "weight_decay", "seed", "threads")
        require_at_least(SECTION, self, 0, "decay_steps", "start_distance")
        require_positive(SECTION, self, "learning_rate", "margin")
        if not 0 < self.labels <= 1:
            raise ConfigError(f"{SECTION}.labels is {self.labels}; it must be above 0 and at most 1")
        if self.stage == "finetune" and (self.persons < 2 or self.clips < 2):
            raise ConfigError(
                f"{SECTION}.persons {self.persons} with clips {self.clips} make no triplet; fine-tuning needs at least "
                "2 of both"
            )
        if 0 < self.decay_steps < self.max_steps:
            raise ConfigError(
                f"{SECTION}.decay_steps is {self.decay_steps} but max_steps {self.max_steps}: the last steps would "
                "change nothing; raise decay_steps or lower max_steps"
            )
        if self.seed >= 2**63:
            raise ConfigError(f"{SECTION}.seed is {self.seed}; it must be below 2^63")

    def rate(self, step: int) -> float:
        """The learning rate of ``step``, counted from 0."""
        if not self.decay_steps:
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * step / self.decay_steps)) / 2

    @property
    def batch(self) -> int:
        """Clips of a batch, P * K."""
        return self.persons * self.clips
