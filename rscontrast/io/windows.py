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
    Points,
    apply_affine,
    crs_wkt,
    is_geographic,
    lattice_offset,
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
        left, right = span(border.cols[:-3], raster.shape[1], margin)
        top, bottom = span(border.rows[:-3], raster.shape[0], margin)
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
        x, y = corners = apply_affine(self._transform, *_points(self._shape))
        if not same:
            x, y = transformer(self._wkt, wkt).transform(x, y)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            where = [round(float(n), 5) for f in (np.min, np.max) for n in map(f, corners)]
            text = f"grid of bounds {where}: has no place in the CRS of the file, {wkt[:60]}"
            raise GridError(text)
        if not same and is_geographic(wkt):
            x = _unwrapped(np.asarray(x), raster)
        cols, rows = apply_affine(~raster.transform, np.asarray(x), np.asarray(y))
        return _Border(cols, rows, _ratio(cols, rows) + 1e-6, same)


def _points(shape: tuple[int, int]) -> Points:
    """Points over a grid, in its pixels: its border bends elsewhere, and a pole lies within.

    The last three are its middle, and a pixel to the right of it and below it.
    """
    along = np.linspace(0, 1, 9)
    x, y = (side.ravel() for side in np.meshgrid(along * shape[1], along * shape[0]))
    middle = np.array([[0, 1, 0], [0, 0, 1]]) + np.array([[shape[1]], [shape[0]]]) / 2
    return np.append(x, middle[0]), np.append(y, middle[1])


def _ratio(cols: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    """Pixels of the file that the side of one of the grid is long, in the middle of it."""
    return float(np.hypot(cols[-2:] - cols[-3], rows[-2:] - rows[-3]).min())


def _unwrapped(x: NDArray[np.float64], raster: Raster) -> NDArray[np.float64]:
    """Longitudes, counted on from those of the file; a grid over a pole has all of them."""
    middle = (raster.transform @ (raster.shape[1] / 2, raster.shape[0] / 2))[0]
    x = x - 360 * np.round((x - middle) / 360)
    return x if np.ptp(x[:-3]) <= 180 else np.clip((x - middle) * 1e9, -360, 360) + middle


class _Border(NamedTuple):
    """Points of a grid in the pixels of a file."""

    cols: NDArray[np.float64]
    rows: NDArray[np.float64]
    ratio: float
    """Pixels of the file to one of the grid, along the axis that has fewer of them."""
    same: bool
    """Whether both are of one CRS."""
