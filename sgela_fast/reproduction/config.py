"""Settings of a reproduction. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import get_args

from sgela_fast.baselines.config import BaselineConfig
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.errors import ConfigError
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.models.config import Attention, SGELAConfig
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training.config import TrainingConfig

# What --tables takes, and the tables of the results that each stands for.
TABLES: dict[str, tuple[str, ...]] = {
    "1": ("1",),
    "2": ("2",),
    "3": ("3",),
    "3a": ("figure3a",),
    "3b": ("figure3b",),
    "sweeps": ("sweep-frames", "sweep-range"),
    "size": ("size",),
}
SELECTIONS = ("validation", "best-on-test")
ATTENTIONS = get_args(Attention)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}


@dataclass(frozen=True)
class ReproductionConfig:
    """What is reproduced, and how; the paper's Table 2 fills in what of the model differs between rows.

    Attributes:
        tables: which of the paper's tables and figures, by the names of :data:`TABLES`.
        splits: columns that divide training from test recordings; a data set without one leaves it out.
        seeds: of encoders and recognition networks, one run each.
        protocols: ``C`` (classifier), ``G`` (gallery) or both.
        selections: of protocol C: ``validation`` and ``best-on-test`` (as published: optimistic), or one of them.
        frames: window lengths f of the sweep.
        ranges: attentional ranges D of the sweep.
        model: what all encoders have in common; attention, reverse and, in the sweeps, D differ.
        window: how recordings become windows; f differs in the sweep.
        training: of all encoders; the split and the seed differ.
        encoding: of all stores.
        evaluation: of all cells; protocol, split, selection and seed differ.
        baselines: of the methods of Table 1.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    tables: tuple[str, ...] = ("1", "2", "3", "3a", "3b", "size")
    splits: tuple[str, ...] = ("split",)
    seeds: tuple[int, ...] = (0,)
    protocols: tuple[str, ...] = ("C", "G")
    selections: tuple[str, ...] = SELECTIONS
    frames: tuple[int, ...] = (4, 6, 8, 10)
    ranges: tuple[int, ...] = (1, 2, 4, 6, 8)
    model: SGELAConfig = field(default_factory=SGELAConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    baselines: BaselineConfig = field(default_factory=BaselineConfig)

    def __post_init__(self) -> None:
        for name, choices in (("tables", tuple(TABLES)), ("protocols", ("C", "G")), ("selections", SELECTIONS)):
            self._require_distinct(name)
            for value in getattr(self, name):
                if value not in choices:
                    raise ConfigError(f"{name} names {value!r}; choose among: {', '.join(choices)}")
        for name in ("splits", "seeds", "frames", "ranges"):
            self._require_distinct(name)
        for name, least in (("seeds", 0), ("frames", 1), ("ranges", 1)):
            if min(getattr(self, name)) < least:
                raise ConfigError(f"{name} is {list(getattr(self, name))}; its numbers must be at least {least}")
        for name in ("splits", "tables", "seeds", "protocols", "selections", "frames", "ranges"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def with_threads(self, threads: int) -> ReproductionConfig:
        """The same with so many threads in every part."""
        return replace(
            self,
            training=replace(self.training, threads=threads),
            encoding=replace(self.encoding, threads=threads),
            evaluation=replace(self.evaluation, threads=threads),
        )

    def _require_distinct(self, name: str) -> None:
        values = tuple(getattr(self, name))
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"{name} is {list(values)}; name one or more, each once")


@dataclass(frozen=True)
class JobConfig:
    """How a reproduction is carried out; the results do not depend on it.

    Attributes:
        budget: time for this run, such as ``2h``, ``90m`` or a number of seconds; empty for no limit. Cells that
            cannot be finished in it are not begun.
        jobs: processes at work, one thread each; 1 computes in this process.
        encoders: folders in which finished runs are looked for, which are then used instead of training anew.
        keep_stores: keep the encodings that no cell needs any more.
        stores_gb: encodings take up to so many GiB at once; beyond that some are made again when they are needed.
        training_share: of the budget, for training encoders, where it sets their number of steps.

    Raises:
        ConfigError: a setting is out of range or no time.
    """

    budget: str = ""
    jobs: int = 1
    encoders: tuple[str, ...] = ()
    keep_stores: bool = False
    stores_gb: float = 20.0
    training_share: float = 0.6

    def __post_init__(self) -> None:
        for name, least in (("jobs", 1), ("stores_gb", 0)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0 < self.training_share < 1:
            raise ConfigError(f"training_share is {self.training_share}; it must be between 0 and 1")
        _ = self.seconds

    @property
    def seconds(self) -> float | None:
        """The budget in seconds; ``None`` for no limit.

        Raises:
            ConfigError: the text is no time.
        """
        text = str(self.budget).strip().lower()
        if not text:
            return None
        factor = _SECONDS.get(text[-1])
        try:
            seconds = float(text if factor is None else text[:-1]) * (factor or 1.0)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise ConfigError(f"budget is {self.budget!r}; give a time such as 2h, 90m or 600 (seconds)")
        return seconds
