"""A thread that makes things before they are asked for, and one that finishes them afterwards.

Queues are bounded: who is too fast waits. What goes wrong on a thread is raised where its results
are asked for, and no thread outlives its block.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self


class Ahead[T]:
    """Iterate on a thread, a few items ahead of who asks."""

    def __init__(self, items: Iterable[T], depth: int = 1) -> None:
        """Take what is to be iterated, and how many items may wait."""
        self._items = items
        self._queue: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rscontrast-ahead", daemon=True)

    def __enter__(self) -> Iterator[T]:
        """Start."""
        self._thread.start()
        return self._take()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, after the item that is being made."""
        self._stop.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(0.01)

    def _take(self) -> Iterator[T]:
        while True:
            more, item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if not more:
                return
            yield item  # type: ignore[misc]  # None only where there are no more

    def _run(self) -> None:
        try:
            for item in self._items:
                self._queue.put((True, item))
                del item  # the queue's reader decides how long it lives
                if self._stop.is_set():
                    return
            self._queue.put((False, None))
        except BaseException as error:  # who waits for the next item is told
            self._queue.put((False, error))

    def _drain(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            pass


class Behind[T]:
    """Hand items over to a thread that does something with each, in order."""

    def __init__(self, do: Callable[[T], None], depth: int = 1) -> None:
        """Take what is done with an item, and how many items may wait."""
        self._do = do
        self._queue: queue.Queue[tuple[bool, T | None]] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rscontrast-behind", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def put(self, item: T) -> None:
        """Hand an item over; wait where too many do already.

        Raises:
            Exception: what an earlier item met.
        """
        if self._error is not None:
            raise self._error
        self._queue.put((True, item))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait until all is done; after an error, only until the thread has ended.

        Raises:
            Exception: what an item met.
        """
        if error is not None and self._error is None:
            self._error = error  # what waits is not done any more
        self._queue.put((False, None))
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            more, item = self._queue.get()
            if not more:
                return
            if self._error is None:
                try:
                    self._do(item)  # type: ignore[arg-type]  # None only where there are no more
                except BaseException as error:  # raised where the next item is handed over
                    self._error = error
            del item
