"""A folder that one process at a time may write into."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sgela_fast.atomic import writing
from sgela_fast.errors import OutputError


@contextmanager
def exclusive(lock: Path, taken: str) -> Iterator[None]:
    """Hold the lock file ``lock`` while the block runs; the system frees it when the process dies, however it dies.

    Where the file system has no locks, nothing is kept out.

    Args:
        lock: the file, made and removed again here; its folder must exist.
        taken: the sentence for whoever comes second.

    Raises:
        OutputError: another process holds it, or the file cannot be made.
    """
    with _claim(lock, taken):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)


def _claim(lock: Path, taken: str) -> BinaryIO:
    while True:
        with writing(lock):
            file = lock.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise OutputError(taken) from error
        except OSError:
            return file
        # Its last holder may have removed the file between our opening and our locking it.
        if _is_still(file, lock):
            return file
        file.close()


def _is_still(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
