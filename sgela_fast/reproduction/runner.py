"""The job: a plan's cells, the most informative first, within a budget, resumed where an earlier run ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sgela_fast.atomic import make_folder, write_json
from sgela_fast.errors import Interrupted
from sgela_fast.locking import exclusive
from sgela_fast.reproduction.cells import Cell, EncoderSpec, StoreSpec, Work, plan
from sgela_fast.reproduction.claim import check_same, describe_run
from sgela_fast.reproduction.claims import judge
from sgela_fast.reproduction.config import JobConfig, ReproductionConfig
from sgela_fast.reproduction.costs import Costs, Part
from sgela_fast.reproduction.datasets import open_datasets
from sgela_fast.reproduction.encoders import Encoders
from sgela_fast.reproduction.leaks import look_for_leaks
from sgela_fast.reproduction.measure import STORES, Measured
from sgela_fast.reproduction.results import FAILURES, INDEX, CellResult, ResultsFolder
from sgela_fast.reproduction.stores import KeptStores
from sgela_fast.reproduction.tables import make_tables, write_tables
from sgela_fast.reproduction.workers import Bench, Ended, InProcess, Processes
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.stopping import terminable

LOCK = ".lock"
_REPLICAS = 5  # tier of cells from which on encoders do not share the budget's steps


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


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        out: the folder.
        cells: all finished cells of the plan, those of earlier runs included, in the plan's order.
        done: cells finished in this run.
        failed: cell to the reason why it failed.
        left: cells for which there was no time.
        claims: which of the paper's claims hold (:class:`sgela_fast.reproduction.claims.Claim`), as plain data.
        leakage: what speaks against figures of a data set (:mod:`sgela_fast.reproduction.leaks`).
    """

    out: Path
    cells: list[CellResult]
    done: int
    failed: dict[str, str]
    left: list[str]
    claims: list[dict[str, Any]]
    leakage: list[dict[str, Any]]


