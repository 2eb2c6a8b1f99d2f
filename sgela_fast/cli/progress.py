"""Progress on stderr: a bar with ETA on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

PLAIN_EVERY_SECONDS = 5.0


class Progress:
    """A context manager whose :meth:`advance` a job calls.

    Args:
        title: what is going on, such as ``Converting``.
        total: units of work, ``None`` if unknown.
        unit: what is counted, in the plural.
    """

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._done = self._done_before = 0
        self._start = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.unit),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            self._print_line("done")

    def set_done(self, units: int) -> None:
        """State work that an earlier, interrupted job did already."""
        self._done = self._done_before = units
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=self.total, completed=units)

    def plan(self, done: int, total: int) -> None:
        """State the units of the whole job, once they are known, and those that an earlier job did."""
        self.total = total
        self._start = time.monotonic()
        self.set_done(done)

    def advance(self, units: int = 1, *, note: str = "") -> None:
        """Report ``units`` more units; ``note`` is a short remark such as the current loss."""
        self._done += units
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=units, note=note)
        elif time.monotonic() - self._last_line >= PLAIN_EVERY_SECONDS:
            self._print_line(note)

    def _print_line(self, note: str) -> None:
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._start
        of_total = "" if self.total is None else f" of {self.total:,}"
        eta = ""
        mine = self._done - self._done_before
        if self.total is not None and mine > 0 and self._done < self.total:
            eta = f", ETA {elapsed * (self.total - self._done) / mine:.0f} s"
        remark = f" ({note})" if note else ""
        line = f"{self.title}: {self._done:,}{of_total} {self.unit}, {elapsed:.0f} s{eta}{remark}"
        print(line, file=sys.stderr, flush=True)
