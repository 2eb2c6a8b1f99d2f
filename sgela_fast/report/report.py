"""The job: results in, one page out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sgela_fast.atomic import write_text
from sgela_fast.errors import OutputError
from sgela_fast.report.config import ReportConfig
from sgela_fast.report.curves import attention, cmc_curves, training_curves
from sgela_fast.report.embedding import embedding_map
from sgela_fast.report.inputs import Inputs, open_inputs
from sgela_fast.report.making import making
from sgela_fast.report.matches import distances, rankings
from sgela_fast.report.page import Section
from sgela_fast.report.playback import playback
from sgela_fast.report.quality import quality
from sgela_fast.report.render import render, require_jinja
from sgela_fast.report.tables import claims, summary, tables

SECTIONS = 10  # units of progress


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
    progress: Callable[..., None] = lambda units=1, *, note="": None,
) -> Report:
    """Write one self-contained page of HTML about results.

    Args:
        results: folder made by ``reproduce``, ``evaluate`` or ``run``.
        out: the file to write.
        config: what is drawn.
        store: of the encodings; by default the one that the results name.
        archive: of the recordings; by default the one that the store names.
        runs: run folders whose training is drawn; by default those that the results name.
        progress: called with finished sections (of :data:`SECTIONS`) and a remark.

    Raises:
        DataError: the results, the store or the archive is damaged, or they do not belong together.
        ConfigError: a setting does not fit the store.
        MissingDependencyError: Jinja2 or scikit-learn is not installed.
        OutputError: the page cannot be written.
    """
    config, page = config or ReportConfig(), Path(out)
    # Drawing takes a while; what stands in the way of the page is better told before.
    require_jinja()
    if not page.parent.is_dir():
        raise OutputError(f"{page} cannot be written, for the folder {page.parent} does not exist; make it first")
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    inputs = open_inputs(results, store, archive, tuple(runs))
    sections = list(_sections(inputs, config, created, progress))
    kind = "Reproduction of SGE-LA" if inputs.results.kind == "reproduction" else "Evaluation"
    title = config.title or f"{kind}: {inputs.results.path.name}"
    text = render(title, summary(inputs.results), sections, created)
    write_text(page, text)
    missing = {section.title: section.missing for section in sections if section.missing}
    return Report(page, len(text.encode()), missing)


def _sections(inputs: Inputs, config: ReportConfig, created: str, progress: Callable[..., None]) -> list[Section]:
    found: list[Section] = []

    def add(section: Section) -> None:
        found.append(section)
        progress(1, note=section.title)

    add(tables(inputs.results))
    add(claims(inputs.results))
    add(cmc_curves(inputs.results))
    add(attention(inputs, config))
    add(training_curves(inputs))
    add(embedding_map(inputs, config))
    add(playback(inputs, rankings(inputs, config), config))
    add(distances(inputs, config))
    add(quality(inputs, config))
    add(making(inputs, config, created))
    return found
