"""Whether recordings themselves give away what is to be recognised: copies of frames, places, persons, training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgela_fast.checkpoints.run_folder import read_info
from sgela_fast.errors import MissingDependencyError
from sgela_fast.evaluation.leakage import Finding, LeakageReport, encoder_finding
from sgela_fast.skeletons.archive import Archive, Row
from sgela_fast.skeletons.recording import lost_joints

PLACES = 20_000  # frames of each side whose place is looked at


class _Frames(NamedTuple):
    """A hash of every frame that has a joint, and where it comes from."""

    hashes: NDArray[np.uint64]  # (N,)
    recording: NDArray[np.int64]  # (N,), position in `rows`
    rows: list[Row]


def check_archive(
    archive: str | Path | Archive, split: str = "split", *, train_value: str = "train", test_value: str = "test"
) -> LeakageReport:
    """Look for frames that occur on both sides or under two names, and for persons whom their place gives away.

    Every frame is read once; some 12 bytes of each are held.

    Args:
        archive: an archive or its folder.
        split: column that names each recording's side.
        train_value: what it says of training recordings.
        test_value: what it says of test recordings.

    Raises:
        DataError: the archive is damaged, or has no such column or value.
        MissingDependencyError: SciPy is not installed.
    """
    opened = _opened(archive)
    train, test = opened.select(split, train_value), opened.select(split, test_value)
    sides = _hashed(opened, train), _hashed(opened, test)
    return LeakageReport((_copies(*sides), _two_names(sides), _places(opened, train, test)))


def check_transfer(trained_on: str | Path | Archive, tested: str | Path | Archive) -> LeakageReport:
    """Look for persons and frames that occur both where an encoder was trained and where it is tested.

    Args:
        trained_on: archive of the training, or its folder.
        tested: archive of the test.

    Raises:
        DataError: an archive is damaged.
    """
    one, other = _opened(trained_on), _opened(tested)
    shared = sorted(set(one.persons) & set(other.persons))
    figures = {"persons": len(shared), "tested": len(other.persons)}
    finding = Finding("shared-persons", "fine", "no name of a person is in both archives", figures)
    if shared:
        sentence = (
            f"{len(shared):,} of the {len(other.persons):,} tested persons have names that the training archive has "
            f"too ({', '.join(shared[:3])}{' ...' if len(shared) > 3 else ''}); see whether they are the same persons"
        )
        finding = Finding("shared-persons", "warning", sentence, figures)
    return LeakageReport((finding, _copies(_hashed(one, one.rows), _hashed(other, other.rows))))


def check_run(
    run: str | Path, archive: str | Path | Archive, split: str = "split", *, test_value: str = "test"
) -> LeakageReport:
    """Look whether a run was trained on recordings that are to be tested.

    Args:
        run: run folder.
        archive: what is tested, or its folder.
        split: column that names the test recordings.
        test_value: what it says of them.

    Raises:
        CheckpointError: the run folder is damaged.
        DataError: the archive is damaged, or has no such column or value.
    """
    info, opened = read_info(Path(run)), _opened(archive)
    test = opened.select(split, test_value)
    training = info.get("training")
    if training is None:
        sentence = f"{run} does not say what it was trained on"
        return LeakageReport((Finding("encoder-training", "unknown", sentence, {}),))
    if (info.get("archive") or {}).get("fingerprint") != opened.fingerprint:
        sentence = f"{run} was trained on another archive; compare the two with check_transfer"
        return LeakageReport((Finding("encoder-training", "fine", sentence, {}),))
    column = training.get("split", "")
    seen = [row for row in test if not column or row.extra.get(column) == training.get("train_value")]
    return LeakageReport((encoder_finding(len(seen), len(test), "recordings"),))


def _opened(archive: str | Path | Archive) -> Archive:
    return archive if isinstance(archive, Archive) else Archive(archive)


def _hashed(archive: Archive, rows: Sequence[Row]) -> _Frames:
    hashes, recording = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for position, row in enumerate(rows):
        joints = archive.frames_of(row)
        seen = np.ascontiguousarray(joints[~lost_joints(joints).all(axis=1)])  # empty frames are all alike
        digests = b"".join(hashlib.blake2b(frame.data, digest_size=8).digest() for frame in seen)
        hashes.append(np.frombuffer(digests, np.uint64))
        recording.append(np.full(len(seen), position))
    return _Frames(np.concatenate(hashes), np.concatenate(recording), list(rows))


def _copies(train: _Frames, test: _Frames) -> Finding:
    copied = np.isin(test.hashes, train.hashes)
    recordings = np.unique(test.recording[copied])
    figures = {"frames": int(copied.sum()), "recordings": len(recordings), "tested": len(test.hashes)}
    if not len(recordings):
        return Finding("copied-frames", "fine", "no test frame occurs among the training frames", figures)
    name = test.rows[recordings[0]].recording
    one = test.hashes[copied & (test.recording == recordings[0])][0]
    original = train.rows[train.recording[np.flatnonzero(train.hashes == one)[0]]].recording
    sentence = (
        f"{figures['frames']:,} test frames of {len(recordings):,} recordings are copies of training frames, such as "
        f"in {name!r} of {original!r}; figures are too good"
    )
    return Finding("copied-frames", "serious", sentence, figures)


def _two_names(sides: Iterable[_Frames]) -> Finding:
    """Frames that are given to two persons."""
    hashes, persons, names = [], [], []
    for side in sides:
        of_rows = np.array([row.person or "" for row in side.rows], np.str_)
        named = of_rows[side.recording] != ""
        hashes.append(side.hashes[named])
        persons.append(of_rows[side.recording[named]])
        names.append(np.array([row.recording for row in side.rows], np.str_)[side.recording[named]])
    every, codes = np.concatenate(hashes), np.unique(np.concatenate(persons), return_inverse=True)[1]
    order = np.lexsort((codes, every))
    # Behind one another after sorting: the same frame, another person.
    doubled = np.flatnonzero((np.diff(every[order]) == 0) & (np.diff(codes[order]) != 0))
    figures = {"frames": len(doubled)}
    if not len(doubled):
        return Finding("frames-of-two-persons", "fine", "no frame is given to two persons", figures)
    all_names = np.concatenate(names)[order]
    sentence = (
        f"{len(doubled):,} frames are given to two persons, such as in {str(all_names[doubled[0]])!r} and "
        f"{str(all_names[doubled[0] + 1])!r}; mend the labels"
    )
    return Finding("frames-of-two-persons", "serious", sentence, figures)


def _places(archive: Archive, train: Sequence[Row], test: Sequence[Row]) -> Finding:
    """How often the place of the root joint alone finds the person, by the nearest training frame."""
    try:
        from scipy.spatial import KDTree
    except ImportError as error:
        raise MissingDependencyError(
            'looking for places needs SciPy; install it with pip install "sgela_fast[eval]"'
        ) from error
    name, root = "place", archive.layout.root
    known = {row.person for row in train if row.person}
    (places, persons), (tested, truth) = (
        _sampled_places(archive, [row for row in rows if row.person in known]) for rows in (train, test)
    )
    if not len(places) or not len(tested):
        return Finding(name, "fine", f"{root} is at the origin, or nobody is named: no place to go by", {})
    found = persons[KDTree(places).query(tested)[1]]
    named = float((found == truth).mean())
    people, counts = np.unique(persons, return_counts=True)
    share = dict(zip(people.tolist(), (counts / len(persons)).tolist(), strict=True))
    chance = float(np.mean([share.get(person, 0.0) for person in truth.tolist()]))
    figures = {"named": named, "chance": chance, "persons": len(people), "tested": len(tested)}
    sentence = (
        f"the place of {root} alone names the person of {100 * named:.1f} % of the test frames "
        f"({100 * chance:.1f} % by chance)"
    )
    if named <= 2 * chance:
        return Finding(name, "fine", sentence, figures)
    return Finding(name, "warning", f"{sentence}; keep window.center at root", figures)


def _sampled_places(archive: Archive, rows: Sequence[Row]) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Places of the root joint ``(n, 3)`` in frames evenly chosen, and whose they are; lost ones are left out."""
    root = archive.layout.index(archive.layout.root)
    step = max(1, sum(row.frames for row in rows) // PLACES)
    places, persons = [np.empty((0, 3), np.float32)], [np.empty(0, np.str_)]
    for row in rows:
        joints = archive.frames_of(row)[::step, root]
        seen = joints[np.isfinite(joints).all(axis=1) & (joints != 0).any(axis=1)]
        places.append(seen)
        persons.append(np.repeat(np.array([row.person or ""], np.str_), len(seen)))
    return np.concatenate(places), np.concatenate(persons)
