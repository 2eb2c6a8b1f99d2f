"""What every reader of a file format offers, and what it tells about a recording before reading it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sgela_fast.errors import DataError
from sgela_fast.skeletons.config import ReaderOptions
from sgela_fast.skeletons.readers.files import files_below, heads, natural_key
from sgela_fast.skeletons.recording import Recording


@dataclass(frozen=True)
class RecordingRef:
    """A recording that was found but not read yet.

    Attributes:
        name: unique within the source.
        path: the file or folder that holds it.
        source: ``path`` relative to the folder that was given, with forward slashes.
        person: identity, ``None`` if the format does not tell.
        key: which recording of ``path`` it is, where a file or folder holds several.
        fps: frames per second if a manifest states them, else ``None`` for the format's own.
        frames: number of frames if a listing states it.
        extra: further columns, such as ``split``, ``sensor``, ``view``.
    """

    name: str
    path: Path
    source: str
    person: str | None = None
    key: str = ""
    fps: float | None = None
    frames: int | None = None
    extra: dict[str, str] = field(default_factory=dict)


class Reader(ABC):
    """One file format.

    Attributes:
        name: how ``--format`` calls it.
        summary: one line on what it reads.
        container: the files describe themselves and all that lies below their folder, so that whatever else is
            recognised below does not count.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    container: ClassVar[bool] = False

    def __init__(self, options: ReaderOptions | None = None) -> None:
        self.options = options or ReaderOptions()

    @classmethod
    @abstractmethod
    def matches(cls, path: Path) -> bool:
        """Whether the content of the file or folder ``path`` is of this format; looks at a few files only."""

    @abstractmethod
    def scan(self, path: Path) -> list[RecordingRef]:
        """List the recordings at ``path`` without reading them.

        Raises:
            DataError: there are none.
        """

    @abstractmethod
    def read(self, ref: RecordingRef) -> Recording:
        """Read one recording.

        Raises:
            DataError: the content is at fault; the sentence names the file and, where there are lines, the line.
        """

    def nothing_found(self, path: Path) -> DataError:
        """The error for a source without a recording of this format."""
        return DataError(f"{path} holds no recording of format {self.name!r} ({self.summary}); check path and --format")

    @staticmethod
    def make(ref: RecordingRef, joints: np.ndarray, layout: str, *, fps: float = 30.0, **fields: Any) -> Recording:
        """Build the recording that ``ref`` announced; ``joints`` is ``(frames, J, 3)``.

        Raises:
            DataError: there is no frame, or a coordinate is not finite.
        """
        if not len(joints):
            raise DataError(f"{ref.path} has no frame; remove it or copy it again")
        with np.errstate(over="ignore"):
            joints = np.ascontiguousarray(joints, np.float32)
        finite = np.isfinite(joints).all(axis=(1, 2))
        if not finite.all():
            raise DataError(
                f"{ref.path} has a coordinate that is not finite in frame {int(np.argmin(finite))} of recording "
                f"{ref.name!r}; write a lost joint as 0, 0, 0 or cut the frame out"
            )
        return Recording(
            name=ref.name,
            joints=joints,
            layout=layout,
            fps=fps if ref.fps is None else ref.fps,
            person=ref.person,
            source=ref.source,
            extra={**ref.extra, **fields.pop("extra", {})},
            **fields,
        )


class TextFileReader(Reader):
    """A format with one text file per recording.

    Attributes:
        pattern: what the end of a recording's path looks like. Files that fit are taken even if their content is not
            recognised, so that a damaged file is reported and not passed over.
        layout: joint layout of the format.
    """

    pattern: ClassVar[re.Pattern[str]]
    layout: ClassVar[str]

    @classmethod
    @abstractmethod
    def sniff(cls, head: str) -> bool:
        """Whether a file that begins with ``head`` is of this format."""

    @abstractmethod
    def describe(self, path: Path) -> dict[str, Any]:
        """Fields of :class:`RecordingRef` that the path tells: ``name``, ``person``, ``extra``; ``{}`` if none."""

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether any of the first text files begins as a recording of this format does."""
        return any(cls.sniff(head) for _, head in heads(path))

    def scan(self, path: Path) -> list[RecordingRef]:
        """List the files that look like a recording by name or by content, in natural order."""
        root = path if path.is_dir() else path.parent
        if path.is_dir():
            named = {file for file in files_below(path) if self.pattern.search(file.as_posix())}
            files = list(named | {file for file, head in heads(path, limit=None) if self.sniff(head)})
        else:
            files = [path]
        if not files:
            raise self.nothing_found(path)
        refs = []
        for file in sorted(files, key=natural_key):
            source = file.relative_to(root).as_posix()
            fields = {"name": Path(source).with_suffix("").as_posix().replace("/", "_"), **self.describe(file)}
            refs.append(RecordingRef(path=file, source=source, **fields))
        return refs
