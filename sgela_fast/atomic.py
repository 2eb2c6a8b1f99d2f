"""Files and folders that are either complete or absent.

Everything the package leaves behind is written beside its final place, flushed to disk and renamed, so that an
interrupted job never leaves half a file under a final name.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sgela_fast.errors import OutputError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run the command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
    errno.EFBIG: "the file would be larger than is allowed here; raise the limit or choose another output path",
    errno.EROFS: "the file system is read-only; choose another output path",
    errno.EACCES: "permission is denied; choose another output path or change its permissions",
    errno.EPERM: "permission is denied; choose another output path or change its permissions",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another output path",
    errno.EISDIR: "there is a folder of that name; choose another output path",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """Translate an :class:`OSError` met while writing ``path`` into one sentence with a remedy."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; choose another output path")
    return OutputError(f"cannot write {path}: {reason}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn every :class:`OSError` raised inside the block into an :class:`OutputError` that names ``path``."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise output_error(path, error) from error


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents.

    Raises:
        OutputError: the folder cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def sync_folder(path: Path) -> None:
    """Flush the folder's own entries, so that a rename inside it survives a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder; the file itself is safe by now.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it and rename it over ``path``.

    For libraries that want to open the file themselves. On any error the temporary file is removed and whatever
    was under ``path`` stays untouched.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(path):
        try:
            yield temporary
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_file(path: Path, write: Callable[[BinaryIO], Any], *, size: int | None = None) -> None:
    """Call ``write`` with a binary file and put the result under ``path`` in one step.

    Args:
        path: the final name.
        write: what fills the file.
        size: bytes that must have arrived, if they are known.

    Raises:
        OutputError: the file cannot be written; the previous content of ``path`` is kept.
    """
    with replacing(path) as temporary:
        with open_new(temporary) as file:
            write(file)
            file.flush()
        # Some disks and file systems take less than they were given without saying so.
        if size is not None and temporary.stat().st_size != size:
            raise OSError(errno.EIO, "less arrived on the disk than was written")


def open_new(path: Path) -> BinaryIO:
    """Open a new file for writing."""
    return path.open("wb")


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` (UTF-8) in one step."""
    content = text.encode()
    write_file(path, lambda file: file.write(content), size=len(content))


def write_json(path: Path, content: Any) -> None:
    """Replace ``path`` by ``content`` as indented JSON in one step."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
