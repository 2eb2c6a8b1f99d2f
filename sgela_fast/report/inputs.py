"""What the page is made from: a folder of results, and the store, archive and runs that belong to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sgela_fast.checkpoints.history import HISTORY
from sgela_fast.encoding.store import Store
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.evaluation.cross_view_results import RESULTS as CROSS_VIEW
from sgela_fast.evaluation.cross_view_results import SCHEMA as CROSS_VIEW_SCHEMA
from sgela_fast.evaluation.cross_view_results import CrossViewResult, from_json
from sgela_fast.report.figures import rows
from sgela_fast.report.labels import LabelStudy, read_study
from sgela_fast.reproduction.results import INDEX, CellResult, ResultsFolder
from sgela_fast.reproduction.rows import Row
from sgela_fast.skeletons.archive import Archive, is_archive

EVALUATION = "sgela-fast/evaluation"
RESULTS, PIPELINE = "results.json", "pipeline.json"


@dataclass(frozen=True)
class Results:
    """Content of a folder of results.

    Attributes:
        path: the folder; of a study of few labels its file.
        kind: ``evaluation``, ``reproduction``, ``cross-view`` or ``labels``.
        head: content of the file that says what was done.
        cells: finished cells of a reproduction; of a cell that was done again the last.
        views: stores evaluated across views.
    """

    path: Path
    kind: str
    head: dict[str, Any]
    cells: tuple[CellResult, ...] = ()
    views: tuple[CrossViewResult, ...] = ()

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of Re-ID figures, with intervals."""
        return rows(self)

    @property
    def stores(self) -> list[Path]:
        """Stores that were evaluated."""
        if self.kind == "cross-view":
            return [Path(view.store) for view in self.views]
        return [Path(name) for name in self.head.get("settings", {}).get("stores", ())]


@dataclass(frozen=True)
class Inputs:
    """Everything that was found; ``why_no_…`` says, where something is lacking, why and how to give it.

    Attributes:
        results: the folder of results.
        store: of encodings.
        archive: of recordings.
        runs: folders of trained models.
        study: of few labels.
    """

    results: Results
    store: Store | None = None
    why_no_store: str = ""
    archive: Archive | None = None
    why_no_archive: str = ""
    runs: tuple[Path, ...] = ()
    study: LabelStudy | None = None


def open_inputs(
    results: str | Path,
    store: str | Path | None = None,
    archive: str | Path | None = None,
    runs: tuple[str | Path, ...] = (),
    low_label: str | Path | None = None,
) -> Inputs:
    """Read a folder of results and find what belongs to it.

    Args:
        results: folder made by ``reproduce``, ``evaluate`` or ``run``, or the JSON file of a study of few labels.
        store: of the encodings; by default the first store that the results name, if it is still there.
        archive: of the recordings; by default the one that the store names, if it is still there.
        runs: run folders whose training is drawn; by default those that the results name.
        low_label: JSON file of a study of few labels, to stand beside results of silhouettes.

    Raises:
        ConfigError: something is named that has no place beside such results.
        DataError: the folder holds no results, or a file is damaged, or store and archive do not belong together.
    """
    folder = Path(results)
    given = {"store": store, "archive": archive, "runs": runs, "low_label": low_label}
    if (folder / PIPELINE).exists():
        _refuse(folder, "evaluation", given)
        return _of_pipeline(folder, store, archive, runs)
    found = read_results(folder)
    _refuse(folder, found.kind, given)
    if found.kind == "labels":
        return Inputs(found, study=LabelStudy(folder, found.head))
    opened, why_no_store = _store(found, store)
    folders = tuple(map(Path, runs)) or _named_runs(found)
    if found.kind == "cross-view":
        study = None if low_label is None else read_study(Path(low_label))
        return Inputs(found, opened, why_no_store, runs=folders, study=study)
    recordings, why_no_archive = _archive(found, opened, archive)
    return Inputs(found, opened, why_no_store, recordings, why_no_archive, folders)


def _refuse(path: Path, kind: str, given: dict[str, Any]) -> None:
    """Whatever has no place on the page is refused, not passed over."""
    what, fitting = {
        "cross-view": ("results of silhouettes", ("store", "runs", "low_label")),
        "labels": ("a study of few labels", ()),
    }.get(kind, ("results of skeletons", ("store", "archive", "runs")))
    for name, value in given.items():
        if value and name not in fitting:
            raise ConfigError(f"--{name} does not go with {path}, which is {what}; leave it out")


