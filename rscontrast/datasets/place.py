"""Where a patch lies: its grid, the rows of an index there, and how its sample says so."""

import math
from collections.abc import Sequence
from functools import lru_cache
from numbers import Real

import geopandas as gpd
import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.warp import calculate_default_transform
from torch import Tensor

from rscontrast.datasets.seam import cut_grids
from rscontrast.errors import GridError, InputError
from rscontrast.io.grid import METRES_OF_A_DEGREE, crs_wkt
from rscontrast.stac.index import Grids, index_items

LONLAT = CRS.from_epsg(4326)


def upright(x: slice, y: slice, crs: CRS) -> GeoBox:
    """Grid that slices with steps ask for: north-up, its upper left corner where they begin."""
    shape = patch_shape(x, y)
    corner = Affine.translation(x.start, y.stop)
    return GeoBox(shape, corner @ Affine.scale(abs(x.step), -abs(y.step)), crs)


def patch_shape(x: slice, y: slice) -> tuple[int, int]:
    """Rows and columns that slices with steps ask for.

    Raises:
        InputError: less than a pixel, or a slice that runs from high to low.
    """
    for name, side in (("x", x), ("y", y)):
        if not side.step or not round((side.stop - side.start) / abs(side.step)) >= 1:
            raise InputError(name, side, "a slice of 1 or more pixels, from low to high")
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


def asked_in(items: gpd.GeoDataFrame, boxes: Grids, crs: CRS | str | None) -> gpd.GeoDataFrame:
    """Index of the items in a CRS.

    Args:
        items: the items.
        boxes: their grids.
        crs: None: that of most, or degrees if that one does not reach to all of them.

    Raises:
        InputError: there is no such CRS.
    """
    index = index_items(items, boxes, None if crs is None else known_crs(crs))
    if crs is None and not _finite(index).all():
        index = index_items(items, boxes, LONLAT)
    return cut_grids(index, boxes)


def known_crs(crs: CRS | str) -> CRS:
    """Read what means a CRS.

    Raises:
        InputError: there is no such CRS.
    """
    try:
        return CRS.from_user_input(crs)
    except CRSError as error:
        raise InputError("crs", crs, "a CRS that PROJ knows") from error


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
    rows = _rows_in(boxes, crs)
    if rows.size:
        return pixel(boxes[int(rows[0])])
    (height, width), bounds = boxes[0].shape, tuple(boxes[0].boundingbox)
    warped = calculate_default_transform(crs_wkt(boxes[0]), crs.to_wkt(), width, height, *bounds)[0]
    return abs(warped.a), abs(warped.e)


def _rows_in(boxes: Grids, crs: CRS) -> NDArray[np.intp]:
    same = [n for n, name in enumerate(boxes.names) if CRS.from_user_input(name) == crs]
    return np.flatnonzero(np.isin(boxes.crs, same))


def pixel(geobox: GeoBox) -> tuple[float, float]:
    """Width and height of a grid's pixels, in units of its CRS."""
    a, b, _, d, e, _ = tuple(geobox.transform)[:6]
    return math.hypot(a, d), math.hypot(b, e)  # a rotated grid has its pixels on both axes


def metres(crs: str, latitude: float) -> tuple[float, float]:
    """Metres of one unit of a CRS along x and y; of a degree at that latitude."""
    unit = _unit(crs)
    if unit:
        return unit, unit
    across = max(math.cos(math.radians(latitude)), 1e-6)  # there is ground at the poles too
    return METRES_OF_A_DEGREE * across, METRES_OF_A_DEGREE


@lru_cache(maxsize=256)
def _unit(crs: str) -> float:
    """Metres of one unit of a CRS; 0 if it is in degrees."""
    known = CRS.from_user_input(crs)
    return 0.0 if known.is_geographic else float(known.axis_info[0].unit_conversion_factor)


def step_metres(boxes: Grids, crs: CRS, res: tuple[float, float]) -> tuple[float, float]:
    """Metres that a step of one unit of ``crs`` asks for along x and y, the same everywhere.

    So a step of ``res`` is the native pixel of the item that :func:`resolution` looked at also
    where ``crs`` is in degrees, which shrink towards the poles while pixels do not.
    """
    if not crs.is_geographic:
        return metres(crs.to_wkt(), 0)
    rows = _rows_in(boxes, crs)
    box = boxes[int(rows[0]) if rows.size else 0]
    height, width = box.shape
    unit = metres(crs_wkt(box), (box.transform @ (width / 2, height / 2))[1])
    (a, b), (across, along) = pixel(box), unit
    return a * across / res[0], b * along / res[1]


def both(res: float | Sequence[float]) -> tuple[float, float]:
    """Pixel size along x and y.

    Raises:
        InputError: not one or two finite numbers above 0.
    """
    sides = (res, res) if isinstance(res, Real) else res
    if (
        not isinstance(sides, Sequence | np.ndarray)
        or len(sides) != 2
        or not all(map(_size, sides))
    ):
        raise InputError("res", res, "a number above 0, or one for x and one for y")
    return float(sides[0]), float(sides[1])


def _size(side: object) -> bool:
    real = isinstance(side, Real) and not isinstance(side, bool)
    return real and 0 < float(side) < math.inf  # type: ignore[arg-type]  # a Real is one
