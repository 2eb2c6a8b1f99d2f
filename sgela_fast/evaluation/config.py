"""Settings of the evaluation. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from sgela_fast.errors import ConfigError
from sgela_fast.models.checks import require_at_least, require_choices, require_positive

Selection = Literal["validation", "last", "best-on-test"]
Prediction = Literal["ap", "sc"]
Distance = Literal["euclidean", "cosine"]
Feature = Literal["mean", "concat"]
Preset = Literal["default", "official"]
Protocol = Literal["C", "G", "both", "casia-b", "ou-mvlp"]

SELECTION_LABELS: dict[str, str] = {
    "validation": "epoch chosen on held-out training recordings",
    "last": "last epoch, nothing chosen",
    "best-on-test": "BEST ON TEST: step chosen on the test set itself, as published; optimistic",
}


@dataclass(frozen=True)
class RecognitionConfig:
    """Protocol C, a classifier on frozen encodings; every ``None`` is filled in by ``preset``.

    ``preset="official"`` trains and selects as the released code does: unscaled initial weights, raw features, one
    order of the rows for all epochs, the test set choosing the step. ``preset="default"`` is sound and converges
    faster.

    Attributes:
        preset: which of the two.
        prediction: ``ap`` averages the logits of a window's frames, ``sc`` classifies the window's concatenated frames.
        selection: ``validation`` (the epoch that does best on recordings held out of the training side), ``last``, or
            ``best-on-test`` (as published: optimistic, and labelled so in every output).
        refit: after ``validation`` has chosen the number of epochs, train anew on all training windows.
        max_epochs: passes over the training rows at most.
        patience: epochs without a better held-out Rank-1 before ``validation`` stops.
        evaluate_every: steps between two looks at the test set under ``best-on-test``.
        batch: rows in a step.
        drop_incomplete: leave out an epoch's last incomplete batch.
        learning_rate: of Adam, constant.
        hidden: hidden units.
        initial: initial weights, ``official`` (standard normal, unscaled) or ``scaled`` (He).
        standardise: give every feature mean 0 and deviation 1 over the training rows.
        shuffle: ``once`` keeps one order for all epochs, ``epoch`` draws a fresh one.
        released_batches: count only the windows that the released code's batches of 128 leave over; for comparison.
        seeds: one run each; of initial weights, order and the choice of held-out recordings.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    preset: Preset = "default"
    prediction: Prediction = "ap"
    selection: Selection | None = None
    refit: bool = True
    max_epochs: int | None = None
    patience: int = 10
    evaluate_every: int = 50
    batch: int = 128
    drop_incomplete: bool | None = None
    learning_rate: float = 0.0005
    hidden: int = 256
    initial: Literal["official", "scaled"] | None = None
    standardise: bool | None = None
    shuffle: Literal["once", "epoch"] | None = None
    released_batches: bool = False
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        require_choices("recognition", self, {"preset": get_args(Preset)})
        for name, value in _PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        require_choices(
            "recognition",
            self,
            {
                "prediction": get_args(Prediction),
                "selection": get_args(Selection),
                "initial": ("official", "scaled"),
                "shuffle": ("once", "epoch"),
            },
        )
        require_at_least("recognition", self, 1, "max_epochs", "patience", "evaluate_every", "batch", "hidden")
        require_positive("recognition", self, "learning_rate")
        seeds = tuple(self.seeds)
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**63:
            raise ConfigError(f"recognition.seeds is {list(seeds)}; give different whole numbers from 0 to 2^63 - 1")
        object.__setattr__(self, "seeds", seeds)

    @property
    def selection_label(self) -> str:
        """How the tested weights were chosen, in words for titles."""
        return SELECTION_LABELS[str(self.selection)]


_PRESETS: dict[str, dict[str, object]] = {
    "default": {
        "selection": "validation",
        "max_epochs": 100,
        "drop_incomplete": False,
        "initial": "scaled",
        "standardise": True,
        "shuffle": "epoch",
    },
    "official": {
        "selection": "best-on-test",
        "max_epochs": 300,
        "drop_incomplete": True,
        "initial": "official",
        "standardise": False,
        "shuffle": "once",
    },
}


