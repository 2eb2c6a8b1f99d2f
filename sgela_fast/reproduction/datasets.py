"""The data sets of a reproduction: archives, and who is tested in which of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sgela_fast.errors import DataError
from sgela_fast.skeletons.archive import Archive, is_archive
from sgela_fast.skeletons.config import ConvertConfig, WalkerConfig
from sgela_fast.skeletons.convert import convert
from sgela_fast.skeletons.walker import write_walkers

FOLDER = "data"
WALKERS = "walkers"
# Sides of a split that are the paper's own test sets have the data set's plain name.
PLAIN = ("test", "test-walking")
_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_-]+)=(?P<path>.+)")
_KNOWN = {"ias-lab": "ias", "iaslab": "ias", "biwi-rgbd-id": "biwi", "ias-lab-rgbd-id": "ias"}


@dataclass(frozen=True)
class DataSet:
    """An archive under the name that cells give it."""

    name: str
    archive: Archive

    @cached_property
    def _values(self) -> dict[str, list[str]]:
        """Values of every column that looks like a split, those on the training side first."""
        found: dict[str, set[str]] = {}
        for row in self.archive.rows:
            for column, value in row.extra.items():
                if column.startswith("split") and value:
                    found.setdefault(column, set()).add(value)
        return {column: sorted(values) for column, values in found.items()}

    def conditions(self, split: str, train_value: str) -> list[Condition]:
        """What can be tested under ``split``: one condition for each value beginning with ``test``."""
        values = self._values.get(split, [])
        if train_value not in values:
            return []
        return [
            Condition(self.name if value in PLAIN else f"{self.name}-{value.removeprefix('test-')}", self, split, value)
            for value in sorted(values, key=lambda value: (value not in PLAIN, value))
            if value == "test" or value.startswith("test-")
        ]

    def describe(self) -> dict[str, Any]:
        """For ``reproduction.json``."""
        rows = self.archive.rows
        return {
            "name": self.name,
            "persons": len({row.person for row in rows if row.person}),
            "recordings": len(rows),
            "frames": sum(row.frames for row in rows),
            "fingerprint": self.archive.fingerprint,
            "layout": self.archive.layout.name,
            "archive": str(self.archive.path),
        }


@dataclass(frozen=True)
class Condition:
    """A test set.

    Attributes:
        name: of the data set and, for sides other than the usual one, of the side: ``ias-a``, ``gist-gait``.
        data: where it lies.
        split: column that divides it from the training recordings.
        test_value: value of that column.
    """

    name: str
    data: DataSet
    split: str
    test_value: str


def open_datasets(
    sources: Sequence[str],
    out: Path,
    splits: Sequence[str],
    train_value: str,
    announce: Callable[[str], None] = lambda line: None,
    walkers: WalkerConfig | None = None,
) -> list[DataSet]:
    """Open archives and convert everything else into ``out/data``.

    Args:
        sources: archives or recordings of any known format, each with its name in front (``biwi=recordings/``) or
            named after its folder; none for synthetic walkers.
        out: folder of the reproduction.
        splits: columns, of which every data set needs one.
        train_value: marks the training side.
        announce: called with one-line remarks.
        walkers: the synthetic ones.

    Raises:
        DataError: a source cannot be read, two share a name, or one has no test recordings.
    """
    opened: list[DataSet] = []
    for source in sources or [""]:
        name, path = _name(source) if source else (WALKERS, Path())
        if name in {data.name for data in opened}:
            raise DataError(f"two data sets are called {name!r}; name one of them anew, such as {name}2={path}")
        data = DataSet(name, _archive(source and path, out / FOLDER / f"{name}.sga", announce, walkers))
        if not any(data.conditions(split, train_value) for split in splits):
            raise DataError(
                f"{data.archive.path} has no test recordings: no column of {', '.join(splits)} says both "
                f"{train_value!r} and 'test'; convert with a --manifest that has such a column"
            )
        opened.append(data)
    return opened


def _archive(
    source: str | Path, converted: Path, announce: Callable[[str], None], walkers: WalkerConfig | None
) -> Archive:
    if source and is_archive(Path(source)):
        return Archive(source)
    if is_archive(converted):
        return Archive(converted)
    converted.parent.mkdir(parents=True, exist_ok=True)
    if not source:
        announce("no --data: synthetic walkers stand in, whose figures say nothing about real ones")
        return write_walkers(converted, walkers or WalkerConfig())
    announce(f"converting {source} into {converted}")
    result = convert(source, converted, ConvertConfig())
    if result.left_out:
        announce(f"{len(result.left_out)} recordings of {source} were left out, first: {result.left_out[0].reason}")
    return result.archive


def _name(source: str) -> tuple[str, Path]:
    named = _NAMED.fullmatch(source)
    if named and not Path(source).exists():
        return named["name"].lower(), Path(named["path"])
    path = Path(source)
    name = re.sub(r"[^a-z0-9_-]+", "-", path.resolve().name.removesuffix(".sga").lower()).strip("-")
    return _KNOWN.get(name, name), path
