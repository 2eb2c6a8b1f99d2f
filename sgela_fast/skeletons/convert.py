"""Conversion: any source of recordings becomes an archive.

The job streams: it holds the recordings of one shard. What is at fault is left out and listed, or stops the job. A
conversion that was stopped goes on behind its last whole shard when it is started again with the same settings, and
ends in the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.errors import DataError, Interrupted
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import ConvertConfig
from sgela_fast.skeletons.layouts import Layout, get_layout, joint_map
from sgela_fast.skeletons.readers.base import RecordingRef
from sgela_fast.skeletons.readers.registry import Source, open_source
from sgela_fast.skeletons.recording import Recording

Advance = Callable[[int], Any]


@dataclass(frozen=True)
class LeftOut:
    """A recording that is not in the archive, and why."""

    recording: str
    source: str
    reason: str


@dataclass(frozen=True)
class ConvertResult:
    """What a conversion did.

    Attributes:
        archive: the finished archive, opened.
        format: name of the source's format.
        left_out: recordings that were at fault or too short.
        unlisted: recordings that the manifest does not mention; they are in the archive.
        resumed: recordings that an earlier, interrupted conversion had written.
    """

    archive: Archive
    format: str
    left_out: tuple[LeftOut, ...]
    unlisted: tuple[str, ...]
    resumed: int

    def summary(self) -> dict[str, Any]:
        """The result as plain values for JSON."""
        return {
            "archive": str(self.archive.path),
            "format": self.format,
            "layout": self.archive.layout.name,
            "recordings": len(self.archive),
            "persons": len(self.archive.persons),
            "frames": sum(row.frames for row in self.archive.rows),
            "left_out": [asdict(item) for item in self.left_out],
            "not_in_manifest": list(self.unlisted),
            "resumed": self.resumed,
        }


def open_configured(source: str | Path, config: ConvertConfig) -> Source:
    """List the recordings of ``source`` as ``config`` says.

    Raises:
        DataError: the format cannot be told, there is no recording, two share a name, or the manifest does not fit.
        ConfigError: there is no such format.
    """
    return open_source(source, config.format, manifest=config.manifest, options=config.reader)


def convert(
    source: str | Path | Source,
    destination: str | Path,
    config: ConvertConfig | None = None,
    *,
    advance: Advance | None = None,
) -> ConvertResult:
    """Write the recordings of ``source`` into a new archive, or finish an interrupted conversion.

    Args:
        source: a file or folder, or what :func:`open_configured` made of it with the same ``config``.
        destination: the archive's folder.
        config: settings; the defaults keep layout and anatomical sides.
        advance: called with the number of recordings that were dealt with.

    Raises:
        DataError: no usable recording, recordings of several layouts without a target layout, or, if strict, the first
            recording at fault.
        OutputError: the destination holds a finished archive or something else, or cannot be written.
        Interrupted: the user stopped the job; whole shards are kept.
    """
    config = config or ConvertConfig()
    advance = advance or (lambda _: None)
    if not isinstance(source, Source):
        source = open_configured(source, config)
    own = _own_layout(source) if config.layout == "keep" else None
    target = get_layout(config.layout) if own is None else own
    writer = ArchiveWriter(destination, target, _plan(source, config), frames_per_shard=config.frames_per_shard)
    written = {row.recording for row in writer.done}
    left_out: list[LeftOut] = []
    try:
        for ref in source.refs:
            if ref.name not in written:
                _convert_one(source, ref, writer, own, config, left_out)
            advance(1)
        if not len(writer):
            raise _nothing_usable(source, left_out)
        archive = writer.finish(left_out=[asdict(item) for item in left_out])
    except DataError:
        writer.discard()
        raise
    except KeyboardInterrupt:
        kept = len(writer.done)
        raise Interrupted(
            f"stopped; {kept} of {len(source)} recordings are in whole shards in {destination}, run the same command "
            "again to go on behind them"
        ) from None
    return ConvertResult(archive, source.reader.name, tuple(left_out), source.unlisted, len(written))


def _convert_one(
    source: Source,
    ref: RecordingRef,
    writer: ArchiveWriter,
    own: Layout | None,
    config: ConvertConfig,
    left_out: list[LeftOut],
) -> None:
    """Read, remap and add one recording, or note why not."""
    try:
        recording = source.reader.read(ref)
    except DataError as error:
        if config.strict:
            raise
        left_out.append(LeftOut(ref.name, ref.source, str(error)))
        return
    if own is not None and recording.layout != own.name:
        raise DataError(
            f"{source.path} mixes recordings of layout {own.name!r} and {recording.layout!r} ({ref.name!r}); name one "
            "target layout for all with --layout"
        )
    if recording.frames < config.min_frames:
        reason = f"has {recording.frames} frames, fewer than min_frames = {config.min_frames}"
        left_out.append(LeftOut(ref.name, ref.source, reason))
        return
    writer.add(remap(recording, writer.layout, config.joint_map))


def remap(recording: Recording, target: Layout, sides: str = "anatomical") -> Recording:
    """Bring ``recording`` to the layout ``target``; ``sides="compat"`` exchanges left and right joints.

    Raises:
        DataError: ``target`` has a joint that the recording cannot supply.
    """
    order: np.ndarray = np.array(joint_map(recording.skeleton, target))
    if sides == "compat":
        order = order[list(target.mirror)]
    tracking = recording.tracking
    return replace(
        recording,
        joints=recording.joints[:, order],
        layout=target.name,
        tracking=None if tracking is None else tracking[:, order],
    )


def _own_layout(source: Source) -> Layout:
    """The layout of the first recording that can be read."""
    for recording in _readable(source):
        return recording.skeleton
    raise _nothing_usable(source, [])


def _readable(source: Source) -> Iterator[Recording]:
    for ref in source.refs:
        try:
            yield source.reader.read(ref)
        except DataError:
            continue


def _nothing_usable(source: Source, left_out: list[LeftOut]) -> DataError:
    if left_out:
        first = left_out[0].reason
    else:
        try:
            source.reader.read(source.refs[0])
            first = "unknown"
        except DataError as error:
            first = str(error)
    return DataError(f"none of the {len(source)} recordings of {source.path} is usable; the first fault: {first}")


def _plan(source: Source, config: ConvertConfig) -> dict[str, Any]:
    """What a resumed conversion must have in common with the interrupted one: settings and listed recordings."""
    listing = hashlib.sha256()
    for ref in source.refs:
        size = ref.path.stat().st_size if ref.path.is_file() else 0
        listing.update(json.dumps([ref.name, ref.source, ref.person, ref.fps, ref.extra, size]).encode())
    settings = asdict(config)
    settings["manifest"] = Path(config.manifest).name if config.manifest else None
    return {
        "source": source.path.absolute().name,
        "format": source.reader.name,
        "settings": settings,
        "listing_sha256": listing.hexdigest(),
    }