def reproduce(
    sources: Sequence[str],
    out: str | Path,
    config: ReproductionConfig | None = None,
    job: JobConfig | None = None,
    *,
    walkers: WalkerConfig | None = None,
    progress: Callable[..., None] = lambda units=1, *, note="": None,
    announce: Callable[[str], None] = lambda line: None,
    planned: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Rerun the paper's experiments; a cell that stands in ``out`` already is not done again.

    Args:
        sources: archives or folders of recordings; none for synthetic walkers.
        out: folder of the results.
        config: what is reproduced.
        job: budget, processes, encoders from elsewhere.
        walkers: the synthetic walkers.
        progress: called with finished cells and a remark.
        announce: called with one-line remarks.
        planned: called once with the cells that earlier runs did, and all.

    Raises:
        DataError: a data set cannot be read, or ``out`` is damaged.
        OutputError: ``out`` holds results of other settings or data, is in use, or cannot be written.
        Interrupted: stopped by the user; go on with the same command.
    """
    runner = Runner(sources, Path(out), config, job, walkers=walkers, announce=announce)
    return runner.run(progress, planned)


class Runner:
    """A reproduction whose plan is made.

    Args:
        sources: see :func:`reproduce`; so are all others.
    """

    def __init__(
        self,
        sources: Sequence[str],
        out: Path,
        config: ReproductionConfig | None = None,
        job: JobConfig | None = None,
        *,
        walkers: WalkerConfig | None = None,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.begun = time.monotonic()
        self.out, self.config, self.job = out, config or ReproductionConfig(), job or JobConfig()
        self.announce = announce
        self.folder = ResultsFolder(out)
        before = self.folder.read_index() if (out / INDEX).exists() else None
        train_value = self.config.training.train_value
        self.data = open_datasets(sources, out, self.config.splits, train_value, announce, walkers)
        if before is not None:
            check_same(out, before, self.config, self.data)
        self.cells = plan(self.config, self.data)
        self.encoders = Encoders(out, self.config, self.data, self.job.encoders)
        self.encoders.steps = int(before["steps"]) if before is not None else self._decide_steps()
        self.created = before["created"] if before is not None else None
        self.claims: list[dict[str, Any]] = before.get("claims", []) if before is not None else []
        self.leakage: list[dict[str, Any]] = before.get("leakage", []) if before is not None else []
        self.results = {cell.cell: cell for cell in self.folder.read()}
        self.failed: dict[str, str] = {}
        self._broken: dict[Part, str] = {}
        self._ready: set[EncoderSpec] = set()
        self._stores = KeptStores(out / STORES, self.job.keep_stores, self.job.stores_gb)
        self.costs = Costs(
            {data.name: data for data in self.data},
            replace(self.config.window, stride=self.config.encoding.stride or self.config.window.stride),
            lambda spec: max(0, self.encoders.target(spec) - self.encoders.taken(spec)),
            lambda: self.encoders.step_seconds,
            self.config.training.windows_a_step,
        )
        self._learn_costs()

    @property
    def pending(self) -> list[Cell]:
        """Cells that are neither done nor failed."""
        ended = self.results.keys() | self.failed.keys()
        return [cell for cell in self.cells if cell.result.cell not in ended]

    def outlook(self) -> list[Outlook]:
        """What is still to be done, in order; nothing is changed but for data sets that had to be converted."""
        self._look_around()
        made: set[Part] = {*self._ready, *self._stores.made}
        elsewhere = {spec for spec in self._specs() if self.encoders.is_elsewhere(spec)} - made
        found, until = [], 0.0
        for work, cells in self._works():
            parts = [part for part in self._chain(work) if part not in made]
            seconds = sum(self.costs.estimate(part) for part in parts if part not in elsewhere)
            fits = self.job.seconds is None or until + seconds <= self.job.seconds
            if fits:
                until += seconds
                made |= {*parts}
            names = tuple(part.name for part in parts if part != work and part not in elsewhere)
            found += [Outlook(cell.result.cell, names, seconds, until, fits) for cell in cells[:1]]
            found += [Outlook(cell.result.cell, (), 0.0, until, fits) for cell in cells[1:]]
        return found

    def run(
        self,
        progress: Callable[..., None] = lambda units=1, *, note="": None,
        planned: Callable[[int, int], None] = lambda done, total: None,
    ) -> Report:
        """Do what is still to be done."""
        make_folder(self.out)
        taken = f"another process is reproducing into {self.out}; wait for it or choose another --out"
        with exclusive(self.out / LOCK, taken), terminable():
            self._save()
            for remark in self.encoders.adopt(self._specs()):
                self.announce(remark)
            self._look_around()
            self._tidy()
            before = len(self.cells) - len(self.pending)
            planned(before, len(self.cells))
            bench = Bench(
                self.out,
                self._config_of_workers(),
                {data.name: str(data.archive.path) for data in self.data},
                self.encoders.steps,
            )
            note = lambda remark: progress(0, note=remark)  # noqa: E731
            workers = InProcess(bench, note) if self.job.jobs == 1 else Processes(bench, self.job.jobs, note)
            try:
                self._loop(workers, progress)
            except (KeyboardInterrupt, Interrupted):
                workers.stop()
                self._save()
                done = len(self.cells) - len(self.pending)
                raise Interrupted(
                    f"stopped with {done} of {len(self.cells)} cells done; go on with the same command ({self.out})"
                ) from None
            finally:
                workers.stop()
            self.leakage = look_for_leaks(self.data, self._finished(), self.config.training.train_value, self.leakage)
            claims = judge(self.folder, self._finished(), self.config.evaluation.resamples)
            self.claims = [claim.as_json() for claim in claims]
            self._save()
        finished = self._finished()
        left = [cell.result.cell for cell in self.pending]
        return Report(self.out, finished, len(finished) - before, dict(self.failed), left, self.claims, self.leakage)

    def _loop(self, workers: InProcess | Processes, progress: Callable[..., None]) -> None:
        while True:
            while workers.free and (part := self._next(workers.parts)) is not None:
                workers.begin(part, self._left())
                if isinstance(workers, InProcess):
                    break
            if not workers.parts:
                return
            for ended in workers.wait():
                progress(self._note_end(ended), note="")
            self._tidy(workers.parts)

    def _next(self, running: Sequence[Part]) -> Part | None:
        """The part that brings the most informative cell forward for which there is time."""
        committed = sum(self.costs.estimate(part) for part in running) / max(1, self.job.jobs)
        for work, _ in self._works():
            chain = self._chain(work)
            if any(part in running for part in chain):
                continue
            left = self._left()
            if left is not None and sum(map(self.costs.estimate, chain)) + (committed if running else 0) > left:
                continue
            first = chain[0]
            if isinstance(first, EncoderSpec) and self._adopt(first):
                return self._next(running)
            if isinstance(first, StoreSpec):
                self._make_room(running)
            return first
        return None

    def _note_end(self, ended: Ended) -> int:
        """Take in what a part came to; returns the number of cells that it finished."""
        part = ended.part
        if ended.error is not None:
            self._fail(part, ended.error)
            return 0
        if isinstance(part, EncoderSpec):
            if ended.result:
                self._ready.add(part)
                if part.trained:
                    self.costs.observe(part, *self._training_cost(part))
            else:
                self._broken[part] = ""  # the budget ended first; the next run goes on with it
            return 0
        self.costs.observe(part, ended.seconds)
        if isinstance(part, StoreSpec):
            self._stores.made.add(part)
            return 0
        return self._enter(part, ended.result, ended.seconds)

    def _enter(self, work: Work, measured: dict[str | None, Measured], seconds: float) -> int:
        """Write the results of a work's cells."""
        files = {
            protocol: self.folder.write_probes(
                work.name if len(measured) == 1 else f"{work.name}-{protocol}", found.probes
            )
            for protocol, found in measured.items()
            if found.probes is not None
        }
        finished = []
        for cell in self.pending:
            if cell.work != work:
                continue
            found = measured.get(cell.result.protocol)
            if found is None:
                self.failed[cell.result.cell] = f"{work.name} has no figures under protocol {cell.result.protocol}"
                continue
            entries = {name: value for name, value in vars(found).items() if name not in ("probes", "notes")}
            finished.append(
                replace(
                    cell.result,
                    **entries,
                    probes=0 if found.probes is None else len(found.probes.rank),
                    probes_file=files.get(cell.result.protocol),
                    seconds=round(seconds, 3),
                    notes=list(found.notes),
                )
            )
        self.folder.append(finished)
        self.results |= {cell.cell: cell for cell in finished}
        return len(finished)

    def _fail(self, part: Part, reason: str) -> None:
        self._broken[part] = reason
        for cell in self.pending:
            if part in self._chain(cell.work, everything=True):
                self.failed[cell.result.cell] = reason
                self.announce(f"{cell.result.cell} failed: {reason}")
        self._write_failures()

    def _works(self) -> Iterator[tuple[Work, list[Cell]]]:
        """Works that are still to be done, each with its cells, in order."""
        cells: dict[Work, list[Cell]] = {}
        for cell in self.pending:
            cells.setdefault(cell.work, []).append(cell)
        for work, own in cells.items():
            if not any(part in self._broken for part in self._chain(work)):
                yield work, own

    def _chain(self, work: Work, everything: bool = False) -> list[Part]:
        """What has to be done for ``work``, itself last; what is there is left out unless ``everything``."""
        parts: list[Part] = []
        stored = work.store is not None and work.store in self._stores.made
        if work.needs is not None and (everything or (work.needs not in self._ready and not stored)):
            parts.append(work.needs)
        if work.store is not None and (everything or not stored):
            parts.append(work.store)
        return [*parts, work]

    def _left(self) -> float | None:
        """Seconds of the budget that are left."""
        return None if self.job.seconds is None else self.job.seconds - (time.monotonic() - self.begun)

    def _specs(self) -> list[EncoderSpec]:
        """Encoders of pending cells, each once."""
        return list(dict.fromkeys(cell.work.needs for cell in self.pending if cell.work.needs is not None))

    def _adopt(self, spec: EncoderSpec) -> bool:
        """Look once more whether somebody has trained it meanwhile."""
        remarks = self.encoders.adopt([spec])
        for remark in remarks:
            self.announce(remark)
            self._ready.add(spec)
        return bool(remarks)

    def _look_around(self) -> None:
        """Find encoders and encodings that earlier runs left."""
        self._ready = {spec for spec in self._specs() if self.encoders.ready(spec)}
        self._stores.find({cell.work.store for cell in self.pending if cell.work.store is not None})

    def _tidy(self, running: Sequence[Part] = ()) -> None:
        """Delete encodings that no cell needs any more."""
        needed = {work.store for work, _ in self._works()} | {
            part.store if isinstance(part, Work) else part for part in running
        }
        self._stores.tidy(store for store in needed if isinstance(store, StoreSpec))

    def _make_room(self, running: Sequence[Part]) -> None:
        """Delete the encodings that are needed last, where all of them would take too much room."""
        in_use = {part.store for part in running if isinstance(part, Work)}
        by_need = [work.store for work, _ in self._works() if work.store in self._stores.made]
        self._stores.make_room(
            list(dict.fromkeys(store for store in by_need if store is not None and store not in in_use))
        )

    def _decide_steps(self) -> int:
        """Steps of all encoders, so that they can be compared; 0 for the epochs of the settings.

        What the settings say counts first, then what encoders from elsewhere have, then what the budget allows.
        """
        if self.config.training.max_steps:
            return self.config.training.max_steps
        specs = self._all_specs()
        elsewhere = self.encoders.steps_elsewhere(specs)
        if elsewhere:
            self.announce(f"all encoders are trained for {elsewhere:,} steps, as those found elsewhere")
            return elsewhere
        if self.job.seconds is None or not specs:
            return 0
        seconds = self.job.seconds * self.job.training_share * self.job.jobs
        allowed = int(seconds / (len(specs) * self.encoders.step_seconds))
        most = min(self.config.training.epochs * self.encoders.steps_an_epoch(spec) for spec in specs)
        steps = max(1, min(most, _two_digits(allowed)))
        self.announce(f"all {len(specs)} encoders are trained for {steps:,} steps each, to keep to the budget")
        return steps

    def _all_specs(self) -> list[EncoderSpec]:
        """Trained encoders of the first seed and split, those of the sweeps aside."""
        specs = [cell.work.needs for cell in self.cells if cell.order[0] < _REPLICAS]
        return list(dict.fromkeys(spec for spec in specs if spec is not None and spec.trained))

    def _learn_costs(self) -> None:
        """What earlier runs measured."""
        seen: set[Work] = set()
        for cell in self.cells:
            done = self.results.get(cell.result.cell)
            if done is None or cell.work in seen:
                continue
            seen.add(cell.work)
            self.costs.observe(cell.work, done.seconds)
            if cell.work.needs and done.training and "adopted_from" not in done.training:
                units = done.training["steps"] * cell.work.needs.frames
                self.costs.observe(cell.work.needs, done.training["seconds"], units)

    def _training_cost(self, spec: EncoderSpec) -> tuple[float, float]:
        """Seconds and units of a finished training."""
        summary = self.encoders.summary(spec)
        assert summary is not None
        return summary["seconds"], summary["steps"] * spec.frames

    def _config_of_workers(self) -> ReproductionConfig:
        """The settings, with one thread each where there are several processes."""
        if self.job.jobs == 1:
            return self.config
        return replace(
            self.config,
            training=replace(self.config.training, threads=1),
            encoding=replace(self.config.encoding, threads=1),
            evaluation=replace(self.config.evaluation, threads=1),
        )

    def _save(self) -> None:
        """Write what is shown of the whole."""
        content = describe_run(self.config, self.data, self.encoders, self.created)
        self.created = content["created"]
        self.folder.write_index({**content, "job": asdict(self.job), "claims": self.claims, "leakage": self.leakage})
        self._write_failures()
        done = self._finished()
        write_tables(self.out, make_tables(done, self.claims, self.leakage), done)

    def _finished(self) -> list[CellResult]:
        """Finished cells of the plan, in its order."""
        return [self.results[cell.result.cell] for cell in self.cells if cell.result.cell in self.results]

    def _write_failures(self) -> None:
        write_json(self.out / FAILURES, [{"cell": cell, "error": error} for cell, error in self.failed.items()])


def _two_digits(number: int) -> int:
    """Rounded down to two significant digits: nobody remembers 3,187 steps."""
    scale = 10 ** max(0, len(str(number)) - 2)
    return number // scale * scale
