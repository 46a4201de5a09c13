"""STAC Items as JSON has them, to the rows of a GeoDataFrame and back."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import EmptySearchError, InputError
from rscontrast.stac.items.cells import plain
from rscontrast.stac.items.frame import (
    PREFIX,
    TOP,
    complete,
    missing,
    require_footprints,
    require_times,
    sort_items,
)


def items_frame(
    items: Iterable[Mapping[str, Any]], *, source: object = "items"
) -> gpd.GeoDataFrame:
    """Make a GeoDataFrame of STAC Items: their properties become columns beside the top fields.

    A property that is null is taken as absent. ``datetime`` is NaT where an item has a period
    instead; :func:`instants` gives a time for each.

    Args:
        items: Items as dictionaries.
        source: where they come from, for messages.

    Returns:
        one row an item, in EPSG:4326, sorted by (time, id); times are UTC timestamps. A
        footprint that crosses itself is repaired, with a warning.

    Raises:
        EmptySearchError: there is no item.
        InputError: an item has no geometry or no time, or two that differ have one id.
    """
    frame = read_frame(items, source=source)
    if frame.empty:
        raise EmptySearchError(f"{source}: no item in it; name a source that has some")
    require_times(frame)
    require_footprints(frame)
    return sort_items(unique_items(frame))


def read_frame(items: Iterable[Mapping[str, Any]], *, source: object) -> gpd.GeoDataFrame:
    """Make the rows as :func:`items_frame` does, in the order and with the gaps they come with."""
    rows = [_row(item, source) for item in items]
    frame = pd.DataFrame(rows, columns=None if rows else [*TOP, "geometry"])
    return complete(frame, "EPSG:4326")


def _row(item: Mapping[str, Any], source: object) -> dict[str, Any]:
    try:
        name, properties = item["id"], item["properties"] or {}
        own = {PREFIX + k if k in TOP or k == "geometry" else k: v for k, v in properties.items()}
    except (KeyError, TypeError, AttributeError) as error:
        text = "STAC Items: GeoJSON features with an id and properties"
        raise InputError("source", str(source), text) from error
    return {**{key: item.get(key) for key in TOP}, **own, "geometry": _footprint(name, item)}


def _footprint(name: str, item: Mapping[str, Any]) -> BaseGeometry | None:
    geometry = item.get("geometry")
    if geometry is None:
        return None
    argument, allowed = f"geometry of item {name}", "a footprint in GeoJSON"
    try:
        footprint = shape(geometry)
    except (shapely.errors.ShapelyError, ValueError, TypeError, LookupError, AttributeError) as e:
        raise InputError(argument, geometry, allowed) from e
    if footprint.is_empty:
        raise InputError(argument, geometry, f"{allowed} that is not empty")
    return footprint


def item_dicts(frame: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    """Inverse of :func:`items_frame`: Items as dictionaries, without empty properties."""
    geometry = frame.geometry.name
    whole = {name for name, column in frame.items() if _is_whole(column)}
    return [_item(row, geometry, whole) for row in frame.to_dict("records")]


def _item(row: Mapping[Any, Any], geometry: str, whole: set[Any]) -> dict[str, Any]:
    item = {key: plain(row[key]) for key in TOP if key in row and not missing(row[key])}
    footprint = row[geometry]
    item["geometry"] = None if footprint is None else _lists(mapping(footprint))
    item["properties"] = {
        str(key).removeprefix(PREFIX): int(value) if key in whole else _plain(value)
        for key, value in row.items()
        if key not in TOP and key != geometry and not missing(value)
    }
    item["properties"].setdefault("datetime", None)
    return item


def _is_whole(column: pd.Series) -> bool:
    """Whether gaps alone made floats of a column of whole numbers."""
    if column.dtype.kind != "f" or not column.hasnans:
        return False
    known = column.to_numpy()[column.notna().to_numpy()]
    return bool((known == np.round(known)).all() and (np.abs(known) < 2**53).all())


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat().replace("+00:00", "Z")
    return value.item() if isinstance(value, np.generic) else plain(value)


def _lists(value: Any) -> Any:
    """Coordinates as JSON has them."""
    if isinstance(value, dict):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value


def unique_items(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Keep the first of items that are the same but for their links, with a warning.

    Raises:
        InputError: two items of one collection have one id and are not the same.
    """
    twice = frame.duplicated(["collection", "id"], keep=False).to_numpy()
    if not twice.any():
        return frame
    seen: dict[tuple[object, object], object] = {}
    for item in item_dicts(frame[twice].drop(columns="links")):
        known = seen.setdefault((item.get("collection"), item["id"]), item)
        if known != item:
            allowed = "each id once in a collection; two items that differ have this one"
            raise InputError("items", item["id"], allowed)
    some = ", ".join(str(name) for _, name in list(seen)[:5])
    warnings.warn(f"{len(seen)} items come more than once ({some}); kept once", stacklevel=3)
    return frame[~frame.duplicated(["collection", "id"]).to_numpy()]
