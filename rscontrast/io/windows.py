"""Where a grid lies in a file: which of its pixels are read, at which of its overviews."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

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


class Grid(NamedTuple):
    """What of a GeoBox says where its pixels lie; asking it for its CRS takes long."""

    shape: tuple[int, int]
    transform: Affine
    wkt: str

    @classmethod
    def of(cls, geobox: GeoBox) -> Self:
        """Take it from a GeoBox.

        Raises:
            GridError: it has no CRS.
        """
        return cls((geobox.shape[0], geobox.shape[1]), geobox.transform, crs_wkt(geobox))


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


def find_level(raster: Raster, grid: Grid) -> int | None:
    """Find the thinnest overview that is not coarser than the grid; None: the file itself.

    That is the one that GDAL's warp reads too.

    Raises:
        GridError: the CRS of the file does not reach to where the grid is.
    """
    if not raster.overviews:
        return None
    ratio = _pixels(raster.transform, _wkt(raster), grid).ratio
    fine = [level for level, factor in enumerate(raster.overviews) if factor <= ratio]
    return fine[-1] if fine else None


def find_window(raster: Raster, grid: Grid) -> Under | None:
    """Find the file's pixels under the grid; None: there are none.

    Raises:
        GridError: the CRS of the file does not reach to where the grid is.
    """
    return _find(raster.shape, raster.transform, _wkt(raster), grid)


# The bands of an item, and often its dates, are of one grid.
@lru_cache(maxsize=1024)
def _find(shape: tuple[int, int], transform: Affine, wkt: str, grid: Grid) -> Under | None:
    pixels = _pixels(transform, wkt, grid)
    offset = lattice_offset(transform, grid) if pixels.same else None
    step = max(1, math.floor(pixels.ratio))
    margin = 0 if offset else MARGIN * step
    left, right = span(pixels.cols, shape[1], margin)
    top, bottom = span(pixels.rows, shape[0], margin)
    if left >= right or top >= bottom:
        return None
    window = Window(top, left, bottom - top, right - left)
    corner = None if offset is None else (top - offset[0], left - offset[1])
    return Under(window, step, corner, transform @ Affine.translation(left, top))


class _Pixels(NamedTuple):
    """The border of a grid in the pixels of a file."""

    cols: NDArray[np.float64]
    rows: NDArray[np.float64]
    ratio: float
    """Pixels of the file to one of the grid, along the axis that has fewer of them."""
    same: bool
    """Whether both are of one CRS."""


def _pixels(transform: Affine, wkt: str, grid: Grid) -> _Pixels:
    same = same_crs(wkt, grid.wkt)
    x, y = corners = apply_affine(grid.transform, *outline(grid.shape))
    if not same:
        x, y = transformer(grid.wkt, wkt).transform(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        where = [
            round(float(n), 5) for end in ("min", "max") for n in map(getattr(np, end), corners)
        ]
        raise GridError(f"grid of bounds {where}: has no place in the CRS of the file, {wkt[:60]}")
    cols, rows = apply_affine(~transform, np.asarray(x), np.asarray(y))
    ratio = min(np.ptp(cols) / grid.shape[1], np.ptp(rows) / grid.shape[0])
    return _Pixels(cols, rows, float(ratio) + 1e-6, same)


def _wkt(raster: Raster) -> str:
    if raster.wkt is None:
        raise GridError("no CRS, so it has no place on the grid")
    return raster.wkt
