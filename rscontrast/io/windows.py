"""Where a grid lies in a file: which of its pixels are read, at which of its overviews."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rscontrast.errors import GridError
from rscontrast.io.grid import (
    apply_affine,
    crs_wkt,
    lattice_offset,
    outline,
    same_crs,
    span,
    transformer,
)
from rscontrast.io.handles import Raster

MARGIN = 3
"""Source pixels around the window, so that an interpolation at its edge has neighbours."""


@dataclass(frozen=True)
class Window:
    """A pixel rectangle of a file."""

    top: int
    left: int
    height: int
    width: int

    def flatten(self) -> tuple[int, int, int, int]:
        """(column, row, width, height), as rasterio writes it."""
        return self.left, self.top, self.width, self.height


@dataclass(frozen=True)
class Under:
    """The file's pixels under a grid."""

    window: Window
    """Where they are in the file."""
    step: int
    """How many of them make one pixel of the grid along an axis, at least 1."""
    corner: tuple[int, int] | None
    """(row, col) of the window in the grid, where the two are one lattice."""
    transform: Affine
    """Of the window's pixels, to coordinates of the file."""


class Finder:
    """Where one grid lies in files; files of one grid, as bands often are, are looked at once."""

    def __init__(self, geobox: GeoBox) -> None:
        """Take the grid.

        Raises:
            GridError: it has no CRS.
        """
        self._shape, self._transform = (geobox.shape[0], geobox.shape[1]), geobox.transform
        self._wkt = crs_wkt(geobox)
        self._borders: dict[object, _Border] = {}
        self._windows: dict[object, Under | None] = {}

    def level(self, raster: Raster) -> int | None:
        """Find the thinnest overview that is not coarser than the grid; None: the file itself.

        That is the one that GDAL's warp reads too.

        Raises:
            GridError: the CRS of the file does not reach to where the grid is.
        """
        if not raster.overviews:
            return None
        ratio = self._border(raster).ratio
        fine = [level for level, factor in enumerate(raster.overviews) if factor <= ratio]
        return fine[-1] if fine else None

    def window(self, raster: Raster) -> Under | None:
        """Find the file's pixels under the grid; None: there are none.

        Raises:
            GridError: the CRS of the file does not reach to where the grid is.
        """
        if raster.grid not in self._windows:
            self._windows[raster.grid] = self._find(raster)
        return self._windows[raster.grid]

    def _find(self, raster: Raster) -> Under | None:
        border, transform = self._border(raster), raster.transform
        offset = lattice_offset(transform, self._shape, self._transform) if border.same else None
        step = max(1, math.floor(border.ratio))
        margin = 0 if offset else MARGIN * step
        left, right = span(border.cols, raster.shape[1], margin)
        top, bottom = span(border.rows, raster.shape[0], margin)
        if left >= right or top >= bottom:
            return None
        window = Window(top, left, bottom - top, right - left)
        corner = None if offset is None else (top - offset[0], left - offset[1])
        return Under(window, step, corner, transform @ Affine.translation(left, top))

    def _border(self, raster: Raster) -> "_Border":
        if raster.grid not in self._borders:
            self._borders[raster.grid] = self._look(raster)
        return self._borders[raster.grid]

    def _look(self, raster: Raster) -> "_Border":
        wkt = str(raster.wkt)
        same = same_crs(wkt, self._wkt)
        x, y = corners = apply_affine(self._transform, *outline(self._shape))
        if not same:
            x, y = transformer(self._wkt, wkt).transform(x, y)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            where = [round(float(n), 5) for f in (np.min, np.max) for n in map(f, corners)]
            text = f"grid of bounds {where}: has no place in the CRS of the file, {wkt[:60]}"
            raise GridError(text)
        cols, rows = apply_affine(~raster.transform, np.asarray(x), np.asarray(y))
        ratio = min(np.ptp(cols) / self._shape[1], np.ptp(rows) / self._shape[0])
        return _Border(cols, rows, float(ratio) + 1e-6, same)


class _Border(NamedTuple):
    """The border of a grid in the pixels of a file."""

    cols: NDArray[np.float64]
    rows: NDArray[np.float64]
    ratio: float
    """Pixels of the file to one of the grid, along the axis that has fewer of them."""
    same: bool
    """Whether both are of one CRS."""
