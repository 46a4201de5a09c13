"""Where the tiles of a TIFF lie, from the bytes of its directory.

TIFF 6.0, sections 2 and 15, and BigTIFF, whose counts and offsets have eight bytes; of the two
byte orders the one that nearly all files have.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

type Fetch = Callable[[int, int], bytes]
"""Gives the bytes of a file from one on to before another, or to its end."""

HEAD = 2**15
"""Bytes that are read first; of a cloud-optimized file most often all of its directories."""

OFFSETS, SIZES = 324, 325
"""Tags of where tiles begin, and of how many bytes they take."""

NUMBERS = {3: "<u2", 4: "<u4", 16: "<u8"}
"""Types of their numbers."""


class _Format(NamedTuple):
    """How a directory is written."""

    length: str
    """Number of its entries."""
    entry: str
    """Tag, type, number of values, and where they are."""
    inline: int
    """Bytes of values that stand in the entry itself."""


FORMATS = {42: _Format("<H", "<HHII", 4), 43: _Format("<Q", "<HHQQ", 8)}
"""By the number that follows the byte order."""


class Tiles(NamedTuple):
    """Of one image of a file, plane after plane, row after row."""

    offsets: NDArray[np.int64]
    """First byte; 0 for a tile that was left out."""
    sizes: NDArray[np.int64]
    """Bytes; 0 for a tile that was left out."""


def find_tiles(fetch: Fetch, directory: int) -> Tiles | None:
    """Find the tiles of an image.

    Args:
        fetch: gives bytes of the file.
        directory: byte at which that of the image begins, as GDAL's "IFD_OFFSET" says.

    Returns:
        where they are; None for a file of the other byte order, or an image without tiles.

    Raises:
        OSError: the bytes are not to be had.
        ValueError: they are no such directory.
    """
    head = fetch(0, HEAD)
    if head[:2] != b"II":
        return None

    def part(start: int, size: int) -> bytes:
        data = head[start : start + size]
        return data if len(data) == size else fetch(start, start + size)

    try:
        form = FORMATS[struct.unpack("<H", part(2, 2))[0]]
        each, first = struct.calcsize(form.entry), directory + struct.calcsize(form.length)
        (count,) = struct.unpack(form.length, part(directory, first - directory))
        found = {}
        for place, entry in enumerate(struct.iter_unpack(form.entry, part(first, count * each))):
            tag, kind, length, where = entry
            if tag in (OFFSETS, SIZES):
                size = np.dtype(NUMBERS[kind]).itemsize * length
                if size <= form.inline:
                    where = first + (place + 1) * each - form.inline
                found[tag] = np.frombuffer(part(where, size), NUMBERS[kind]).astype(np.int64)
    except (struct.error, KeyError) as error:
        raise ValueError(f"no directory of a TIFF at byte {directory}: {error}") from error
    return Tiles(found[OFFSETS], found[SIZES]) if len(found) == 2 else None
