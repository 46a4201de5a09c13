"""How much of each pixel a polygon covers, exactly, and how large it is on the ground."""

from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Geod
from shapely.geometry.base import BaseGeometry

from rscontrast.mapping.native import Tile

BLOCK = 16
"""Side of the blocks of pixels that are taken together where a polygon covers them whole."""
ELLIPSOID = Geod(ellps="WGS84")

type Floats = NDArray[np.float64]


def pixel_weights(polygon: BaseGeometry, window: Tile) -> Floats:
    """Area of the intersection of a polygon with each pixel, in pixels.

    No sampling: pixels that the outline crosses are cut by it. Blocks that it does not cross are
    whole or empty, so that the cost is that of the outline.

    Args:
        polygon: valid, in pixels (column, row) of the grid, whose first pixel is from 0 to 1.
        window: pixels of the grid that are asked for.

    Returns:
        [height, width] of the window, 0 to 1.
    """
    shapely.prepare(polygon)
    shape = (-(-window.height // BLOCK), -(-window.width // BLOCK))
    rows, cols = (axis.ravel() for axis in np.indices(shape))
    blocks = _boxes(window, rows * BLOCK, cols * BLOCK, BLOCK)
    whole = shapely.covers(polygon, blocks)
    crossed = shapely.intersects(polygon, blocks) & ~whole
    weights = _pixels(whole, shape, window).astype(np.float64)
    rows, cols = np.nonzero(_pixels(crossed, shape, window))
    pixels = _boxes(window, rows, cols, 1)
    covered = shapely.covers(polygon, pixels)
    cut = ~covered & shapely.intersects(polygon, pixels)
    shares = covered.astype(np.float64)
    shares[cut] = shapely.area(shapely.intersection(polygon, pixels[cut]))
    weights[rows, cols] = shares
    return weights


def _boxes(window: Tile, rows: NDArray[np.intp], cols: NDArray[np.intp], side: int) -> Any:
    left, top = window.col + cols, window.row + rows
    return shapely.box(left, top, left + side, top + side)


def _pixels(blocks: NDArray[np.bool_], shape: tuple[int, int], window: Tile) -> NDArray[np.bool_]:
    """Spread a value of each block over its pixels."""
    spread = blocks.reshape(shape).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    return spread[: window.height, : window.width]


def ground_area(polygons: gpd.GeoSeries) -> Floats:
    """Area on the WGS84 ellipsoid in square metres, whatever the CRS does to areas."""
    lonlat = shapely.orient_polygons(polygons.to_crs("EPSG:4326").to_numpy())
    areas = [abs(ELLIPSOID.geometry_area_perimeter(polygon)[0]) for polygon in lonlat]
    return np.array(areas, dtype=np.float64)
