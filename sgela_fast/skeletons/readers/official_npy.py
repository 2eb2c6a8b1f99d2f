"""The arrays that the paper's authors publish: one ``.npy`` file per axis, windows already cut."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.config import ReaderOptions
from sgela_fast.skeletons.readers.base import Reader, RecordingRef
from sgela_fast.skeletons.readers.files import begins_with, files_below, natural_key
from sgela_fast.skeletons.readers.packed_npz import layout_of
from sgela_fast.skeletons.readers.pickled_ids import read_pickled_ids
from sgela_fast.skeletons.recording import Recording

_AXIS_FILE = re.compile(r"^(?P<prefix>t_)?source_x_(?P<set>.+)_(?P<frames>\d+)\.npy$")
_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class _WindowSet:
    """The windows of one set of axis files: each axis ``(windows, frames, J)``."""

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    set_name: str
    split: str
    view: str | None


class OfficialNpyReader(Reader):
    """Reads ``source_{x,y,z}_<SET>_<f>.npy`` in the old and the new folder layout; every window is one recording.

    So encode them with ``window.frames`` = f and ``window.trim`` = 0. Coordinates are taken as stored. In the KGBD
    arrays the authors' joint map put right into the slots of left; ``joint_map="compat"`` exchanges them back. The
    ``target_*`` arrays, the same windows in reversed time, are left out. Persons come from ``frame_id_*.npy``, or, if
    asked for, from the pickled ``ids_*.npy``.
    """

    name = "official-npy"
    summary = "the authors' preprocessed arrays, source_{x,y,z}_SET_F.npy"
    container = True

    def __init__(self, options: ReaderOptions | None = None) -> None:
        super().__init__(options)
        self._sets: dict[Path, _WindowSet] = {}

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether there is an x axis by name that begins as an npy file does."""
        return any(begins_with(file, _MAGIC) for file in _axis_files(path))

    def scan(self, path: Path) -> list[RecordingRef]:
        """One recording for each window of each set of axis files."""
        root = path if path.is_dir() else path.parent
        files = sorted(_axis_files(path), key=natural_key)
        if not files:
            raise self.nothing_found(path)
        refs: list[RecordingRef] = []
        for file in files:
            windows = self._set(file)
            extra = {"set": windows.set_name, "split": windows.split}
            place = [windows.set_name, windows.split]
            if windows.view:
                extra["view"] = windows.view
                place.append(f"view{windows.view}")
            refs.extend(
                RecordingRef(
                    name=f"{'_'.join(place)}_{index:06d}",
                    path=file,
                    source=file.relative_to(root).as_posix(),
                    person=person,
                    key=str(index),
                    extra=extra,
                )
                for index, person in enumerate(self._persons(file, len(windows.axes[0])))
            )
        return refs

    def read(self, ref: RecordingRef) -> Recording:
        """Read one window."""
        axes = self._set(ref.path).axes
        joints = np.stack([axis[int(ref.key)] for axis in axes], axis=-1)  # (f, J, 3)
        return self.make(ref, joints, layout_of(joints, f"window {ref.key} of {ref.path}"))

    def _set(self, file: Path) -> _WindowSet:
        if file not in self._sets:
            self._sets[file] = _open_set(file)
        return self._sets[file]

    def _persons(self, file: Path, windows: int) -> list[str]:
        ids = file.name.replace("source_x_", "ids_")
        plain = _first_file(file.parent, ids.replace("ids_", "frame_id_"))
        if plain is not None:
            persons = _load(plain)
            if persons.shape != (windows,):
                raise DataError(
                    f"{plain} has the shape {persons.shape} but {file} has {windows} windows; copy both again"
                )
            return [str(person) for person in persons.tolist()]
        pickled = _first_file(file.parent, ids)
        if pickled is None:
            raise DataError(f"{file} has neither frame_id_*.npy nor ids_*.npy beside it; put the persons' file there")
        if not self.options.pickled_ids:
            raise DataError(
                f"{file} has its persons only in the pickled {pickled.name}; allow to interpret it (no code is "
                "run) with --pickled_ids"
            )
        return read_pickled_ids(pickled, windows)


def _axis_files(path: Path) -> list[Path]:
    files = files_below(path) if path.is_dir() else [path]
    return [file for file in files if _AXIS_FILE.match(file.name)]


def _first_file(folder: Path, name: str) -> Path | None:
    """The file called ``name`` or, as tests have it, the same without the prefix ``t_``."""
    candidates = (folder / name, folder / name.removeprefix("t_"))
    return next((file for file in candidates if file.is_file()), None)


def _load(file: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{file} is missing; each set needs its x, y and z axis") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be read as plain numbers ({error}); copy it again") from error
    return array


def _open_set(file: Path) -> _WindowSet:
    found = _AXIS_FILE.match(file.name)
    assert found is not None
    frames = int(found["frames"])
    axes = []
    for axis in "xyz":
        path = file.with_name(file.name.replace("source_x_", f"source_{axis}_"))
        array = _load(path)
        if array.ndim < 2 or array.dtype.kind not in "fiu" or array.size % (frames * array.shape[-1] or 1):
            raise DataError(
                f"{path} is {array.dtype} {array.shape}, which does not fold into windows of {frames} frames; "
                "copy it again"
            )
        axes.append(array.reshape(-1, frames, array.shape[-1]))
        if axes[-1].shape != axes[0].shape:
            raise DataError(f"{path} has the shape {array.shape}, another than the x axis has; copy the set again")
    set_name, split, view = _place(file, found["set"], test=found["prefix"] is not None)
    return _WindowSet((axes[0], axes[1], axes[2]), set_name, split, view)


def _place(file: Path, set_name: str, *, test: bool) -> tuple[str, str, str | None]:
    """Set, split and view as the folders and the set's suffix (IAS-A, IAS-B) tell."""
    folders = file.absolute().parts[:-1]
    view = next((part.removeprefix("view_") for part in folders[-3:] if re.fullmatch(r"view_\d+", part)), None)
    base, dash, condition = set_name.rpartition("-")
    kind = next((part for part in reversed(folders) if part.endswith("_npy_data")), "")
    if not test and not kind.endswith("test_npy_data"):
        return set_name, "train", view
    if not dash:
        below = folders[folders.index(kind) + 1 :] if kind else ()
        base, condition = set_name, next((part for part in below if not part.startswith("view_")), "")
    return base, f"test-{condition.lower()}" if condition else "test", view
