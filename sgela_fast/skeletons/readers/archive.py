"""An archive as a source: to change its layout, its persons and splits, or its selection."""

from __future__ import annotations

from pathlib import Path

from sgela_fast.skeletons.archive import INDEX, Archive, is_archive
from sgela_fast.skeletons.config import ReaderOptions
from sgela_fast.skeletons.readers.base import Reader, RecordingRef
from sgela_fast.skeletons.recording import Recording


class ArchiveReader(Reader):
    """Reads a folder that ``sgela-fast convert`` made."""

    name = "archive"
    summary = f"an archive of this package, a folder with {INDEX}"
    container = True

    def __init__(self, options: ReaderOptions | None = None) -> None:
        super().__init__(options)
        self._archives: dict[Path, Archive] = {}

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether the folder has an index."""
        return path.is_dir() and is_archive(path)

    def scan(self, path: Path) -> list[RecordingRef]:
        """List the rows of the archive's tables."""
        return [
            RecordingRef(
                name=row.recording,
                path=path,
                source=row.source,
                person=row.person,
                key=row.recording,
                fps=row.fps,
                frames=row.frames,
                extra=dict(row.extra),
            )
            for row in self._archive(path).rows
        ]

    def read(self, ref: RecordingRef) -> Recording:
        """Read one recording's frames."""
        found = self._archive(ref.path)[ref.key]
        return self.make(ref, found.joints, found.layout)

    def _archive(self, path: Path) -> Archive:
        if path not in self._archives:
            self._archives[path] = Archive(path)
        return self._archives[path]
