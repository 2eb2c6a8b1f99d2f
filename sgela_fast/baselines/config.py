"""Settings of the baselines. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass

from sgela_fast.errors import ConfigError
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.models.checks import require_at_least, require_positive


@dataclass(frozen=True)
class BaselineConfig:
    """How baselines are trained, and how long.

    How a setting or an epoch is chosen is not said here: ``EvaluationConfig.recognition`` names ``selection``,
    ``refit`` and ``evaluate_every`` for the baselines as for the recognition network.

    Attributes:
        epochs: of a network, at most.
        patience: epochs without a better held-out Rank-1 before a network's training stops.
        minutes: for the training of one network, a refit included; 0 for no limit. The epoch it is in is finished.
        batch: windows in a step.
        learning_rate: of Adam, constant.
        hidden: units of an LSTM layer, channels of the CNN.
        rounds: boosting rounds, one stump for each person in each.
        svm_windows: windows that a support vector machine is fitted to, at most, drawn alike from all persons.

    Raises:
        ConfigError: a setting is out of range.
    """

    epochs: int = 40
    patience: int = 4
    minutes: float = 0.0
    batch: int = 128
    learning_rate: float = 0.001
    hidden: int = 256
    rounds: int = 200
    svm_windows: int = 20_000

    def __post_init__(self) -> None:
        require_at_least("baselines", self, 1, "epochs", "patience", "batch", "hidden", "rounds", "svm_windows")
        require_at_least("baselines", self, 0, "minutes")
        require_positive("baselines", self, "learning_rate")


def require_comparable(config: EvaluationConfig) -> None:
    """Refuse settings of the evaluation that have no meaning for baselines.

    Raises:
        ConfigError: there is one.
    """
    if config.keep_invalid:
        raise ConfigError(
            "keep_invalid cannot be true for baselines, whose features need every joint; leave windows with a lost "
            "joint out"
        )
    if config.recognition.released_batches:
        raise ConfigError(
            "recognition.released_batches counts what the recognition network's batches leave over; baselines have "
            "none, set it to false"
        )