@dataclass(frozen=True)
class RetrievalConfig:
    """Protocol G, nearest gallery windows of each probe window.

    Attributes:
        feature: ``mean`` over a window's frames, or all frames side by side (``concat``).
        distance: ``euclidean`` or ``cosine``.
        tile_mb: memory for the distances of one tile of probe windows, in MiB.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    feature: Feature = "mean"
    distance: Distance = "euclidean"
    tile_mb: int = 256

    def __post_init__(self) -> None:
        require_choices("retrieval", self, {"feature": get_args(Feature), "distance": get_args(Distance)})
        require_at_least("retrieval", self, 1, "tile_mb")


@dataclass(frozen=True)
class CrossViewProtocol:
    """Which conditions of a data set are compared with which.

    Attributes:
        gallery: conditions of the gallery.
        probes: kind of probes to its conditions.
    """

    gallery: tuple[str, ...]
    probes: dict[str, tuple[str, ...]]


CROSS_VIEW_PROTOCOLS = {
    "casia-b": CrossViewProtocol(
        ("nm-01", "nm-02", "nm-03", "nm-04"),
        {"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")},
    ),
    "ou-mvlp": CrossViewProtocol(("01",), {"all": ("00",)}),
}


@dataclass(frozen=True)
class CrossViewConfig:
    """Protocols casia-b and ou-mvlp, silhouette sequences of every view against every other.

    Attributes:
        unmatched: a probe whose subject lacks in a gallery view counts as ``wrong`` there, as published, or is left out
            there (``leave-out``).
        released_divisor: divide sums over the other views by 10 whatever their number, as the released code does; for
            comparison only.

    Raises:
        ConfigError: a setting is not among its choices.
    """

    unmatched: Literal["wrong", "leave-out"] = "wrong"
    released_divisor: bool = False

    def __post_init__(self) -> None:
        require_choices("cross_view", self, {"unmatched": ("wrong", "leave-out")})


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated.

    Attributes:
        protocol: ``C`` (classifier), ``G`` (retrieval) or ``both``; of silhouettes ``casia-b`` or ``ou-mvlp``.
        splits: columns that name each window's side; one result each.
        train_value: value that marks training (gallery) windows.
        test_value: value that marks test (probe) windows.
        keep_invalid: count windows with a lost joint too.
        identities: persons that are classes: all of the training side (``train``), or only those that are tested
            (``test``, as in the released code).
        unknown_persons: what to do with test persons who have no training window: ``leave-out`` or ``error``.
        resamples: bootstrap resamples of persons for the intervals; 0 for no intervals.
        confidence: of the intervals.
        memory_gb: training features up to this size are held in memory, larger ones are read in shuffled blocks.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads; 0 leaves torch's own choice. Small training steps always take one.
        recognition: settings of protocol C.
        retrieval: settings of protocol G.
        cross_view: settings of protocols casia-b and ou-mvlp.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    protocol: Protocol = "both"
    splits: tuple[str, ...] = ("split",)
    train_value: str = "train"
    test_value: str = "test"
    keep_invalid: bool = False
    identities: Literal["train", "test"] = "train"
    unknown_persons: Literal["leave-out", "error"] = "leave-out"
    resamples: int = 1000
    confidence: float = 0.95
    memory_gb: float = 4.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    recognition: RecognitionConfig = field(default_factory=RecognitionConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    cross_view: CrossViewConfig = field(default_factory=CrossViewConfig)

    def __post_init__(self) -> None:
        require_choices(
            "evaluation",
            self,
            {
                "protocol": get_args(Protocol),
                "identities": ("train", "test"),
                "unknown_persons": ("leave-out", "error"),
                "device": ("auto", "cpu", "cuda"),
            },
        )
        require_at_least("evaluation", self, 0, "resamples", "threads")
        require_positive("evaluation", self, "memory_gb")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"evaluation.confidence is {self.confidence}; it must be between 0 and 1")
        if self.train_value == self.test_value:
            raise ConfigError(f"train_value and test_value are both {self.train_value!r}; give two different values")
        splits = tuple(self.splits)
        if not splits or len(set(splits)) < len(splits):
            raise ConfigError(f"evaluation.splits is {list(splits)}; name one or more different columns")
        object.__setattr__(self, "splits", splits)


def refuse_cross_view(config: EvaluationConfig) -> None:
    """For jobs that know protocols C and G alone.

    Raises:
        ConfigError: the protocol compares silhouettes.
    """
    if config.protocol in CROSS_VIEW_PROTOCOLS:
        raise ConfigError(
            f"evaluation.protocol is {config.protocol!r}, which is for silhouettes and `sgela-fast evaluate` alone; "
            "choose C, G or both"
        )
