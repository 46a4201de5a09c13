"""The buildings of what was mapped: footprints that are given, or those that the maps show."""

from pathlib import Path

import geopandas as gpd
import pandas as pd

from rscontrast.buildings.footprints import read_footprints, write_buildings
from rscontrast.buildings.grade import grade_raster
from rscontrast.buildings.polygons import vectorize_raster
from rscontrast.errors import AssetError
from rscontrast.types import PathOrStr


def map_buildings(
    maps: PathOrStr,
    out: PathOrStr,
    *,
    footprints: PathOrStr | None = None,
    vote: str = "area",
    simplify: float = 1.0,
    min_area: float = 0.0,
) -> Path:
    """Grade buildings by the maps of ``map_pairs``, and write them as GeoParquet.

    Args:
        maps: folder that ``map_pairs`` wrote.
        out: GeoParquet to write: columns of :func:`rscontrast.buildings.grade`, and ``pair``, the
            map's name. A footprint that no map shows is left out, one of two maps is there twice.
        footprints: vector file of the buildings, in any CRS; None: those that the maps show.
        vote: "area", "majority" or "max".
        simplify: of buildings that are drawn from a map, pixels.
        min_area: smaller ones of these are left out, square metres.

    Returns:
        path of what was written.

    Raises:
        InputError: an argument out of range.
        AssetError: there is no map, or a file cannot be read.
        WriteError: the disk does not take the file.
    """
    given = None if footprints is None else read_footprints(footprints)
    folders = sorted(path.parent for path in Path(maps).glob("*/probabilities.tif"))
    if not folders:
        raise AssetError(f"{maps}: no map there; write some with rscontrast map")
    parts = []
    for folder in folders:
        drawn = given
        if drawn is None:
            classes = folder / "classes.tif"
            found = vectorize_raster(classes, merged=True, simplify=simplify, min_area=min_area)
            drawn = found[["geometry"]]
        graded = grade_raster(drawn, folder / "probabilities.tif", vote)
        parts.append(graded[graded["valid_share"] > 0].assign(pair=folder.name))
    crs = parts[0].crs
    frame = pd.concat([part.to_crs(crs) for part in parts], ignore_index=True)
    write_buildings(gpd.GeoDataFrame(frame, crs=crs), out)
    return Path(out)
