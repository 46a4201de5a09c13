"""The native grid of each item: from its metadata, and only where they lack it from a file."""

from collections.abc import Mapping
from typing import Any

import rasterio
from affine import Affine
from odc.geo import CRSError
from odc.geo.geobox import GeoBox

from rscontrast.errors import AssetError, GridError
from rscontrast.stac.frame import missing


def item_crs(item: Mapping[str, Any]) -> str:
    """CRS that an item names, itself or in its first asset that does; "" where none does.

    Args:
        item: a row of the items' frame (``assets``, ``proj:*``).
    """
    return next(filter(None, map(_code, (item, *item["assets"].values()))), "")


def _code(fields: Mapping[str, Any]) -> str:
    """``proj:code``, or ``proj:epsg`` as it was before projection extension 2.0; else ""."""
    if not missing(fields.get("proj:code")):
        return str(fields["proj:code"])
    return "" if missing(fields.get("proj:epsg")) else f"EPSG:{int(fields['proj:epsg'])}"


def native_geobox(item: Mapping[str, Any], asset_key: str) -> GeoBox:
    """Grid of one asset: from the projection extension, else from the file's header.

    Args:
        item: a row of the items' frame (``assets``, ``proj:*``).
        asset_key: which asset.

    Raises:
        AssetError: the metadata lack the grid and the file cannot be opened.
        GridError: neither the metadata nor the file has a CRS, or it is unknown.
    """
    asset = item["assets"][asset_key]

    def field(name: str) -> Any:
        return item.get(name) if missing(asset.get(name)) else asset[name]

    size, transform = field("proj:shape"), field("proj:transform")
    crs = _code(asset) or _code(item)
    if missing(size) or missing(transform) or not crs:
        return _file_geobox(str(item["id"]), asset_key, asset["href"])
    rows, cols = (int(n) for n in size)
    try:
        return GeoBox((rows, cols), Affine(*list(transform)[:6]), crs)
    except CRSError as error:
        raise GridError(f"item {item['id']}, asset {asset_key}: no CRS is {crs!r}") from error


def _file_geobox(item: str, asset_key: str, href: str) -> GeoBox:
    try:
        with rasterio.open(href) as source:
            if source.crs is None:
                raise GridError(f"item {item}, asset {asset_key}: no CRS in {href} or the metadata")
            return GeoBox(source.shape, source.transform, source.crs)
    except rasterio.errors.RasterioIOError as error:
        raise AssetError(f"item {item}, asset {asset_key}: cannot open {href} ({error})") from error
