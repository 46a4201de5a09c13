"""The buildings of what was mapped: footprints that are given, or those that the maps show."""

from pathlib import Path

import geopandas as gpd
import pandas as pd

from rscontrast.buildings.footprints import read_footprints, write_buildings
from rscontrast.buildings.grade import grade_raster
from rscontrast.buildings.polygons import vectorize_raster
from rscontrast.errors import AssetError
from rscontrast.types import PathOrStr

KINDS = "probabilities", "classes"
"""Names of the two rasters of a map."""


def map_buildings(
    maps: PathOrStr,
    out: PathOrStr,
    *,
    footprints: PathOrStr | None = None,
    vote: str = "area",
    simplify: float = 1.0,
    min_area: float = 0.0,
) -> Path:
    """Grade buildings by the maps of a run, and write them as GeoParquet.

    By its mosaics where it has some, in which no building is cut at the edge of a tile.

    Args:
        maps: folder that ``rscontrast map`` or ``map_pairs`` wrote.
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
    found_maps = _maps(Path(maps))
    if not found_maps:
        raise AssetError(f"{maps}: no map there; write some with rscontrast map")
    parts = []
    for name, probabilities in found_maps.items():
        drawn = given
        if drawn is None:
            classes = probabilities.with_name(probabilities.name.replace(*KINDS))
            found = vectorize_raster(classes, merged=True, simplify=simplify, min_area=min_area)
            drawn = found[["geometry"]]
        graded = grade_raster(drawn, probabilities, vote)
        parts.append(graded[graded["valid_share"] > 0].assign(pair=name))
    crs = parts[0].crs
    frame = pd.concat([part.to_crs(crs) for part in parts], ignore_index=True)
    write_buildings(gpd.GeoDataFrame(frame, crs=crs), out)
    return Path(out)


def _maps(folder: Path) -> dict[str, Path]:
    """Probabilities by the name of their map: of the mosaics, or else of every job."""
    mosaics = sorted((folder / "mosaic").glob(f"{KINDS[0]}*.tif"))
    if mosaics:
        return {path.stem.replace(KINDS[0], "mosaic"): path for path in mosaics}
    return {path.parent.name: path for path in sorted(folder.glob(f"*/{KINDS[0]}.tif"))}
