"""The parts of a reproduction at work: in this process, or in several with one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from sgela_fast.errors import Interrupted, SgelaError, one_line
from sgela_fast.reproduction.cells import EncoderSpec, StoreSpec
from sgela_fast.reproduction.config import ReproductionConfig
from sgela_fast.reproduction.costs import Part
from sgela_fast.reproduction.datasets import DataSet
from sgela_fast.reproduction.encoders import Encoders
from sgela_fast.reproduction.measure import Workshop, timed
from sgela_fast.skeletons.archive import Archive

_STOPPING_SECONDS = 120.0  # for a training to finish its step and save
_NOTE_SECONDS = 1.0


class Ended(NamedTuple):
    """How a part ended.

    Attributes:
        part: which one.
        seconds: what it took.
        result: of the work; of an encoder whether it is finished.
        error: one sentence, if it failed.
    """

    part: Part
    seconds: float
    result: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Bench:
    """What a worker needs to know; small, and the same for all.

    Attributes:
        out: folder of the reproduction.
        config: of it.
        archives: data set to its archive.
        steps: of all encoders.
    """

    out: Path
    config: ReproductionConfig
    archives: dict[str, str]
    steps: int

    def carry_out(self, part: Part, budget_seconds: float | None, note: Callable[[str], None]) -> Ended:
        """Do one part.

        Raises:
            Interrupted: the user stopped it; what was finished is on the disk.
        """
        data = [DataSet(name, Archive(path)) for name, path in self.archives.items()]
        encoders = Encoders(self.out, self.config, data, (), self.steps)
        workshop = Workshop(self.out, self.config, data, encoders, note)
        try:
            result, seconds = timed(lambda: _do(workshop, part, budget_seconds))
        except (Interrupted, KeyboardInterrupt):
            raise
        except SgelaError as error:
            return Ended(part, 0.0, error=str(error))
        except Exception as error:  # one cell's fault must not end the others
            return Ended(part, 0.0, error=f"{type(error).__name__}: {one_line(error)}")
        return Ended(part, seconds, result)


def _do(workshop: Workshop, part: Part, budget_seconds: float | None) -> Any:
    if isinstance(part, EncoderSpec):
        steps = workshop.encoders.target(part)

        def progress(units: int = 1, *, note: str = "") -> None:
            workshop.note(f"training {part.name} for {steps:,} steps, {note}")

        workshop.encoders.train(part, budget_seconds, workshop.note, progress)
        return workshop.encoders.ready(part)
    if isinstance(part, StoreSpec):
        return workshop.encode(part)
    return workshop.measure(part)


class InProcess:
    """One part after the other, in this process."""

    free = True

    def __init__(self, bench: Bench, note: Callable[[str], None]) -> None:
        self.bench, self.note = bench, note
        self._ended: list[Ended] = []

    @property
    def parts(self) -> list[Part]:
        """Parts at work."""
        return [ended.part for ended in self._ended]

    def begin(self, part: Part, budget_seconds: float | None) -> None:
        """Do it."""
        self._ended.append(self.bench.carry_out(part, budget_seconds, self.note))

    def wait(self) -> list[Ended]:
        """What has ended since."""
        ended, self._ended = self._ended, []
        return ended

    def stop(self) -> None:
        """Nothing is at work between two parts."""


class Processes:
    """As many parts at once as there are jobs, in as many processes with one thread each."""

    def __init__(self, bench: Bench, jobs: int, note: Callable[[str], None]) -> None:
        self.bench, self.jobs, self.note = bench, jobs, note
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, Any] = {}
        self._running: dict[Connection, Part] = {}

    @property
    def free(self) -> bool:
        """Whether another part can be begun."""
        return len(self._running) < self.jobs

    @property
    def parts(self) -> list[Part]:
        """Parts at work."""
        return list(self._running.values())

    def begin(self, part: Part, budget_seconds: float | None) -> None:
        """Give it to a process that has nothing to do, or to a new one."""
        connection = next((idle for idle in self._processes if idle not in self._running), None)
        if connection is None:
            connection, theirs = self._context.Pipe()
            process = self._context.Process(target=_worker, args=(theirs, self.bench), daemon=True)
            process.start()
            theirs.close()
            self._processes[connection] = process
        self._running[connection] = part
        with suppress(BrokenPipeError):  # its process is dead, which `wait` will find out
            connection.send((part, budget_seconds))

    def wait(self) -> list[Ended]:
        """Wait until some part has ended."""
        ended: list[Ended] = []
        while self._running and not ended:
            for connection in wait(list(self._running)):
                assert isinstance(connection, Connection)
                message = self._receive(connection)
                if isinstance(message, str):
                    self.note(message)
                else:
                    ended.append(message)
        return ended

    def stop(self) -> None:
        """End all processes, those at work at a safe point."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + _STOPPING_SECONDS
        for connection, process in self._processes.items():
            # A process that has more to say than the pipe holds waits until somebody listens.
            while process.is_alive() and time.monotonic() < deadline:
                with suppress(EOFError, OSError):
                    if connection.poll(0.1):
                        connection.recv()
                process.join(0.1)
            process.kill()
        self._processes.clear()
        self._running.clear()

    def _receive(self, connection: Connection) -> Ended | str:
        try:
            message: Ended | str = connection.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes.pop(connection)
            process.join()
            reason = f"its process ended with status {process.exitcode}; run the command again"
            return Ended(self._running.pop(connection), 0.0, error=reason)
        if isinstance(message, Ended):
            del self._running[connection]
        return message


def _worker(connection: Connection, bench: Bench) -> None:
    import torch

    # Ctrl-C reaches the whole group; it is for the first process to say what stops, and when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    last = 0.0

    def note(remark: str) -> None:
        nonlocal last
        if time.monotonic() - last > _NOTE_SECONDS:
            last = time.monotonic()
            connection.send(remark)

    with suppress(Interrupted, KeyboardInterrupt, EOFError):
        while True:
            part, budget_seconds = connection.recv()
            connection.send(bench.carry_out(part, budget_seconds, note))


def _end_with(parent: int) -> None:
    """Stop when the first process is gone: nobody would take the result."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
