"""A change of a finished store that happens wholly or not at all, whenever the process dies.

New files are written into ``.change/`` and flushed. Then ``.change/commit.json`` says which of them replace which files
and which files go: from that moment the change holds, and whoever opens the store next finishes it. Before that moment
it never happened, and whoever opens the store next removes ``.change/``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgela_fast.atomic import make_folder, sync_folder, write_json, writing
from sgela_fast.encoding.schema import INDEX, LOCK, SEARCH_INDEX, TEMPORARY_FILE, UNFINISHED
from sgela_fast.errors import DataError, OutputError
from sgela_fast.locking import exclusive

CHANGE = ".change"
COMMIT = "commit.json"


class Change:
    """Files that are about to replace those of the store in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def staged(self) -> Path:
        """Folder for the new files; ``store.json`` is written by :meth:`commit`."""
        return make_folder(self.folder / CHANGE)

    def commit(self, info: dict[str, Any], remove: Sequence[str]) -> None:
        """Put every staged file in its place and remove others; a search index goes too, its values have changed.

        Args:
            info: the new ``store.json``.
            remove: names of files to remove.

        Raises:
            OutputError: a file cannot be written; before the commit the store is as it was.
        """
        staged = self.staged
        with writing(staged):
            names = sorted(file.name for file in staged.iterdir())
        write_json(staged / INDEX, info)
        write_json(staged / COMMIT, {"replace": [*names, INDEX], "remove": sorted(set(remove) - set(names))})
        with writing(self.folder):
            _finish(self.folder)


@contextmanager
def changing(folder: Path) -> Iterator[Change]:
    """Hold the store in ``folder`` for a change; an earlier one that was interrupted is dealt with first.

    Raises:
        DataError: it is no finished store.
        OutputError: another process is writing into it, or it cannot be written.
    """
    if not (folder / INDEX).exists() and not (folder / CHANGE).exists():
        raise DataError(f"{folder} is not a finished store: it has no {INDEX}; finish it with `sgela-fast encode`")
    with _locked(folder):
        _settle(folder)
        if (folder / UNFINISHED).exists():
            raise OutputError(f"{folder} is being made anew; finish it with `sgela-fast encode` and --resume")
        try:
            yield Change(folder)
        finally:
            # Nothing is staged any more if the change was committed; otherwise it is taken back.
            _settle(folder)


def recover(folder: Path) -> None:
    """Finish a change that was committed and interrupted, take back one that was not committed.

    Raises:
        OutputError: the store cannot be written, or another process is changing it.
    """
    if (folder / CHANGE).exists():
        with _locked(folder):
            _settle(folder)


def _locked(folder: Path) -> Any:
    return exclusive(folder / LOCK, f"another process is changing {folder}; wait until it is done")


def _settle(folder: Path) -> None:
    with writing(folder):
        if (folder / CHANGE / COMMIT).exists():
            _finish(folder)
        elif (folder / CHANGE).exists():
            shutil.rmtree(folder / CHANGE)
            sync_folder(folder)


def _finish(folder: Path) -> None:
    """Do what the commit says; every step may have been done before."""
    staged = folder / CHANGE
    try:
        commit = json.loads((staged / COMMIT).read_text())
        replace, remove = list(commit["replace"]), list(commit["remove"])
        if any(Path(name).name != name for name in (*replace, *remove)):
            raise ValueError("a name leads out of the folder")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{staged / COMMIT} is damaged ({error!r}); restore the store from a copy") from error
    shutil.rmtree(folder / SEARCH_INDEX, ignore_errors=True)
    for name in remove:
        (folder / name).unlink(missing_ok=True)
    for file in list(folder.iterdir()):
        if TEMPORARY_FILE.fullmatch(file.name):
            file.unlink(missing_ok=True)
    for name in replace:
        if (staged / name).exists():
            (staged / name).replace(folder / name)
    sync_folder(folder)
    (staged / COMMIT).unlink()
    shutil.rmtree(staged)
    sync_folder(folder)
