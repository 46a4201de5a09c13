"""Files that appear whole or not at all: write beside the final name, then rename."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rscontrast.errors import RSContrastError, WriteError


@contextmanager
def atomic_path(final: Path | str) -> Iterator[Path]:
    """Give a temporary path in the folder of ``final``, renamed to ``final`` on success.

    The temporary name keeps the suffix, since writers choose a format by it. Whatever ends the
    block early (an error, a full disk, Ctrl-C) removes the temporary file and leaves a former
    ``final`` as it was.

    Raises:
        WriteError: the folder cannot be made or written, or the disk is full.
    """
    final = Path(final)
    tmp = final.with_name(f".{final.stem}.{os.getpid()}.tmp{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield tmp
        tmp.replace(final)
    except OSError as error:
        if isinstance(error, RSContrastError):
            raise
        raise WriteError(f"{final}: not written ({_reason(error)})") from error
    finally:
        # Also where the folder itself is what is wrong, whose error must come through.
        with suppress(OSError):
            tmp.unlink(missing_ok=True)


def write_text(final: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all.

    Raises:
        WriteError: see :func:`atomic_path`.
    """
    with atomic_path(final) as tmp:
        tmp.write_text(text, encoding="utf-8")


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "no space left: free some, or choose another folder"
    return str(error)
