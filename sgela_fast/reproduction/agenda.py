"""What of a plan is still to be done: in which order, what each cell takes, and which encodings may go meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sgela_fast.reproduction.cells import Cell, EncoderSpec, StoreSpec, Work
from sgela_fast.reproduction.costs import Costs, Part
from sgela_fast.reproduction.encoders import Encoders
from sgela_fast.reproduction.results import CellResult
from sgela_fast.reproduction.stores import KeptStores


@dataclass(frozen=True)
class Outlook:
    """A cell that is still to be done, and what it takes.

    Attributes:
        cell: its name.
        needs: encoder and encodings that have to be made for it and for no cell before it.
        seconds: for these and itself.
        until: seconds until it is finished, counted from the beginning.
        fits: whether that is within the budget.
    """

    cell: str
    needs: tuple[str, ...]
    seconds: float
    until: float
    fits: bool


class Agenda:
    """The cells of a plan that are not done yet, and what is there for them.

    Args:
        cells: of the plan, the most informative first.
        results: of earlier runs.
        encoders: in the folder of the reproduction.
        stores: encodings in it.

    Attributes:
        results: cell to what was found.
        failed: cell to the reason why it failed.
        ready: encoders that can be encoded with.
    """

    def __init__(
        self, cells: Sequence[Cell], results: Sequence[CellResult], encoders: Encoders, stores: KeptStores
    ) -> None:
        self.cells, self.encoders, self.stores = cells, encoders, stores
        self.results = {cell.cell: cell for cell in results}
        self.failed: dict[str, str] = {}
        self.ready: set[EncoderSpec] = set()
        self._given_up: set[Part] = set()

    @property
    def pending(self) -> list[Cell]:
        """Cells that are neither done nor failed."""
        ended = self.results.keys() | self.failed.keys()
        return [cell for cell in self.cells if cell.result.cell not in ended]

    @property
    def finished(self) -> list[CellResult]:
        """Finished cells of the plan, in its order."""
        return [self.results[cell.result.cell] for cell in self.cells if cell.result.cell in self.results]

    def works(self) -> Iterator[tuple[Work, list[Cell]]]:
        """Works that are still to be done, each with its cells, in order."""
        cells: dict[Work, list[Cell]] = {}
        for cell in self.pending:
            cells.setdefault(cell.work, []).append(cell)
        for work, own in cells.items():
            if not any(part in self._given_up for part in self.chain(work)):
                yield work, own

    def chain(self, work: Work, everything: bool = False) -> list[Part]:
        """What has to be done for ``work``, itself last; what is there is left out unless ``everything``."""
        parts: list[Part] = []
        stored = work.store is not None and work.store in self.stores.made
        if work.needs is not None and (everything or (work.needs not in self.ready and not stored)):
            parts.append(work.needs)
        if work.store is not None and (everything or not stored):
            parts.append(work.store)
        return [*parts, work]

    def encoders_needed(self) -> list[EncoderSpec]:
        """Encoders of pending cells, each once."""
        return list(dict.fromkeys(cell.work.needs for cell in self.pending if cell.work.needs is not None))

    def outlook(self, costs: Costs, budget_seconds: float | None) -> list[Outlook]:
        """What is still to be done, in order."""
        made: set[Part] = {*self.ready, *self.stores.made}
        elsewhere = {spec for spec in self.encoders_needed() if self.encoders.is_elsewhere(spec)} - made
        found, until = [], 0.0
        for work, cells in self.works():
            parts = [part for part in self.chain(work) if part not in made]
            seconds = sum(costs.estimate(part) for part in parts if part not in elsewhere)
            fits = budget_seconds is None or until + seconds <= budget_seconds
            if fits:
                until += seconds
                made |= {*parts}
            names = tuple(part.name for part in parts if part != work and part not in elsewhere)
            found += [Outlook(cell.result.cell, names, seconds, until, fits) for cell in cells[:1]]
            found += [Outlook(cell.result.cell, (), 0.0, until, fits) for cell in cells[1:]]
        return found

    def give_up(self, part: Part) -> None:
        """Leave out, in this run, whatever takes ``part``."""
        self._given_up.add(part)

    def fail(self, part: Part, reason: str) -> list[str]:
        """Note that ``part`` failed; returns the cells that fail with it."""
        self.give_up(part)
        cells = [cell.result.cell for cell in self.pending if part in self.chain(cell.work, everything=True)]
        self.failed |= dict.fromkeys(cells, reason)
        return cells

    def look_around(self) -> None:
        """Find encoders and encodings that earlier runs left."""
        self.ready = {spec for spec in self.encoders_needed() if self.encoders.ready(spec)}
        self.stores.find({cell.work.store for cell in self.pending if cell.work.store is not None})

    def tidy(self, running: Sequence[Part] = ()) -> None:
        """Delete encodings that no cell needs any more."""
        needed = {work.store for work, _ in self.works()} | {
            part.store if isinstance(part, Work) else part for part in running
        }
        self.stores.tidy(store for store in needed if isinstance(store, StoreSpec))

    def make_room(self, running: Sequence[Part]) -> None:
        """Delete the encodings that are needed last, where all of them would take too much room."""
        in_use = {part.store for part in running if isinstance(part, Work)}
        by_need = [work.store for work, _ in self.works() if work.store in self.stores.made]
        self.stores.make_room(
            list(dict.fromkeys(store for store in by_need if store is not None and store not in in_use))
        )
