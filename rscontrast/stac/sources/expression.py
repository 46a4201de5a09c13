"""A query as an Arrow expression: what a file of Parquet can leave out before it is read."""

import functools
import operator

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from shapely.geometry.base import BaseGeometry

from rscontrast.stac.conditions.period import FIRST, LAST
from rscontrast.stac.conditions.query import Query

MARGIN = 0.01
"""Degrees: bounding boxes are often rounded, footprints are not."""
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def push_down(schema: pa.Schema, query: Query, *, lonlat: bool = True) -> list[pc.Expression]:
    """Conditions that each item of the query meets; others may meet them too.

    A condition that the columns do not allow to be told is left out.

    Args:
        schema: of the file.
        query: what is searched.
        lonlat: whether the bounding boxes are in longitude and latitude.
    """
    found: list[pc.Expression | None] = []
    if query.collections and "collection" in schema.names:
        found.append(pc.field("collection").isin(list(query.collections)))
    if query.filter is not None:
        found.append(query.filter.to_arrow(schema))
    found.append(_time(schema, query.start, query.end))
    if query.area is not None and lonlat and has_corners(schema):
        found.append(_area(query.area))
    return [expression for expression in found if expression is not None]


def has_corners(schema: pa.Schema) -> bool:
    """Whether the bounding boxes are a struct, so that Parquet keeps statistics of each side."""
    kind = schema.field("bbox").type if "bbox" in schema.names else pa.null()
    return pa.types.is_struct(kind) and all(kind.get_field_index(name) >= 0 for name in CORNERS)


def _area(area: BaseGeometry) -> pc.Expression:
    xmin, ymin, xmax, ymax = (pc.field("bbox", name) for name in CORNERS)
    west, south, east, north = area.bounds
    west, south, east, north = west - MARGIN, south - MARGIN, east + MARGIN, north + MARGIN
    inside = (xmin <= east) & (xmax >= west)
    # Over the antimeridian xmin > xmax. Statistics cannot compare two columns, so it is said by
    # signs, which holds for footprints of up to half the globe and lets groups of rows be left out.
    over = (xmin > 0) & (xmax < 0) & ((xmin <= east) | (xmax >= west))
    # Boxes that go on past 180 or -180 instead.
    past = (xmin < -180) | (xmax > 180)
    unknown = xmin.is_null()
    return ((inside | over | past) & (ymin <= north) & (ymax >= south)) | unknown


def _time(schema: pa.Schema, start: pd.Timestamp, end: pd.Timestamp) -> pc.Expression | None:
    names = [n for n in ("datetime", "start_datetime", "end_datetime") if n in schema.names]
    if (start, end) == (FIRST, LAST) or "datetime" not in names:
        return None
    if not all(pa.types.is_timestamp(schema.field(name).type) for name in names):
        return None
    moment = _between(schema, "datetime", "datetime", start, end)
    if len(names) < 3:
        # A lone end of a period is rare enough to be read.
        return moment | pc.field("datetime").is_null()
    period = _between(schema, "start_datetime", "end_datetime", start, end)
    lacks = [pc.field(name).is_null() for name in names]
    odd = (lacks[1] & ~lacks[2]) | (~lacks[1] & lacks[2]) | (lacks[0] & lacks[1])
    return moment | period | odd


def _between(
    schema: pa.Schema, first: str, last: str, start: pd.Timestamp, end: pd.Timestamp
) -> pc.Expression:
    """Whether a period reaches into another; an open side asks for nothing."""
    sides = []
    if end != LAST:
        sides.append(pc.field(first) <= _scalar(schema.field(first).type, end, up=True))
    if start != FIRST:
        sides.append(pc.field(last) >= _scalar(schema.field(last).type, start, up=False))
    return functools.reduce(operator.and_, sides)


def _scalar(kind: pa.DataType, time: pd.Timestamp, *, up: bool) -> pa.Scalar:
    """The time in the unit of a column, rounded away from the query; UTC without a zone too."""
    unit = time.ceil(kind.unit) if up else time.floor(kind.unit)
    return pa.scalar(unit.value // {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[kind.unit], kind)
