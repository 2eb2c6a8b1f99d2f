"""Whether a figure may be too good: what test windows share with what was trained on.

:mod:`sgela_fast.evaluation.archive_leakage` looks at the recordings themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sgela_fast.evaluation.sides import Side, Sides

Severity = Literal["fine", "unknown", "warning", "serious"]
_ORDER: tuple[Severity, ...] = ("fine", "unknown", "warning", "serious")


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        severity: ``fine``; ``unknown`` where nothing can be told; ``warning`` for what is to be said beside the figure;
            ``serious`` for what makes the figure worthless.
        sentence: in words.
        figures: in numbers.
    """

    check: str
    severity: Severity
    sentence: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class LeakageReport:
    """What several checks found; reports add up."""

    findings: tuple[Finding, ...]

    def __add__(self, other: LeakageReport) -> LeakageReport:
        return LeakageReport(self.findings + other.findings)

    @property
    def worst(self) -> Severity:
        """The highest severity; ``fine`` where nothing was checked."""
        return max((finding.severity for finding in self.findings), key=_ORDER.index, default="fine")

    def sentences(self, at_least: Severity = "warning") -> tuple[str, ...]:
        """What was found, from a severity on."""
        least = _ORDER.index(at_least)
        return tuple(finding.sentence for finding in self.findings if _ORDER.index(finding.severity) >= least)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"worst": self.worst, "findings": [asdict(finding) for finding in self.findings]}


def check_sides(sides: Sides) -> LeakageReport:
    """Look at a divided store: windows on both sides, the encoder's training, centring.

    Reads columns and ``store.json`` alone, no values.

    Args:
        sides: of :func:`sgela_fast.evaluation.sides.divide`.
    """
    store = sides.test.store
    return LeakageReport((_shared_windows(sides), _encoder_training(sides.test), _centring(store.info)))


def encoder_finding(seen: int, tested: int, what: str) -> Finding:
    """The finding that so many of the tested ``what`` were seen by the encoder in training."""
    figures = {"seen": seen, "tested": tested}
    if not seen:
        return Finding("encoder-training", "fine", f"the encoder was trained on none of the tested {what}", figures)
    sentence = f"the encoder was trained (without labels) on {seen:,} of the {tested:,} tested {what}"
    return Finding("encoder-training", "warning", sentence, figures)


def _shared_windows(sides: Sides) -> Finding:
    name = "shared-windows"
    keys = _recording_keys(sides)
    if keys is None:
        sentence = "whether test and training recordings are the same cannot be told: the stores hold no hashes of them"
        return Finding(name, "unknown", sentence, {})
    train_keys, test_keys = keys
    shared = np.intersect1d(train_keys, test_keys)
    overlapping = identical = 0
    for key in shared:
        mine, theirs = train_keys == key, test_keys == key
        starts, frames = np.sort(sides.train.starts[mine]), int(sides.train.frames[mine][0])
        tested = sides.test.starts[theirs]
        # The training windows that begin between these two share a frame with the tested one.
        first = np.searchsorted(starts, tested - frames, side="right")
        behind = np.searchsorted(starts, tested + sides.test.frames[theirs], side="left")
        overlapping += int((behind > first).sum())
        identical += int(np.isin(tested, starts).sum())
    figures = {"recordings": len(shared), "overlapping": overlapping, "identical": identical, "tested": len(sides.test)}
    if overlapping:
        sentence = (
            f"{overlapping:,} of {len(sides.test):,} test windows share frames with training windows, {identical:,} of "
            f"them all frames; figures are too good"
        )
        return Finding(name, "serious", sentence, figures)
    if len(shared):
        sentence = f"{len(shared):,} recordings have windows on both sides, none of which overlap"
        return Finding(name, "warning", sentence, figures)
    return Finding(name, "fine", "no recording has windows on both sides", figures)


def _recording_keys(sides: Sides) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """What names the recording of each training and test window, the same on both sides; ``None`` if nothing does."""
    hashes = [_column(side, "source_sha256") for side in (sides.train, sides.test)]
    if all((found != "").all() for found in hashes):
        return hashes[0], hashes[1]
    one, other = sides.train.store, sides.test.store
    fingerprints = {store.info.get("archive_fingerprint") for store in (one, other)}
    if one is other or (len(fingerprints) == 1 and None not in fingerprints):
        return _column(sides.train, "recording"), _column(sides.test, "recording")
    return None


def _encoder_training(side: Side) -> Finding:
    name, info = "encoder-training", side.store.info
    trained_on = info.get("trained_on")
    if trained_on is None:
        return Finding(name, "unknown", "the store does not say what its encoder was trained on", {})
    if not trained_on:
        return Finding(name, "fine", "the encoder has fresh weights", {})
    if trained_on.get("archive_fingerprint") != info.get("archive_fingerprint"):
        return Finding(name, "fine", "the encoder was trained on another archive", {})
    column = trained_on.get("split", "")
    if not column:
        return encoder_finding(len(side), len(side), "windows")
    if column not in side.store.table.column_names:
        sentence = f"the encoder was trained by column {column!r}, which the store does not have"
        return Finding(name, "unknown", sentence, {})
    seen = int((_column(side, column) == trained_on.get("train_value")).sum())
    return encoder_finding(seen, len(side), "windows")


def _centring(info: Mapping[str, Any]) -> Finding:
    center = (info.get("window") or {}).get("center")
    if center is None:
        return Finding("centring", "unknown", "the store does not say on what its windows were centred", {})
    if center == "none":
        sentence = "skeletons were not centred: where somebody walked may name him without any gait"
        return Finding("centring", "warning", sentence, {})
    return Finding("centring", "fine", f"windows were centred on the joint {center!r}", {})


def _column(side: Side, name: str) -> NDArray[np.str_]:
    """Text of a side's windows, empty where there is none."""
    table = side.store.table
    if name not in table.column_names:
        return np.full(len(side), "", np.str_)
    column = table[name].cast("string").fill_null("").combine_chunks().dictionary_encode()
    distinct = np.array([*column.dictionary.to_pylist(), ""], np.str_)
    return distinct[column.indices.to_numpy(zero_copy_only=False)[side.rows]]
