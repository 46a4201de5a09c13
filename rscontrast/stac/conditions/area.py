"""An area of interest in any form becomes one geometry in longitude and latitude."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import InputError, choose
from rscontrast.stac.conditions.sphere import to_lonlat
from rscontrast.types import Bounds, PathOrStr

type Features = gpd.GeoDataFrame | gpd.GeoSeries | PathOrStr
type AOI = (
    Bounds | Sequence[float] | BaseGeometry | Mapping[str, Any] | Features | tuple[Features, str]
)

_PARQUET = (".parquet", ".geoparquet", ".parq")
_BOUNDS = "(xmin, ymin, xmax, ymax) in degrees"


def read_aoi(aoi: AOI) -> BaseGeometry:
    """Bring an area of interest to one geometry in longitude and latitude.

    Args:
        aoi: one of

            - bounds (xmin, ymin, xmax, ymax) in degrees; with xmin above xmax they cross the
              antimeridian, as in GeoJSON: (170, -10, -170, 10);
            - a shapely geometry or GeoJSON in degrees; longitudes may run on over 180;
            - a GeoDataFrame, a GeoSeries, or the path of a vector file, in any CRS;
            - the pair of a frame or a file and the name of its geometry column; for a file also
              the text "areas.parquet#column" or, where it has layers, "areas.gpkg#layer".

    Returns:
        valid, EPSG:4326, longitudes from -180 to 180, in parts where it crosses the antimeridian.

    Raises:
        InputError: bounds in the wrong order, no CRS, coordinates that are not degrees, features
            without geometry, an empty or unreadable file.
    """
    series = _series(aoi)
    if series.empty:
        raise InputError("aoi", "0 features", "1 or more features with a geometry")
    if series.crs is None:
        got = f"{len(series)} features, CRS None"
        raise InputError("aoi", got, "features with a CRS; where it has none, give it: set_crs")
    missing = np.flatnonzero(series.isna() | series.is_empty)
    if len(missing):
        got = f"{len(missing)} empty features, the first is {series.index[missing[0]]}"
        raise InputError("aoi", got, "features with a geometry; drop the others")
    crs = pyproj.CRS(series.crs)
    _check_numbers(series, crs)
    return to_lonlat(_repaired(series).union_all(), crs)


def _series(aoi: AOI) -> gpd.GeoSeries:
    if isinstance(aoi, tuple) and len(aoi) == 2 and isinstance(aoi[1], str):
        return _features(aoi[0], str(aoi[1]))
    if isinstance(aoi, gpd.GeoDataFrame | gpd.GeoSeries | str | PathLike):
        return _features(aoi)
    if isinstance(aoi, BaseGeometry):
        return _degrees([aoi])
    geojson = getattr(aoi, "__geo_interface__", aoi)
    if isinstance(geojson, Mapping):
        return _degrees(_geojson(geojson))
    return _degrees([_box(aoi)])


def _degrees(geometries: Sequence[BaseGeometry | None]) -> gpd.GeoSeries:
    return gpd.GeoSeries(geometries, crs="EPSG:4326")


def _box(bounds: Any) -> BaseGeometry:
    try:
        xmin, ymin, xmax, ymax = (float(number) for number in bounds)
    except (TypeError, ValueError) as error:
        raise InputError("aoi", bounds, f"{_BOUNDS}, a geometry, a frame or a file") from error
    got = (xmin, ymin, xmax, ymax)
    # Half a turn tells a box over the antimeridian from one whose sides were mixed up.
    east = xmax + 360 if xmin - xmax > 180 and xmin <= 180 and xmax >= -180 else xmax
    if not (xmin < east and ymin < ymax):
        hint = "; xmin is above xmax only where a box less than 180 wide crosses the antimeridian"
        raise InputError("aoi", got, f"{_BOUNDS}, all different{hint if xmin > xmax else ''}")
    return shapely.box(xmin, ymin, east, ymax)


def _geojson(data: Mapping[str, Any]) -> list[BaseGeometry | None]:
    try:
        features = data["features"] if data["type"] == "FeatureCollection" else [data]
        parts = [part["geometry"] if part["type"] == "Feature" else part for part in features]
        return [None if part is None else shape(part) for part in parts]
    except (shapely.errors.ShapelyError, ValueError, LookupError, TypeError, AttributeError) as e:
        raise InputError("aoi", data, "GeoJSON: a geometry, a Feature or its collection") from e


def _features(source: Features, column: str | None = None) -> gpd.GeoSeries:
    """Geometries of a frame or a file, in the column that is named if one is."""
    if isinstance(source, str | PathLike):
        source, column = _file(source, column)
    if isinstance(source, gpd.GeoSeries) and column is None:
        return source
    if not isinstance(source, gpd.GeoDataFrame):  # also what geopandas makes of a CSV
        raise InputError("aoi", f"a table of {', '.join(source)}", "features with a geometry")
    names = [str(name) for name, dtype in source.dtypes.items() if dtype == "geometry"]
    return source[choose("aoi column", column, names)] if column else source.geometry


def _file(path: PathOrStr, column: str | None) -> tuple[gpd.GeoDataFrame, str | None]:
    text = str(path)
    if column is None and "#" in text and not Path(text).exists():
        text, _, column = text.rpartition("#")
    try:
        if Path(text).suffix in _PARQUET:
            return gpd.read_parquet(text), column
        layers = list(gpd.list_layers(text)["name"])
        if len(layers) == 1 and column not in layers:
            return gpd.read_file(text), column
        if column is None:
            got = f"{text} with the layers {', '.join(layers)}"
            raise InputError("aoi", got, f"one of them: '{text}#{layers[0]}'")
        return gpd.read_file(text, layer=choose("aoi layer", column, layers)), None
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        allowed = f"bounds or a vector file that GDAL reads ({error})"
        raise InputError("aoi", text, allowed) from error


def _check_numbers(series: gpd.GeoSeries, crs: pyproj.CRS) -> None:
    xmin, ymin, xmax, ymax = series.total_bounds
    got = tuple(float(number) for number in (xmin, ymin, xmax, ymax))
    if not np.isfinite(shapely.get_coordinates(series)).all():
        raise InputError("aoi", got, "coordinates that are numbers, not NaN or infinite")
    # A grid in gradians has its own limits; what lies outside them has no place on the Earth.
    degrees = crs.is_geographic and crs.axis_info[0].unit_name == "degree"
    if degrees and (ymin < -90 or ymax > 90 or xmin < -360 or xmax > 360):
        hint = "metres belong in a GeoDataFrame or a file that has their CRS"
        raise InputError("aoi", got, f"latitudes in -90 to 90, longitudes in -180 to 180; {hint}")


def _repaired(series: gpd.GeoSeries) -> gpd.GeoSeries:
    series = series.force_2d()
    bad = ~series.is_valid
    if not bad.any():
        return series
    reasons = [f"feature {row}: {why}" for row, why in series[bad].is_valid_reason().items()]
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    warnings.warn(f"aoi: {'; '.join(reasons[:3])}{more}; repaired", stacklevel=2)
    mended = series.make_valid(method="structure", keep_collapsed=False)
    if mended.is_empty.all():
        raise InputError("aoi", reasons[0], "a geometry with an area")
    return mended
