"""Windows of files, put together from cells: what is decoded once serves the windows to come.

GDAL decodes a block of a file whole for any of its pixels, which is most of what reading costs. A
cell is a block, or several small ones; it is decoded by one of the reading threads, once for all
who ask for it, and kept for a while. Blocks that are read without GDAL are decoded row after row,
see :mod:`rscontrast.io.inflate`.
"""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import rasterio.windows
from numpy.typing import NDArray
from rasterio.enums import Resampling

from rscontrast.io.handles import Handle
from rscontrast.io.inflate import Block, Deflated
from rscontrast.io.pool import Shelf, shelf, submit
from rscontrast.io.windows import Window

BYTES = 128 * 2**20
"""Of decoded cells that a process keeps."""

SIDE = 256
"""Least side of a cell of a local file, pixels: to ask for many small ones costs more than to
decode them. From a server each block is a request, and they are better made side by side."""

LARGEST = 16 * 2**20
"""Bytes of a cell; in a file of larger blocks each window is read for itself."""

SMALL = 4 * 2**20
"""Bytes of a file without tiles that is one cell."""


@dataclass(frozen=True)
class Pixels:
    """What a window of a file holds; not to be written to, others see it too."""

    values: NDArray[Any]
    """Of the bands that were asked for, [n, h, w]."""
    seen: NDArray[np.bool_] | None
    """Where the file's own mask lets them be seen, [h, w]; None: it has none."""

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        return self.values.nbytes + (0 if self.seen is None else self.seen.nbytes)


@dataclass(frozen=True)
class Request:
    """A window that is being read."""

    window: Window
    """Where it is in the file."""
    shape: tuple[int, int]
    """Its pixels, (h, w), fewer than the window's where it is thinned."""
    parts: Sequence[tuple[Window, "Future[Pixels]"]]
    """The cells under it."""

    def result(self) -> Pixels:
        """Wait for the cells, and put them together.

        Raises:
            RasterioError: GDAL cannot read one.
            OSError, ValueError: a block that is read without GDAL is gone or damaged.
            IndexError: the file has no such band.
            AssetError: access is refused.
        """
        cells = [(where, future.result()) for where, future in self.parts]
        if len(cells) == 1:
            where, cell = cells[0]
            return cell if where == self.window else _cut(cell, where, self.window)
        bands, dtype = cells[0][1].values.shape[0], cells[0][1].values.dtype
        masked = cells[0][1].seen is not None
        whole = Pixels(
            np.empty((bands, *self.shape), dtype), np.empty(self.shape, bool) if masked else None
        )
        for where, cell in cells:
            both = _common(where, self.window)
            into, part = _cut(whole, self.window, both), _cut(cell, where, both)
            into.values[:] = part.values
            if into.seen is not None:
                into.seen[:] = part.seen
        return whole


def request(
    opened: Handle, indexes: Sequence[int], window: Window, step: int, method: Resampling
) -> Request:
    """Have a window read.

    Args:
        opened: the file.
        indexes: its bands, from 1.
        window: within the file.
        step: thin it by this factor along both axes, 1 or more.
        method: how it is thinned.
    """
    bands = list(indexes)
    side = cell_shape(opened, len(bands)) if step == 1 else None
    if side is None:
        shape = (math.ceil(window.height / step), math.ceil(window.width / step))
        future = submit(opened.where, _read, opened, bands, window, shape, method)
        return Request(window, shape, [(window, future)])
    parts, deflated = [], opened.raster.deflated
    for where in _cells(opened.raster.shape, side, window):
        if deflated is not None and side == opened.raster.block:
            # From its left edge on, where its sums begin.
            width = window.left + window.width - where.left
            part = _common(where, Window(window.top, where.left, window.height, width))
            parts.append(
                (part, submit(opened.where, _inflate, opened, deflated, bands, where, part))
            )
        else:
            make = partial(_read, opened, bands, where, (where.height, where.width), method)
            parts.append(
                (where, _cells_kept().get((opened.key, *bands, where), make, opened.where))
            )
    return Request(window, (window.height, window.width), parts)


def cell_shape(opened: Handle, bands: int) -> tuple[int, int] | None:
    """Shape (H, W) of a file's cells; None: its windows are read one by one."""
    raster = opened.raster
    of_one = bands * np.dtype(raster.dtype).itemsize
    if not raster.tiled:
        return raster.shape if math.prod(raster.shape) * of_one <= SMALL else None
    least = 1 if opened.remote else SIDE
    rows, cols = (side * math.ceil(least / side) for side in raster.block)
    return (rows, cols) if rows * cols * of_one <= LARGEST else None


def _cells(shape: tuple[int, int], side: tuple[int, int], window: Window) -> list[Window]:
    tops = range(window.top // side[0] * side[0], window.top + window.height, side[0])
    lefts = range(window.left // side[1] * side[1], window.left + window.width, side[1])
    return [
        Window(top, left, min(side[0], shape[0] - top), min(side[1], shape[1] - left))
        for top in tops
        for left in lefts
    ]


def _read(
    opened: Handle, bands: list[int], window: Window, shape: tuple[int, int], method: Resampling
) -> Pixels:
    options: dict[str, Any] = {"window": rasterio.windows.Window(*window.flatten())}
    if shape != (window.height, window.width):
        options["resampling"] = method
    values = opened.read(bands, out_shape=(len(bands), *shape), **options)
    seen = None
    if opened.raster.masked:
        seen = opened.read_mask(out_shape=shape, **options)
    values.flags.writeable = False
    return Pixels(values, seen)


def _inflate(
    opened: Handle, file: Deflated, bands: list[int], where: Window, part: Window
) -> Pixels:
    """Upper left part of some rows of a block, of a file that is read without GDAL."""
    row, col = where.top // file.shape[0], where.left // file.shape[1]
    start = part.top - where.top
    found = []
    for band in bands:
        plane, sample = (0, band - 1) if file.shape[2] > 1 else (band - 1, 0)
        make = partial(file.block, opened.fetch, plane, row, col)
        block: Block = _cells_kept().have((opened.key, plane, row, col), make)
        try:
            found.append(block.rows(start, start + part.height, part.width)[..., sample])
        except (OSError, ValueError):
            if not opened.remote:
                raise
            # GDAL's way knows patience, new signatures, and what to say of what is wrong.
            size = (where.height, where.width)
            return _cut(_read(opened, bands, where, size, Resampling.nearest), where, part)
    return Pixels(np.stack(found) if len(found) > 1 else found[0][None], None)


def _cells_kept() -> Shelf[Any, Any]:
    return shelf("cells", lambda: Shelf(BYTES, lambda cell: cell.size))


def keep_cells(size: int) -> None:
    """Keep at least so many bytes of decoded cells: who reads row after row needs a row of them."""
    kept = _cells_kept()
    kept.limit = max(kept.limit, size)


def _common(a: Window, b: Window) -> Window:
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom = min(a.top + a.height, b.top + b.height)
    right = min(a.left + a.width, b.left + b.width)
    return Window(top, left, bottom - top, right - left)


def _cut(pixels: Pixels, where: Window, window: Window) -> Pixels:
    """The part of the pixels at ``where`` that lies in a window within it."""
    rows = slice(window.top - where.top, window.top - where.top + window.height)
    cols = slice(window.left - where.left, window.left - where.left + window.width)
    seen = None if pixels.seen is None else pixels.seen[rows, cols]
    return Pixels(pixels.values[:, rows, cols], seen)
