"""Quality of the recordings, as `sgela-fast inspect` measures it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sgela_fast.report.chart import histogram
from sgela_fast.report.config import FINDINGS, ReportConfig
from sgela_fast.report.inputs import Inputs
from sgela_fast.report.page import Section, Table, evenly
from sgela_fast.skeletons.inspection import Inspection, inspect, open_for_inspection
from sgela_fast.skeletons.quality import Finding, counted

BINS = 20


def quality(inputs: Inputs, config: ReportConfig) -> Section:
    """Lost joints, jumps, lengths, and which recordings are at fault."""
    title = "Data quality"
    if inputs.archive is None:
        return Section("quality", title, missing=f"There are no recordings to inspect: {inputs.why_no_archive}.")
    source = open_for_inspection(inputs.archive.path)
    places = evenly(len(source.refs), config.recordings)
    found = inspect(replace(source, refs=tuple(source.refs[place] for place in places)))
    some = (
        f"{len(places):,} of {len(source.refs):,} recordings, drawn evenly"
        if len(places) < len(source.refs)
        else (f"all {len(places):,} recordings")
    )
    lead = (
        f"Measured on {some} of {inputs.archive.path.name}, as by `sgela-fast inspect`, which names every recording.",
        f"{counted(found.summary()['faulty_recordings'], 'recording')} at fault.",
    )
    parts: list[Any] = [_totals(found)]
    frames = [item.frames for item in found.recordings]
    if frames:
        parts.append(_lengths(frames))
    return Section("quality", title, lead, parts=(*parts, *_findings(found.findings)))


def _totals(found: Inspection) -> Table:
    summary = found.summary()
    frames = summary["frames_of_a_recording"] or {"least": 0, "median": 0, "most": 0}
    within, between = summary["bone_spread_within_recordings"], summary["bone_spread_between_persons"]
    rows = [
        ("recordings", f"{summary['recordings']:,}"),
        ("persons", f"{summary['persons']:,}"),
        ("frames", f"{summary['frames']:,}"),
        ("frames of a recording", f"{frames['least']:,} to {frames['most']:,}, median {frames['median']:,}"),
        ("joint layout", _counts(summary["layouts"])),
        ("frames a second", _counts(summary["fps"])),
        ("unit of length (guess)", _counts(summary["units"])),
        ("lost joints", f"{summary['lost_joints']:,}, in {100 * summary['lost_frames']:.2f} % of the frames"),
        ("frames with a jump", f"{100 * summary['jumping_frames']:.2f} %"),
        ("coordinates that are not finite", f"{summary['nan_joints']:,}"),
        ("bone lengths within a recording", "–" if within is None else f"spread by {100 * within:.1f} cm"),
        ("bone lengths between persons", "–" if between is None else f"spread by {100 * between:.1f} cm"),
    ]
    return Table("The archive", ("Measure", "Value"), tuple(rows))


def _lengths(frames: Sequence[int]) -> Any:
    edges = np.linspace(min(frames), max(max(frames), min(frames) + 1), BINS + 1)
    shares = (100 * np.histogram(frames, edges)[0] / len(frames)).tolist()
    return histogram(
        "Frames of a recording",
        edges.tolist(),
        {"recordings": shares},
        x_title="frames",
        y_title="recordings, %",
    )


def _findings(findings: Sequence[Finding]) -> list[Table]:
    tables = []
    for fault in (True, False):
        mine = [item for item in findings if item.fault is fault]
        for kind in dict.fromkeys(item.kind for item in mine):
            rows = [(item.recording, item.text) for item in mine if item.kind == kind]
            word = "Fault" if fault else "Remark"
            caption = f"{word}: {kind}, {counted(len(rows), 'recording')}"
            tables.append(Table.bounded(caption, ("Recording", "What"), rows, FINDINGS))
    return tables


def _counts(values: dict[str, int]) -> str:
    if len(values) == 1:
        return str(next(iter(values)))
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(values.items())) or "–"
