"""Footprints in, graded buildings out."""

import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from rscontrast.atomic import atomic_path
from rscontrast.errors import AssetError, BandError, InputError
from rscontrast.stac.provider import GENERIC, Provider
from rscontrast.stac.sources.files import HTTP
from rscontrast.stac.sources.hrefs import local_path
from rscontrast.stac.sources.http import Http
from rscontrast.types import PathOrStr

PARQUET = (".parquet", ".geoparquet", ".parq", ".pq")


def read_footprints(
    source: gpd.GeoDataFrame | PathOrStr | Mapping[str, Any],
    *,
    asset: str | None = None,
    provider: Provider = GENERIC,
) -> gpd.GeoDataFrame:
    """Read building footprints and check them.

    Args:
        source: a frame; the path or URL of a vector file (GeoParquet, or what GDAL reads); or a
            row of the items' frame, whose ``asset`` is such a file.
        asset: asset key, with an item only.
        provider: who signs the item's links.

    Returns:
        the file's rows and attributes, in its CRS. Polygons that cross themselves are repaired,
        with a warning.

    Raises:
        InputError: no CRS, or a feature that is no polygon.
        BandError: the item has no such asset.
        AssetError: the file cannot be read.
    """
    if isinstance(source, gpd.GeoDataFrame):
        return checked(source)
    if isinstance(source, Mapping):
        return checked(_read(_href(source, asset, provider)))
    return checked(_read(str(source)))


def _href(item: Mapping[str, Any], asset: str | None, provider: Provider) -> str:
    if asset not in item["assets"]:
        known = ", ".join(sorted(item["assets"]))
        raise BandError("asset", asset, f"an asset of item {item['id']}: {known}")
    href: str = item["assets"][asset]["href"]
    return href if provider.signer is None else provider.signer.sign(href).href


def _read(href: str) -> gpd.GeoDataFrame:
    path = local_path(href)
    read = gpd.read_parquet if path.split("?")[0].endswith(PARQUET) else gpd.read_file
    try:
        frame = read(_fetched(path) if path.startswith(HTTP) else path)
    except Exception as error:
        # GDAL, Arrow and fsspec each raise classes of their own.
        raise AssetError(f"{href}: cannot be read as a vector file ({error})") from error
    if not isinstance(frame, gpd.GeoDataFrame):  # what geopandas makes of a table
        raise InputError("footprints", href, "features with a geometry")
    return frame


def _fetched(url: str) -> BytesIO:
    """Fetch a file whole, with retries: vector files are small, and not all servers give parts."""
    body: bytes = Http().ask({"method": "GET", "url": url}, lambda data, _: data)
    return BytesIO(body)


def checked(footprints: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Refuse what is no footprint, and repair polygons that cross themselves.

    Raises:
        InputError: no CRS, or a feature that is no polygon.
    """
    if footprints.crs is None:
        raise InputError("footprints", "CRS None", "a CRS; where it has none, give it: set_crs")
    polygons = footprints.geometry.to_numpy()
    wrong = np.flatnonzero(
        ~np.isin(shapely.get_type_id(polygons), (3, 6)) | shapely.is_empty(polygons)
    )
    if wrong.size:
        got = f"feature {footprints.index[wrong[0]]}: {polygons[wrong[0]]}"
        raise InputError("footprints", got, "polygons that are not empty; drop the others")
    broken = ~shapely.is_valid(polygons)
    if not broken.any():
        return footprints
    warnings.warn(f"footprints: {broken.sum()} cross themselves; repaired", stacklevel=2)
    return footprints.set_geometry(repaired(polygons), crs=footprints.crs)


def repaired(polygons: Any) -> Any:
    """Polygons as they are where they are valid, else what they enclose."""
    broken = ~shapely.is_valid(polygons)
    mended = polygons.copy()
    mended[broken] = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    return mended


def write_buildings(buildings: gpd.GeoDataFrame, path: PathOrStr) -> Path:
    """Write buildings as GeoParquet, whole or not at all.

    Args:
        buildings: of :func:`rscontrast.buildings.grade` or ``vectorize``.
        path: of the file.

    Returns:
        the path.

    Raises:
        WriteError: the folder or the disk does not take it.
    """
    with atomic_path(Path(path)) as tmp:
        buildings.to_parquet(tmp, index=False, write_covering_bbox=True)
    return Path(path)
