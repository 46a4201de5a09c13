"""Polygons of a class map, drawn tile by tile and alike however the map is cut into tiles."""

from collections.abc import Callable, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rscontrast.buildings.regions import NOTHING, Regions
from rscontrast.buildings.weights import ground_area
from rscontrast.errors import AssetError, InputError, whole
from rscontrast.io.grid import crs_wkt
from rscontrast.mapping.native import Tile, tiles
from rscontrast.types import IGNORE, PathOrStr

type Labels = NDArray[np.integer[Any]]


def vectorize(
    classes: Labels,
    geobox: GeoBox,
    *,
    class_names: Sequence[str] | None = None,
    background: int | None = 0,
    merged: bool = False,
    simplify: float = 1.0,
    min_area: float = 0.0,
    tile_size: int = 1024,
) -> gpd.GeoDataFrame:
    """Draw the regions of a class map as polygons.

    A region is what pixels of one class make that share edges; its holes stay. Outlines are
    simplified together (Visvalingam-Whyatt), so that what two regions share stays shared, without
    gaps or overlaps.

    Args:
        classes: class map [H, W]; 255 is no data.
        geobox: its grid.
        class_names: of all classes, for the column ``class_name``; None: no such column.
        background: class that is not drawn; None: all are.
        merged: take all classes that are drawn as one, class 1: buildings, whatever their damage.
        simplify: tolerance in pixels: corners whose triangle is smaller than its square go. 0
            leaves the outlines of the pixels. A region is never simplified to less than a
            triangle, so that one of a pixel or two may lose half of its area.
        min_area: square metres on the ground; smaller regions are left out.
        tile_size: side of what is held of the map at a time, pixels.

    Returns:
        ``class``, ``class_name``, ``area_m2`` (of the region's pixels, on the ellipsoid) and the
        polygons, in the CRS of the grid, from the uppermost pixel row down.

    Raises:
        InputError: a map that does not lie on the grid, or an argument out of range.
        GridError: the grid has no CRS.
    """
    if classes.shape != tuple(geobox.shape) or not np.issubdtype(classes.dtype, np.integer):
        got = f"{classes.dtype} {classes.shape}"
        raise InputError("classes", got, f"whole numbers of {tuple(geobox.shape)}, as geobox")

    def read(tile: Tile) -> Labels:
        return classes[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]

    return _draw(read, geobox, class_names, background, merged, simplify, min_area, tile_size)


def vectorize_raster(
    path: PathOrStr,
    *,
    class_names: Sequence[str] | None = None,
    background: int | None = 0,
    merged: bool = False,
    simplify: float = 1.0,
    min_area: float = 0.0,
    tile_size: int = 1024,
) -> gpd.GeoDataFrame:
    """Draw the regions of a class raster of ``map_pairs``; the map is never held whole.

    Args:
        path: raster whose first band holds classes.
        class_names: see :func:`vectorize`, as the rest.
        background: class that is not drawn.
        merged: all classes as one.
        simplify: tolerance, pixels.
        min_area: square metres.
        tile_size: pixels.

    Raises:
        InputError: see :func:`vectorize`.
        AssetError: the raster cannot be read.
        GridError: it has no CRS.
    """
    try:
        with rasterio.open(path) as source:
            geobox = GeoBox(source.shape, source.transform, source.crs)

            def read(tile: Tile) -> Labels:
                window = Window(tile.col, tile.row, tile.width, tile.height)
                labels: Labels = source.read(1, window=window)
                return np.where(labels == source.nodata, IGNORE, labels)

            return _draw(
                read, geobox, class_names, background, merged, simplify, min_area, tile_size
            )
    except RasterioError as error:
        raise AssetError(f"{path}: cannot be read ({error})") from error


def _draw(
    read: Callable[[Tile], Labels],
    geobox: GeoBox,
    class_names: Sequence[str] | None,
    background: int | None,
    merged: bool,
    simplify: float,
    min_area: float,
    tile_size: int,
) -> gpd.GeoDataFrame:
    for name, number in (("simplify", simplify), ("min_area", min_area)):
        if not number >= 0:
            raise InputError(name, number, "0 or more")
    crs = crs_wkt(geobox)
    regions = Regions(geobox.shape[1])
    for tile in tiles(geobox, whole("tile_size", tile_size)):
        labels = read(tile).astype(np.int32)
        drawn = (labels != IGNORE) & (labels != background)
        shown = np.where(drawn, 1 if merged else labels, NOTHING)
        regions.add(shown.astype(np.int32), tile)
    polygons, classes = regions.polygons()
    move = _to_crs(geobox)
    areas = ground_area(gpd.GeoSeries(shapely.transform(polygons, move), crs=crs))
    kept = areas >= min_area
    polygons, classes, areas = polygons[kept], classes[kept], areas[kept]
    if simplify and len(polygons):
        polygons = shapely.coverage_simplify(polygons, simplify)
    columns: dict[str, Any] = {"class": classes}
    if class_names is not None:
        columns["class_name"] = _named(classes, class_names)
    geometry = shapely.orient_polygons(shapely.transform(polygons, move))
    return gpd.GeoDataFrame({**columns, "area_m2": areas}, geometry=geometry, crs=crs)


def _named(classes: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.object_]:
    if classes.size and not 0 <= classes.min() <= classes.max() < len(names):
        raise InputError("class_names", tuple(names), f"a name for class {classes.max()}, too")
    return np.array([*names, None], dtype=object)[classes]


def _to_crs(geobox: GeoBox) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    a, b, c, d, e, f = tuple(geobox.transform)[:6]

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy.T
        return np.column_stack([a * x + b * y + c, d * x + e * y + f])

    return move
