"""Where a patch lies: its grid, the rows of an index there, and how its sample says so."""

import math

import geopandas as gpd
import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.warp import calculate_default_transform
from torch import Tensor

from rscontrast.errors import GridError, positive
from rscontrast.io.grid import crs_wkt
from rscontrast.stac.index import Grids, index_items

LONLAT = CRS.from_epsg(4326)


def upright(x: slice, y: slice, crs: CRS) -> GeoBox:
    """Grid that slices with steps ask for: north-up, its upper left corner where they begin."""
    shape = patch_shape(x, y)
    corner = Affine.translation(x.start, y.stop)
    return GeoBox(shape, corner @ Affine.scale(abs(x.step), -abs(y.step)), crs)


def patch_shape(x: slice, y: slice) -> tuple[int, int]:
    """Rows and columns that slices with steps ask for."""
    return round((y.stop - y.start) / abs(y.step)), round((x.stop - x.start) / abs(x.step))


def told(x: slice, y: slice, t: slice, geobox: GeoBox) -> dict[str, Tensor]:
    """Where a sample was asked for, ``bounds`` [9], and the affine it was read on, [9]."""
    times = (t.start.timestamp(), t.stop.timestamp(), t.step or 1)
    bounds = (x.start, x.stop, x.step, y.start, y.stop, y.step, *times)
    # float64: metres of a UTM zone do not fit float32 to the pixel.
    return {
        "bounds": torch.tensor(bounds, dtype=torch.float64),
        "transform": torch.tensor(tuple(geobox.transform), dtype=torch.float64),
    }


def asked_in(items: gpd.GeoDataFrame, boxes: Grids) -> gpd.GeoDataFrame:
    """Index of the items in the CRS of most; in degrees if it does not reach to all of them."""
    index = index_items(items, boxes)
    return index if _finite(index).all() else index_items(items, boxes, LONLAT)


def require_finite(index: gpd.GeoDataFrame) -> None:
    """Refuse an index in a CRS that does not reach to all of its rows.

    Raises:
        GridError: names one that has no place in it.
    """
    lost = ~_finite(index)
    if lost.any():
        crs, name = index.crs.to_string(), index["id"].to_numpy()[lost][0]
        raise GridError(f"item {name}: has no place in {crs}; use one that reaches to all items")


def _finite(index: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.isfinite(index.bounds.to_numpy()).all(axis=1)
    return finite


def resolution(boxes: Grids, crs: CRS) -> tuple[float, float]:
    """Pixel size of the first item in ``crs``; where none is, of the first one warped to it."""
    same = [n for n, name in enumerate(boxes.names) if CRS.from_user_input(name) == crs]
    rows = np.flatnonzero(np.isin(boxes.crs, same))
    if rows.size:
        a, b, _, d, e, _ = boxes.transform[rows[0]].tolist()
        return math.hypot(a, d), math.hypot(b, e)  # a rotated grid has its pixels on both axes
    (height, width), bounds = boxes[0].shape, tuple(boxes[0].boundingbox)
    warped = calculate_default_transform(crs_wkt(boxes[0]), crs.to_wkt(), width, height, *bounds)[0]
    return abs(warped.a), abs(warped.e)


def both(res: float | tuple[float, float]) -> tuple[float, float]:
    """Pixel size along x and y.

    Raises:
        InputError: one is not above 0.
    """
    x, y = (res, res) if isinstance(res, int | float) else res
    return float(positive("res", x)), float(positive("res", y))
