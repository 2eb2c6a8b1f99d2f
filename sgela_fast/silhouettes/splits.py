"""Who is trained on and who is tested, and which sequences' labels are known."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.silhouettes.sequences import Sequences

SplitName = Literal["casia-b-74", "casia-b-62", "ou-mvlp", "released"]
LabelUnit = Literal["subjects", "sequences"]
_RELEASED_SHARE = 0.8
_RELEASED_SKIPPED = "005"
_OU_MVLP_LAST = 10_307  # odd, but tested: 5,153 persons are trained on and 5,154 tested


class Split(NamedTuple):
    """Positions of the sequences of either side, ``(n,)`` each."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def split(sequences: Sequences, name: str) -> Split:
    """Divide sequences as the literature does.

    * ``casia-b-74``, ``casia-b-62``: numbers up to 74 (62) are trained on, those above are tested, whoever is missing.
    * ``ou-mvlp``: odd numbers are trained on; even ones and 10307 are tested.
    * ``released``: the first 80 % of the sorted list of sequences are trained on, subject 005 is on neither side, and
      one subject may be on both: what SelfGait's released code does.

    Raises:
        ConfigError: there is no such split.
        DataError: a side would be empty, or a subject's name is no number where one is needed.
    """
    if name not in get_args(SplitName):
        raise ConfigError(f"split is {name!r}; choose one of: {', '.join(get_args(SplitName))}")
    if name == "released":
        listed = np.argsort(sequences.key, kind="stable")
        kept = listed[sequences.subject[listed] != _RELEASED_SKIPPED]
        first = int(_RELEASED_SHARE * len(kept))
        return _both_sides(Split(np.sort(kept[:first]), np.sort(kept[first:])), name)
    wrong = [subject for subject in sequences.subjects if not subject.isdecimal()]
    if wrong:
        raise DataError(f"subject {wrong[0]!r} is no number, which split {name} goes by; choose another split")
    train = _trained(sequences, name)
    return _both_sides(Split(np.flatnonzero(train), np.flatnonzero(~train)), name)


def sides(sequences: Sequences, name: str, subjects: int = 0, *, same: bool = True) -> list[str] | None:
    """The side of each sequence, ``train``, ``test`` or ``none``, for a set that may hold one side alone.

    Args:
        sequences: of the set.
        name: of a split; empty for none.
        subjects: how many were trained on instead, see :func:`split_subjects`; 0 for what ``name`` says.
        same: whether the model was trained on a side of this very set. Subjects have the same numbers in every copy of
            CASIA-B or OU-MVLP; all other divisions count within one set.

    Returns:
        ``None`` where nothing divides the set: all were trained on, the split is one of other data, or of another set.
    """
    if subjects or name == "released":
        if not same or subjects >= len(sequences.subjects):
            return None
        found = split_subjects(sequences, subjects) if subjects else split(sequences, name)
        side = np.full(len(sequences), "none", dtype="<U5")
        side[found.train], side[found.test] = "train", "test"
        return [str(value) for value in side]
    of_casia = all("-" in condition for condition in set(sequences.condition.tolist()))
    if not name or of_casia != name.startswith("casia-b") or not all(map(str.isdecimal, sequences.subjects)):
        return None
    return ["train" if trained else "test" for trained in _trained(sequences, name)]


def split_subjects(sequences: Sequences, train_subjects: int) -> Split:
    """The first ``train_subjects`` subjects, in the order of their names, are trained on and the others tested.

    Raises:
        DataError: a side would be empty.
    """
    train = np.isin(sequences.subject, sequences.subjects[:train_subjects])
    return _both_sides(Split(np.flatnonzero(train), np.flatnonzero(~train)), f"of {train_subjects} subjects")


def _trained(sequences: Sequences, name: str) -> NDArray[np.bool_]:
    """Which sequences a split that goes by numbers trains on."""
    number = sequences.subject.astype(np.int64)
    odd = (number % 2 == 1) & (number != _OU_MVLP_LAST)
    return odd if name == "ou-mvlp" else number <= int(name[-2:])


def _both_sides(found: Split, name: str) -> Split:
    for side, rows in zip(("train", "test"), found, strict=True):
        if not len(rows):
            raise DataError(f"split {name} leaves no sequence to {side} on; choose another split or more subjects")
    return found


def labelled(sequences: Sequences, fraction: float, unit: str = "subjects", seed: int = 0) -> NDArray[np.int64]:
    """Positions of the sequences whose labels are known when a fraction of them is.

    Fractions nest: what is labelled at 10 % is labelled at 20 %.

    * ``subjects``: all sequences of a share of the subjects, rounded, at least two, as fewer make no negative pair.
    * ``sequences``: the same share of every subject's sequences, rounded, at least two, as fewer make no positive pair.

    Args:
        sequences: those that could be labelled.
        fraction: above 0 up to 1.
        unit: what is drawn.
        seed: of the drawing.

    Raises:
        ConfigError: the fraction or the unit is none.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"label fraction is {fraction}; it must be above 0 and at most 1")
    if unit not in get_args(LabelUnit):
        raise ConfigError(f"label unit is {unit!r}; choose subjects or sequences")
    if unit == "subjects":
        subjects = np.array(sequences.subjects)
        order = np.random.default_rng([seed, 0]).permutation(len(subjects))
        known = subjects[order[: _share(fraction, len(subjects))]]
        return np.flatnonzero(np.isin(sequences.subject, known))
    chosen = []
    for number, subject in enumerate(sequences.subjects):
        mine = np.flatnonzero(sequences.subject == subject)
        order = np.random.default_rng([seed, 1, number]).permutation(len(mine))
        chosen.append(mine[order[: _share(fraction, len(mine))]])
    return np.sort(np.concatenate(chosen))


def _share(fraction: float, count: int) -> int:
    return min(count, max(2, round(fraction * count)))
