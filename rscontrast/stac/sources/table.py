"""Between Arrow tables and frames of items: geometry, bounding boxes, times, nested columns."""

import json
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from rscontrast.errors import InputError
from rscontrast.stac.items.cells import cells
from rscontrast.stac.items.frame import EXACT, complete, time_order

LONLAT = "OGC:CRS84"
"""What GeoParquet means where it names no CRS."""
NESTED = ("assets", "bbox", "links")
"""Columns that hold objects or lists, whoever wrote the file."""
CORNERS = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
"""Order of the numbers of a bounding box; those of heights may be missing."""


def geometry_column(schema: pa.Schema, source: str) -> tuple[str, Any]:
    """Find the column of footprints, and their CRS.

    Raises:
        InputError: there is none, it is not WKB, or its CRS is said to be unknown or is none.
    """
    try:
        name, about = _about(schema)
        crs = about.get("crs", LONLAT)
        crs = None if crs is None else CRS.from_user_input(crs)
    except (ValueError, TypeError, AttributeError, CRSError) as error:
        raise InputError("source", source, f"metadata as GeoParquet has them ({error})") from error
    kind = schema.field(name).type if name in schema.names else None
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    if kind is None or not any(test(kind) for test in binary):
        allowed = f"items with footprints as WKB in a column; it has {', '.join(schema.names)}"
        raise InputError("source", source, allowed)
    if about.get("encoding", "WKB") != "WKB":
        raise InputError("source", source, f"footprints as WKB, not {about['encoding']}")
    if crs is None:
        allowed = "footprints with a CRS; write the file again with one (set_crs of geopandas)"
        raise InputError("source", source, allowed)
    return name, crs


def is_lonlat(schema: pa.Schema) -> bool:
    """Whether the bounding boxes are in longitude and latitude."""
    crs = _about(schema)[1].get("crs", LONLAT)
    if crs in (LONLAT, None):
        return crs is not None
    return CRS.from_user_input(crs).equals("EPSG:4326", ignore_axis_order=True)


def _about(schema: pa.Schema) -> tuple[str, dict[str, Any]]:
    geo = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
    name = geo.get("primary_column", "geometry")
    return name, geo.get("columns", {}).get(name, {})


def table_frame(table: pa.Table, geometry: tuple[str, Any]) -> gpd.GeoDataFrame:
    """Make a frame of items, by (time, id); nested cells stay in Arrow until they are looked at.

    Args:
        table: items, one a row, with ``id``.
        geometry: column of the footprints (WKB), and their CRS.
    """
    name, crs = geometry
    known = [field for field in table.schema if not pa.types.is_null(field.type)]
    nested = [field.name for field in known if pa.types.is_nested(field.type)]
    wrong = [f.name for f in known if f.name in NESTED and f.name not in nested]
    if wrong:
        raise TypeError(f"{', '.join(wrong)}: neither objects nor lists")
    flat = _plain(table.select([f.name for f in known if f.name not in (*nested, name)]))
    # In order before anything is made of it that takes more room than Arrow does.
    rows = time_order(flat)
    columns: dict[str, Any] = dict(flat.take(rows).reset_index(drop=True))
    columns["geometry"] = _footprints(table.column(name))[rows]
    del flat
    table = table.select(nested)
    for key in nested:
        column = table.column(key)
        columns[key] = cells(_boxes(column) if key == "bbox" else column)[rows]
    return complete(pd.DataFrame(columns, copy=False), crs)


def _footprints(column: pa.ChunkedArray) -> NDArray[Any]:
    parts = [shapely.from_wkb(chunk.to_numpy(zero_copy_only=False)) for chunk in column.chunks]
    return np.concatenate([np.empty(0, dtype=object), *parts])


def _plain(table: pa.Table) -> pd.DataFrame:
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(position).cast(field.type.value_type)
            table = table.set_column(position, field.name, column)
    table = table.replace_schema_metadata(None)
    long = [name for name in table.column_names if _loses_digits(table.column(name))]
    exact = table.select(long).to_pandas(integer_object_nulls=True)
    return table.to_pandas().assign(**exact)


def _loses_digits(column: pa.ChunkedArray) -> bool:
    """Whether floats, which gaps make of whole numbers, would not be the same."""
    if not pa.types.is_integer(column.type) or not column.null_count:
        return False
    low, high = pc.min_max(column).as_py().values()
    return low is not None and max(-low, high) >= EXACT


def _boxes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of 4 or 6 numbers, of a struct of them."""
    if not pa.types.is_struct(column.type):
        return column
    names = [name for name in CORNERS if column.type.get_field_index(name) >= 0]
    return pa.chunked_array(
        [_box_lists(chunk, names) for chunk in column.chunks], pa.list_(pa.float64())
    )


def _box_lists(chunk: pa.StructArray, names: list[str]) -> pa.ListArray:
    parts = [chunk.field(name).cast(pa.float64()) for name in names]
    numbers = np.column_stack([part.to_numpy(zero_copy_only=False) for part in parts])
    there = np.column_stack([part.is_valid().to_numpy(zero_copy_only=False) for part in parts])
    there &= chunk.is_valid().to_numpy(zero_copy_only=False)[:, None]
    ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(numbers[there]))
    empty = ~there.any(axis=1)
    return lists if not empty.any() else _null_where(lists, empty)


def _null_where(lists: pa.ListArray, empty: NDArray[np.bool_]) -> pa.ListArray:
    return pa.ListArray.from_arrays(lists.offsets, lists.values, mask=pa.array(empty))
