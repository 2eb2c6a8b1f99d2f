"""Jobs that write silhouettes: a folder of images into a packed set, and drawn walks into a folder of images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sgela_fast.atomic import make_folder, output_error, write_json
from sgela_fast.errors import DataError, Interrupted, OutputError
from sgela_fast.silhouettes.claiming import PLAN, claim, give_up
from sgela_fast.silhouettes.config import PackConfig, RenderConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.images import Frame, pillow, write_image
from sgela_fast.silhouettes.layouts import Found, find_sequences
from sgela_fast.silhouettes.packed import Packed, PackWriter
from sgela_fast.silhouettes.sources import read_sequence

RENDERED = "rendered.json"
_AHEAD = 4  # sequences read ahead by each thread


@dataclass(frozen=True)
class Rendering:
    """What was drawn.

    Attributes:
        path: the folder of images.
        sequences: that were written.
        frames: of all of them.
        subjects: how many.
    """

    path: Path
    sequences: int
    frames: int
    subjects: int


def count_sequences(source: str | Path) -> int:
    """Sequences that :func:`pack` will deal with.

    Raises:
        DataError: as :func:`pack`.
    """
    return len(find_sequences(source)[1])


def pack(
    source: str | Path,
    destination: str | Path,
    config: PackConfig | None = None,
    *,
    advance: Callable[[int], object] = lambda sequences: None,
) -> Packed:
    """Read a folder of images once and write it as a packed set, or go on with a job that was interrupted.

    Images at fault and empty frames are left out and listed with the reason, and so are sequences that are too short
    then.

    Args:
        source: the folder, in the layout of CASIA-B or OU-MVLP.
        destination: the folder to make.
        config: what is left out.
        advance: called with the number of sequences that were dealt with.

    Raises:
        DataError: no layout fits, nothing is usable, or with ``strict`` the first image at fault.
        OutputError: the destination is taken or cannot be written.
        Interrupted: the user stopped the job; whole shards are kept.
        MissingDependencyError: Pillow is not installed.
    """
    config = config or PackConfig()
    source, destination = Path(source), Path(destination)
    pillow()
    layout, found = find_sequences(source)
    settings = {name: value for name, value in asdict(config).items() if name != "threads"}
    plan = {"source": str(source), "layout": layout, "sequences": len(found), "settings": settings}
    writer = PackWriter(destination, plan, frames_per_shard=config.frames_per_shard)
    waiting = [item for item in found if item.key not in writer.done]
    advance(len(found) - len(waiting))
    read = functools.partial(_read, source, config)
    try:
        with ThreadPoolExecutor(config.threads) as pool:
            coming = [pool.submit(read, item) for item in waiting[: _AHEAD * config.threads]]
            for place, item in enumerate(waiting):
                frames, faults = coming.pop(0).result()
                if place + _AHEAD * config.threads < len(waiting):
                    coming.append(pool.submit(read, waiting[place + _AHEAD * config.threads]))
                for file, reason in faults:
                    writer.fault(item.key, file, reason)
                if len(frames) < config.min_frames:
                    writer.fault(item.key, "", f"{len(frames)} usable frames of {len(item.files)}")
                else:
                    writer.add(item.subject, item.condition, item.view, frames)
                advance(1)
        return writer.finish(layout=layout)
    except DataError:
        if not writer.done:
            give_up(destination)
        raise
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; {len(writer.done):,} of {len(found):,} sequences are in whole shards in {destination}, run the "
            "same command again to go on behind them"
        ) from None


def _read(source: Path, config: PackConfig, found: Found) -> tuple[Frame, list[tuple[str, str]]]:
    faults: list[tuple[str, str]] = []

    def fault(key: str, file: str, reason: str) -> None:
        if config.strict:
            why = reason if file in reason else f"{source / file}: {reason}"
            raise DataError(f"sequence {key} is at fault: {why}; mend it, or pack without --pack.strict")
        faults.append((file, reason))

    return read_sequence(source, found, config.min_mass, fault), faults


def render_images(
    destination: str | Path,
    config: RenderConfig | None = None,
    archive: str | Path | None = None,
    *,
    advance: Callable[[int], object] = lambda sequences: None,
) -> Rendering:
    """Draw silhouettes from skeletons into a folder of images in the layout of CASIA-B, or go on with that.

    Args:
        destination: the folder to make; ``001/nm-01/000/001-nm-01-000-001.png`` and so on.
        config: who, how long, from where.
        archive: whose recordings are drawn; ``None`` for synthetic walkers. Subjects are numbered in the order of the
            persons' names, which ``rendered.json`` lists.
        advance: called with the number of sequences that were dealt with.

    Raises:
        DataError: the archive cannot be read or drawn.
        OutputError: the destination is taken or cannot be written.
        Interrupted: the user stopped the job; whole sequences are kept.
        MissingDependencyError: Pillow is not installed.
    """
    config = config or RenderConfig()
    destination = Path(destination)
    pillow()
    silhouettes = SilhouetteSet.rendered(config, archive, cache_mb=0)
    table = silhouettes.sequences
    plan: dict[str, Any] = {"source": silhouettes.name, "settings": asdict(config)}
    if (destination / RENDERED).exists():
        raise OutputError(f"{destination} already holds rendered silhouettes; choose another output path or remove it")
    claim(destination, plan)
    numbers = {subject: f"{number:03d}" for number, subject in enumerate(table.subjects, 1)}
    try:
        for index in range(len(silhouettes)):
            names = numbers[str(table.subject[index])], str(table.condition[index]), str(table.view[index])
            folder = destination.joinpath(*names)
            if not folder.exists():
                _write_sequence(folder, silhouettes.load(index), "-".join(names))
            advance(1)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; run the same command again to go on in {destination}") from None
    totals = {"sequences": len(table), "frames": int(table.frames.sum()), "subjects": len(numbers)}
    names_of = {number: subject for subject, number in numbers.items()}
    write_json(destination / RENDERED, {**plan, **totals, "persons": names_of})
    (destination / PLAN).unlink(missing_ok=True)
    return Rendering(destination, **totals)


def _write_sequence(folder: Path, frames: Frame, stem: str) -> None:
    """Write the images beside their place and move them there together."""
    unfinished = folder.with_name(f".{folder.name}")
    make_folder(unfinished)
    try:
        for number, frame in enumerate(frames, 1):
            write_image(unfinished / f"{stem}-{number:03d}.png", frame)
        unfinished.replace(folder)
    except OSError as error:
        raise output_error(folder, error) from error
