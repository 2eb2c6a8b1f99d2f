"""What one call of encoding does, whatever is encoded: units, the folder's claim, receipts, the finished store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from sgela_fast.encoding.claim import claimed
from sgela_fast.encoding.config import EncodingConfig, EngineConfig
from sgela_fast.encoding.engines import local
from sgela_fast.encoding.manifest import finish
from sgela_fast.encoding.plan import Unit, plan_hash, plan_units
from sgela_fast.encoding.quarantine import SHORT
from sgela_fast.encoding.schema import implied_feature
from sgela_fast.encoding.sequences import SequenceEncoder, SequenceSource, row_shape
from sgela_fast.encoding.shard import Receipt
from sgela_fast.encoding.storage import NUMPY
from sgela_fast.encoding.store import Store
from sgela_fast.encoding.unit import StageSeconds, UnitSettings, committed
from sgela_fast.errors import DataError, Interrupted
from sgela_fast.stopping import StopRequest


class Advance(Protocol):
    """Called with recordings that were finished; ``note`` is a short remark."""

    def __call__(self, units: int = 1, *, note: str = "") -> None: ...


@dataclass(frozen=True)
class EncodingResult:
    """What encoding did.

    Attributes:
        store: the finished store, opened.
        invalid: windows with a lost joint, marked or, if so asked, left out.
        short: recordings too short for one window.
        quarantined: recordings that could not be encoded; ``store.quarantine`` says why.
        windows: windows that were encoded now; what an earlier job did is not counted.
        seconds: what each stage took, now.
    """

    store: Store
    invalid: int
    short: tuple[str, ...]
    quarantined: tuple[str, ...] = ()
    windows: int = 0
    seconds: StageSeconds = field(default_factory=StageSeconds)


class Work:
    """What is to be done.

    Args:
        source: the recordings.
        encoder: the model.
        folder: of the store to make.
        config: settings.
        described: entries of ``store.json`` that say where values come from, with ``archive``,
            ``archive_fingerprint``, ``feature``, ``pooling``, ``precision`` and ``backend``.
        strict: stop at a recording that cannot be encoded.

    Raises:
        DataError: there is no window.
    """

    def __init__(
        self,
        source: SequenceSource,
        encoder: SequenceEncoder,
        folder: Path,
        config: EncodingConfig,
        described: dict[str, Any],
        *,
        strict: bool,
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.source, self.encoder, self.folder = source, encoder, folder
        feature, pooling = described["feature"], described["pooling"]
        self.window_bytes = math.prod(row_shape(encoder, pooling)) * NUMPY[config.dtype].itemsize
        size = max(1, int(config.part_mb * (1 << 20)) // self.window_bytes)
        self.units: list[Unit] = plan_units(self.source.counts, size)
        if not self.units:
            raise self.nothing([])
        self.settings: dict[str, Any] = {
            **described,
            "dtype": config.dtype,
            "device": encoder.device.type,
            "encoding": config.binding(),
        }
        # A feature that goes without saying is left out, so that the plans of earlier releases can be gone on with.
        unsaid = {
            "archive",
            "origin",
            "trained_on",
            *(["feature"] if feature == implied_feature(self.settings) else []),
        }
        binding = {name: value for name, value in self.settings.items() if name not in unsaid}
        self.plan = plan_hash(binding, self.source.counts, size)
        self.unit_settings = UnitSettings(
            config.batch, feature, pooling, config.dtype, config.drop_invalid, strict, self.plan
        )

    def interrupted(self, done: int) -> Interrupted:
        return Interrupted(
            f"stopped with {done} of {len(self.units)} parts of {self.folder} finished; go on with the same command "
            "and --resume"
        )

    def nothing(self, left_out: list[dict[str, Any]]) -> DataError:
        faults = [row for row in left_out if row["kind"] != SHORT]
        first = f" that can be encoded; {faults[0]['recording']!r}: {faults[0]['reason']}" if faults else ""
        return DataError(f"nothing to write into {self.folder}: the archive has no window{first}")

    def discard(self) -> None:
        """Take back commits of parts in which there is nothing."""
        for unit in self.units:
            for file in self.folder.glob(f"part-{unit.part:05d}.*"):
                file.unlink()


def carry_out(
    work: Work,
    engine: EngineConfig,
    *,
    resume: bool,
    progress: Advance | None,
    planned: Callable[[int, int], None] | None,
) -> EncodingResult:
    """Do ``work``; arguments and errors as for :func:`sgela_fast.encoding.encode.encode`."""
    begun_before: dict[int, Receipt] = {}
    with (
        closing(work.source),
        StopRequest() as stop,
        claimed(work.folder, work.settings, work.plan, resume=resume) as settings,
    ):
        for unit in work.units:
            receipt = committed(work.folder, unit, work.plan)
            if receipt is not None:
                begun_before[unit.part] = receipt
        report = _Report(work, begun_before, progress, planned)
        todo = [unit for unit in work.units if unit.part not in begun_before]
        try:
            seconds = _run(work, engine, todo, report, lambda: stop.requested)
        except KeyboardInterrupt:
            raise work.interrupted(len(report.receipts)) from None
        if len(report.receipts) < len(work.units):
            raise work.interrupted(len(report.receipts))
        receipts = [report.receipts[unit.part] for unit in work.units]
        if not sum(receipt.shard.windows for receipt in receipts):
            work.discard()
            raise work.nothing([row for receipt in receipts for row in receipt.left_out])
        finish(work.folder, settings, receipts)
    store = Store(work.folder)
    left_out = store.quarantine.to_pylist()
    return EncodingResult(
        store,
        int(store.info["invalid_windows"]),
        tuple(row["recording"] for row in left_out if row["kind"] == SHORT),
        tuple(row["recording"] for row in left_out if row["kind"] != SHORT),
        report.windows,
        seconds,
    )


class _Report:
    """Collects receipts and tells the caller how far it is."""

    def __init__(
        self,
        work: Work,
        before: dict[int, Receipt],
        progress: Advance | None,
        planned: Callable[[int, int], None] | None,
    ) -> None:
        self.receipts = dict(before)
        self.windows = 0
        self._unit = work.encoder.unit
        self._faults = sum(map(_faults, before.values()))
        self._progress, self._begun = progress, time.monotonic()
        if planned is not None:
            done = sum(len(unit.recordings) for unit in work.units if unit.part in before)
            planned(done, len(work.source))

    def committed(self, receipt: Receipt) -> None:
        self.receipts[receipt.shard.part] = receipt
        self._faults += _faults(receipt)

    def advance(self, windows: int, recordings: int) -> None:
        self.windows += windows
        if self._progress is not None:
            rate = self.windows / max(time.monotonic() - self._begun, 1e-9)
            note = f"{rate:,.0f} {self._unit}/s" + (f", {self._faults:,} quarantined" if self._faults else "")
            self._progress(recordings, note=note)


def _faults(receipt: Receipt) -> int:
    return sum(row["kind"] != SHORT for row in receipt.left_out)


def _run(
    work: Work, engine: EngineConfig, units: list[Unit], report: _Report, stop: Callable[[], bool]
) -> StageSeconds:
    job = local.Job(work.folder, work.source, work.encoder, work.unit_settings)
    if engine.engine == "ray":
        from sgela_fast.encoding.engines import ray

        return ray.run(job, units, engine, committed=report.committed, advance=report.advance, stop=stop)
    return local.run(job, units, committed=report.committed, advance=report.advance, stop=stop)
