"""How far simple descriptors of a six-frame window name the person: of synthetic walkers, or of any archive.

Shape (bone lengths), motion (directions of bones, which hold no lengths) and place (where the hip is in the room) are
measured apart, so that one sees what there is to be learned, and that no single cue does it all:

    python -m benchmarks.walker_difficulty                  # the default synthetic walkers
    python -m benchmarks.walker_difficulty walks.sga        # any archive with a split column
    python -m benchmarks.walker_difficulty walks.sga --draw 40    # 40 of its persons, for figures of equal chance

Rank-1 in per cent over all test windows; nearest neighbour (1-NN) and linear discriminants (LDA), both on standardised
features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WalkerConfig, WindowConfig
from sgela_fast.skeletons.layouts import Layout
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.walker import walks
from sgela_fast.skeletons.windows import usable_frames, valid_windows

WINDOW = WindowConfig(frames=6, stride=6, trim=10)


@dataclass(frozen=True)
class Windows:
    """All windows of one side, ``joints`` is ``(B, T, J, 3)`` in camera coordinates."""

    joints: np.ndarray
    person: np.ndarray


def place(joints: np.ndarray, layout: Layout) -> np.ndarray:
    """Mean position of the root in the room, ``(B, 3)``: no gait in it."""
    return np.asarray(joints[:, :, layout.index(layout.root)].mean(axis=1))


def shape(joints: np.ndarray, layout: Layout) -> np.ndarray:
    """Mean length of every bone, ``(B, bones)``: no motion in it."""
    return np.asarray(np.linalg.norm(_bone_vectors(joints, layout), axis=-1).mean(axis=1))


def directions(joints: np.ndarray, layout: Layout) -> np.ndarray:
    """Mean and spread of the bones' unit vectors, ``(B, 6 bones)``: no lengths in it."""
    unit = _unit_vectors(joints, layout)
    return _flat(unit.mean(axis=1), unit.std(axis=1))


def dynamics(joints: np.ndarray, layout: Layout) -> np.ndarray:
    """How the unit vectors move within the window, ``(B, 3 T bones)``: neither lengths nor a mean pose in it."""
    unit = _unit_vectors(joints, layout)
    return _flat(unit - unit.mean(axis=1, keepdims=True))


def both(joints: np.ndarray, layout: Layout) -> np.ndarray:
    """Bone lengths, and mean and spread of the centred joints."""
    root = layout.index(layout.root)
    centred = joints - joints[:, :, root : root + 1]
    return np.concatenate([shape(joints, layout), _flat(centred.mean(axis=1), centred.std(axis=1))], axis=1)


DESCRIPTORS: dict[str, Callable[[np.ndarray, Layout], np.ndarray]] = {
    "absolute position only": place,
    "shape only (bone lengths)": shape,
    "motion only (bone directions)": directions,
    "dynamics only (directions less their mean)": dynamics,
    "both (bone lengths and pose)": both,
}


def _bone_vectors(joints: np.ndarray, layout: Layout) -> np.ndarray:
    ends = np.array(layout.bones)
    return np.asarray(joints[:, :, ends[:, 0]] - joints[:, :, ends[:, 1]])  # (B, T, bones, 3)


def _unit_vectors(joints: np.ndarray, layout: Layout) -> np.ndarray:
    bones = _bone_vectors(joints, layout)
    return bones / np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-6)


def _flat(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def cut(recordings: Iterable[Recording], column: str) -> tuple[Windows, Windows, Layout]:
    """Windows of the train and of the test recordings, those with a lost joint left out."""
    sides: dict[str, list[tuple[np.ndarray, list[str]]]] = {"train": [], "test": []}
    layout: Layout | None = None
    for recording in recordings:
        side = recording.extra.get(column, "")
        starts = np.asarray(WINDOW.starts(recording.frames))
        if side not in sides or recording.person is None or not len(starts):
            continue
        layout = recording.skeleton
        starts = starts[valid_windows(usable_frames(recording.joints), starts, WINDOW.frames)]
        joints = recording.joints[starts[:, None] + np.arange(WINDOW.frames)].astype(np.float64)
        sides[side].append((joints, [recording.person] * len(starts)))
    if layout is None or not all(sides.values()):
        raise SystemExit(f"no recordings with {column} = train and test; name another column with --split")
    train, test = (
        Windows(np.concatenate([joints for joints, _ in side]), np.concatenate([person for _, person in side]))
        for side in (sides["train"], sides["test"])
    )
    return train, test, layout


def drawn(archive: Archive, persons: int, seed: int) -> Iterator[Recording]:
    """The recordings of ``persons`` persons of the archive, drawn at random; of all if it has fewer."""
    order = np.random.default_rng(seed).permutation(np.array(archive.persons))
    chosen = set(order[:persons].tolist())
    return (archive[row.recording] for row in archive.rows if row.person in chosen)


def rank1(
    train: np.ndarray, train_person: np.ndarray, test: np.ndarray, test_person: np.ndarray
) -> tuple[float, float]:
    """Rank-1 of 1-NN and of LDA, in per cent."""
    classifiers = (
        KNeighborsClassifier(1, algorithm="brute"),
        LinearDiscriminantAnalysis(solver="eigen", shrinkage=1e-3),
    )
    first, second = (
        100 * float(make_pipeline(StandardScaler(), model).fit(train, train_person).score(test, test_person))
        for model in classifiers
    )
    return first, second


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("archive", nargs="?", help="archive folder; without it the synthetic walkers are measured")
    parser.add_argument("--split", default="split", help="column that says train or test")
    parser.add_argument("--draw", type=int, help="measure that many persons of the archive, drawn by --seed")
    for setting in fields(WalkerConfig):
        parser.add_argument(f"--{setting.name}", type=type(setting.default), default=setting.default)
    args = parser.parse_args()
    config = WalkerConfig(**{setting.name: getattr(args, setting.name) for setting in fields(WalkerConfig)})
    recordings: Iterable[Recording] = walks(config)
    if args.archive:
        archive = Archive(args.archive)
        recordings = drawn(archive, args.draw, args.seed) if args.draw else archive
    train, test, layout = cut(recordings, args.split)
    persons = len(np.unique(train.person))
    table = Table(title=f"{persons} persons, {len(train.person):,} train and {len(test.person):,} test windows")
    for heading in ("descriptor", "1-NN", "LDA"):
        table.add_column(heading, justify="left" if heading == "descriptor" else "right")
    table.add_row("chance", *[f"{100 / persons:.1f}"] * 2)
    for name, describe in DESCRIPTORS.items():
        figures = rank1(describe(train.joints, layout), train.person, describe(test.joints, layout), test.person)
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
