"""The job: results in, one page out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sgela_fast.atomic import write_text
from sgela_fast.errors import OutputError
from sgela_fast.report.config import ReportConfig
from sgela_fast.report.curves import attention, cmc_curves, training_curves
from sgela_fast.report.embedding import embedding_map
from sgela_fast.report.inputs import Inputs, open_inputs
from sgela_fast.report.labels import label_curves, study_summary
from sgela_fast.report.making import making
from sgela_fast.report.matches import distances, rankings
from sgela_fast.report.page import Section
from sgela_fast.report.playback import playback
from sgela_fast.report.quality import quality
from sgela_fast.report.render import render, require_jinja
from sgela_fast.report.summary import summary
from sgela_fast.report.sweeps import sweeps
from sgela_fast.report.tables import tables
from sgela_fast.report.verdicts import claims, leakage
from sgela_fast.report.views import no_curves, silhouette_training, view_heats, view_summary, view_tables

SECTIONS = 12  # units of progress
TITLES = {
    "evaluation": "Evaluation",
    "reproduction": "Reproduction of SGE-LA",
    "cross-view": "Evaluation across views",
    "labels": "SelfGait with few labels",
}


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: the page.
        size: bytes.
        missing: title of each section without content, and why.
    """

    path: Path
    size: int
    missing: dict[str, str]


def write_report(
    results: str | Path,
    out: str | Path,
    config: ReportConfig | None = None,
    *,
    store: str | Path | None = None,
    archive: str | Path | None = None,
    runs: Sequence[str | Path] = (),
    low_label: str | Path | None = None,
    progress: Callable[..., None] = lambda units=1, *, note="": None,
) -> Report:
    """Write one self-contained page of HTML about results.

    Args:
        results: folder made by ``reproduce``, ``evaluate`` or ``run``, or the JSON file of a study of few labels.
        out: the file to write.
        config: what is drawn.
        store: of the encodings; by default the one that the results name.
        archive: of the recordings; by default the one that the store names.
        runs: run folders whose training is drawn; by default those that the results name.
        low_label: JSON file of a study of few labels, to stand beside results of silhouettes.
        progress: called with finished sections (of :data:`SECTIONS`) and a remark.

    Raises:
        DataError: the results, the store or the archive is damaged, or they do not belong together.
        ConfigError: a setting does not fit the store, or something is named that does not go with the results.
        MissingDependencyError: Jinja2 or scikit-learn is not installed.
        OutputError: the page cannot be written.
    """
    config, page = config or ReportConfig(), Path(out)
    # Drawing takes a while; what stands in the way of the page is better told before.
    require_jinja()
    if not page.parent.is_dir():
        raise OutputError(f"{page} cannot be written, for the folder {page.parent} does not exist; make it first")
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    inputs = open_inputs(results, store, archive, tuple(runs), low_label)
    sections = _sections(inputs, config, created, progress)
    title = config.title or f"{TITLES[inputs.results.kind]}: {inputs.results.path.name}"
    text = render(title, _summary(inputs), sections, created)
    write_text(page, text)
    missing = {section.title: section.missing for section in sections if section.missing}
    return Report(page, len(text.encode()), missing)


def _sections(inputs: Inputs, config: ReportConfig, created: str, progress: Callable[..., None]) -> list[Section]:
    found: list[Section] = []
    for make in _plan(inputs, config):
        found.append(make())
        progress(1, note=found[-1].title)
    found.append(making(inputs, config, created))
    progress(SECTIONS - len(found) + 1, note=found[-1].title)
    return found


def _plan(inputs: Inputs, config: ReportConfig) -> list[Callable[[], Section]]:
    """What makes each section but the last; silhouettes have no joints to play back or to inspect."""
    results, few_labels = inputs.results, partial(label_curves, inputs.study)
    if results.kind == "labels":
        return [few_labels]
    if results.kind == "cross-view":
        return [
            partial(view_tables, results),
            partial(view_heats, results),
            few_labels,
            no_curves,
            partial(silhouette_training, inputs),
            partial(embedding_map, inputs, config),
        ]
    return [
        partial(tables, results),
        partial(claims, results),
        *([partial(leakage, results)] if results.kind == "reproduction" else []),
        partial(cmc_curves, results),
        *([partial(sweeps, results)] if results.kind == "reproduction" else []),
        partial(attention, inputs, config),
        partial(training_curves, inputs),
        partial(embedding_map, inputs, config),
        lambda: playback(inputs, rankings(inputs, config), config),
        partial(distances, inputs, config),
        partial(quality, inputs, config),
    ]


def _summary(inputs: Inputs) -> Sequence[str]:
    of_study = [] if inputs.study is None else study_summary(inputs.study)
    if inputs.results.kind == "labels":
        return of_study
    if inputs.results.kind == "cross-view":
        return [*view_summary(inputs.results), *of_study]
    return summary(inputs.results)
