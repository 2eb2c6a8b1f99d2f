"""Units on the workers of a Ray cluster: the vectors go to the shared disk, only receipts come back.

Every worker holds the model and encodes one unit at a time as :func:`sgela_fast.encoding.unit.encode_unit` does. A unit
whose worker died is given to another one; doing it twice replaces a part by the same bytes. The store's folder and the
archive must be reachable under the same path from every worker.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgela_fast.encoding.config import EngineConfig
from sgela_fast.encoding.plan import Unit
from sgela_fast.encoding.shard import Receipt
from sgela_fast.encoding.source import Source
from sgela_fast.encoding.unit import StageSeconds, UnitSettings, encode_unit
from sgela_fast.errors import MissingDependencyError, OutputError, SgelaError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sgela_fast.encoding.encoder import Encoder
    from sgela_fast.encoding.engines.local import Job

ATTEMPTS = 4  # times that a unit is given to a worker before the cluster is held to be at fault


class UnitWorker:
    """What runs in a worker's process."""

    def __init__(self, folder: str, archive: str, encoder: Encoder, settings: UnitSettings, threads: int) -> None:
        import torch

        from sgela_fast.skeletons.archive import Archive

        torch.set_num_threads(threads)
        self.folder, self.encoder, self.settings = Path(folder), encoder, settings
        self.source = Source(Archive(archive), encoder.window)

    def encode(self, unit: Unit) -> Receipt | SgelaError:
        """Encode and commit one unit; what is the input's fault is returned, as it would fail on any worker."""
        try:
            return encode_unit(self.folder, self.source, self.encoder, self.settings, unit)
        except SgelaError as error:
            return type(error)(str(error))


def run(
    job: Job,
    units: Iterable[Unit],
    engine: EngineConfig,
    *,
    committed: Callable[[Receipt], None],
    advance: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> StageSeconds:
    """Encode ``units`` on a cluster; arguments as :func:`sgela_fast.encoding.engines.local.run`.

    Raises:
        MissingDependencyError: Ray is not installed.
        OutputError: workers keep dying, or cannot be had.
        DataError, OutputError: as :func:`sgela_fast.encoding.unit.encode_unit`.
    """
    seconds, begun = StageSeconds(), time.perf_counter()
    with _cluster(engine) as ray:
        encoder = ray.put(job.encoder)
        arguments = (str(job.folder.resolve()), str(Path(job.source.name).resolve()), encoder)
        actor = ray.remote(UnitWorker).options(num_cpus=engine.cpus, num_gpus=engine.gpus, max_restarts=0)

        def begin() -> Any:
            return actor.remote(*arguments, job.settings, engine.cpus)

        idle = [begin() for _ in range(engine.workers)]
        waiting = deque((unit, 1) for unit in units)
        running: dict[Any, tuple[Any, Unit, int]] = {}
        while running or (waiting and not stop()):
            while idle and waiting and not stop():
                worker, (unit, attempt) = idle.pop(), waiting.popleft()
                running[worker.encode.remote(unit)] = (worker, unit, attempt)
            for done in ray.wait(list(running), num_returns=1, timeout=0.5)[0]:
                worker, unit, attempt = running.pop(done)
                try:
                    receipt = ray.get(done)
                    idle.append(worker)
                except ray.exceptions.RayActorError as error:
                    if attempt == ATTEMPTS:
                        raise OutputError(
                            f"part {unit.part} of {job.folder} ended {ATTEMPTS} workers; see why in Ray's logs and go "
                            "on with --resume"
                        ) from error
                    # A worker that restarts refuses what it is given meanwhile; a new one lets it wait.
                    ray.kill(worker)
                    idle.append(begin())
                    waiting.append((unit, attempt + 1))
                    continue
                if isinstance(receipt, SgelaError):
                    raise receipt
                committed(receipt)
                advance(receipt.shard.windows, len(unit.recordings))
    seconds.total = time.perf_counter() - begun
    return seconds


@contextmanager
def _cluster(engine: EngineConfig) -> Iterator[Any]:
    """A connection to the cluster, or one on this machine for as long as it is needed."""
    # Before the import: Ray reads it once.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            'engine ray needs the package ray; install it with pip install "sgela_fast[ray]"'
        ) from error
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"address": engine.address}
    if not engine.address:
        # One CPU more than the workers take: nothing of Ray's own then waits for one of them.
        options = {"include_dashboard": False, "num_cpus": engine.workers * engine.cpus + 1}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise OutputError(
            f"the Ray cluster {engine.address or 'on this machine'} does not answer ({one_line(error)})"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
