"""Encode an archive: windows of all recordings through the model, into a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.store import Store, StoreWriter
from sgela_fast.errors import ConfigError, DataError, Interrupted
from sgela_fast.models.config import Variant
from sgela_fast.models.device import choose_device
from sgela_fast.skeletons.archive import Archive, Row
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.windows import warn_if_not_centered

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class EncodingResult:
    """What encoding did.

    Attributes:
        store: the finished store, opened.
        invalid: windows with a lost joint, marked or, if so asked, left out.
        short: recordings too short for one window.
    """

    store: Store
    invalid: int
    short: tuple[str, ...]


def encode(
    archive: str | Path | Archive,
    encoder: Encoder,
    out: str | Path,
    config: EncodingConfig | None = None,
    *,
    progress: Callable[..., None] | None = None,
) -> EncodingResult:
    """Encode every window of ``archive``; recordings are streamed, memory stays bounded.

    Args:
        archive: an archive or its folder.
        encoder: the model and how it reads recordings.
        out: folder of the store to make.
        config: settings.
        progress: called as ``progress(recordings)``.

    Raises:
        DataError: the archive has another joint layout than the model, or no window.
        OutputError: ``out`` is taken or cannot be written.
        Interrupted: stopped by the user; run the same command again.
    """
    config = config or EncodingConfig()
    archive = archive if isinstance(archive, Archive) else Archive(archive)
    if archive.layout.name != encoder.layout.name:
        raise DataError(
            f"{archive.path} has joint layout {archive.layout.name!r} but the model reads {encoder.layout.name!r}; "
            f"convert the recordings with --layout {encoder.layout.name}"
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    encoder = encoder.with_stride(config.stride)
    warn_if_not_centered(encoder.window)
    info = {
        **encoder.describe(),
        "pooling": config.pooling,
        "dtype": config.dtype,
        "encoding": asdict(config),
        "archive": str(archive.path),
        "archive_fingerprint": archive.fingerprint,
    }
    writer = StoreWriter(out, info, part_bytes=config.part_mb << 20)
    source = _Windows(archive, encoder, config.drop_invalid, progress or (lambda units: None))
    try:
        for windows, columns in _batches(source, config.batch):
            ages = encoder.ages(windows)  # (B, T, D)
            values = ages.mean(dim=1) if config.pooling == "mean" else ages
            writer.add(values.float().cpu().numpy(), columns)
        store = writer.finish(
            invalid_windows=source.invalid, short_recordings=source.short, recordings=len(archive) - len(source.short)
        )
    except KeyboardInterrupt:
        raise Interrupted(f"stopped before {out} was complete; run the same command again") from None
    return EncodingResult(store, source.invalid, tuple(source.short))


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
        ConfigError: both or neither are asked for, or the device is not there.
        CheckpointError: the run folder is damaged.
    """
    device = choose_device(config.device, "encoding.device")
    if run is not None and untrained is None:
        return Encoder.load(run, config.backend, device)
    if untrained is None or run is not None:
        raise ConfigError("give either --model RUN or --untrained VARIANT")
    return Encoder.untrained(untrained, archive.layout, window, seed=seed, backend=config.backend, device=device)


class _Windows:
    """Iterates over the recordings' windows and their columns; counts what is at fault."""

    def __init__(self, archive: Archive, encoder: Encoder, drop: bool, progress: Callable[..., None]) -> None:
        self.archive, self.encoder, self.drop, self.progress = archive, encoder, drop, progress
        self.invalid = 0
        self.short: list[str] = []
        self._further = sorted({name for row in archive.rows for name in row.extra})

    def __iter__(self) -> Iterator[tuple[np.ndarray, Columns]]:
        for row in self.archive.rows:
            windows, starts, valid = self.encoder.cut(self.archive.frames_of(row))
            if not len(starts):
                self.short.append(row.recording)
            self.invalid += int((~valid).sum())
            if self.drop:
                windows, starts, valid = windows[valid], starts[valid], valid[valid]
            yield windows, self._columns(row, starts, valid)
            self.progress(1)

    def _columns(self, row: Row, starts: np.ndarray, valid: np.ndarray) -> Columns:
        count = len(starts)
        return {
            "recording": [row.recording] * count,
            "person": [row.person] * count,
            "window_start": starts.tolist(),
            "frames": [self.encoder.window.frames] * count,
            "valid": valid.tolist(),
            **{name: [row.extra.get(name)] * count for name in self._further},
        }


def _batches(pieces: _Windows, size: int) -> Iterator[tuple[np.ndarray, Columns]]:
    """Regroup pieces of any length into batches of ``size`` windows; the last may be smaller."""
    waiting: list[np.ndarray] = []
    columns: Columns = {}
    for windows, described in pieces:
        waiting.append(windows)
        for name, entries in described.items():
            columns.setdefault(name, []).extend(entries)
        if sum(map(len, waiting)) < size:
            continue
        joined = np.concatenate(waiting)
        whole = len(joined) // size * size
        for start in range(0, whole, size):
            yield joined[start : start + size], {k: v[start : start + size] for k, v in columns.items()}
        waiting, columns = [joined[whole:]], {name: entries[whole:] for name, entries in columns.items()}
    if sum(map(len, waiting)):
        yield np.concatenate(waiting), columns
