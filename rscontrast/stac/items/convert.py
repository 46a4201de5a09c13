"""STAC Items as JSON has them, to the rows of a GeoDataFrame and back."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import EmptySearchError, InputError
from rscontrast.stac.items.cells import objects, plain
from rscontrast.stac.items.frame import (
    EXACT,
    MEMBER,
    PREFIX,
    TOP,
    complete,
    missing,
    require_footprints,
    require_times,
    sort_items,
)
from rscontrast.stac.items.same import alike, same

STANDARD = (*TOP, "geometry", "properties")
"""Members of an Item that STAC knows."""


def items_frame(
    items: Iterable[Mapping[str, Any]], *, source: object = "items"
) -> gpd.GeoDataFrame:
    """Make a GeoDataFrame of STAC Items: their properties become columns beside the top fields.

    A property that is null is taken as absent. One that is called like a field of the Item has
    the column ``properties.<name>``, and a member that STAC does not know ``item.<name>``.
    ``datetime`` is NaT where an item has a period instead; :func:`instants` gives a time for each.

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
    for name in frame.columns[frame.dtypes == np.float64]:
        if (frame[name].abs() >= EXACT).any():  # a gap made floats of whole numbers
            frame[name] = objects(row.get(name) for row in rows)
    return complete(frame, "EPSG:4326")


def _row(item: Mapping[str, Any], source: object) -> dict[str, Any]:
    try:
        name, properties = item["id"], item["properties"] or {}
        own = {_column_name(key): value for key, value in properties.items()}
        other = {MEMBER + key: value for key, value in item.items() if key not in STANDARD}
    except (KeyError, TypeError, AttributeError) as error:
        text = "STAC Items: GeoJSON features with an id and properties"
        raise InputError("source", str(source), text) from error
    top = {key: item.get(key) for key in TOP}
    return {**top, **own, **other, "geometry": _footprint(name, item)}


def _column_name(key: str) -> str:
    """Column of a property: with a prefix where it would be taken for something else."""
    taken = key in TOP or key == "geometry" or key.startswith((PREFIX, MEMBER))
    return PREFIX + key if taken else key


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
    own = {
        str(key): int(value) if key in whole else _plain(value)
        for key, value in row.items()
        if key not in TOP and key != geometry and not missing(value)
    }
    members = {key: own.pop(key) for key in list(own) if key.startswith(MEMBER)}
    item["properties"] = {key.removeprefix(PREFIX): value for key, value in own.items()}
    item["properties"].setdefault("datetime", None)
    return item | {key.removeprefix(MEMBER): value for key, value in members.items()}


def _is_whole(column: pd.Series) -> bool:
    """Whether gaps alone made floats of a column of whole numbers."""
    if column.dtype.kind != "f" or not column.hasnans:
        return False
    known = column.to_numpy()[column.notna().to_numpy()]
    return bool((known == np.round(known)).all() and (np.abs(known) < EXACT).all())


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
    keys = ["collection", "id"]
    again = np.flatnonzero(frame.duplicated(keys).to_numpy())
    if not again.size:
        return frame
    number = frame.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    known = np.unique(number, return_index=True)[1][number[again]]
    _require_same(frame.drop(columns="links"), known, again)
    ids = frame["id"].iloc[np.unique(known)]
    some = ", ".join(map(str, ids[:5]))
    warnings.warn(f"{len(ids)} items come more than once ({some}); kept once", stacklevel=3)
    return frame[~frame.duplicated(keys).to_numpy()]


def _require_same(
    frame: gpd.GeoDataFrame, known: NDArray[np.intp], again: NDArray[np.intp]
) -> None:
    unsure = ~alike(frame.iloc[known], frame.iloc[again])
    pairs = (item_dicts(frame.iloc[rows[unsure]]) for rows in (known, again))
    for left, right in zip(*pairs, strict=True):
        if not same(left, right):
            allowed = "each id once in a collection; two items that differ have this one"
            raise InputError("items", left["id"], allowed)
