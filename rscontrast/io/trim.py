"""Memory that was let go is handed back to the system now and then.

Between small things that stay, as what is known of a file, the holes that patches leave are seldom
filled: a process that reads new files all the time would grow by three megabytes a pair. glibc
gives whole pages of such holes back when it is told to; elsewhere than on Linux nothing is done.
"""

import ctypes
import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

EVERY = 16
"""Blocks between two looks."""

LOOKS = 4
"""Looks of which the lowest counts: what a batch takes and lets go is no growth."""

GROWTH = 16 * 2**20
"""Bytes by which a process has grown when it is time: to take pages again costs time too."""

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

_blocks = itertools.count(1)
_looks: deque[float] = deque(maxlen=LOOKS)
_least = [math.inf]
_looking = threading.Lock()
"""One looks; the others have something better to do than to wait."""


def _find() -> Callable[[int], int] | None:
    if not Path("/proc/self/statm").exists():
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or system
        return None


_trim = _find()


def note_block() -> None:
    """Count a block that was decoded; now and then one hands memory back."""
    if next(_blocks) % EVERY or _trim is None or not _looking.acquire(blocking=False):
        return
    try:
        _look(_trim)
    finally:
        _looking.release()


def _look(trim: Callable[[int], int]) -> None:
    _looks.append(_resident())
    lowest = min(_looks)
    if len(_looks) == LOOKS and lowest > _least[0] + GROWTH:
        trim(0)
        _looks.clear()
        # What is left is in use.
        lowest = _least[0] = _resident()
    _least[0] = min(_least[0], lowest)


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  # a Path takes longer than the look
        return int(file.read().split()[1]) * PAGE
