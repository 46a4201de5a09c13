"""One query, any source: what lies there becomes a GeoDataFrame of items.

Today the source is a static catalog, a collection or an ItemCollection on disk or behind HTTP;
APIs and GeoParquet come behind the same function.
"""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import AssetError, EmptySearchError, InputError, choose
from rscontrast.stac.index import items_frame
from rscontrast.types import Bounds, PathOrStr

type AOI = Bounds | Sequence[float] | BaseGeometry | gpd.GeoDataFrame | PathOrStr
type TOI = str | pd.Interval


def search(
    source: PathOrStr,
    *,
    collections: Sequence[str] | None = None,
    aoi: AOI | None = None,
    toi: TOI | None = None,
    max_items: int | None = None,
) -> gpd.GeoDataFrame:
    """Find the items of a static STAC catalog.

    Args:
        source: path or URL of a catalog, a collection or an ItemCollection (JSON).
        collections: ids of the collections to keep (all by default).
        aoi: area of interest, see :func:`read_aoi`; an item that touches it stays.
        toi: time of interest, see :func:`read_toi`.
        max_items: keep the first so many, by date.

    Returns:
        one row an item, EPSG:4326, by (datetime, id); hrefs of assets are absolute.

    Raises:
        InputError: the source is not there, an unknown collection, a bad ``aoi`` or ``toi``.
        AssetError: the URL, or a linked file of the catalog, cannot be read.
        EmptySearchError: nothing is left.
    """
    if max_items is not None and max_items < 1:
        raise InputError("max_items", max_items, "1 or more")
    frame = items_frame(_walk(source), source=source)
    for name in collections or ():
        choose("collections", name, {str(c) for c in frame["collection"]})
    if collections:
        frame = frame[frame["collection"].isin(list(collections))]
    if aoi is not None:
        frame = frame[frame.intersects(read_aoi(aoi))]
    if toi is not None:
        start, end = read_toi(toi)
        frame = frame[(frame["datetime"] >= start) & (frame["datetime"] <= end)]
    if frame.empty:
        raise EmptySearchError(f"no item of {source} is left: widen aoi {aoi} or toi {toi}")
    return frame.iloc[:max_items].reset_index(drop=True)


def _walk(source: PathOrStr) -> Iterator[dict[str, Any]]:
    href = str(source)
    if "://" not in href:
        path = Path(href).expanduser().resolve()
        if not path.is_file():
            raise InputError("source", href, "the path or URL of a STAC catalog, a JSON file")
        href = str(path)
    try:
        for item in _items(href):
            item.make_asset_hrefs_absolute()
            yield item.to_dict(transform_hrefs=False)
    except InputError:
        raise
    except pystac.STACTypeError as error:
        raise InputError("source", href, f"STAC JSON ({error})") from error
    except Exception as error:
        # All that pystac, urllib3 and json raise: pystac's own for a status is a bare Exception.
        # A file missing under a catalog would be a silent hole in every later result.
        text = f"{href}: it or a file it links cannot be read ({_reason(error)})"
        raise AssetError(text) from error


def _reason(error: Exception) -> str:
    """What failed, and what began it where that is not in the text yet: a status, say."""
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    return str(error) if str(first) in str(error) else f"{error}: {first}"


def _items(href: str) -> Iterator[pystac.Item]:
    data = pystac.StacIO.default().read_json(href)
    if not isinstance(data, dict):
        raise InputError("source", href, f"a JSON object, not a {type(data).__name__}")
    if data.get("type") == "FeatureCollection":
        yield from pystac.ItemCollection.from_dict(data)
        return
    root = pystac.read_dict(data, href=href)
    if isinstance(root, pystac.Item):
        yield root
    elif isinstance(root, pystac.Catalog):  # a Collection is one too
        yield from root.get_items(recursive=True)


def read_aoi(aoi: AOI) -> BaseGeometry:
    """Bring an area of interest to one geometry in longitude and latitude.

    Args:
        aoi: bounds (xmin, ymin, xmax, ymax) in degrees, a shapely geometry in degrees, a
            GeoDataFrame, or the path of a vector file; the last two in any CRS.

    Raises:
        InputError: four numbers in the wrong order, no CRS, an empty or unreadable file.
    """
    if isinstance(aoi, BaseGeometry):
        return aoi
    if isinstance(aoi, gpd.GeoDataFrame):
        return _frame_area(aoi)
    if isinstance(aoi, str | PathLike):
        return _file_area(aoi)
    if len(aoi) != 4 or not (aoi[0] < aoi[2] and aoi[1] < aoi[3]):
        raise InputError("aoi", tuple(aoi), "(xmin, ymin, xmax, ymax) in degrees")
    return shapely.box(*(float(number) for number in aoi))


def _file_area(path: PathOrStr) -> BaseGeometry:
    try:
        return _frame_area(gpd.read_file(path))
    except (OSError, RuntimeError) as error:
        raise InputError("aoi", str(path), "bounds or a vector file that GDAL reads") from error


def _frame_area(frame: gpd.GeoDataFrame) -> BaseGeometry:
    if not isinstance(frame, gpd.GeoDataFrame):  # what geopandas makes of a CSV
        raise InputError("aoi", f"a table of {', '.join(frame)}", "features with a geometry")
    if frame.empty or frame.crs is None:
        raise InputError("aoi", f"{len(frame)} features, CRS {frame.crs}", "features with a CRS")
    area: BaseGeometry = frame.to_crs("EPSG:4326").union_all()
    if area.is_empty:
        raise InputError("aoi", f"{len(frame)} empty features", "features with a geometry")
    return area


def read_toi(toi: TOI) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Bring a time of interest to its first and last instant, UTC.

    Args:
        toi: "2022", "2022-08", "2022-08-01", "start/end" with ".." for an open side, or a
            pandas Interval. A date stands for the whole of its day, month or year.

    Raises:
        InputError: it cannot be read, or ends before it starts.
    """
    if isinstance(toi, pd.Interval):
        start, end = _utc(toi.left), _utc(toi.right)
    else:
        first, slash, last = str(toi).partition("/")
        start = _period(first, pd.Timestamp.min, end=False)
        end = _period(last if slash else first, pd.Timestamp.max, end=True)
    if start > end:
        raise InputError("toi", str(toi), "a start before the end")
    return start, end


def _period(text: str, default: pd.Timestamp, *, end: bool) -> pd.Timestamp:
    if text in ("", ".."):
        return default.tz_localize("UTC")
    try:
        if len(text) <= len("2022-08-01"):
            period = pd.Period(text)
            return _utc(period.end_time if end else period.start_time)
        return _utc(pd.Timestamp(text))
    except ValueError as error:
        raise InputError("toi", text, "an ISO date or instant, or start/end") from error


def _utc(time: pd.Timestamp) -> pd.Timestamp:
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
