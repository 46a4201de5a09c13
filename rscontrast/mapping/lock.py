"""One run at a time in a folder."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rscontrast.errors import InputError, WriteError


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the system lets go of it however the process ends.

    Raises:
        InputError: another run holds it; says which.
        WriteError: the folder cannot be written.
    """
    path = folder / ".ledger" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written ({error}); choose another out") from error
    with file:
        _take(file.fileno(), path)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _take(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = path.read_text(encoding="utf-8") or "another process"
        allowed = f"a folder that no other run writes; {holder} does: wait for it, or end it"
        raise InputError("out", str(path.parent.parent), allowed) from error
    except OSError as error:
        text = f"{path}: cannot be locked ({error}); choose a folder on a disk that has locks"
        raise WriteError(text) from error
