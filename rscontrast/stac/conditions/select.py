"""A query applied exactly to a frame of items, whatever the source has done before."""

from collections.abc import Callable, Iterator

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import EmptySearchError
from rscontrast.stac.conditions.period import FIRST, LAST
from rscontrast.stac.conditions.query import Query
from rscontrast.stac.items.convert import unique_items
from rscontrast.stac.items.frame import periods, require_footprints, require_times, sort_items

type Mask = NDArray[np.bool_]
type Condition = Callable[[gpd.GeoDataFrame], Mask]


def select(frame: gpd.GeoDataFrame, query: Query, *, source: object) -> gpd.GeoDataFrame:
    """Keep the items that meet all conditions, by (time, id).

    Args:
        frame: items, of :func:`rscontrast.stac.items.frame.read_frame`, say.
        query: the conditions.
        source: where the items come from, for messages.

    Raises:
        EmptySearchError: none is left; says which condition took the last ones.
        InputError: an item that meets the other conditions has no time or no footprint, or two
            items that differ have one id.
    """
    counts = [f"{len(frame)} items"]
    for text, condition in conditions(query):
        frame = frame[condition(frame)]
        counts.append(f"{len(frame)} {text}")
    if frame.empty:
        raise nothing_left(source, counts)
    require_footprints(frame)
    require_times(frame)
    return sort_items(unique_items(frame)).iloc[: query.max_items]


def nothing_left(source: object, counts: list[str]) -> EmptySearchError:
    """Make the error that tells how many items each condition left."""
    return EmptySearchError(f"no item of {source} is left: {', of these '.join(counts)}")


def conditions(query: Query) -> Iterator[tuple[str, Condition]]:
    """Conditions of a query, each with what it asks for in words; footprints come last."""
    if query.collections:
        names = list(query.collections)
        yield f"of {', '.join(names)}", lambda frame: frame["collection"].isin(names).to_numpy()
    if query.filter is not None:
        yield f"meet {query.filter.text}", query.filter.mask
    if (query.start, query.end) != (FIRST, LAST):
        span = f"{query.start.isoformat()} to {query.end.isoformat()}"
        yield f"from {span}", lambda frame: _within(frame, query.start, query.end)
    if query.area is not None:
        area = query.area
        bounds = ", ".join(f"{n:g}" for n in area.bounds)
        yield f"touch the aoi ({bounds})", lambda frame: _touches(frame, area)


def _within(frame: gpd.GeoDataFrame, start: pd.Timestamp, end: pd.Timestamp) -> Mask:
    require_times(frame)
    first, last = periods(frame)
    within: Mask = ((first <= end) & (last >= start)).to_numpy()
    return within


def _touches(frame: gpd.GeoDataFrame, area: BaseGeometry) -> Mask:
    require_footprints(frame)
    footprints = frame.geometry.to_numpy()
    bounds = shapely.bounds(footprints)
    if len(frame) and not -180 <= bounds[:, 0].min() <= bounds[:, 2].max() <= 180:
        # Footprints that go on past the antimeridian instead of being cut there.
        turns = [shapely.transform(area, lambda xy, by=by: xy + by) for by in ([360, 0], [-360, 0])]
        area = shapely.union_all([area, *turns])
    shapely.prepare(area)
    touches: Mask = shapely.intersects(area, footprints)
    return touches
