"""Items into stac-geoparquet, laid out so that searches of it read little."""

import json
import math
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from rscontrast.atomic import atomic_path
from rscontrast.errors import InputError
from rscontrast.stac.items.cells import decoded, plain, to_arrow
from rscontrast.stac.items.frame import TIMES, complete, missing
from rscontrast.stac.sources.kinds import clash, numbers
from rscontrast.types import PathOrStr

GROUPS = 64
"""Row groups that a file is cut into, as far as the next two allow."""
SMALLEST, LARGEST = 500, 20_000
"""Rows of a row group: few enough to leave much out, enough to compress and to read at once."""
VERSION = "1.1.0"


def write_items(frame: gpd.GeoDataFrame, path: PathOrStr) -> None:
    """Write items as stac-geoparquet, whole or not at all.

    Neighbours on the ground lie together in the file, so that a search of a small area reads few
    row groups; :func:`read_items` gives them by time again. Null is absent, and so is an object
    that is empty in every item. A ``nodata`` of "nan", "inf" or "-inf" becomes a number where
    other items have numbers.

    Args:
        frame: items with ``id``, in any CRS.
        path: file to write.

    Raises:
        InputError: the frame has no CRS; a property is text in one item and a number in another.
        WriteError: the folder or the disk does not take it.
    """
    import pyarrow.parquet as pq

    frame = _complete(frame)
    table = items_table(frame.take(_by_place(frame)))
    size = min(max(math.ceil(len(table) / GROUPS), SMALLEST), LARGEST)
    with atomic_path(Path(path)) as tmp:
        pq.write_table(table, tmp, row_group_size=size, compression="zstd")


def _complete(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    if frame.crs is None or "id" not in frame:
        got = f"a frame of the columns {', '.join(map(str, frame))}, CRS {frame.crs}"
        raise InputError("items", got, "items with id and a CRS; set_crs of geopandas gives one")
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name))
    return complete(table.assign(geometry=frame.geometry.to_numpy()), frame.crs)


def _by_place(frame: gpd.GeoDataFrame) -> NDArray[np.intp]:
    """Order along a Hilbert curve over the middles of the footprints; those without come last."""
    footprints = frame.geometry
    along = np.full(len(frame), np.iinfo(np.int64).max)
    there = ~(footprints.isna() | footprints.is_empty).to_numpy()
    if there.any():
        bounds = (-180, -90, 180, 90)
        along[there] = footprints[there].hilbert_distance(total_bounds=bounds).to_numpy()
    return np.argsort(along, kind="stable")


def items_table(frame: gpd.GeoDataFrame) -> pa.Table:
    """Make an Arrow table in the stac-geoparquet schema.

    Raises:
        InputError: a column holds values of several types; names it.
    """
    footprints = frame.geometry.to_numpy()
    columns = {}
    for name, column in frame.drop(columns=frame.geometry.name).items():
        columns[name] = _boxes(frame) if name == "bbox" else _array(str(name), column, frame["id"])
    columns["geometry"] = pa.array(shapely.to_wkb(footprints, flavor="iso"), pa.binary())
    kept = {k: a for k, a in columns.items() if not pa.types.is_null(a.type) or k == "datetime"}
    return pa.table(kept).replace_schema_metadata(_metadata())


def _array(name: str, column: pd.Series, ids: pd.Series) -> pa.Array:
    try:
        if name in TIMES:
            return pa.array(column, pa.timestamp("us", "UTC"))
        if column.dtype != object:
            return pa.array(column, from_pandas=True)
        array = _gather([None if missing(value) else value for value in column], name)
        return _writable(array.cast(decoded(array.type)))
    except (pa.ArrowException, OverflowError) as error:
        path, why = clash(name, column, ids) or (name, str(error))
        allowed = f"properties of one type in all items, numbers of 64 bits ({why})"
        raise InputError("items", path, allowed) from error


def _gather(values: list[Any], name: str) -> pa.Array:
    try:
        return to_arrow(values)
    except pa.ArrowException:
        return to_arrow([numbers(plain(value), name) for value in values])


def _writable(array: pa.Array) -> pa.Array:
    """Null where all structs are without a field, which Parquet cannot hold."""
    kind = array.type
    if pa.types.is_struct(kind) and isinstance(array, pa.StructArray):
        if kind.num_fields == 0:
            return pa.nulls(len(array))
        fields = [_writable(array.field(i)) for i in range(kind.num_fields)]
        names = [field.name for field in kind]
        return pa.StructArray.from_arrays(fields, names, mask=array.is_null())
    if pa.types.is_list(kind) and isinstance(array, pa.ListArray):
        values = _writable(array.values)
        if pa.types.is_null(values.type) and pa.types.is_struct(kind.value_type) and len(values):
            raise pa.ArrowInvalid("a list of empty objects, which Parquet does not tell from null")
        return pa.ListArray.from_arrays(array.offsets, values, mask=array.is_null())
    return array


def _boxes(frame: gpd.GeoDataFrame) -> pa.Array:
    """Bounding boxes as structs, whose sides have statistics; of the footprint where one lacks."""
    names = ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
    numbers = np.full((len(frame), 6), np.nan)
    numbers[:, [0, 1, 3, 4]] = shapely.bounds(frame.geometry.to_numpy())
    for row, box in enumerate(frame["bbox"]):
        if not missing(box):
            numbers[row, slice(None) if len(box) == 6 else [0, 1, 3, 4]] = plain(box)
    high = ~np.isnan(numbers[:, [2, 5]]).all()
    used = range(6) if high else (0, 1, 3, 4)
    arrays = [pa.array(numbers[:, i], from_pandas=True) for i in used]
    return pa.StructArray.from_arrays(arrays, [names[i] for i in used])


def _metadata() -> dict[str, str]:
    covering = {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}
    # No types: any may come. No CRS: longitude and latitude.
    column = {"encoding": "WKB", "geometry_types": [], "covering": {"bbox": covering}}
    geo = {"version": VERSION, "primary_column": "geometry", "columns": {"geometry": column}}
    return {"geo": json.dumps(geo), "stac-geoparquet": json.dumps({"version": VERSION})}
