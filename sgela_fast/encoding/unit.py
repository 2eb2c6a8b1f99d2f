"""One unit of an encoding, from recordings to a committed part: the same bytes whoever does it.

The three steps stand alone, so that an engine may run them in turn or side by side: :meth:`UnitReader.batches` reads
and cuts, :meth:`UnitEncoder.add` encodes, :meth:`UnitEncoder.commit` writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from sgela_fast.encoding.plan import Piece, Unit
from sgela_fast.encoding.quarantine import SHORT
from sgela_fast.encoding.sequences import SequenceEncoder, SequenceSource, row_shape
from sgela_fast.encoding.shard import Receipt, write_shard
from sgela_fast.encoding.source import Entry, Unusable
from sgela_fast.encoding.storage import NUMPY, Array, pack
from sgela_fast.errors import DataError
from sgela_fast.models.config import Feature


@dataclass
class StageSeconds:
    """Seconds that each stage of encoding was busy; stages overlap, so they add up to more than ``total``.

    Attributes:
        read: frames from the archive, with their checksums.
        window: centring and cutting.
        upload: windows to the device.
        compute: the model.
        download: encodings to the host, pooled and rounded as they are stored.
        write: parts to disk.
        total: from start to end on the clock.
    """

    read: float = 0.0
    window: float = 0.0
    upload: float = 0.0
    compute: float = 0.0
    download: float = 0.0
    write: float = 0.0
    total: float = 0.0

    def add(self, other: StageSeconds) -> None:
        """Add another's seconds."""
        for stage in fields(self):
            setattr(self, stage.name, getattr(self, stage.name) + getattr(other, stage.name))

    def as_dict(self) -> dict[str, float]:
        """Seconds by stage."""
        return asdict(self)


@dataclass(frozen=True)
class UnitSettings:
    """What the bytes of a part depend on, besides archive and model.

    Attributes:
        batch: windows encoded at once.
        feature: ``ages`` or ``states``.
        pooling: ``none``, ``mean`` or ``max``.
        dtype: of the stored values.
        drop_invalid: leave out windows with a lost joint.
        strict: raise on a recording that cannot be encoded.
        plan: hash of the plan.
    """

    batch: int
    feature: Feature
    pooling: str
    dtype: str
    drop_invalid: bool
    strict: bool
    plan: str


@dataclass
class _Windows:
    """The windows of one recording that are encoded."""

    entry: Entry
    window: NDArray[np.int64]
    starts: NDArray[np.int64]
    valid: NDArray[np.bool_]
    quality: NDArray[np.float32]
    frames: NDArray[np.int32]


@dataclass
class UnitContent:
    """What reading a unit found besides the windows themselves."""

    unit: Unit
    windows: list[_Windows] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    recordings: int = 0
    invalid: int = 0

    def columns(self, further: list[str]) -> dict[str, Any]:
        """The table's columns, an entry for each window that was read."""
        of = np.repeat(np.arange(len(self.windows)), [len(item.window) for item in self.windows])
        entries = [item.entry for item in self.windows]

        def spread(values: list[Any]) -> pa.Array:
            return pa.array(values, pa.string()).take(pa.array(of))

        def joined(name: str, dtype: Any) -> NDArray[Any]:
            return np.concatenate([np.empty(0, dtype), *(getattr(item, name) for item in self.windows)]).astype(dtype)

        return {
            "window": joined("window", np.int64),
            "recording": spread([entry.row.recording for entry in entries]),
            "person": spread([entry.row.person for entry in entries]),
            "window_start": joined("starts", np.int32),
            "valid": joined("valid", np.bool_),
            "quality": joined("quality", np.float32),
            "frames": joined("frames", np.int32),
            "source_sha256": spread([entry.sha256 for entry in entries]),
            **{name: spread([entry.row.extra.get(name) for entry in entries]) for name in further},
        }


