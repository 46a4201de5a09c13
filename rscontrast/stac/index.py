"""Items as a GeoDataFrame in the stac-geoparquet schema, on disk and as native grids."""

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import shapely
from affine import Affine
from odc.geo import CRSError
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from rscontrast.atomic import atomic_path
from rscontrast.errors import AssetError, EmptySearchError, GridError, InputError
from rscontrast.types import PathOrStr

_TOP = ("type", "stac_version", "stac_extensions", "id", "bbox", "links", "assets", "collection")
_TIMES = ("datetime", "start_datetime", "end_datetime")


def items_frame(
    items: Iterable[Mapping[str, Any]], *, source: object = "items"
) -> gpd.GeoDataFrame:
    """Make a GeoDataFrame of STAC Items: their properties become columns beside the top fields.

    Args:
        items: Items as dictionaries.
        source: where they come from, for messages.

    Returns:
        one row an item, in EPSG:4326, sorted by (datetime, id); times are UTC timestamps. A
        footprint that crosses itself is repaired, with a warning.

    Raises:
        EmptySearchError: there is no item.
        InputError: an item has no geometry or no time, or an id comes twice in a collection.
    """
    rows = [_row(item) for item in items]
    if not rows:
        raise EmptySearchError(f"{source}: no item in it; name a source that has some")
    frame = gpd.GeoDataFrame(rows, geometry="geometry", crs="EPSG:4326")
    for column in _TIMES:
        if column in frame:
            frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601")
    twice = frame.duplicated(["collection", "id"])
    if twice.any():
        raise InputError("items", frame.loc[twice, "id"].iloc[0], "each id once in a collection")
    return frame.sort_values(["datetime", "id"], ignore_index=True)


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    properties = dict(item["properties"])
    # An item of a period has no datetime of its own: it is placed where its period begins.
    properties["datetime"] = properties.get("datetime") or properties.get("start_datetime")
    if properties["datetime"] is None:
        raise InputError(f"datetime of item {item['id']}", None, "datetime or start_datetime")
    top = {key: item.get(key) for key in _TOP}
    top["assets"] = top["assets"] or {}
    return {**top, **properties, "geometry": _footprint(item)}


def _footprint(item: Mapping[str, Any]) -> BaseGeometry:
    argument, geometry = f"geometry of item {item['id']}", item.get("geometry")
    try:
        footprint = shape(geometry)
    except (shapely.errors.ShapelyError, ValueError, TypeError, LookupError, AttributeError) as e:
        raise InputError(argument, geometry, "a footprint in GeoJSON") from e
    if not footprint.is_valid:
        warnings.warn(f"{argument}: {shapely.is_valid_reason(footprint)}; repaired", stacklevel=2)
        footprint = shapely.make_valid(footprint, method="structure", keep_collapsed=False)
    if footprint.is_empty:
        raise InputError(argument, geometry, "a footprint with an area")
    return footprint


def item_dicts(frame: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    """Inverse of :func:`items_frame`: Items as dictionaries, without empty properties."""
    top, geometry = set(_TOP), frame.geometry.name
    items = []
    for row in frame.to_dict("records"):
        item = {key: row[key] for key in _TOP if row.get(key) is not None}
        item["geometry"] = json.loads(json.dumps(mapping(row[geometry])))
        item["properties"] = {
            key: _plain(value)
            for key, value in row.items()
            if key not in top and key != geometry and not _missing(value)
        }
        items.append(item)
    return items


def _missing(value: Any) -> bool:
    return value is None or (np.isscalar(value) and bool(pd.isna(value))) or value is pd.NaT


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat().replace("+00:00", "Z")
    return value.item() if isinstance(value, np.generic) else value


def write_items(frame: gpd.GeoDataFrame, path: PathOrStr) -> None:
    """Write items as stac-geoparquet, whole or not at all.

    Raises:
        InputError: a property is text in one item and a number in another.
        WriteError: the folder or the disk does not take it.
    """
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    try:
        table = parse_stac_items_to_arrow(item_dicts(frame))
    except pa.ArrowException as error:
        got = ", ".join(_mixed(frame)) or str(error)
        raise InputError("items", got, "properties of one type in all items") from error
    with atomic_path(Path(path)) as tmp:
        to_parquet(table, tmp)


def _mixed(frame: gpd.GeoDataFrame) -> list[str]:
    """Columns that are text in some items and something else in others."""
    return [
        str(name)
        for name, column in frame.items()
        if len({isinstance(value, str) for value in column if not _missing(value)}) > 1
    ]


def read_items(path: PathOrStr) -> gpd.GeoDataFrame:
    """Read what :func:`write_items` wrote, or any stac-geoparquet file.

    Raises:
        InputError: the file is missing or is not stac-geoparquet.
    """
    from stac_geoparquet.arrow import stac_table_to_items

    allowed = "a stac-geoparquet file"
    if Path(path).is_dir():
        raise InputError("items", str(path), f"{allowed}, not a folder")
    try:
        items = list(stac_table_to_items(pq.read_table(path)))
        return items_frame(map(_drop_empty, items), source=path)
    except InputError:
        raise
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError("items", str(path), f"{allowed} ({error})") from error


def _drop_empty(value: Any) -> Any:
    """Remove what Arrow's one schema for all items added: empty fields of dictionaries."""
    if isinstance(value, dict):
        return {key: _drop_empty(v) for key, v in value.items() if v is not None}
    return [_drop_empty(v) for v in value] if isinstance(value, list) else value


def item_crs(item: Mapping[str, Any]) -> str:
    """CRS that an item names, itself or in its first asset that does; "" where none does.

    Args:
        item: a row of the items' frame (``assets``, ``proj:*``).
    """
    return next(filter(None, map(_code, (item, *item["assets"].values()))), "")


def _code(fields: Mapping[str, Any]) -> str:
    """``proj:code``, or ``proj:epsg`` as it was before projection extension 2.0; else ""."""
    if not _missing(fields.get("proj:code")):
        return str(fields["proj:code"])
    return "" if _missing(fields.get("proj:epsg")) else f"EPSG:{int(fields['proj:epsg'])}"


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
        return item.get(name) if _missing(asset.get(name)) else asset[name]

    size, transform = field("proj:shape"), field("proj:transform")
    crs = _code(asset) or _code(item)
    if _missing(size) or _missing(transform) or not crs:
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
