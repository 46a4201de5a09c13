"""The frame of items: the columns of the stac-geoparquet schema, the same whatever the source."""

import warnings
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from rscontrast.errors import InputError
from rscontrast.stac.items.antimeridian import cut, unwrap
from rscontrast.stac.items.cells import objects

TOP = ("type", "stac_version", "stac_extensions", "id", "bbox", "links", "assets", "collection")
"""Fields of an Item beside its properties and its geometry."""
TIMES = ("datetime", "start_datetime", "end_datetime")
"""Properties that become UTC timestamps; all others stay as the Item has them."""
PREFIX = "properties."
"""Before the name of a property that is called like a field of the Item."""
EXACT = 2**53
"""Below it, floats hold whole numbers exactly."""
MEMBER = "item."
"""Before the name of a member of the Item that STAC does not know."""


def complete(frame: pd.DataFrame, crs: Any) -> gpd.GeoDataFrame:
    """Bring a table of items to the schema: its columns, its times in UTC, valid footprints.

    A footprint that jumps over the antimeridian, as its bounding box tells, is cut there.

    Args:
        frame: with a column ``geometry`` of shapely geometries, and ``id``.
        crs: of the geometries.
    """
    own = sorted(set(frame) - {*TOP, *TIMES, "geometry"})
    times = [name for name in TIMES if name in frame or name == "datetime"]
    columns = {name: _column(frame, name) for name in (*TOP, *times, *own)}
    footprints = gpd.GeoSeries(frame["geometry"].to_numpy(), index=frame.index, crs=crs)
    if not footprints.crs.equals("EPSG:4326", ignore_axis_order=True):
        footprints = footprints.to_crs("EPSG:4326")
    whole, over = unwrap(footprints.to_numpy(), pd.Series(columns["bbox"]), frame["id"])
    columns["geometry"] = cut(_valid(whole, frame["id"]), over)
    # Without copies: a million items are large.
    columns["geometry"] = gpd.array.GeometryArray(columns["geometry"], crs="EPSG:4326")
    return gpd.GeoDataFrame(columns, index=frame.index, copy=False)


def _column(frame: pd.DataFrame, name: str) -> Any:
    if name in TIMES:
        return _utc(frame, name)
    empty = {"assets": dict, "links": list}.get(name)
    if empty is not None and name in frame:
        values = frame[name].to_numpy()
        lacks = set(map(type, values)) & {type(None), float}
        return objects(empty() if missing(v) else v for v in values) if lacks else frame[name]
    if name in frame:
        return frame[name]
    if empty is not None:
        return objects(empty() for _ in range(len(frame)))
    default = {"type": "Feature", "stac_version": "1.1.0"}.get(name)
    return pd.Series(default, index=frame.index, dtype=object if default is None else str)


def _utc(frame: pd.DataFrame, name: str) -> pd.Series:
    column = frame[name] if name in frame else pd.Series(pd.NaT, index=frame.index)
    try:
        if column.dtype.kind != "M":
            column = pd.to_datetime(column, utc=True, format="ISO8601")
    except (ValueError, TypeError) as error:
        allowed = "times as ISO 8601 has them, such as 2022-08-24T10:00:00Z"
        raise InputError(f"{name} of the items", str(error).split(",")[0], allowed) from error
    aware = column if column.dt.tz is not None else column.dt.tz_localize("UTC")
    return aware.dt.tz_convert("UTC").dt.as_unit("us")


def _valid(footprints: NDArray[Any], ids: pd.Series) -> NDArray[Any]:
    """Mend footprints that cross themselves, with a warning for each."""
    broken = np.flatnonzero(~shapely.is_valid(footprints) & ~shapely.is_missing(footprints))
    if not broken.size:
        return footprints
    mended = footprints.copy()
    for row in broken:
        argument, footprint = f"geometry of item {ids.iloc[row]}", footprints[row]
        reason = shapely.is_valid_reason(footprint)
        warnings.warn(f"{argument}: {reason}; repaired", stacklevel=2)
        mended[row] = shapely.make_valid(footprint, method="structure", keep_collapsed=False)
        if mended[row].is_empty:
            raise InputError(argument, footprint.wkt, "a footprint with an area")
    return mended


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
    rows = time_order(frame)
    ordered = frame if (np.diff(rows) == 1).all() else frame.take(rows)
    return ordered.reset_index(drop=True)


def time_order(frame: pd.DataFrame) -> NDArray[np.intp]:
    """Rows of a table of items by (time, id); its times need not be read yet."""
    known = {name: _utc(frame, name) for name in TIMES if name in frame}
    times = instants(pd.DataFrame(known, copy=False))
    number = times.to_numpy("datetime64[us]").astype(np.int64)
    keys = pa.table({"time": number, "id": pa.array(frame["id"].astype(str))})
    order: NDArray[np.intp] = pc.sort_indices(
        keys, [("time", "ascending"), ("id", "ascending")]
    ).to_numpy()
    return order
