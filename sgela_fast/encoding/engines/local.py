"""Units in this process: one thread reads ahead, this one encodes, one writes behind; what waits between is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgela_fast.encoding.channel import Channel, in_thread
from sgela_fast.encoding.plan import Unit
from sgela_fast.encoding.sequences import SequenceEncoder, SequenceSource
from sgela_fast.encoding.shard import Receipt
from sgela_fast.encoding.unit import StageSeconds, UnitContent, UnitEncoder, UnitReader, UnitSettings

READ_AHEAD = 4  # batches
WRITE_BEHIND = 1  # parts, besides the one that is being written and the one that is being filled


@dataclass(frozen=True)
class Job:
    """What an engine is given.

    Attributes:
        folder: the store.
        source: the archive's recordings.
        encoder: the model.
        settings: of every unit.
    """

    folder: Path
    source: SequenceSource
    encoder: SequenceEncoder
    settings: UnitSettings


_Batch = tuple[UnitContent, NDArray[np.float32] | None]


def run(
    job: Job,
    units: Iterable[Unit],
    *,
    committed: Callable[[Receipt], None],
    advance: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> StageSeconds:
    """Encode ``units``.

    Args:
        job: archive, model and place.
        units: what is to do, in order.
        committed: called with the receipt of each unit, from another thread.
        advance: called with windows that were encoded and recordings that were finished.
        stop: once true, units already begun are finished and no other is begun.

    Returns:
        Seconds of every stage.

    Raises:
        DataError, OutputError: as :func:`sgela_fast.encoding.unit.encode_unit`; parts committed before stay.
    """
    reader = UnitReader(job.source, job.encoder, job.settings)
    batches: Channel[_Batch] = Channel(READ_AHEAD)
    parts: Channel[tuple[UnitEncoder, UnitContent]] = Channel(WRITE_BEHIND)
    seconds = StageSeconds()
    begun = time.perf_counter()

    def read() -> None:
        for unit in units:
            if stop():
                return
            content = UnitContent(unit)
            for windows in reader.batches(unit, content):
                batches.put((content, windows))
            batches.put((content, None))

    written: list[BaseException] = []

    def write() -> None:
        for encoded, content in parts:
            committed(encoded.commit(job.folder, content, job.source.further))
            seconds.add(encoded.seconds)

    def write_ended(error: BaseException | None) -> None:
        if error is not None:
            written.append(error)
            parts.abandon()

    threads = [in_thread("read ahead", read, batches.close), in_thread("write behind", write, write_ended)]
    encoded: UnitEncoder | None = None
    done = told = 0  # windows and recordings of the unit
    try:
        for content, windows in batches:
            encoded = encoded or UnitEncoder(job.encoder, job.settings, content.unit)
            if windows is not None:
                encoded.add(windows)
                done += len(windows)
                whole = content.unit.recordings_within(done, job.source.counts)
                advance(len(windows), whole - told)
                told = whole
            else:
                parts.put((encoded, content))
                advance(0, len(content.unit.recordings) - told)
                encoded, done, told = None, 0, 0
    finally:
        # Whatever ended the loop, parts that were handed over are written before anybody hears of it.
        batches.abandon()
        parts.close()
        for thread in threads:
            thread.join()
        if written:
            raise written[0]
    seconds.add(reader.seconds)
    seconds.total = time.perf_counter() - begun
    return seconds
