"""What the page consists of, before it is HTML: sections of tables, diagrams and sentences."""

from __future__ import annotations

import itertools
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: what it shows.
        head: titles of the columns.
        rows: cells; the first of each row is its title.
        numeric: positions of the columns that hold figures.
        left_out: rows that are not shown.
        folded: whether it is closed until somebody opens it.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    left_out: int = 0
    folded: bool = False

    @classmethod
    def bounded(
        cls, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], most: int, numeric: Sequence[int] = ()
    ) -> Table:
        """A table of the first ``most`` rows that counts the others."""
        kept = tuple(tuple(row) for row in rows[:most])
        return cls(caption, tuple(head), kept, tuple(numeric), max(0, len(rows) - most))

    def without_empty_columns(self) -> Table:
        """The same without the columns of which no row says anything."""
        kept = [place for place in range(len(self.head)) if any(row[place] not in ("", "–") for row in self.rows)]
        return replace(
            self,
            head=tuple(self.head[place] for place in kept),
            rows=tuple(tuple(row[place] for place in kept) for row in self.rows),
            numeric=tuple(number for number, place in enumerate(kept) if place in self.numeric),
        )


@dataclass(frozen=True)
class Heat:
    """A matrix drawn as a table with coloured cells.

    Attributes:
        caption: what it shows.
        across: what its columns are.
        down: what its rows are.
        columns: titles of the columns.
        rows: titles of the rows.
        cells: rows of (text, level of colour from 0 to 5).
    """

    caption: str
    across: str
    down: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[tuple[str, int], ...], ...]

    @staticmethod
    def coloured(matrix: NDArray[np.float64], top: float, digits: int) -> tuple[tuple[tuple[str, int], ...], ...]:
        """Cells of a matrix, the darkest at ``top``; a dash where there is no number."""
        known = np.nan_to_num(matrix, nan=0.0)
        levels = np.minimum((6 * np.clip(known, 0, None) / top).astype(int), 5)
        return tuple(
            tuple(
                ("–" if np.isnan(value) else f"{value:.{digits}f}", int(level))
                for value, level in zip(row, of_row, strict=True)
            )
            for row, of_row in zip(matrix, levels, strict=True)
        )


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its anchor, and the name of its template where it has one of its own.
        title: heading.
        lead: sentences before anything else.
        missing: in place of a content: one sentence that says why there is none and how to get it.
        parts: groups of diagrams and tables, drawn in order.
        data: what the section's own template draws.
    """

    key: str
    title: str
    lead: tuple[str, ...] = ()
    missing: str = ""
    parts: tuple[Any, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


def in_words(names: Sequence[str]) -> str:
    """Such as ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def per_cent(value: float | None, digits: int = 1) -> str:
    """A figure that is per cent already; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def distinct(label: str, taken: Container[str]) -> str:
    """The label, with a number where it is taken already."""
    return (
        label
        if label not in taken
        else next(name for n in itertools.count(2) if (name := f"{label} ({n})") not in taken)
    )


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of the positions 0 to count - 1, evenly spaced, the first and last among them."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count // 2]
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})
