"""Memory that was let go is handed back to the system now and then.

Between small things that stay, as what is known of a file, the holes that patches leave are seldom
filled: a process that reads new files all the time would grow by three megabytes a pair. glibc
gives whole pages of such holes back when it is told to; elsewhere nothing is done.
"""

import ctypes
import itertools
from collections.abc import Callable

EVERY = 64
"""Blocks between two times. To take the pages again costs a hundredth of decoding so many."""

_blocks = itertools.count(1)


def _find() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or system
        return None


_trim = _find()


def note_block() -> None:
    """Count a block that was decoded; of every so many one hands memory back."""
    if next(_blocks) % EVERY == 0 and _trim is not None:
        _trim(0)
