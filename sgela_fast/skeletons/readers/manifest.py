"""The manifest: a CSV file that says who walks in which recording, and to which split it belongs."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sgela_fast.errors import DataError
from sgela_fast.skeletons.readers.base import RecordingRef
from sgela_fast.skeletons.shards import CHECKSUM, FIXED_COLUMNS

_OWN = ("recording", "source_file", "person", "frames", "fps")


@dataclass(frozen=True)
class ManifestRow:
    """One row; an empty cell counts as not stated."""

    line: int
    recording: str | None
    source_file: str | None
    person: str | None
    frames: int | None
    fps: float | None
    extra: dict[str, str]


class Manifest:
    """Rows of a manifest file, found by recording name or by source file.

    Columns: ``recording`` and/or ``source_file``, then any of ``person``, ``frames``, ``fps``; every further column
    (``split``, ``split_2``, ``sensor`` ...) is carried into the archive.

    Args:
        path: the CSV file.

    Raises:
        DataError: the file cannot be read, has neither key column, or names a recording twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = _read_rows(path)
        self._by_recording = self._index("recording")
        self._by_source = self._index("source_file")

    def _index(self, column: str) -> dict[str, ManifestRow]:
        index: dict[str, ManifestRow] = {}
        for row in self.rows:
            key = getattr(row, column)
            if key is None:
                continue
            if key in index:
                raise DataError(f"{self.path}, line {row.line} names {key!r} again; keep one row for each recording")
            index[key] = row
        return index

    def find(self, ref: RecordingRef) -> ManifestRow | None:
        """The row about ``ref``: by its name, else by its source file, of which either may lack leading folders."""
        if ref.name in self._by_recording:
            return self._by_recording[ref.name]
        if ref.source in self._by_source:
            return self._by_source[ref.source]
        whole = PurePosixPath(ref.path.absolute().as_posix()).parts
        fits = [row for source, row in self._by_source.items() if _is_tail(PurePosixPath(source).parts, whole)]
        fits = fits or [
            row
            for source, row in self._by_source.items()
            if _is_tail(PurePosixPath(ref.source).parts, PurePosixPath(source).parts)
        ]
        return fits[0] if len(fits) == 1 else None

    def apply(self, refs: list[RecordingRef]) -> tuple[list[RecordingRef], list[str]]:
        """Override names, persons, rates and further columns of ``refs``.

        Returns:
            The recordings, and the names of those that the manifest does not mention.

        Raises:
            DataError: the manifest mentions not one of them.
        """
        applied: list[RecordingRef] = []
        unknown: list[str] = []
        for ref in refs:
            row = self.find(ref)
            if row is None:
                unknown.append(ref.name)
                applied.append(ref)
                continue
            applied.append(
                replace(
                    ref,
                    name=row.recording or ref.name,
                    person=row.person or ref.person,
                    fps=row.fps or ref.fps,
                    extra={**ref.extra, **row.extra},
                )
            )
        if len(unknown) == len(refs):
            raise DataError(
                f"{self.path} mentions none of the {len(refs)} recordings, such as {refs[0].name!r} "
                f"({refs[0].source}); fill its column recording or source_file to fit"
            )
        return applied, unknown


def _is_tail(tail: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return len(tail) <= len(whole) and whole[len(whole) - len(tail) :] == tail


def _read_rows(path: Path) -> list[ManifestRow]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns = [name.strip() for name in table.fieldnames or ()]
            if not {"recording", "source_file"} & set(columns):
                raise DataError(
                    f"{path} has neither a column 'recording' nor 'source_file'; its columns are: "
                    f"{', '.join(columns) or 'none'}"
                )
            reserved = sorted({*FIXED_COLUMNS, CHECKSUM} & set(columns) - set(_OWN))
            if reserved:
                raise DataError(f"{path} has a column {reserved[0]!r}, which archives keep for themselves; rename it")
            table.fieldnames = columns
            return [_row(path, table.line_num, cells) for cells in table]
    except OSError as error:
        raise DataError(f"manifest {path} cannot be read ({error.strerror}); check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"manifest {path} is not a CSV text file ({error}); save it as UTF-8 CSV") from error


def _row(path: Path, line: int, cells: dict[str, str]) -> ManifestRow:
    if None in cells or None in cells.values():
        raise DataError(f"{path}, line {line} has another number of cells than the header; mend the line")
    stated = {name: value.strip() for name, value in cells.items() if value.strip()}
    try:
        frames = int(stated["frames"]) if "frames" in stated else None
        fps = float(stated["fps"]) if "fps" in stated else None
    except ValueError as error:
        raise DataError(f"{path}, line {line} has frames or fps that are not numbers ({error}); mend them") from error
    return ManifestRow(
        line=line,
        recording=stated.get("recording"),
        source_file=stated.get("source_file"),
        person=stated.get("person"),
        frames=frames,
        fps=fps,
        extra={name: value for name, value in stated.items() if name not in _OWN},
    )
