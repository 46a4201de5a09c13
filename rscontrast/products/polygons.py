"""Polygons of what is mapped and buildings with their grades, whole across tiles and zones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import geopandas as gpd
import pandas as pd
import rasterio

from rscontrast.buildings import grade_raster, vectorize_raster, write_buildings
from rscontrast.io.grid import transformer

DEGREES = "EPSG:4326"


def write_polygons(path: Path, maps: Sequence[Path], names: Sequence[str]) -> int:
    """Write the regions of each class but the first, drawn on mosaics.

    Nothing is cut where tiles or zones meet, since they do not meet in a mosaic.

    Args:
        path: GeoParquet: class, class_name, area_m2 and the polygons in degrees.
        maps: mosaics of classes, of areas that do not touch.
        names: of the classes.

    Returns:
        number of polygons.

    Raises:
        AssetError: a mosaic cannot be read.
        WriteError: the disk does not take it.
    """
    return _write(path, [vectorize_raster(one, class_names=names) for one in maps])


def write_graded(
    path: Path,
    maps: Sequence[Path],
    probabilities: Sequence[Path],
    footprints: gpd.GeoDataFrame | None = None,
) -> int:
    """Write buildings with their grades.

    Args:
        path: GeoParquet: columns of :func:`rscontrast.buildings.grade`, in degrees.
        maps: mosaics of classes.
        probabilities: of the same areas.
        footprints: buildings that are known; None: those that the classes draw, where all classes
            but the first are grades of a building.

    Returns:
        number of buildings.

    Raises:
        InputError: footprints that are none.
        AssetError: a mosaic cannot be read.
        WriteError: the disk does not take it.
    """
    graded = []
    for classes, chances in zip(maps, probabilities, strict=True):
        if footprints is None:
            drawn = vectorize_raster(classes, merged=True)[["geometry"]]
        else:
            drawn = _within(footprints, chances)
        graded.append(grade_raster(drawn, chances))
    return _write(path, graded)


def _within(footprints: gpd.GeoDataFrame, raster: Path) -> gpd.GeoDataFrame:
    """Footprints whose bounds meet those of a raster."""
    with rasterio.open(raster) as source:
        bounds, crs = source.bounds, source.crs.to_wkt()
    move: Callable[..., tuple[float, ...]] = transformer(crs, str(footprints.crs)).transform_bounds
    xmin, ymin, xmax, ymax = move(*bounds)
    return footprints.cx[xmin:xmax, ymin:ymax]


def _write(path: Path, frames: Sequence[gpd.GeoDataFrame]) -> int:
    moved = [frame.to_crs(DEGREES) for frame in frames]
    # Frames without a row would decide over the types of columns.
    kept = [frame for frame in moved if len(frame)] or moved[:1]
    joined = gpd.GeoDataFrame(pd.concat(kept, ignore_index=True), crs=DEGREES)
    write_buildings(joined, path)
    return len(joined)
