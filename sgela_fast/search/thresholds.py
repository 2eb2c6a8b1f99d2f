"""The saved score below which a query's person counts as unknown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.search import files

if TYPE_CHECKING:
    from sgela_fast.search.config import Level
    from sgela_fast.search.index import Index

AGAIN = "calibrate again with `sgela-fast index --calibrate`"
# What must be the same when a threshold is used as when it was found.
_MEANING = ("level", "metric", "feature", "best", "sequence")


@dataclass(frozen=True)
class Calibration:
    """A threshold and what it costs.

    Attributes:
        level: what is ranked.
        metric: of the scores.
        feature: of the windows.
        best: matches of a query window that are averaged.
        sequence: windows of a sequence.
        false_match_rate: wanted share of searches for persons who are not in the store that name somebody all the same.
        threshold: the least score at which that share is kept; a score of this or more counts as known.
        threshold_interval: of the threshold, over persons; ``None`` without resamples.
        measured_rate: that share among the validation queries, each searched for with its own person left out.
        rate_interval: of ``measured_rate`` at this threshold, over persons.
        miss_rate: share of queries for persons who are in the store, by other recordings, whose best right score stays
            below the threshold; ``None`` where nobody has another recording.
        miss_interval: of it, over persons.
        confidence: of the intervals.
        impostors: searches with the own person left out.
        genuine: searches for the own person alone.
        persons: in the validation queries.
        validation: which windows were searched for.
        where: which windows were searched.
    """

    level: str
    metric: str
    feature: str
    best: int
    sequence: int
    false_match_rate: float
    threshold: float
    threshold_interval: tuple[float, float] | None
    measured_rate: float
    rate_interval: tuple[float, float] | None
    miss_rate: float | None
    miss_interval: tuple[float, float] | None
    confidence: float
    impostors: int
    genuine: int
    persons: int
    validation: str
    where: str


def path_of(index: Index, level: str) -> Path:
    """The file of a level's threshold."""
    return files.folder_of(index.store) / f"threshold-{level}.json"


def save_threshold(index: Index, found: Calibration) -> None:
    """Keep a threshold beside the index.

    Raises:
        OutputError: it cannot be written.
    """
    files.write_head(path_of(index, found.level), files.THRESHOLD_SCHEMA, index.store, {"calibration": asdict(found)})


def saved_threshold(index: Index, level: Level, best: int, sequence: int) -> Calibration:
    """The saved threshold of a level.

    Raises:
        ConfigError: there is none, or it was found with other settings.
        DataError: the file is damaged, or was made before the store changed.
    """
    path = path_of(index, level)
    if not path.exists():
        raise ConfigError(
            f"{index.store.path} has no calibrated threshold for level {level}; make one with `sgela-fast index "
            "--calibrate`, or give a number with --threshold"
        )
    content = files.read_head(path, files.THRESHOLD_SCHEMA, index.store, AGAIN)
    try:
        found = Calibration(**{name: _as_tuple(value) for name, value in content["calibration"].items()})
        if not isinstance(found.threshold, float):
            raise TypeError(f"threshold is {found.threshold!r}")
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error!r}); {AGAIN}") from error
    wanted = (level, index.config.metric, index.config.feature, best, sequence)
    for name, value in zip(_MEANING, wanted, strict=True):
        # Only sequences depend on their length.
        if getattr(found, name) != value and (name != "sequence" or level == "sequence"):
            raise ConfigError(f"{path} was calibrated with {name} {getattr(found, name)}, not {value}; {AGAIN}")
    return found


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
