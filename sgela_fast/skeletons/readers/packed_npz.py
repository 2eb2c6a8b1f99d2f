"""A packed data set: one ``NAME.npz`` with an array per recording, and ``manifest.csv``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.config import ReaderOptions
from sgela_fast.skeletons.layouts import get_layout, layout_names
from sgela_fast.skeletons.readers.base import Reader, RecordingRef
from sgela_fast.skeletons.readers.manifest import Manifest
from sgela_fast.skeletons.recording import Recording

MANIFEST = "manifest.csv"


class PackedNPZReader(Reader):
    """Reads arrays ``(frames, J, 3)``, metres, y up, whose number of joints tells the layout.

    Persons, splits, frame rates and further columns come from the manifest beside the arrays. Without one the
    recordings are read with unknown persons.
    """

    name = "packed-npz"
    summary = "a folder of NAME.npz (an array per recording) and manifest.csv"
    container = True

    def __init__(self, options: ReaderOptions | None = None) -> None:
        super().__init__(options)
        # Listing a large ZIP takes milliseconds, too long to do for each of its arrays.
        self._open: dict[Path, zipfile.ZipFile] = {}

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether there is exactly one npz file and it is a ZIP of arrays."""
        file = _npz_of(path)
        if file is None or not zipfile.is_zipfile(file):
            return False
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except (OSError, zipfile.BadZipFile):
            return False
        return bool(names) and all(name.endswith(".npy") for name in names)

    def scan(self, path: Path) -> list[RecordingRef]:
        """List the arrays in the order of the manifest."""
        file = _npz_of(path)
        if file is None:
            raise self.nothing_found(path)
        manifest_path = file.parent / MANIFEST
        with _open(file) as arrays:
            names = [name.removesuffix(".npy") for name in arrays.namelist()]
        refs = {name: RecordingRef(name=name, path=file, source=file.name, key=name) for name in names}
        if not manifest_path.is_file():
            return list(refs.values())
        rows = {row.recording: row for row in Manifest(manifest_path).rows}
        unlisted = [name for name in names if name not in rows]
        if unlisted:
            raise DataError(
                f"{manifest_path} has no row for {unlisted[0]!r} of {file.name} ({len(unlisted)} such); add it or "
                "remove the array"
            )
        listed = []
        for name, row in rows.items():
            if name is None:
                raise DataError(f"{manifest_path}, line {row.line} names no recording; fill the column 'recording'")
            # A row without its array is kept: reading it reports the fault as that of one recording.
            listed.append(
                RecordingRef(
                    name=name,
                    path=file,
                    source=row.source_file or file.name,
                    person=row.person,
                    key=name,
                    fps=row.fps,
                    frames=row.frames,
                    extra=row.extra,
                )
            )
        return listed

    def read(self, ref: RecordingRef) -> Recording:
        """Read one array."""
        if ref.path not in self._open:
            self._open[ref.path] = _open(ref.path)
        try:
            with self._open[ref.path].open(f"{ref.key}.npy") as member:
                joints = np.lib.format.read_array(member, allow_pickle=False)
        except KeyError:
            raise DataError(
                f"{ref.path} has no array {ref.key!r}, which its manifest lists; add it or remove the row"
            ) from None
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"array {ref.key!r} of {ref.path} cannot be read ({error}); make it again") from error
        layout = layout_of(joints, f"array {ref.key!r} of {ref.path}")
        if ref.frames is not None and ref.frames != len(joints):
            raise DataError(
                f"array {ref.key!r} of {ref.path} has {len(joints)} frames but its manifest says {ref.frames}; mend one"
            )
        return self.make(ref, joints, layout)


def layout_of(joints: np.ndarray, what: str) -> str:
    """The layout that has as many joints as the array ``(frames, J, 3)``.

    Raises:
        DataError: not an array of numbers of that shape, or no layout has so many joints; ``what`` names it.
    """
    sizes = {len(get_layout(name)): name for name in reversed(layout_names())}
    if joints.ndim != 3 or joints.shape[2] != 3 or joints.dtype.kind not in "fiu" or joints.shape[1] not in sizes:
        known = ", ".join(f"{size} ({name})" for size, name in sorted(sizes.items()))
        raise DataError(
            f"{what} is {joints.dtype} {joints.shape} but must be numbers (frames, joints, 3) with joints one of: "
            f"{known}"
        )
    return sizes[joints.shape[1]]


def _npz_of(path: Path) -> Path | None:
    """The npz file itself, or the only one in the folder."""
    if path.is_file():
        return path if path.suffix.lower() == ".npz" else None
    found = sorted(path.glob("*.npz"))
    return found[0] if len(found) == 1 else None


def _open(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not a readable npz file ({error}); copy it again") from error
