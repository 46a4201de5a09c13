"""Where grids lie to each other: lattices, windows, outlines, CRS."""

import math
from functools import lru_cache

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS as GridCRS  # noqa: N811  # pyproj has one of that name
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import GridError

METRES_OF_A_DEGREE = 111_320.0
"""Along a meridian."""

type Points = tuple[NDArray[np.float64], NDArray[np.float64]]
"""x and y."""


def lattice_offset(
    transform: Affine, shape: tuple[int, int], grid: Affine
) -> tuple[int, int] | None:
    """(row, col) of the grid's corner in the file, if the two are one lattice; else None."""
    shift = ~transform @ grid
    row, col = round(shift.f), round(shift.c)
    drift = max(shape) * max(abs(shift.a - 1), abs(shift.e - 1), abs(shift.b), abs(shift.d))
    # Under a hundredth of a pixel the two lattices are one written with other digits.
    aligned = drift < 0.01 and abs(shift.f - row) < 0.01 and abs(shift.c - col) < 0.01
    return (row, col) if aligned else None


def span(pixels: NDArray[np.float64], size: int, margin: int) -> tuple[int, int]:
    """First and past-the-last pixel that a range of coordinates touches, within the file."""
    # A lattice written with other digits is off by up to 2 hundredths, see lattice_offset.
    first, last = math.floor(pixels.min() + 3e-2), math.ceil(pixels.max() - 3e-2)
    return max(0, first - margin), min(size, last + margin)


@lru_cache(maxsize=256)
def same_crs(a: str, b: str) -> bool:
    """Whether two texts mean one CRS, whatever the order of its axes."""
    crs = CRS.from_user_input(a)
    return a == b or crs.equals(CRS.from_user_input(b), ignore_axis_order=True)


@lru_cache(maxsize=256)
def is_geographic(wkt: str) -> bool:
    """Whether a CRS counts in degrees."""
    return bool(CRS.from_user_input(wkt).is_geographic)


def crs_wkt(geobox: GeoBox) -> str:
    """CRS of a grid as WKT.

    Raises:
        GridError: the grid has none.
    """
    if geobox.crs is None:
        where = tuple(geobox.boundingbox)
        raise GridError(f"grid of bounds {where}: no CRS; georeference the file or its item")
    return _wkt(geobox.crs)


@lru_cache(maxsize=256)
def _wkt(crs: GridCRS) -> str:
    return crs.to_wkt()


def footprint(geobox: GeoBox, crs: str) -> BaseGeometry:
    """Outline of a grid in ``crs``, where its edges bend: they get points between the corners."""
    move = transformer(crs_wkt(geobox), crs)
    border = geobox.extent.geom
    if not same_crs(crs_wkt(geobox), crs):
        border = shapely.segmentize(border, border.length / 32)

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(move.transform(xy[:, 0], xy[:, 1]))

    outline: BaseGeometry = shapely.transform(border, moved)
    return outline


def ground_res(geobox: GeoBox) -> float:
    """Side of a pixel on the ground, metres: the root of its area, at the middle of the grid."""
    pixel = math.sqrt(abs(geobox.transform.determinant))
    crs = CRS.from_wkt(crs_wkt(geobox))
    if not crs.is_geographic:
        return pixel * crs.axis_info[0].unit_conversion_factor
    height, width = geobox.shape
    latitude = (geobox.transform @ (width / 2, height / 2))[1]
    return pixel * METRES_OF_A_DEGREE * math.sqrt(max(0.0, math.cos(math.radians(latitude))))


def apply_affine(transform: Affine, x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    """Map arrays of points (x, y)."""
    return transform @ (x, y)  # type: ignore[return-value, operator]  # the stub knows only floats


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> Transformer:
    """Transformer of (x, y) between two CRS, made once: making one costs a millisecond."""
    return Transformer.from_crs(source, target, always_xy=True)
