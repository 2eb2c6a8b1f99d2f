"""The job: a plan's cells, the most informative first, within a budget, resumed where an earlier run ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sgela_fast.atomic import make_folder, write_json
from sgela_fast.errors import Interrupted
from sgela_fast.locking import exclusive
from sgela_fast.reproduction.agenda import Agenda, Outlook
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
from sgela_fast.reproduction.rows import Intervals
from sgela_fast.reproduction.steps import decide_steps
from sgela_fast.reproduction.stores import KeptStores
from sgela_fast.reproduction.tables import Table, make_tables, write_tables
from sgela_fast.reproduction.workers import Bench, Ended, InProcess, Processes
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.stopping import terminable

LOCK = ".lock"


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
        tables: what stands in ``tables.md``.
    """

    out: Path
    cells: list[CellResult]
    done: int
    failed: dict[str, str]
    left: list[str]
    claims: list[dict[str, Any]]
    leakage: list[dict[str, Any]]
    tables: list[Table]


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
        self.created: str | None = None
        self.claims: list[dict[str, Any]] = []
        self.leakage: list[dict[str, Any]] = []
        if before is None:
            self.encoders.steps = decide_steps(self.cells, self.encoders, self.job, announce)
        else:
            self.encoders.steps, self.created = int(before["steps"]), before["created"]
            self.claims, self.leakage = before.get("claims", []), before.get("leakage", [])
        stores = KeptStores(out / STORES, self.job.keep_stores, self.job.stores_gb)
        self.agenda = Agenda(self.cells, self.folder.read(), self.encoders, stores)
        evaluation = self.config.evaluation
        self._intervals = Intervals(self.folder.read_probes, evaluation.resamples, evaluation.confidence)
        self.costs = Costs(
            {data.name: data for data in self.data},
            replace(self.config.window, stride=self.config.encoding.stride or self.config.window.stride),
            lambda spec: max(0, self.encoders.target(spec) - self.encoders.taken(spec)),
            lambda: self.encoders.step_seconds,
            self.config.training.windows_a_step,
        )
        self.costs.learn(self.cells, self.agenda.results)

    @property
    def pending(self) -> list[Cell]:
        """Cells that are neither done nor failed."""
        return self.agenda.pending

    def outlook(self) -> list[Outlook]:
        """What is still to be done, in order; nothing is changed but for data sets that had to be converted."""
        self.agenda.look_around()
        return self.agenda.outlook(self.costs, self.job.seconds)

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
            for remark in self.encoders.adopt(self.agenda.encoders_needed()):
                self.announce(remark)
            self.agenda.look_around()
            self.agenda.tidy()
            before = len(self.cells) - len(self.pending)
            planned(before, len(self.cells))
            bench = Bench(
                self.out,
                self.config if self.job.jobs == 1 else self.config.with_threads(1),
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
            finished = self.agenda.finished
            self.leakage = look_for_leaks(self.data, finished, self.config.training.train_value, self.leakage)
            claims = judge(self.folder, finished, self.config.evaluation.resamples)
            self.claims = [claim.as_json() for claim in claims]
            tables = self._save()
        failed, left = dict(self.agenda.failed), [cell.result.cell for cell in self.pending]
        return Report(self.out, finished, len(finished) - before, failed, left, self.claims, self.leakage, tables)

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
            self.agenda.tidy(workers.parts)

    def _next(self, running: Sequence[Part]) -> Part | None:
        """The part that brings the most informative cell forward for which there is time."""
        committed = sum(self.costs.estimate(part) for part in running) / max(1, self.job.jobs)
        for work, _ in self.agenda.works():
            chain = self.agenda.chain(work)
            if any(part in running for part in chain):
                continue
            left = self._left()
            if left is not None and sum(map(self.costs.estimate, chain)) + (committed if running else 0) > left:
                continue
            first = chain[0]
            if isinstance(first, EncoderSpec) and self._adopt(first):
                return self._next(running)
            if isinstance(first, StoreSpec):
                self.agenda.make_room(running)
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
                self.agenda.ready.add(part)
                if part.trained:
                    self.costs.observe(part, *self._training_cost(part))
            else:
                self.agenda.give_up(part)  # the budget ended first; the next run goes on with it
            return 0
        self.costs.observe(part, ended.seconds)
        if isinstance(part, StoreSpec):
            self.agenda.stores.made.add(part)
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
                reason = f"{work.name} has no figures under protocol {cell.result.protocol}"
                self.agenda.failed[cell.result.cell] = reason
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
        self.agenda.results |= {cell.cell: cell for cell in finished}
        return len(finished)

    def _fail(self, part: Part, reason: str) -> None:
        for cell in self.agenda.fail(part, reason):
            self.announce(f"{cell} failed: {reason}")
        self._write_failures()

    def _left(self) -> float | None:
        """Seconds of the budget that are left."""
        return None if self.job.seconds is None else self.job.seconds - (time.monotonic() - self.begun)

    def _adopt(self, spec: EncoderSpec) -> bool:
        """Look once more whether somebody has trained it meanwhile."""
        remarks = self.encoders.adopt([spec])
        for remark in remarks:
            self.announce(remark)
            self.agenda.ready.add(spec)
        return bool(remarks)

    def _training_cost(self, spec: EncoderSpec) -> tuple[float, float]:
        """Seconds and units of a finished training."""
        summary = self.encoders.summary(spec)
        assert summary is not None
        return summary["seconds"], summary["steps"] * spec.frames

    def _save(self) -> list[Table]:
        """Write what is shown of the whole; returns the tables."""
        content = describe_run(self.config, self.data, self.encoders, self.created)
        self.created = content["created"]
        self.folder.write_index({**content, "job": asdict(self.job), "claims": self.claims, "leakage": self.leakage})
        self._write_failures()
        done = self.agenda.finished
        tables = make_tables(done, self.claims, self.leakage, self._intervals)
        write_tables(self.out, tables, done)
        return tables

    def _write_failures(self) -> None:
        write_json(self.out / FAILURES, [{"cell": cell, "error": error} for cell, error in self.agenda.failed.items()])
