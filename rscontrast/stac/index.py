"""Items as a GeoDataFrame in the stac-geoparquet schema, on disk and as native grids."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping, shape

from rscontrast.atomic import atomic_path
from rscontrast.errors import AssetError, EmptySearchError, GridError, InputError
from rscontrast.types import PathOrStr

_TOP = ("type", "stac_version", "stac_extensions", "id", "bbox", "links", "assets", "collection")
_TIMES = ("datetime", "start_datetime", "end_datetime")


def items_frame(items: Iterable[Mapping[str, Any]]) -> gpd.GeoDataFrame:
    """Make a GeoDataFrame of STAC Items: their properties become columns beside the top fields.

    Args:
        items: Items as dictionaries.

    Returns:
        one row an item, in EPSG:4326, sorted by (datetime, id); times are UTC timestamps.

    Raises:
        EmptySearchError: there is no item.
        InputError: an item has no geometry or no time, or an id comes twice in a collection.
    """
    rows = [_row(item) for item in items]
    if not rows:
        raise EmptySearchError("no item: widen aoi or toi, or name another collection")
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
    if item.get("geometry") is None:
        raise InputError(f"geometry of item {item['id']}", None, "a footprint")
    # An item of a period has no datetime of its own: it is placed where its period begins.
    properties["datetime"] = properties.get("datetime") or properties.get("start_datetime")
    if properties["datetime"] is None:
        raise InputError(f"datetime of item {item['id']}", None, "datetime or start_datetime")
    top = {key: item.get(key) for key in _TOP}
    return {**top, **properties, "geometry": shape(item["geometry"])}


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
        WriteError: the folder or the disk does not take it.
    """
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    with atomic_path(Path(path)) as tmp:
        to_parquet(parse_stac_items_to_arrow(item_dicts(frame)), tmp)


def read_items(path: PathOrStr) -> gpd.GeoDataFrame:
    """Read what :func:`write_items` wrote, or any stac-geoparquet file.

    Raises:
        InputError: the file is missing or is not stac-geoparquet.
    """
    from stac_geoparquet.arrow import stac_table_to_items

    try:
        items = list(stac_table_to_items(pq.read_table(path)))
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise InputError("items", str(path), f"a stac-geoparquet file ({error})") from error
    return items_frame(_drop_empty(item) for item in items)


def _drop_empty(value: Any) -> Any:
    """Remove what Arrow's one schema for all items added: empty fields of dictionaries."""
    if isinstance(value, dict):
        return {key: _drop_empty(v) for key, v in value.items() if v is not None}
    return [_drop_empty(v) for v in value] if isinstance(value, list) else value


def native_geobox(item: Mapping[str, Any], asset_key: str) -> GeoBox:
    """Grid of one asset: from the projection extension, else from the file's header.

    Args:
        item: a row of the items' frame (``assets``, ``proj:*``).
        asset_key: which asset.

    Raises:
        AssetError: the metadata lack the grid and the file cannot be opened.
        GridError: neither the metadata nor the file has a CRS.
    """
    asset = item["assets"][asset_key]

    def field(name: str) -> Any:
        value = asset.get(name)
        return item.get(name) if value is None else value

    size, transform, crs = field("proj:shape"), field("proj:transform"), field("proj:code")
    if crs is None and not _missing(field("proj:epsg")):
        crs = f"EPSG:{int(field('proj:epsg'))}"
    if _missing(size) or _missing(transform) or _missing(crs):
        return _file_geobox(str(item["id"]), asset_key, asset["href"])
    rows, cols = (int(n) for n in size)
    return GeoBox((rows, cols), Affine(*list(transform)[:6]), crs)


def _file_geobox(item: str, asset_key: str, href: str) -> GeoBox:
    try:
        with rasterio.open(href) as source:
            if source.crs is None:
                raise GridError(f"item {item}, asset {asset_key}: no CRS in {href} or the metadata")
            return GeoBox(source.shape, source.transform, source.crs)
    except rasterio.errors.RasterioIOError as error:
        raise AssetError(f"item {item}, asset {asset_key}: cannot open {href} ({error})") from error
