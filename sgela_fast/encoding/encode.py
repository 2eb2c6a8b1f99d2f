"""Encode an archive: windows of all recordings through the model, into a store, each exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from sgela_fast.encoding.claim import claimed
from sgela_fast.encoding.config import EncodingConfig, EngineConfig
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.engines import local
from sgela_fast.encoding.manifest import finish
from sgela_fast.encoding.plan import Unit, plan_hash, plan_units
from sgela_fast.encoding.quarantine import SHORT
from sgela_fast.encoding.recordings import require_feature
from sgela_fast.encoding.schema import implied_feature
from sgela_fast.encoding.shard import Receipt
from sgela_fast.encoding.source import Source
from sgela_fast.encoding.storage import NUMPY
from sgela_fast.encoding.store import Store
from sgela_fast.encoding.unit import StageSeconds, UnitContent, UnitEncoder, UnitReader, UnitSettings, committed
from sgela_fast.errors import ConfigError, DataError, Interrupted
from sgela_fast.models.config import Variant
from sgela_fast.models.device import choose_device
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.windows import warn_if_not_centered
from sgela_fast.stopping import StopRequest

SAMPLE_SECONDS = 2.0


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


@dataclass(frozen=True)
class Estimate:
    """What encoding an archive will take.

    Attributes:
        recordings: in the archive.
        windows: by the recordings' lengths.
        parts: of the store.
        bytes: of all values; the tables add some 50 bytes a window.
        sampled: windows that were encoded for the measurement.
        windows_per_second: of reading, cutting and encoding in the sample.
        seconds: for all windows at that rate.
    """

    recordings: int
    windows: int
    parts: int
    bytes: int
    sampled: int
    windows_per_second: float
    seconds: float


def encode(
    archive: str | Path | Archive,
    encoder: Encoder,
    out: str | Path,
    config: EncodingConfig | None = None,
    *,
    resume: bool = False,
    strict: bool = False,
    engine: EngineConfig | None = None,
    progress: Advance | None = None,
    planned: Callable[[int, int], None] | None = None,
) -> EncodingResult:
    """Encode every window of ``archive``; memory stays bounded, whatever the archive's size.

    The work is cut into units that become the store's parts. Each is written beside its final place, flushed and
    renamed, and committed by a receipt with checksums, so a job that is stopped or killed at any moment is gone on with
    by ``resume``, and the finished store has the same bytes as that of a job that was not.

    Args:
        archive: an archive or its folder.
        encoder: the model and how it reads recordings.
        out: folder of the store to make.
        config: settings.
        resume: go on with an unfinished store, or rebuild the damaged parts of a finished one; where there is neither,
            begin.
        strict: stop at a recording that cannot be encoded instead of leaving it out with its reason.
        engine: where the units are encoded; in this process if not given.
        progress: called as ``progress(recordings, note="...")``.
        planned: called once as ``planned(done, total)`` with the recordings that an earlier job did, and all.

    Raises:
        DataError: the archive has another joint layout than the model, is damaged, or has no window.
        OutputError: ``out`` is taken, was begun with something else, is in use, or cannot be written.
        Interrupted: stopped by the user behind a whole part; go on with ``resume``.
    """
    config, engine = config or EncodingConfig(), engine or EngineConfig()
    work = _Work(archive, encoder, Path(out), config, strict)
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


def estimate(archive: str | Path | Archive, encoder: Encoder, config: EncodingConfig | None = None) -> Estimate:
    """Say what :func:`encode` would do, from the archive's tables and a sample that takes a few seconds at most.

    Raises:
        DataError: the archive has another joint layout than the model, is damaged, or has no window.
    """
    work = _Work(archive, encoder, Path(), config or EncodingConfig(), strict=False)
    reader = UnitReader(work.source, work.encoder, work.unit_settings)
    unit = work.units[0]
    encoded, sampled, begun = UnitEncoder(work.encoder, work.unit_settings, unit), 0, time.perf_counter()
    warm: tuple[int, float] | None = None
    with closing(work.source):
        for windows in reader.batches(unit, UnitContent(unit)):
            encoded.add(windows)
            sampled += len(windows)
            now = time.perf_counter()
            if now - begun > SAMPLE_SECONDS:
                break
            warm = warm or (sampled, now)  # the first batch pays for what is set up once
    counted, since = warm if warm and sampled > warm[0] else (0, begun)
    rate = (sampled - counted) / max(time.perf_counter() - since, 1e-9)
    total = sum(unit.windows for unit in work.units)
    size = total * work.window_bytes
    return Estimate(len(work.source), total, len(work.units), size, sampled, rate, total / rate if rate else 0.0)


def open_encoder(
    archive: Archive,
    *,
    run: str | Path | None,
    untrained: Variant | None,
    seed: int,
    config: EncodingConfig,
    window: WindowConfig | None = None,
) -> Encoder:
    """The encoder that the command line asks for: that of a run folder, or one with fresh weights.

    Args:
        archive: what will be encoded; an untrained encoder takes its layout.
        run: run folder, or ``None`` for an untrained encoder.
        untrained: variant of the untrained encoder, or ``None``.
        seed: of fresh weights.
        config: device and backend.
        window: how an untrained encoder reads recordings; a run has its own.

    Raises:
        ConfigError: both or neither are asked for, or the device or precision is not there.
        CheckpointError: the run folder is damaged.
    """
    device = choose_device(config.device, "encoding.device")
    if run is not None and untrained is None:
        return Encoder.load(run, config.backend, device, precision=config.precision)
    if untrained is None or run is not None:
        raise ConfigError("give either --model RUN or --untrained VARIANT")
    return Encoder.untrained(
        untrained,
        archive.layout,
        window,
        seed=seed,
        backend=config.backend,
        device=device,
        precision=config.precision,
    )


class _Work:
    """What one call of :func:`encode` is to do."""

    def __init__(
        self, archive: str | Path | Archive, encoder: Encoder, folder: Path, config: EncodingConfig, strict: bool
    ) -> None:
        archive = archive if isinstance(archive, Archive) else Archive(archive)
        if archive.layout.name != encoder.layout.name:
            raise DataError(
                f"{archive.path} has joint layout {archive.layout.name!r} but the model reads {encoder.layout.name!r}; "
                f"convert the recordings with --layout {encoder.layout.name}"
            )
        if config.threads:
            torch.set_num_threads(config.threads)
        self.folder, self.config = folder, config
        require_feature(config.feature, encoder.model.config)
        self.encoder = encoder = encoder.with_stride(config.stride)
        warn_if_not_centered(encoder.window)
        self.source = Source(archive, encoder.window)
        shape = encoder.model.config.width * (1 if config.pooling == "mean" else encoder.window.frames)
        self.window_bytes = shape * NUMPY[config.dtype].itemsize
        size = max(1, int(config.part_mb * (1 << 20)) // self.window_bytes)
        self.units: list[Unit] = plan_units(self.source.counts, size)
        if not self.units:
            raise self.nothing([])
        choice = getattr(encoder.model, "choice", None)
        self.settings: dict[str, Any] = {
            **encoder.describe(),
            "feature": config.feature,
            "pooling": config.pooling,
            "dtype": config.dtype,
            "precision": encoder.model.precision,
            "backend": getattr(choice, "name", config.backend),
            "device": encoder.device.type,
            "encoding": config.binding(),
            "archive": str(archive.path),
            "archive_fingerprint": archive.fingerprint,
        }
        # A feature that goes without saying is left out, so that the plans of earlier releases can be gone on with.
        unsaid = {"archive", "origin", *(["feature"] if config.feature == implied_feature(self.settings) else [])}
        binding = {name: value for name, value in self.settings.items() if name not in unsaid}
        self.plan = plan_hash(binding, self.source.counts, size)
        self.unit_settings = UnitSettings(
            config.batch, config.feature, config.pooling, config.dtype, config.drop_invalid, strict, self.plan
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


class _Report:
    """Collects receipts and tells the caller how far it is."""

    def __init__(
        self,
        work: _Work,
        before: dict[int, Receipt],
        progress: Advance | None,
        planned: Callable[[int, int], None] | None,
    ) -> None:
        self.receipts = dict(before)
        self.windows = 0
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
            note = f"{rate:,.0f} windows/s" + (f", {self._faults:,} quarantined" if self._faults else "")
            self._progress(recordings, note=note)


def _faults(receipt: Receipt) -> int:
    return sum(row["kind"] != SHORT for row in receipt.left_out)


def _run(
    work: _Work, engine: EngineConfig, units: list[Unit], report: _Report, stop: Callable[[], bool]
) -> StageSeconds:
    job = local.Job(work.folder, work.source, work.encoder, work.unit_settings)
    if engine.engine == "ray":
        from sgela_fast.encoding.engines import ray

        return ray.run(job, units, engine, committed=report.committed, advance=report.advance, stop=stop)
    return local.run(job, units, committed=report.committed, advance=report.advance, stop=stop)