def _of_pipeline(
    folder: Path, store: str | Path | None, archive: str | Path | None, runs: tuple[str | Path, ...]
) -> Inputs:
    """The folder of ``sgela-fast run`` holds all of it, wherever it has been moved."""
    if not (folder / "evaluation" / RESULTS).exists():
        raise DataError(f"{folder} holds a pipeline that has not come to its figures; finish it with `sgela-fast run`")
    inside = {name: folder / name for name in ("store", "archive", "run") if (folder / name).exists()}
    return open_inputs(
        folder / "evaluation",
        store or inside.get("store"),
        archive or inside.get("archive"),
        runs or ((inside["run"],) if "run" in inside else ()),
    )


def read_results(folder: Path) -> Results:
    """Read the results in ``folder``, or the file of a study of few labels.

    Raises:
        DataError: there are none, or of two kinds, or a file is damaged or of another release.
    """
    if folder.is_file():
        return Results(folder, "labels", read_study(folder).content)
    if (folder / INDEX).exists():
        reproduction = ResultsFolder(folder)
        cells = {cell.cell: cell for cell in reproduction.read()}
        return Results(folder, "reproduction", reproduction.read_index(), tuple(cells.values()))
    if (folder / CROSS_VIEW).exists():
        if (folder / RESULTS).exists():
            raise DataError(
                f"{folder} holds {RESULTS} and {CROSS_VIEW}, results of two kinds; move one of them into a folder of "
                "its own"
            )
        content = _content(folder / CROSS_VIEW, CROSS_VIEW_SCHEMA, from_json)
        return Results(folder, "cross-view", content, views=tuple(from_json(content)))
    if (folder / RESULTS).exists():
        content = _content(folder / RESULTS, EVALUATION, lambda head: head["stores"][0]["outcomes"][0]["windows"])
        return Results(folder, "evaluation", content)
    if not folder.exists():
        raise DataError(f"{folder} does not exist; give the folder made by `sgela-fast evaluate` or `reproduce`")
    raise DataError(
        f"{folder} holds no results (neither {RESULTS} nor {CROSS_VIEW} nor {INDEX}); give the folder made by "
        "`sgela-fast evaluate`, `reproduce` or `run`"
    )


def _content(path: Path, schema: str, take: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Content of a file of results; ``take`` fails where something is missing from it."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        found, version = content["schema"], content["version"]
        if (found, version) == (schema, 1):
            take(content)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} is damaged ({error!r}); evaluate again with `sgela-fast evaluate`") from error
    if (found, version) != (schema, 1):
        raise DataError(
            f"{path} is {found!r} version {version} but this release reads {schema!r} version 1; use a matching release"
        )
    return content


def _store(results: Results, given: str | Path | None) -> tuple[Store | None, str]:
    if given is not None:
        return Store(given), ""
    if results.kind == "reproduction":
        kept = sorted(path.parent for path in results.path.glob("stores/*/store.json"))
        if kept:
            return Store(kept[0]), ""
        return None, "a reproduction keeps no store; encode the archive and name its store with --store"
    named = results.stores
    for path in named:
        if (path / "store.json").exists():
            return Store(path), ""
    where = f"the store {named[0]} is not there any more" if named else "the results name no store"
    return None, f"{where}; name it with --store"


def _archive(results: Results, store: Store | None, given: str | Path | None) -> tuple[Archive | None, str]:
    if given is None:
        data = results.head.get("datasets") or [{}]
        named = data[0].get("archive") if store is None else store.info.get("archive")
        if named is None or not is_archive(Path(named)):
            where = "nothing names the archive" if named is None else f"the archive {named} is not there any more"
            return None, f"{where}; name it with --archive"
        archive = Archive(named)
        if store is not None and not _belongs(store, archive):
            return None, f"{named} has changed since {store.path} was encoded from it; name its archive with --archive"
        return archive, ""
    archive = Archive(given)
    if store is not None and not _belongs(store, archive):
        raise DataError(f"{store.path} was not encoded from {archive.path}; give the store and the archive it is of")
    return archive, ""


def _belongs(store: Store, archive: Archive) -> bool:
    return store.info.get("archive_fingerprint") in (None, archive.fingerprint)


def _named_runs(results: Results) -> tuple[Path, ...]:
    """The runs that the evaluated stores were encoded with, as far as they are still there."""
    found = []
    for name in () if results.kind == "reproduction" else results.stores:
        path = name / "store.json"
        origin = str(json.loads(path.read_text()).get("origin", "")) if path.exists() else ""
        run = Path(origin.removeprefix("run folder "))
        if origin.startswith("run folder ") and (run / HISTORY).exists() and run not in found:
            found.append(run)
    return tuple(found)
