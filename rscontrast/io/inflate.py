"""Blocks of GeoTIFFs, read and inflated only as far down as their rows are asked for.

GDAL decodes a block whole. A window that lies somewhere in blocks of four times its side needs six
tenths of the rows of those that it touches, so that reading no further beats even the decoder's
own limit; and from a server no more bytes are asked for than are likely to hold them. Who needs
more rows later goes on where the last one stopped. This is done for what most catalogs hold:
deflate, with or without horizontal differences. GDAL reads the rest.

The price: the checksum of a block stands at its end, and is compared only when the last row is
asked for. Damage that leaves a stream which can be inflated is not noticed before.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from isal import isal_zlib
from isal.isal_zlib import IsalError
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from rscontrast.io.tiff import Fetch, find_tiles
from rscontrast.io.trim import note_block

LEAST = 2**15
"""Bytes of a block that are read at a time at least; one more request costs a server as much."""

MORE = 1.1
"""Times the bytes that rows should take by those above them, that are read for them."""

STEP = 16
"""Of which the width of a block is a multiple, pixels, as TIFF wants it."""

LOCKED = 500
"""Rows up to which NumPy sums with Python's lock held."""


@dataclass(frozen=True, eq=False)
class Deflated:
    """Where the blocks of a file lie, and how they are stored."""

    offsets: NDArray[np.int64]
    """First byte, [planes, rows, columns]; a plane is a band, or all where they are interleaved."""
    sizes: NDArray[np.int64]
    """Bytes; 0 for a block that was left out, being no data."""
    shape: tuple[int, int, int]
    """Of a block: (H, W, interleaved bands)."""
    dtype: np.dtype[Any]
    """Of its numbers."""
    differences: bool
    """Whether a row holds the differences of neighbours."""
    fill: float
    """What a block that was left out holds."""

    def block(self, fetch: Fetch, plane: int, row: int, col: int) -> "Block":
        """Take one of the blocks, whose bytes are had so."""
        where = (plane, row, col)
        return Block(self, fetch, int(self.offsets[where]), int(self.sizes[where]))


def find_blocks(data: DatasetReader, fetch: Fetch) -> Deflated | None:
    """Find the blocks of an open file; None: GDAL is to read it."""
    tags = data.tags(ns="IMAGE_STRUCTURE")
    dtype = np.dtype(data.dtypes[0])
    plain = tags.get("COMPRESSION") == "DEFLATE" and "NBITS" not in tags
    differences = tags.get("PREDICTOR", "1") == "2"
    known = plain and (dtype.kind in "iu" or (dtype.kind == "f" and "PREDICTOR" not in tags))
    if not known or len(set(data.dtypes)) > 1 or tags.get("PREDICTOR", "1") not in "12":
        return None
    height, width = data.block_shapes[0]
    together = tags.get("INTERLEAVE") == "PIXEL"
    grid = (1 if together else data.count, -(-data.height // height), -(-data.width // width))
    directory = data.get_tag_item("IFD_OFFSET", "TIFF", bidx=1)
    try:
        tiles = find_tiles(fetch, int(directory)) if directory else None
    except (OSError, ValueError):  # a server, or a file, that GDAL knows better
        return None
    if width % STEP or tiles is None or len(tiles.offsets) != math.prod(grid):
        return None
    shape = (height, width, data.count if together else 1)
    fill = data.nodatavals[0] or 0.0
    offsets, sizes = (side.reshape(grid) for side in tiles)
    return Deflated(offsets, sizes, shape, dtype, differences, fill)


class Block:
    """A block whose first rows are known."""

    def __init__(self, file: Deflated, fetch: Fetch, offset: int, size: int) -> None:
        """Take where it is; nothing is read yet."""
        self._fetch, self._offset, self._size = fetch, offset, size
        self._lock = threading.Lock()
        # Memory that was not written to is not taken.
        self._values = np.empty(file.shape, file.dtype)
        self._flat = self._values.reshape(-1).view(np.uint8)
        note_block()
        self._known = self._taken = 0
        self._error: Exception | None = None
        self._inflater = isal_zlib.decompressobj()
        differs = file.differences and size > 0
        self._summed = np.full(file.shape[0], 0 if differs else file.shape[1])
        if size == 0:
            self._values[:] = file.fill
            self._known = self._flat.size

    @property
    def size(self) -> int:
        """Bytes of memory that it may take."""
        return self._values.nbytes

    def rows(self, start: int, stop: int, width: int) -> NDArray[Any]:
        """Numbers of some rows up to a width, [rows, width, bands]; not to be written to.

        Raises:
            OSError: its bytes are not to be had.
            ValueError: the block is damaged.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            try:
                self._inflate(stop * (self._flat.size // len(self._values)))
            except ValueError as error:
                self._error = error  # the inflater cannot go on
                raise
            self._add_up(slice(start, stop), width)
        rows = self._values[start:stop, :width]
        rows.flags.writeable = False
        return rows

    def _inflate(self, until: int) -> None:
        whole = until == self._flat.size
        # At the end there is a checksum to be read too.
        while self._known < until or (whole and self._size and not self._inflater.eof):
            data = self._inflater.unconsumed_tail or self._read(until)
            try:
                made = self._inflater.decompress(data, max(1, until - self._known))
            except IsalError as error:  # type: ignore[misc]  # its stub has no class
                raise ValueError(f"a block at byte {self._offset} is damaged: {error}") from error
            if not (made or data) or self._known + len(made) > self._flat.size:
                raise ValueError(f"the block at byte {self._offset} is of another length")
            self._flat[self._known : self._known + len(made)] = np.frombuffer(made, np.uint8)
            self._known += len(made)

    def _read(self, until: int) -> bytes:
        """Bytes that should be enough to go on until there."""
        left = self._size - self._taken
        if not left:
            return b""
        each = self._taken / self._known if self._known else self._size / self._flat.size
        count = max(LEAST, round(MORE * each * (until - self._known)))
        # A small rest is not worth another request.
        count = left if count + LEAST > left else count
        data = self._fetch(self._offset + self._taken, self._offset + self._taken + count)
        self._taken += len(data)
        return data

    def _add_up(self, rows: slice, width: int) -> None:
        """Make numbers of differences, as far to the right as that is still to be done."""
        width = -(-width // STEP) * STEP
        summed = self._summed[rows]
        while (first := int(summed.min())) < width:
            these = summed == first
            some = rows if these.all() else rows.start + np.flatnonzero(these)
            sums = _sums(self._values[some, first:width])
            if first:
                sums += self._values[some, first - 1 : first]
            self._values[some, first:width] = sums
            summed[these] = width


def _sums(differences: NDArray[Any]) -> NDArray[Any]:
    """Sums along rows, [rows, W, bands], of which W is a multiple of ``STEP``.

    NumPy lets go of Python's lock only for more than 500 rows: so they are cut where they are few.
    """
    rows, width, bands = differences.shape
    parts = next((n for n in (1, 2, 4, 8) if n * rows * bands > LOCKED), STEP)
    cut = differences.reshape(rows, parts, width // parts, bands)
    sums = np.cumsum(cut, axis=2, dtype=cut.dtype)
    if parts > 1:
        sums[:, 1:] += np.cumsum(sums[:, :-1, -1:], axis=1, dtype=cut.dtype)
    return sums.reshape(differences.shape)
