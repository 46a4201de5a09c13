"""Outlines in a CRS that ends at the antimeridian: cut there, not drawn around the globe."""

from functools import lru_cache

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from rscontrast.io.grid import transformer
from rscontrast.stac.conditions.sphere import to_lonlat
from rscontrast.stac.index import Grids


def cut_grids(index: gpd.GeoDataFrame, boxes: Grids) -> gpd.GeoDataFrame:
    """Cut the outlines of grids in an index where they cross the end of its CRS."""
    items = index["item"].to_numpy()
    shapes, crs, cut = index.geometry.to_numpy().copy(), index.crs.to_wkt(), {}
    for row in _jumping(shapes, crs):
        shape = shapes[row]
        if shape not in cut:  # the dates of a place share a grid
            box = boxes[int(items[row])]
            cut[shape] = cut_outline(shape, box.extent.geom, str(box.crs), crs)
        shapes[row] = cut[shape]
    return index.set_geometry(gpd.GeoSeries(shapes, index.index, index.crs)) if cut else index


def move_index(index: gpd.GeoDataFrame, crs: CRS) -> gpd.GeoDataFrame:
    """Take an index to another CRS, with its outlines cut at the end of that."""
    moved = index.to_crs(crs)
    shapes, target = moved.geometry.to_numpy().copy(), moved.crs.to_wkt()
    rows = _jumping(shapes, target)
    for row in rows:
        before = index.geometry.iloc[row]
        shapes[row] = cut_outline(shapes[row], before, index.crs.to_wkt(), target)
    return moved.set_geometry(gpd.GeoSeries(shapes, moved.index, moved.crs)) if rows.size else moved


def cut_outline(moved: BaseGeometry, source: BaseGeometry, crs: str, target: str) -> BaseGeometry:
    """Cut one outline at the end of a CRS if it crosses it.

    Args:
        moved: the outline in ``target``, in which it may jump.
        source: the same in ``crs``, where it does not.
        crs: of ``source``.
        target: of ``moved``.
    """
    if not _jumping(np.array([moved]), target).size:
        return moved
    lonlat, reach = to_lonlat(source, CRS.from_user_input(crs)), CRS.from_wkt(target).area_of_use
    if reach is not None and reach.west < reach.east:
        lonlat = lonlat.intersection(shapely.box(*reach.bounds))
    move = transformer("EPSG:4326", target)
    cut: BaseGeometry = shapely.transform(
        lonlat, lambda xy: np.column_stack(move.transform(xy[:, 0], xy[:, 1]))
    )
    return cut


def _jumping(shapes: NDArray[np.object_], crs: str) -> NDArray[np.intp]:
    """Outlines with two neighbouring points that lie more than half of the globe apart."""
    width = _width(crs)
    if not width:
        return np.zeros(0, dtype=np.intp)
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    jumps = (np.abs(np.diff(points[:, 0])) > width / 2) & (np.diff(owner) == 0)
    return np.unique(owner[1:][jumps])


@lru_cache(maxsize=256)
def _width(crs: str) -> float:
    """How far the two sides of the antimeridian are apart; 0 where they are one line."""
    x, _ = transformer("EPSG:4326", crs).transform([-180.0, 180.0], [0.0, 0.0])
    width = abs(x[1] - x[0])
    return width if np.isfinite(width) and width > 1 else 0.0
