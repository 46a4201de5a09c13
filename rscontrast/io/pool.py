"""The threads that read, and what they have read lately: one set a process, made when first used.

Files are opened and read on these threads only, never on the caller's. So a patch waits for its
slowest window instead of for their sum, and a process that was forked from one that has read
before shares no connection with it: its threads are new ones, and so is what they hold.
"""

import atexit
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

THREADS = {"disk": min(4, (os.cpu_count() or 1) + 1), "server": 24, "sample": 3}
"""Threads that read. Decoding keeps a core busy, and many more threads than cores wait for Python's
lock; those that wait for a server cost nothing. Samples of a batch wait for either."""

READERS = {"disk", "server"}
"""Those that call GDAL."""

LINGER = 5.0
"""Seconds that a fork waits for threads to end."""


class Shelf[Key: Hashable, Value]:
    """What was made lately, up to a limit; who asks for what is being made waits for the same."""

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        """Take the limit, and how much of it a value takes."""
        self.limit, self.size = limit, size
        self.taken = 0
        """Sum of the sizes of what is there."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Future[Value]] = OrderedDict()

    def __len__(self) -> int:
        """Values kept, or being made."""
        return len(self._kept)

    def get(self, key: Key, make: Callable[[], Value], where: str = "disk") -> "Future[Value]":
        """Return what is there, or have it made on one of the threads for disk or server.

        What cannot be made is not kept: the next who asks tries again.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
            # Under the lock, so that two who ask at once do not both make it.
            made = self._kept[key] = Future()
        made.add_done_callback(lambda future: self._made(key, future))
        try:
            submit(where, _fulfil, made, make)
        except RuntimeError as error:  # the program is ending
            made.set_exception(error)
        return made

    def have(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return what is there, or make it on the spot, which should be quick."""
        made: Future[Value] | None = None
        while True:
            with self._lock:
                found = self._kept.setdefault(key, made) if made else self._kept.get(key)
                if found is not None:
                    self._kept.move_to_end(key)
                    break
            # Not under the lock, for which all others would wait; of two that are made one is kept.
            made = Future()
            made.set_result(make())
        if found is made:
            self._made(key, made)
        return found.result()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
            self.taken = 0

    def _made(self, key: Key, future: "Future[Value]") -> None:
        with self._lock:
            if self._kept.get(key) is not future:
                return
            if future.exception() is not None:
                del self._kept[key]
                return
            self.taken += self.size(future.result())
            while self.taken > self.limit and (old := self._oldest(future)):
                self._remove(*old)

    def _oldest(self, new: "Future[Value]") -> tuple[Key, "Future[Value]"] | None:
        made = ((k, f) for k, f in self._kept.items() if f is not new and f.done())
        return next(made, None)

    def _remove(self, key: Key, future: "Future[Value]") -> None:
        del self._kept[key]
        self.taken -= self.size(future.result())


def _fulfil[Value](promise: "Future[Value]", make: Callable[[], Value]) -> None:
    try:
        promise.set_result(make())
    except BaseException as error:  # whoever waits is told
        promise.set_exception(error)


class _Process:
    """What belongs to one process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.shelving = threading.Lock()
        """Another: a fork waits for threads that may ask for a shelf."""
        self.threads: dict[str, ThreadPoolExecutor] = {}
        self.ids: list[int] = []
        """What the system calls the threads."""
        self.shelves: dict[str, Shelf[Any, Any]] = {}


_process = _Process()
_inherited: list[object] = []


def submit[Value](where: str, make: Callable[..., Value], *arguments: Any) -> "Future[Value]":
    """Have something done on one of the threads of this process for it, see :data:`THREADS`."""
    here = _process
    with here.lock:
        if where not in here.threads:

            def enter() -> None:
                if where in READERS:
                    here.ids.append(threading.get_native_id())

            here.threads[where] = ThreadPoolExecutor(THREADS[where], f"rscontrast-{where}", enter)
        return here.threads[where].submit(make, *arguments)


def shelf[Key: Hashable, Value](
    name: str, make: Callable[[], Shelf[Key, Value]]
) -> Shelf[Key, Value]:
    """The shelf of that name of this process, made when first asked for."""
    here = _process
    if name not in here.shelves:
        with here.shelving:
            here.shelves.setdefault(name, make())
    return here.shelves[name]


def _pause() -> None:
    """Before a fork: let the reads under way end, or the child would inherit GDAL's locks."""
    here = _process
    here.lock.acquire()
    if here.threads:
        # Not those that wait for them: they go on asking, for which they need the lock.
        for where in READERS & here.threads.keys():
            here.threads.pop(where).shutdown()
        # Python counts a thread as ended while GDAL still takes down what it kept for it.
        tasks = [Path(f"/proc/self/task/{number}") for number in here.ids]
        until = time.monotonic() + LINGER
        while any(task.exists() for task in tasks) and time.monotonic() < until:
            time.sleep(0.001)
        here.ids.clear()


def _resume() -> None:
    _process.lock.release()


def _forget() -> None:
    """In a child: leave the parent's files and connections alone, not even closing them."""
    global _process  # noqa: PLW0603  # the one thing that a fork must replace
    _inherited.append(_process)
    _process = _Process()


os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_forget)


@atexit.register
def _close() -> None:
    """Let files go while GDAL can still close them."""
    for kept in _process.shelves.values():
        kept.clear()