class UnitReader:
    """Reads recordings and cuts them into batches of windows.

    Attributes:
        seconds: time spent reading and cutting.
    """

    def __init__(self, source: SequenceSource, encoder: SequenceEncoder, settings: UnitSettings) -> None:
        self.source, self.encoder, self.settings = source, encoder, settings
        self.seconds = StageSeconds()
        # A recording of several units is cut once.
        self._last: tuple[int, Any] = (-1, None)

    def batches(self, unit: Unit, content: UnitContent) -> Iterator[NDArray[np.float32]]:
        """Windows of a unit ``(B, T, J, 3)``, every batch but the last of the size that the settings say.

        Whole sequences of silhouettes, ``(B, T, H, W)``, are batched with their neighbours of the same length.

        Args:
            unit: what to read.
            content: filled on the way with all else that is known of the windows; whole once the iterator ends.

        Raises:
            DataError: a table of the archive is damaged, or, if strict, a recording cannot be encoded.
        """
        waiting: list[NDArray[np.float32]] = []
        count, size = 0, self.settings.batch
        pieces = list(unit.pieces(self.source.counts))
        for piece, entry in zip(
            pieces, self.source.entries(pieces[0].recording, pieces[-1].recording + 1), strict=True
        ):
            windows = self._windows(unit, piece, entry, content)
            if not len(windows):
                continue
            if waiting and waiting[0].shape[1:] != windows.shape[1:]:  # whole sequences of another length
                yield np.concatenate(waiting)
                waiting, count = [], 0
            waiting.append(windows)
            count += len(windows)
            while count >= size:
                joined = np.concatenate(waiting) if len(waiting) > 1 else waiting[0]
                yield joined[:size]
                waiting, count = [joined[size:]], count - size
        if count:
            yield np.concatenate(waiting)

    def _windows(self, unit: Unit, piece: Piece, entry: Entry, content: UnitContent) -> NDArray[np.float32]:
        nothing = np.empty((0,), np.float32)
        begins = piece.start == 0
        if piece.stop == 0:
            reason = f"{entry.row.frames} frames hold no whole window"
            content.left_out.append(self._left_out(unit, entry, SHORT, reason))
            return nothing
        try:
            windows, starts, valid, quality = self._cut(piece.recording, entry)
        except (Unusable, DataError) as error:
            kind = error.kind if isinstance(error, Unusable) else "joints"
            if self.settings.strict:
                raise DataError(
                    f"recording {entry.row.recording!r} of {self.source.name} cannot be encoded: {error}; mend "
                    "it, or encode the others without --strict"
                ) from error
            if begins:
                content.left_out.append(self._left_out(unit, entry, kind, str(error)))
            return nothing
        mine = slice(piece.start, piece.stop)
        windows, starts, valid, quality = windows[mine], starts[mine], valid[mine], quality[mine]
        number = (
            unit.window + int(self.source.counts[unit.first[0] : piece.recording].sum()) + piece.start - unit.first[1]
        )
        numbers = np.arange(number, number + len(starts))
        content.recordings += begins
        content.invalid += int(np.logical_not(valid).sum())
        if self.settings.drop_invalid:
            windows, starts, quality, numbers = windows[valid], starts[valid], quality[valid], numbers[valid]
            valid = valid[valid]
        lengths = np.full(len(windows), windows.shape[1], np.int32)
        content.windows.append(_Windows(entry, numbers, starts, valid, quality, lengths))
        return windows

    def _cut(self, recording: int, entry: Entry) -> Any:
        if self._last[0] == recording:
            return self._last[1]
        self._last = (-1, None)
        start = time.perf_counter()
        frames = self.source.frames(entry)
        read = time.perf_counter()
        windows, starts, valid = self.encoder.cut(frames)
        cut = (windows, starts, valid, self.encoder.quality(frames, starts))
        self.seconds.read += read - start
        self.seconds.window += time.perf_counter() - read
        if len(starts) > self.settings.batch:
            self._last = (recording, cut)
        return cut

    def _left_out(self, unit: Unit, entry: Entry, kind: str, reason: str) -> dict[str, Any]:
        row = entry.row
        named = {"recording": row.recording, "person": row.person, "source": row.source}
        return {**named, "part": unit.part, "kind": kind, "reason": reason}


class UnitEncoder:
    """Encodes the batches of one unit and commits them as a part.

    Attributes:
        seconds: time spent in the stages behind reading.
    """

    def __init__(self, encoder: SequenceEncoder, settings: UnitSettings, unit: Unit) -> None:
        self.encoder, self.settings, self.unit = encoder, settings, unit
        self.seconds = StageSeconds()
        shape = row_shape(encoder, settings.pooling)
        self._values: Array = np.empty((unit.windows, *shape), NUMPY[settings.dtype])
        self._scales = np.empty(unit.windows, np.float32)
        self._count = 0

    def add(self, windows: NDArray[np.float32]) -> None:
        """Encode a batch ``(B, T, J, 3)``, or of silhouettes ``(B, T, H, W)``."""
        cuda = self.encoder.device.type == "cuda"
        start = time.perf_counter()
        uploaded = torch.from_numpy(np.ascontiguousarray(windows)).to(self.encoder.device)
        if cuda:
            torch.cuda.synchronize(self.encoder.device)
        ready = time.perf_counter()
        encodings = self.encoder.encodings(uploaded, self.settings.feature).float()  # (B, T, D)
        if cuda:
            torch.cuda.synchronize(self.encoder.device)
        encoded = time.perf_counter()
        with torch.inference_mode():
            values = encodings.mean(dim=1) if self.settings.pooling == "mean" else encodings
        mine = slice(self._count, self._count + len(windows))
        stored, scales = pack(values.cpu().numpy(), self.settings.dtype)
        self._values[mine] = stored
        if scales is not None:
            self._scales[mine] = scales
        self._count += len(windows)
        self.seconds.upload += ready - start
        self.seconds.compute += encoded - ready
        self.seconds.download += time.perf_counter() - encoded

    def commit(self, folder: Path, content: UnitContent, further: list[str]) -> Receipt:
        """Write the part; its receipt comes last.

        Raises:
            OutputError: a file cannot be written.
        """
        start = time.perf_counter()
        columns = content.columns(further)
        columns["scale"] = self._scales[: self._count]
        dtype = self.settings.dtype
        shard = write_shard(folder, self.unit.part, self._values[: self._count], columns, further, dtype)
        receipt = Receipt(shard, self.settings.plan, content.recordings, content.invalid, content.left_out)
        receipt.write(folder)
        self.seconds.write += time.perf_counter() - start
        return receipt


def encode_unit(
    folder: Path, source: SequenceSource, encoder: SequenceEncoder, settings: UnitSettings, unit: Unit
) -> Receipt:
    """Encode one unit and commit it under ``folder``; doing it twice replaces the part by the same bytes.

    Raises:
        DataError: the archive is damaged, or, if strict, a recording cannot be encoded.
        OutputError: a file cannot be written.
    """
    content, encoded = UnitContent(unit), UnitEncoder(encoder, settings, unit)
    for windows in UnitReader(source, encoder, settings).batches(unit, content):
        encoded.add(windows)
    return encoded.commit(folder, content, source.further)


def committed(folder: Path, unit: Unit, plan: str) -> Receipt | None:
    """The receipt of a unit whose part is on disk, whole; ``None`` if it must be encoded."""
    receipt = Receipt.read(folder, unit.part)
    if receipt is None or receipt.plan != plan or receipt.shard.fault(folder, deep=True) is not None:
        return None
    return receipt
