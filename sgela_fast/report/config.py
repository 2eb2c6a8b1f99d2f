"""Settings of the page. Imports no torch: the command line reads this for its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgela_fast.errors import ConfigError

Projection = Literal["tsne", "pca"]

# Bounds that keep the page small whatever it is made from; its last section states them.
CURVE_POINTS = 200  # of a line in a diagram
SERIES = 8  # lines in one diagram
TABLE_ROWS = 300
FINDINGS = 10  # recordings named for each kind of finding
STILL_PROBES = 3  # probes that are printed


@dataclass(frozen=True)
class ReportConfig:
    """What is drawn on the page, and how much of it.

    Attributes:
        title: of the page; empty for one that says what it is made from.
        projection: how encodings become points of a plane: ``tsne`` or ``pca``.
        points: windows on that map at most, drawn evenly from all recordings.
        split: column that says which windows are searched for (``test_value``) and in which (``train_value``); without
            that column every recording is searched for among all others.
        train_value: value of the windows that are searched.
        test_value: value of the windows that are searched for.
        queries: windows searched for at most, drawn evenly from all probe recordings.
        false_match_rate: of the threshold for unknown persons, where the store has no calibrated one; raised to one
            search where there are too few.
        probes: probes to play back at most, half of them mistaken where there are so many.
        seconds: of a recording that is played back, from its middle.
        rate: frames a second that are kept of it.
        recordings: recordings whose quality is measured at most, drawn evenly from the archive.
        seed: of the map.

    Raises:
        ConfigError: a setting is out of range or not among its choices.
    """

    title: str = ""
    projection: Projection = "tsne"
    points: int = 600
    split: str = "split"
    train_value: str = "train"
    test_value: str = "test"
    queries: int = 1000
    false_match_rate: float = 0.01
    probes: int = 12
    seconds: float = 4.0
    rate: float = 15.0
    recordings: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.projection not in ("tsne", "pca"):
            raise ConfigError(f"report.projection is {self.projection!r}; choose tsne or pca")
        for name, low, high in (
            ("points", 3, 5000),
            ("queries", 1, 20_000),
            ("probes", 1, 40),
            ("seconds", 0.2, 20),
            ("rate", 1, 60),
            ("recordings", 1, 100_000),
            ("seed", 0, 2**32 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"report.{name} is {getattr(self, name)}; it must be from {low} to {high}")
        if not 0 < self.false_match_rate < 1:
            raise ConfigError(f"report.false_match_rate is {self.false_match_rate}; it must be between 0 and 1")
