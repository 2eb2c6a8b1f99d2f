"""What every single probe came to: enough for CMC curves, intervals over persons and paired tests."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgela_fast.atomic import make_folder, write_file
from sgela_fast.errors import DataError
from sgela_fast.evaluation.metrics import cmc_curve

if TYPE_CHECKING:
    from sgela_fast.evaluation.results import Outcome
    from sgela_fast.evaluation.sides import Side


@dataclass(frozen=True, eq=False)
class Probes:
    """Place of the true person for every probe of one outcome.

    Attributes:
        person: ``(N,)`` int32, code of each probe window's person.
        persons: ``(C,)`` text, names of all persons that were ranked; a code is the position here.
        recording: ``(N,)`` int32, code of each window's recording.
        recordings: ``(R,)`` text, names of the recordings; one with two persons is there twice.
        start: ``(N,)`` int32, first frame of the window in its recording.
        rank: ``(N,)`` int32, place of the true person, from 1.
        recording_rank: ``(R,)`` int32, the same for whole recordings, by the mean of their windows' scores.
    """

    person: NDArray[np.integer[Any]]
    persons: NDArray[np.str_]
    recording: NDArray[np.integer[Any]]
    recordings: NDArray[np.str_]
    start: NDArray[np.integer[Any]]
    rank: NDArray[np.integer[Any]]
    recording_rank: NDArray[np.integer[Any]]

    def __post_init__(self) -> None:
        for item in fields(self):
            kind = np.str_ if item.name in ("persons", "recordings") else np.int32
            object.__setattr__(self, item.name, np.asarray(getattr(self, item.name)).astype(kind))

    def __len__(self) -> int:
        return len(self.rank)

    @classmethod
    def of(cls, side: Side, persons: tuple[str, ...], outcome: Outcome) -> Probes:
        """The probes of an outcome.

        Args:
            side: the tested windows.
            persons: names by the side's codes.
            outcome: what became of them.
        """
        windows, recordings = outcome.windows.ranks, outcome.recordings.ranks
        assert windows is not None
        assert recordings is not None
        return replace(cls.untested(side, persons), rank=windows, recording_rank=recordings)

    @classmethod
    def untested(cls, side: Side, persons: tuple[str, ...]) -> Probes:
        """Which probes there will be, all with the last place."""
        first = np.unique(side.recordings, return_index=True)[1]  # a window of each recording
        names = side.store.table["recording"].take(side.rows[first]).to_pylist()
        last = [np.full(count, len(persons)) for count in (len(side), len(names))]
        return cls(side.persons, np.array(persons), side.recordings, np.array(names), side.starts, *last)

    def recording_persons(self) -> NDArray[np.int32]:
        """Code of each recording's person, ``(R,)``."""
        persons = np.empty(len(self.recordings), np.int32)
        persons[self.recording] = self.person
        return persons

    def cmc(self) -> NDArray[np.float64]:
        """Cumulative matching curve over windows, ``(C,)``."""
        return cmc_curve(self.rank, len(self.persons))


def write_probes(path: str | Path, probes: Probes) -> None:
    """Write an ``.npz`` file with an array for each attribute of :class:`Probes`, in one step.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    arrays = {item.name: getattr(probes, item.name) for item in fields(Probes)}
    write_file(path, lambda file: np.savez_compressed(file, **arrays))


def read_probes(path: str | Path) -> Probes:
    """Read a file that :func:`write_probes` wrote.

    Raises:
        DataError: it is missing, damaged or something else.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as content:
            probes = Probes(**{item.name: content[item.name] for item in fields(Probes)})
        _check(probes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is no file of probes, or is damaged ({error}); have it written anew by `sgela-fast evaluate --out`"
        ) from error
    return probes


def _check(probes: Probes) -> None:
    windows, persons, recordings = len(probes.rank), len(probes.persons), len(probes.recordings)
    sizes = {"person": windows, "recording": windows, "start": windows, "recording_rank": recordings}
    for name, size in sizes.items():
        if getattr(probes, name).shape != (size,):
            raise ValueError(f"{name} has the shape {getattr(probes, name).shape}, not ({size},)")
    bounds = {"person": (0, persons - 1), "recording": (0, recordings - 1), "rank": (1, persons)}
    for name, (low, high) in {**bounds, "recording_rank": (1, persons)}.items():
        values = getattr(probes, name)
        if not len(values) or values.min() < low or values.max() > high:
            raise ValueError(f"{name} is not from {low} to {high} everywhere")
