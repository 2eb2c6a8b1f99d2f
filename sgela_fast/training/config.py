"""Settings of self-supervised training. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sgela_fast.errors import ConfigError
from sgela_fast.models.checks import require_at_least, require_choices, require_positive
from sgela_fast.models.config import Backend

# In the order of the model's variants: `typing` takes two Literals of other order for the same one.
Preset = Literal["paper", "official"]
# Precisions of the model that have gradients.
TrainingPrecision = Literal["fp32", "tf32", "bf16", "fp16"]


@dataclass(frozen=True)
class TrainingConfig:
    """How the gait encoder is trained; every ``None`` is filled in by ``preset``.

    ``preset="official"`` trains as the released code does, ``preset="paper"`` as section 4.1 of the paper says.

    Attributes:
        preset: which of the two.
        split: column of the archive that names each recording's side; empty uses all recordings.
        train_value: value of that column that marks recordings to train on.
        epochs: passes over the training windows (released code: at most 400; the paper gives no number).
        max_steps: stop after this many optimiser steps; 0 for no limit.
        budget_minutes: stop cleanly when this much time has been spent training, resumed parts included; 0 for none.
        batch: windows that are computed at once, by all processes together.
        accumulate: how many batches make one step, as if they were one large batch; a last incomplete step is left out.
        optimiser: ``adam`` (released code; epsilon placed as TensorFlow 1 does) or ``sgd`` with momentum (paper).
        learning_rate: constant.
        momentum: of ``sgd``.
        clip: every gradient entry is cut to [-clip, clip], weight decay included; 0 for no clipping.
        shuffle: ``once-per-axis`` (released code: one order per axis, drawn once and kept), ``once`` (the same for
            all axes) or ``epoch`` (a fresh order every epoch, the same for all axes).
        validation: share of the training recordings kept aside to watch the reconstruction loss; 0 for none.
        seed: of initial weights and order.
        device: ``auto``, ``cpu`` or ``cuda``.
        backend: ``auto``, ``reference`` or ``fused``.
        precision: ``fp32``, ``tf32`` (CUDA devices), ``bf16`` or ``fp16`` (products under autocast; ``fp16`` on CUDA
            devices, with the loss scaled). Weights and optimiser are float32 in all of them.
        threads: CPU threads; 0 leaves torch's own choice.
        memory_gb: frames that take more than so many GiB are kept in a temporary file and read batch by batch; 0
            stands for half of the machine's memory.
        checkpoint_every: optimiser steps between checkpoints.
        keep_checkpoints: how many checkpoints are kept, newest first.
        log_every: optimiser steps between log entries.
        tensorboard: write TensorBoard scalars and attention heat maps.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    preset: Preset = "official"
    split: str = "split"
    train_value: str = "train"
    epochs: int = 400
    max_steps: int = 0
    budget_minutes: float = 0.0
    batch: int = 128
    accumulate: int = 1
    optimiser: Literal["adam", "sgd"] | None = None
    learning_rate: float = 0.0005
    momentum: float = 0.9
    clip: float | None = None
    shuffle: Literal["once-per-axis", "once", "epoch"] | None = None
    validation: float = 0.02
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Backend = "auto"
    precision: TrainingPrecision = "fp32"
    threads: int = 0
    memory_gb: float = 0.0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 50
    tensorboard: bool = True

    def __post_init__(self) -> None:
        require_choices("training", self, {"preset": get_args(Preset)})
        for name, value in _PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        require_choices(
            "training",
            self,
            {
                "optimiser": ("adam", "sgd"),
                "shuffle": ("once-per-axis", "once", "epoch"),
                "device": ("auto", "cpu", "cuda"),
                "backend": get_args(Backend),
                "precision": get_args(TrainingPrecision),
            },
        )
        require_at_least("training", self, 1, "epochs", "batch", "accumulate")
        require_at_least("training", self, 1, "checkpoint_every", "keep_checkpoints", "log_every")
        require_at_least(
            "training", self, 0, "max_steps", "budget_minutes", "momentum", "clip", "seed", "threads", "memory_gb"
        )
        require_positive("training", self, "learning_rate")
        if not 0 <= self.validation < 1:
            raise ConfigError(f"training.validation is {self.validation}; it must be in [0, 1)")
        if self.seed >= 2**63:
            raise ConfigError(f"training.seed is {self.seed}; it must be below 2^63")

    @property
    def windows_a_step(self) -> int:
        """Windows of an optimiser step, those of all processes together."""
        return self.batch * self.accumulate


_PRESETS: dict[str, dict[str, object]] = {
    "official": {"optimiser": "adam", "clip": 5.0, "shuffle": "once-per-axis"},
    # The paper names no clipping; without it plain sums over a batch of 128 windows diverge under momentum.
    "paper": {"optimiser": "sgd", "clip": 5.0, "shuffle": "epoch"},
}
