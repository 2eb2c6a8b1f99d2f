"""Finding and opening the files of a source: walking folders, first lines, whole texts, tables of numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from sgela_fast.errors import DataError

HEAD_BYTES = 8192
SNIFFED_FILES = 64
BINARY_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".bmp", ".gif", ".avi", ".mp4", ".mkv"),
    *(".npy", ".npz", ".mat", ".parquet", ".zip", ".gz", ".xz", ".7z", ".rar", ".pdf"),
)


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts ``2.txt`` before ``10.txt``."""
    words = re.split(r"(\d+)", path.as_posix())
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words]


def files_below(folder: Path) -> Iterator[Path]:
    """All files below ``folder``, hidden ones and hidden folders left out, in an order fixed by their names.

    Links to folders are followed, but not back into a folder that contains them.

    Raises:
        DataError: a folder cannot be listed.
    """
    yield from _walk(folder, frozenset())


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda item: item.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error
    yield from (Path(entry.path) for entry in entries if entry.is_file())
    above |= {folder.resolve()}
    for entry in entries:
        if entry.is_dir() and not (entry.is_symlink() and Path(entry.path).resolve() in above):
            yield from _walk(Path(entry.path), above)


def begins_with(file: Path, *beginnings: bytes) -> bool:
    """Whether ``file`` can be read and begins with one of ``beginnings``."""
    try:
        with file.open("rb") as stream:
            return stream.read(max(map(len, beginnings))).startswith(beginnings)
    except OSError:
        return False


def heads(path: Path, limit: int | None = SNIFFED_FILES) -> Iterator[tuple[Path, str]]:
    """The beginnings of the text files at ``path``: pairs of file and its first few kilobytes.

    Args:
        path: a file, or a folder that is walked.
        limit: how many text files to open; ``None`` for all.
    """
    files = [path] if path.is_file() else files_below(path)
    texts = (file for file in files if file.suffix.lower() not in BINARY_SUFFIXES)
    for file in islice(texts, limit):
        try:
            with file.open("rb") as stream:
                head = stream.read(HEAD_BYTES)
        except OSError:
            continue
        if b"\0" not in head:
            yield file, head.decode("utf-8-sig", errors="replace")


def first_line(head: str) -> str:
    """The first line that is not blank; empty if there is none."""
    return next((line for line in head.splitlines() if line.strip()), "")


def is_number(word: str) -> bool:
    """Whether ``word`` reads as a number (``nan`` and ``inf`` included)."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_text(path: Path) -> str:
    """The whole text of ``path``.

    Raises:
        DataError: it cannot be read, is not UTF-8 text, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check that it exists and is readable") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file (byte {error.start} is not UTF-8); copy it again") from error
    if not text.strip():
        raise DataError(f"{path} is empty; remove it or copy it again")
    if "\0" in text:
        raise DataError(f"{path} is not a text file (it holds zero bytes); copy it again")
    return text


def numbered_lines(text: str, skip: int = 0) -> list[tuple[int, str]]:
    """The lines that are not blank with their numbers, counted from 1; ``skip`` leading ones are left out."""
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()][skip:]


def number_table(
    path: Path, lines: list[tuple[int, str]], delimiter: str | None, columns: int, *, at_least: bool = False
) -> np.ndarray:
    """Parse ``lines`` as numbers.

    Args:
        path: named in errors.
        lines: pairs of line number and line.
        delimiter: what separates the columns; ``None`` for white space.
        columns: how many columns each line has.
        at_least: further columns are allowed and dropped.

    Returns:
        ``(lines, columns)`` float64; ``nan`` and ``inf`` are numbers here.

    Raises:
        DataError: no line, a wrong number of columns, a wrong delimiter, or a word that is not a number.
    """
    if not lines:
        raise DataError(f"{path} has no row of numbers; remove it or copy it again")
    rows = [line.split(delimiter)[: columns if at_least else None] for _, line in lines]
    try:
        values = np.array(rows, np.float64)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape == (len(lines), columns):
        return values
    raise _table_fault(path, lines, delimiter, columns, at_least)


def _table_fault(
    path: Path, lines: list[tuple[int, str]], delimiter: str | None, columns: int, at_least: bool
) -> DataError:
    wanted = f"{'at least ' if at_least else ''}{columns} columns separated by {delimiter_name(delimiter)}"
    for number, line in lines:
        words = line.split(delimiter)
        if len(words) < columns or (len(words) > columns and not at_least):
            if len(words) == 1 and columns > 1:
                return DataError(f"{path}, line {number} is not {wanted}; check the delimiter")
            mend = "the file seems cut off, copy it again" if number == lines[-1][0] != lines[0][0] else "mend the line"
            return DataError(f"{path}, line {number} has {len(words)} columns but needs {wanted}; {mend}")
        for column, word in enumerate(words[:columns], 1):
            if not is_number(word):
                return DataError(
                    f"{path}, line {number}, column {column} is {word.strip()[:20]!r}, not a number; mend or remove it"
                )
    return DataError(f"{path} holds no table of {wanted}; check the file")


def delimiter_name(delimiter: str | None) -> str:
    """How an error sentence calls ``delimiter``."""
    return {None: "white space", "\t": "tabs", ",": "commas", ";": "semicolons"}.get(delimiter, repr(delimiter))


def check_finite(path: Path, lines: list[tuple[int, str]], values: np.ndarray) -> None:
    """Refuse ``nan`` and ``inf`` in ``values``, one row for each of ``lines``.

    Raises:
        DataError: naming the line of the first one.
    """
    finite = np.isfinite(values).all(axis=-1)
    if not finite.all():
        number = lines[int(np.argmin(finite))][0]
        raise DataError(
            f"{path}, line {number} holds a coordinate that is not finite (nan or inf); write a lost joint as 0, 0, 0 "
            "or remove its frame"
        )
