"""Synthetic walkers: recordings of persons who do not exist, for tests, tutorials and trials without licensed data.

An identity (:mod:`sgela_fast.skeletons.walker_identity`) walks (:mod:`sgela_fast.skeletons.walker_motion`) before a
Kinect-like sensor (:mod:`sgela_fast.skeletons.walker_sensor`). Everything follows from the seed; person i does not
depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from sgela_fast.errors import Interrupted
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.walker_identity import LAYOUT, SPREAD, Identity, make_identity
from sgela_fast.skeletons.walker_motion import (
    CAMERA_HEIGHT,
    FPS,
    arc_path,
    corridor_path,
    forward_speed,
    place_in_room,
    walk_on_the_spot,
    wander,
)
from sgela_fast.skeletons.walker_sensor import sense

SPLITS = ("split", "split_2", "split_3", "split_4")
GENERATOR = 1  # raised when the same seed would give other walks
WALK_SPREAD = 0.4  # of a walk's angles, as a fraction of the spread between persons
_GRID = 4096.0  # positions are rounded to 1/4096 m: a quarter of a millimetre, and alike on every processor


def walks(config: WalkerConfig | None = None) -> Iterator[Recording]:
    """Generate all recordings, person by person, one in memory at a time."""
    config = config or WalkerConfig()
    for person in range(config.persons):
        identity = make_identity(config, person)
        sides = draw_splits(config, person)
        for walk in range(config.walks):
            extra = {"walk": str(walk + 1), **sides[walk]}
            yield replace(make_walk(config, identity, person, walk), name=f"{identity.name}_{walk + 1}", extra=extra)


def make_walk(config: WalkerConfig, identity: Identity, person: int, walk: int) -> Recording:
    """Walk number ``walk`` of ``identity``, which is person number ``person``, without its splits."""
    generator = np.random.default_rng([config.seed, 2, person, walk])
    body, phase = walk_body(config, identity, generator)
    find_path = arc_path if config.path == "arc" else corridor_path
    path = find_path(generator, forward_speed(body), config.variation)
    height = CAMERA_HEIGHT + config.variation * 0.02 * generator.normal()
    joints = place_in_room(body, path, height)
    sensor = np.random.default_rng([config.seed, 3, person, walk])
    seen = sense(sensor, joints, identity, phase, path.heading, config)
    return Recording(
        name=f"{identity.name}_{walk + 1}",
        joints=(np.round(seen * _GRID) / _GRID).astype(np.float32),
        layout=LAYOUT.name,
        fps=FPS,
        person=identity.name,
        source="synthetic",
    )


def walk_body(
    config: WalkerConfig, identity: Identity, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A walk of ``identity`` on the spot, as no sensor sees it.

    Returns:
        Joints ``(frames, J, 3)`` metres in the body frame (x to the walker's left, y up, z ahead), the floor at y = 0,
        and the phase of the stride ``(frames,)``, radians.
    """
    frames = int(generator.integers(config.min_frames, config.max_frames, endpoint=True))
    variation = config.variation
    angles = identity.angles + variation * WALK_SPREAD * SPREAD * generator.normal(size=SPREAD.shape)
    # Somebody in a hurry or in high spirits takes quicker and larger swings.
    mood = variation * generator.normal()
    angles[:, 1:] *= np.exp(0.07 * mood)
    cadence = identity.cadence * np.exp(0.03 * mood + variation * 0.02 * generator.normal())
    pace = cadence * np.exp(0.02 * variation * wander(generator, frames, 1.0))
    phase = 2 * np.pi * (generator.random() + np.cumsum(pace / FPS))
    return walk_on_the_spot(identity, angles, phase), phase


def draw_splits(config: WalkerConfig, person: int) -> list[dict[str, str]]:
    """For each walk of a person its side in every split: one walk is test, the splits take turns over the walks."""
    order = np.random.default_rng([config.seed, 4, person]).permutation(config.walks)
    test = {column: order[index % config.walks] for index, column in enumerate(SPLITS)}
    return [{column: "test" if test[column] == walk else "train" for column in SPLITS} for walk in range(config.walks)]


def write_walkers(
    destination: str | Path, config: WalkerConfig | None = None, *, advance: Callable[[int], object] | None = None
) -> Archive:
    """Write all recordings into a new archive, or finish one that was interrupted.

    Args:
        destination: the archive's folder.
        config: settings.
        advance: called with the number of recordings that were dealt with.

    Raises:
        OutputError: the destination holds a finished archive or something else, or cannot be written.
        Interrupted: the user stopped the job; whole shards are kept.
    """
    config = config or WalkerConfig()
    plan = {"source": "synthetic walkers", "generator": GENERATOR, "settings": asdict(config)}
    writer = ArchiveWriter(destination, LAYOUT, plan)
    written = {row.recording for row in writer.done}
    try:
        for recording in walks(config):
            if recording.name not in written:
                writer.add(recording)
            if advance is not None:
                advance(1)
        return writer.finish()
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; {len(writer.done)} of {config.persons * config.walks} recordings are in whole shards in "
            f"{destination}, run the same command again to go on behind them"
        ) from None
