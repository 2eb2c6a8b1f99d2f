"""All readers by name, and telling the format of a source from its content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.skeletons.config import ReaderOptions
from sgela_fast.skeletons.readers.archive import ArchiveReader
from sgela_fast.skeletons.readers.base import Reader, RecordingRef
from sgela_fast.skeletons.readers.biwi import BIWIReader
from sgela_fast.skeletons.readers.cmu import CMUReader
from sgela_fast.skeletons.readers.files import files_below
from sgela_fast.skeletons.readers.gist import GISTReader
from sgela_fast.skeletons.readers.ias import IASReader
from sgela_fast.skeletons.readers.kgbd import KGBDReader
from sgela_fast.skeletons.readers.ks20 import KS20Reader
from sgela_fast.skeletons.readers.manifest import Manifest
from sgela_fast.skeletons.readers.official_npy import OfficialNpyReader
from sgela_fast.skeletons.readers.packed_npz import PackedNPZReader
from sgela_fast.skeletons.readers.ucalgary import UCalgaryReader
from sgela_fast.skeletons.recording import Recording

READERS: dict[str, type[Reader]] = {
    reader.name: reader
    for reader in (
        ArchiveReader,
        PackedNPZReader,
        OfficialNpyReader,
        KGBDReader,
        BIWIReader,
        IASReader,
        KS20Reader,
        UCalgaryReader,
        GISTReader,
        CMUReader,
    )
}


def known_formats() -> str:
    """One sentence part that lists all formats with what they are."""
    return "; ".join(f"{name} ({reader.summary})" for name, reader in READERS.items())


def detect(path: Path) -> type[Reader]:
    """Tell the format of ``path`` from its content.

    Raises:
        DataError: the path does not exist, no format fits, or several do.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    for container in (True, False):
        found = [reader for reader in READERS.values() if reader.container is container and reader.matches(path)]
        if len(found) == 1:
            return found[0]
        if found:
            names = " and ".join(reader.name for reader in found)
            raise DataError(
                f"{path} looks like {names} at once; give one kind of recordings, or say which to read with --format. "
                f"Known formats: {known_formats()}"
            )
    if path.is_dir() and next(files_below(path), None) is None:
        raise DataError(f"{path} holds no file; check the path")
    raise DataError(f"cannot tell the format of {path}; name it with --format. Known formats: {known_formats()}")


def get_reader(name: str) -> type[Reader]:
    """The reader called ``name``.

    Raises:
        ConfigError: there is none.
    """
    try:
        return READERS[name]
    except KeyError:
        raise ConfigError(f"unknown format {name!r}; choose auto or one of: {', '.join(READERS)}") from None


@dataclass(frozen=True)
class Source:
    """Recordings that were found at one place, ready to be read one by one.

    Attributes:
        path: the file or folder that was given.
        reader: reads them.
        refs: the recordings in the order in which they are read.
        unlisted: names of recordings that the given manifest does not mention.
    """

    path: Path
    reader: Reader
    refs: tuple[RecordingRef, ...]
    unlisted: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.refs)

    def __iter__(self) -> Iterator[Recording]:
        for ref in self.refs:
            yield self.reader.read(ref)


def open_source(
    path: str | Path, format: str = "auto", *, manifest: str | Path | None = None, options: ReaderOptions | None = None
) -> Source:
    """List the recordings at ``path`` without reading them.

    Args:
        path: a file or folder.
        format: a reader's name, or ``auto`` to tell the format from the content.
        manifest: CSV file that overrides names, persons, splits and further columns.
        options: what some formats leave open.

    Raises:
        DataError: the format cannot be told, there is no recording, two share a name, or the manifest does not fit.
        ConfigError: there is no such format.
    """
    path = Path(path)
    reader_class = detect(path) if format == "auto" else get_reader(format)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    reader = reader_class(options)
    refs, unlisted = reader.scan(path), list[str]()
    if not refs:
        raise reader.nothing_found(path)
    if manifest is not None:
        refs, unlisted = Manifest(Path(manifest)).apply(refs)
    seen: dict[str, RecordingRef] = {}
    for ref in refs:
        if ref.name in seen:
            raise DataError(
                f"{ref.source} and {seen[ref.name].source} in {path} would both be the recording {ref.name!r}; convert "
                "their folders one by one, or name them apart with --manifest"
            )
        seen[ref.name] = ref
    return Source(path, reader, tuple(refs), tuple(unlisted))
