"""Which folder is whose sequence: the layouts of CASIA-B and OU-MVLP.

Three are read, told by the names of the folders:

* ``casia-b``: ``001/nm-01/000/*.png``, subject, condition, view; also what GaitSet's preparation leaves.
* ``ou-mvlp``: ``Silhouette_000-01/00001/*.png``, view and sequence, subject, as the data set is handed out.
* ``ou-mvlp-prepared``: ``00001/01/000/*.png``, subject, sequence, view, as preparation for OpenGait leaves it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgela_fast.errors import DataError

_VIEW = r"\d{3}"
# The order of the groups says which folder is what.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "casia-b": (r"(?P<subject>\d{3,})", r"(?P<condition>(?:nm|bg|cl)-\d\d)", rf"(?P<view>{_VIEW})"),
    "ou-mvlp": (rf"Silhouette_(?P<view>{_VIEW})-(?P<condition>\d\d)", r"(?P<subject>\d{5})"),
    "ou-mvlp-prepared": (r"(?P<subject>\d{5})", r"(?P<condition>\d\d)", rf"(?P<view>{_VIEW})"),
}
EXPECTED = "001/nm-01/000/*.png, Silhouette_000-01/00001/*.png or 00001/01/000/*.png"


@dataclass(frozen=True)
class Found:
    """A folder of images that is one sequence.

    Attributes:
        subject: the person.
        condition: of the walk.
        view: degrees as three figures.
        folder: where the images are, relative to the set's.
        files: names of the images, in the order of time.
    """

    subject: str
    condition: str
    view: str
    folder: str
    files: tuple[str, ...]

    @property
    def key(self) -> str:
        """``subject/condition/view``."""
        return f"{self.subject}/{self.condition}/{self.view}"


def find_sequences(path: str | Path) -> tuple[str, list[Found]]:
    """Tell the layout of a folder and list its sequences, sorted by subject, condition and view.

    Folders that do not fit the layout are passed over, and so are sequences without an image.

    Returns:
        The layout's name and the sequences.

    Raises:
        DataError: there is no such folder, it cannot be listed, or no layout fits.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give a folder of silhouettes or a packed set")
    found = {name: list(_walk(path, path, levels, {})) for name, levels in LAYOUTS.items()}
    name = max(found, key=lambda layout: len(found[layout]))
    if not found[name]:
        if any(path.glob("*/*/*/*.pkl")):
            raise DataError(f"{path} holds pickled sequences, which are never opened; give the folder of PNG images")
        raise DataError(f"{path} holds no silhouettes; a sequence stands in {EXPECTED}")
    return name, sorted(found[name], key=lambda sequence: (sequence.subject, sequence.condition, sequence.view))


def _walk(root: Path, folder: Path, levels: tuple[str, ...], known: dict[str, str]) -> Iterator[Found]:
    if not levels:
        files = tuple(name for name, _ in _entries(folder) if name.lower().endswith(".png"))
        if files:
            yield Found(folder=folder.relative_to(root).as_posix(), files=files, **known)
        return
    for name, is_folder in _entries(folder):
        match = re.fullmatch(levels[0], name)
        if match and is_folder:
            yield from _walk(root, folder / name, levels[1:], known | match.groupdict())


def _entries(folder: Path) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error
