"""Encode an archive: windows of all recordings through the model, into a store, each exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sgela_fast.encoding.config import EncodingConfig, EngineConfig, require_one_model
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.recordings import require_feature
from sgela_fast.encoding.source import Source
from sgela_fast.encoding.unit import UnitContent, UnitEncoder, UnitReader
from sgela_fast.encoding.work import Advance, EncodingResult, Work, carry_out
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.config import Variant
from sgela_fast.models.device import choose_device
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.windows import warn_if_not_centered

__all__ = ["Advance", "EncodingResult", "Estimate", "encode", "estimate", "open_encoder"]

SAMPLE_SECONDS = 2.0


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
        config: settings; precision, backend and device are the encoder's, so they are left out or the same.
        resume: go on with an unfinished store, or rebuild the damaged parts of a finished one; where there is neither,
            begin.
        strict: stop at a recording that cannot be encoded instead of leaving it out with its reason.
        engine: where the units are encoded; in this process if not given.
        progress: called as ``progress(recordings, note="...")``.
        planned: called once as ``planned(done, total)`` with the recordings that an earlier job did, and all.

    Raises:
        DataError: the archive has another joint layout than the model, is damaged, or has no window.
        ConfigError: ``config`` contradicts the encoder.
        OutputError: ``out`` is taken, was begun with something else, is in use, or cannot be written.
        Interrupted: stopped by the user behind a whole part; go on with ``resume``.
    """
    config, engine = config or EncodingConfig(), engine or EngineConfig()
    work = _archive_work(archive, encoder, Path(out), config, strict=strict)
    return carry_out(work, engine, resume=resume, progress=progress, planned=planned)


def estimate(archive: str | Path | Archive, encoder: Encoder, config: EncodingConfig | None = None) -> Estimate:
    """Say what :func:`encode` would do, from the archive's tables and a sample that takes a few seconds at most.

    Raises:
        DataError: the archive has another joint layout than the model, is damaged, or has no window.
    """
    work = _archive_work(archive, encoder, Path(), config or EncodingConfig(), strict=False)
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
    require_one_model(run, untrained)
    device = choose_device(config.device, "encoding.device")
    if untrained is None:
        assert run is not None
        return Encoder.load(run, config.backend, device, precision=config.precision)
    return Encoder.untrained(
        untrained,
        archive.layout,
        window,
        seed=seed,
        backend=config.backend,
        device=device,
        precision=config.precision,
    )


def _archive_work(
    archive: str | Path | Archive, encoder: Encoder, folder: Path, config: EncodingConfig, *, strict: bool
) -> Work:
    archive = archive if isinstance(archive, Archive) else Archive(archive)
    if archive.layout.name != encoder.layout.name:
        raise DataError(
            f"{archive.path} has joint layout {archive.layout.name!r} but the model reads {encoder.layout.name!r}; "
            f"convert the recordings with --layout {encoder.layout.name}"
        )
    require_feature(config.feature, encoder.model.config)
    choice = getattr(encoder.model, "choice", None)
    backend = config.backend if choice is None else choice.name
    _require_computed_by(config, precision=encoder.model.precision, backend=backend, device=encoder.device.type)
    encoder = encoder.with_stride(config.stride)
    warn_if_not_centered(encoder.window)
    described = {
        **encoder.describe(),
        "feature": config.feature,
        "pooling": config.pooling,
        "precision": encoder.model.precision,
        "backend": backend,
        "archive": str(archive.path),
        "archive_fingerprint": archive.fingerprint,
    }
    return Work(Source(archive, encoder.window), encoder, folder, config, described, strict=strict)


def _require_computed_by(config: EncodingConfig, **encoder: str) -> None:
    """A setting that the encoder was not loaded with must not pass as if it held."""
    unsaid = EncodingConfig()
    for name, found in encoder.items():
        wanted = getattr(config, name)
        if wanted not in (getattr(unsaid, name), found):
            raise ConfigError(
                f"encoding.{name} is {wanted} but the encoder computes with {found}; load the encoder with "
                f"{name}={wanted!r}"
            )
