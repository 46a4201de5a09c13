"""The frame of items: the columns of the stac-geoparquet schema, the same whatever the source."""

import warnings
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from rscontrast.errors import InputError

TOP = ("type", "stac_version", "stac_extensions", "id", "bbox", "links", "assets", "collection")
"""Fields of an Item beside its properties and its geometry."""
TIMES = ("datetime", "start_datetime", "end_datetime")
"""Properties that become UTC timestamps; all others stay as the Item has them."""
PREFIX = "properties."
"""Before the name of a property that is called like a field of the Item."""


def complete(frame: pd.DataFrame, crs: Any) -> gpd.GeoDataFrame:
    """Bring a table of items to the schema: its columns, its times in UTC, valid footprints.

    Args:
        frame: with a column ``geometry`` of shapely geometries, and ``id``.
        crs: of the geometries.
    """
    out = gpd.GeoDataFrame(frame.drop(columns="geometry"), geometry=frame["geometry"].to_numpy())
    out = out.set_crs(crs)
    if not out.crs.equals("EPSG:4326", ignore_axis_order=True):
        out = out.to_crs("EPSG:4326")
    out = out.set_crs("EPSG:4326", allow_override=True)
    for column in (*TIMES, *TOP):
        if column in out or column in ("datetime", *TOP):
            out[column] = _column(out, column)
    _repair(out)
    own = sorted(set(out) - {*TOP, *TIMES, "geometry"})
    return out[[*TOP, *(time for time in TIMES if time in out), *own, "geometry"]]


def _column(frame: gpd.GeoDataFrame, name: str) -> Any:
    if name in TIMES:
        return _utc(frame, name)
    if name in frame and name != "assets":
        return frame[name]
    default: Any = {"type": "Feature", "stac_version": "1.1.0"}.get(name)
    values = frame[name] if name in frame else np.full(len(frame), default, dtype=object)
    if name not in ("assets", "links"):
        return values
    make = dict if name == "assets" else list
    found = [make() if missing(value) else value for value in values]
    return pd.Series(found, index=frame.index, dtype=object)


def _utc(frame: gpd.GeoDataFrame, name: str) -> pd.Series:
    column = frame[name] if name in frame else pd.Series(pd.NaT, index=frame.index)
    try:
        return pd.to_datetime(column, utc=True, format="ISO8601").dt.as_unit("us")
    except (ValueError, TypeError) as error:
        allowed = "times as ISO 8601 has them, such as 2022-08-24T10:00:00Z"
        raise InputError(f"{name} of the items", str(error).split(",")[0], allowed) from error


def _repair(frame: gpd.GeoDataFrame) -> None:
    """Mend footprints that cross themselves, in place, with a warning for each."""
    footprints = frame.geometry.to_numpy()
    for row in np.flatnonzero(~shapely.is_valid(footprints) & ~shapely.is_missing(footprints)):
        footprint, name = footprints[row], frame["id"].iloc[row]
        reason = shapely.is_valid_reason(footprint)
        warnings.warn(f"geometry of item {name}: {reason}; repaired", stacklevel=2)
        valid = shapely.make_valid(footprint, method="structure", keep_collapsed=False)
        if valid.is_empty:
            raise InputError(f"geometry of item {name}", footprint.wkt, "a footprint with an area")
        frame.loc[frame.index[row], "geometry"] = valid


def require_times(frame: gpd.GeoDataFrame) -> None:
    """Refuse items that have no time at all.

    Raises:
        InputError: names them.
    """
    lost = frame["id"][instants(frame).isna()]
    if len(lost):
        _refuse("datetime", lost, "datetime or start_datetime")


def require_footprints(frame: gpd.GeoDataFrame) -> None:
    """Refuse items without a footprint: STAC allows them, but they lie nowhere.

    Raises:
        InputError: names them.
    """
    lost = frame["id"][shapely.is_missing(frame.geometry.to_numpy())]
    if len(lost):
        _refuse("geometry", lost, "a footprint")


def _refuse(what: str, ids: pd.Series, allowed: str) -> None:
    named = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    items = f"item {named}" if len(ids) == 1 else f"{len(ids)} items ({named})"
    remedy = f"{allowed}; give it to them, or leave them out by collections, toi or filter"
    raise InputError(f"{what} of {items}", None, remedy)


def instants(frame: pd.DataFrame) -> pd.Series:
    """Time of each item, UTC: its ``datetime``, or where its period begins."""
    return _first(frame, "datetime", "start_datetime", "end_datetime")


def periods(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """First and last instant of each item, UTC; the same where it has no period."""
    first = _first(frame, "start_datetime", "datetime", "end_datetime")
    return first, _first(frame, "end_datetime", "datetime", "start_datetime")


def _first(frame: pd.DataFrame, *names: str) -> pd.Series:
    columns = [frame[name] for name in names if name in frame]
    times = columns[0]
    for column in columns[1:]:
        times = times.fillna(column)
    return times


def missing(value: Any) -> bool:
    """Whether a cell of a frame is empty."""
    return (
        value is None
        or value is pd.NaT
        or value is pd.NA
        or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
    )


def sort_items(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Order by (time, id), numbered from 0."""
    order = pd.DataFrame({"time": instants(frame).to_numpy(), "id": frame["id"].to_numpy()})
    rows = order.sort_values(["time", "id"]).index
    return frame.take(rows).reset_index(drop=True)
