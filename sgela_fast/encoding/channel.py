"""A bounded queue between two threads that also carries the end and the failure of either side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_WAIT = 0.1  # seconds between two looks at whether the other side is still there


class Abandoned(Exception):
    """Nobody takes what is put in any more."""


class Channel(Generic[T]):
    """Items from one thread to another, at most ``size`` waiting.

    The sender calls :meth:`put` and at last :meth:`close`; the receiver iterates, and calls :meth:`abandon` if it
    stops early.
    """

    def __init__(self, size: int) -> None:
        self._items: queue.Queue[T] = queue.Queue(size)
        self._closed, self._abandoned = threading.Event(), threading.Event()
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item; waits while the channel is full.

        Raises:
            Abandoned: the receiver is gone.
        """
        while True:
            if self._abandoned.is_set():
                raise Abandoned
            try:
                return self._items.put(item, timeout=_WAIT)
            except queue.Full:
                continue

    def close(self, error: BaseException | None = None) -> None:
        """State that no item follows; ``error`` is raised by the receiver once it has taken what is there."""
        self._error = error
        self._closed.set()

    def abandon(self) -> None:
        """State that no item will be taken."""
        self._abandoned.set()

    def __iter__(self) -> Iterator[T]:
        while True:
            ended = self._closed.is_set()
            try:
                yield self._items.get(timeout=0 if ended else _WAIT) if not ended else self._items.get_nowait()
            except queue.Empty:
                if ended:
                    break
        if self._error is not None:
            raise self._error


def in_thread(name: str, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> threading.Thread:
    """Start a thread that runs ``work`` and then calls ``done`` with what it raised."""

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except Abandoned:
            pass
        except BaseException as raised:
            error = raised
        done(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
