"""What is at a place: a recording, a folder of any known format, or an archive, and which recordings are at fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.archive import PLAN, Archive, is_archive
from sgela_fast.skeletons.config import QualityConfig, ReaderOptions
from sgela_fast.skeletons.quality import Finding, Quality, findings, measure
from sgela_fast.skeletons.readers.archive import ArchiveReader
from sgela_fast.skeletons.readers.base import RecordingRef
from sgela_fast.skeletons.readers.registry import Source, open_source
from sgela_fast.skeletons.recording import Recording


@dataclass(frozen=True)
class Inspection:
    """What was found at ``path``.

    Attributes:
        format: name of the file format.
        listed: recordings that were found, read or not.
        recordings: measures of those that could be read.
        findings: faults and remarks.
        columns: for each further column, such as ``split``, with at most ``MOST_VALUES`` values, recordings per value.
    """

    path: Path
    format: str
    listed: int
    recordings: tuple[Quality, ...]
    findings: tuple[Finding, ...]
    columns: dict[str, dict[str, int]]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are faults."""
        return tuple(item for item in self.findings if item.fault)

    def summary(self) -> dict[str, Any]:
        """Totals; lengths in metres, medians over recordings where nothing else is said."""
        found = self.recordings
        frames = np.array([item.frames for item in found])
        total = int(frames.sum())
        return {
            "path": str(self.path),
            "format": self.format,
            "layouts": dict(Counter(item.layout for item in found)),
            "recordings": self.listed,
            "unreadable": sum(item.kind == "unreadable" for item in self.findings),
            "persons": len({item.person for item in found if item.person is not None}),
            "frames": total,
            "frames_of_a_recording": _quantiles(frames),
            "fps": dict(Counter(f"{item.fps:g}" for item in found)),
            "units": dict(Counter(item.units for item in found)),
            "height": _median([item.height for item in found]),
            "up": dict(Counter(item.up for item in found)),
            "before_camera": dict(Counter(_WORDS[item.before_camera] for item in found)),
            "columns": self.columns,
            "lost_joints": sum(item.lost_joints for item in found),
            "lost_frames": sum(item.lost_frames for item in found) / max(total, 1),
            "nan_joints": sum(item.nan_joints for item in found),
            "jumping_frames": sum(item.jumping_frames for item in found) / max(total, 1),
            "bone_spread_within_recordings": _median([item.bone_spread for item in found]),
            "bone_spread_between_persons": bone_spread_between_persons(found),
            "sides_agree": _median([item.sides_agree for item in found if item.sides_agree is not None]),
            "faulty_recordings": len({item.recording for item in self.faults}),
        }

    def as_json(self) -> dict[str, Any]:
        """Summary, findings, and every recording's measures."""
        return {
            **self.summary(),
            "findings": [asdict(item) for item in self.findings],
            "measures": [asdict(item) for item in self.recordings],
        }


_WORDS = {True: "yes", False: "no", None: "centred"}
MOST_VALUES = 50


def open_for_inspection(path: str | Path, format: str = "auto", options: ReaderOptions | None = None) -> Source:
    """List the recordings at ``path``.

    Raises:
        DataError: there is nothing, nothing known, or an unfinished archive.
    """
    path = Path(path)
    if (path / PLAN).exists() and not is_archive(path):
        Archive(path)  # says that it is unfinished
    return open_source(path, format, options=options)


def inspect(
    source: Source, config: QualityConfig | None = None, *, advance: Callable[[int], object] | None = None
) -> Inspection:
    """Read every recording, one in memory at a time, and say what is there and what is at fault.

    Args:
        source: what :func:`open_for_inspection` found.
        config: limits.
        advance: called with the number of recordings that were dealt with.
    """
    config = config or QualityConfig()
    measured: list[Quality] = []
    found: list[Finding] = []
    first_with: dict[str, str] = {}
    columns: dict[str, Counter[str]] = {}
    for ref, read in _readings(source):
        for name, value in ref.extra.items():
            columns.setdefault(name, Counter())[value] += 1
        try:
            quality = measure(read(), config)
        except DataError as error:
            found.append(Finding("unreadable", ref.name, ref.source, str(error)))
        else:
            measured.append(quality)
            found.extend(findings(quality, config))
            twin = first_with.setdefault(quality.digest, ref.name)
            if twin != ref.name:
                found.append(Finding("duplicate", ref.name, ref.source, f"has exactly the frames of {twin}"))
        if advance is not None:
            advance(1)
    return Inspection(
        path=source.path,
        format=source.reader.name,
        listed=len(source),
        recordings=tuple(measured),
        findings=(*found, *_damage(source)),
        columns={name: dict(values) for name, values in columns.items() if len(values) <= MOST_VALUES},
    )


def _readings(source: Source) -> Iterator[tuple[RecordingRef, Callable[[], Recording]]]:
    """Each listed recording and how to read it; an archive's are read as they are, without the readers' refusals."""
    archive = Archive(source.path) if isinstance(source.reader, ArchiveReader) else None
    for ref in source.refs:
        if archive is not None:
            yield ref, partial(archive.__getitem__, ref.key)
        else:
            yield ref, partial(source.reader.read, ref)


def _damage(source: Source) -> Iterator[Finding]:
    if isinstance(source.reader, ArchiveReader):
        try:
            Archive(source.path).verify()
        except DataError as error:
            yield Finding("damaged", str(source.path), "", str(error))


def bone_spread_between_persons(recordings: tuple[Quality, ...]) -> float | None:
    """Mean over the bones of the standard deviation of the persons' mean lengths, metres; needs two persons."""
    layouts = {item.layout for item in recordings}
    persons: dict[str, list[tuple[float, ...]]] = {}
    for item in recordings:
        if item.person is not None:
            persons.setdefault(item.person, []).append(item.bone_means)
    if len(persons) < 2 or len(layouts) != 1:
        return None
    means = np.array([np.mean(bones, axis=0) for bones in persons.values()])  # (C, bones)
    return float(means.std(axis=0, ddof=1).mean())


def _quantiles(values: np.ndarray) -> dict[str, int] | None:
    if not len(values):
        return None
    return {"least": int(values.min()), "median": int(np.median(values)), "most": int(values.max())}


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
