"""Items out of stac-geoparquet, of which no more is read than a query needs.

First the statistics of the file's row groups rule out whole groups, then the narrow columns that
the query speaks of rule out rows, and only then are whole rows read, of the groups that hold some.
"""

import functools
import operator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from shapely.errors import ShapelyError

from rscontrast.errors import EmptySearchError, InputError, choose
from rscontrast.stac.conditions.query import Query
from rscontrast.stac.items.convert import unique_items
from rscontrast.stac.items.frame import TIMES, TOP, require_footprints, require_times, sort_items
from rscontrast.stac.sources.expression import push_down
from rscontrast.stac.sources.files import Place, places
from rscontrast.stac.sources.http import Http
from rscontrast.stac.sources.table import geometry_column, is_lonlat, table_frame
from rscontrast.types import PathOrStr

if TYPE_CHECKING:
    import pyarrow.dataset as ds

THREADS = 8
"""Files that are read at a time."""
BULK = ("assets", "links")

type Rows = NDArray[np.int64]


@dataclass
class Part:
    """What one file gave."""

    href: str
    """Path or URL of the file."""
    tables: list[pa.Table]
    """Its items that may meet the query: one table, until it is taken."""
    geometry: tuple[str, Any]
    """Column of the footprints, and their CRS."""
    names: frozenset[str]
    """Its columns."""

    def take_frame(self) -> gpd.GeoDataFrame:
        """Make the frame; held by no name, the table's columns are let go of one by one.

        Raises:
            InputError: a column does not hold what stac-geoparquet has in it.
        """
        try:
            return table_frame(self.tables.pop(), self.geometry)
        except InputError:
            raise
        except (pa.ArrowException, ShapelyError, ProjError, TypeError, ValueError) as error:
            allowed = f"items in the schema of stac-geoparquet ({error})"
            raise InputError("source", self.href, allowed) from error


def scan(
    source: PathOrStr, query: Query, *, assets: bool = True, http: Http | None = None
) -> gpd.GeoDataFrame:
    """Read the items that may meet a query: all that do, and few others.

    A GeoParquet of items' properties alone is read too: its rows get the ids
    ``<name of the file>/<row>``, no collection, and no assets.

    Args:
        source: path or URL of a file, or a folder of files.
        query: conditions; ``max_items`` plays no part.
        assets: whether to read the assets and links, the bulk of a file; else there are none.
        http: what fetches a URL.

    Returns:
        a frame of items by (time, id), maybe empty; ``assets``, ``links`` and whatever else
        is nested are read-only and decoded when they are looked at.

    Raises:
        InputError: no file of items, or one without a CRS; an unknown collection or property.
        CatalogError: a remote file that cannot be read.
    """
    files = places(str(source), http)
    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(lambda place: _read(place, query, assets), files))
    if query.filter is not None:
        known = frozenset(TOP).union(*(part.names for part in parts))
        for field in sorted(query.filter.fields):
            choose("filter", field, known)
    # Not in the threads: pandas and pyproj turn warnings off and on for a moment, for all of them.
    some = [part for part in parts if len(part.tables[0])] or parts[:1]
    frames = [part.take_frame() for part in some]
    frame = frames[0] if len(frames) == 1 else sort_items(pd.concat(frames, ignore_index=True))
    if set(query.collections) - set(frame["collection"]):
        _require_collections(files, query.collections)
    return frame


def read_items(path: PathOrStr, *, assets: bool = True) -> gpd.GeoDataFrame:
    """Read what :func:`write_items` wrote, or any stac-geoparquet, whole.

    Args:
        path: path or URL of a file, or a folder of files.
        assets: whether to read the assets and links; else there are none.

    Returns:
        one row an item, by (time, id).

    Raises:
        InputError: it is missing or holds no items.
        CatalogError: a remote file that cannot be read.
    """
    try:
        frame = scan(path, Query(), assets=assets)
    except InputError as error:
        # What is asked for here is a file of items, whose parameter has that name.
        argument = "items" if error.argument == "source" else error.argument
        raise InputError(argument, error.got, error.allowed) from error
    if frame.empty:
        raise EmptySearchError(f"{path}: no item in it; name a source that has some")
    require_times(frame)
    require_footprints(frame)
    return unique_items(frame).reset_index(drop=True)


def count_left(source: PathOrStr, query: Query, http: Http | None = None) -> list[str]:
    """Tell how many items each condition leaves, as far as the narrow columns know."""
    steps = {
        "items": Query(),
        f"of {', '.join(query.collections)}": Query(query.collections),
        "may meet the filter": Query(query.collections, filter=query.filter),
        f"may be from {query.start.isoformat()} to {query.end.isoformat()}": Query(
            query.collections, None, query.start, query.end, query.filter
        ),
        "may touch the aoi": query,
    }
    counts, before = [], None
    for text, step in steps.items():
        if step != before:
            counts.append(
                f"{sum(_count(place, step) for place in places(str(source), http))} {text}"
            )
        before = step
    return counts


def _count(place: Place, query: Query) -> int:
    with place.open() as fragment:
        rows = _rows(fragment, query)
        return int(fragment.metadata.num_rows) if rows is None else len(rows)


def _read(place: Place, query: Query, assets: bool) -> Part:
    with place.open() as fragment:
        schema = fragment.physical_schema
        geometry = geometry_column(schema, place.href)
        names = [name for name in schema.names if assets or name not in BULK]
        if not {"id", "datetime"} & set(names):
            allowed = f"a file of items; it has the columns {', '.join(names)}"
            raise InputError("source", place.href, allowed)
        rows = _rows(fragment, query)
        table = _with_ids(_take(fragment, rows, names), rows, place.stem)
        return Part(place.href, [table], geometry, frozenset(names))


def _with_ids(table: pa.Table, rows: Rows | None, stem: str) -> pa.Table:
    """Name the rows of a file without ids by its name and their numbers."""
    if "id" in table.column_names:
        return table
    numbers = range(len(table)) if rows is None else rows.tolist()
    return table.append_column("id", pa.array([f"{stem}/{number}" for number in numbers]))


def _rows(fragment: "ds.ParquetFileFragment", query: Query) -> Rows | None:
    """Numbers of the rows that may meet the query; None: all of them, none was looked at."""
    schema = fragment.physical_schema
    conditions = push_down(schema, query, lonlat=is_lonlat(schema))
    if not conditions:
        return None
    condition = functools.reduce(operator.and_, conditions)
    groups = [group.id for group in fragment.subset(condition).row_groups]
    if not groups:
        return np.empty(0, dtype=np.int64)
    asked = {"bbox", "collection", *TIMES, *(query.filter.fields if query.filter else ())}
    narrow = fragment.subset(row_group_ids=groups).to_table(
        columns=[name for name in schema.names if name in asked]
    )
    start, size = _extents(fragment)
    rows = np.concatenate([np.arange(start[g], start[g] + size[g]) for g in groups])
    narrow = narrow.append_column("", pa.array(rows)).filter(condition)
    found: Rows = narrow.column("").to_numpy()
    return found


def _take(fragment: "ds.ParquetFileFragment", rows: Rows | None, names: Sequence[str]) -> pa.Table:
    """Read whole rows, group by group: read ahead, a large file takes half as much memory again."""
    start, size = _extents(fragment)
    if rows is None:
        rows = np.arange(size.sum())
    group = np.searchsorted(start, rows, side="right") - 1
    parts = [fragment.physical_schema.empty_table().select(list(names))]
    for number in np.unique(group).tolist():
        # Arrow's own pool holds on to what was freed.
        table = fragment.subset(row_group_ids=[number]).to_table(
            columns=list(names), batch_readahead=0, memory_pool=pa.system_memory_pool()
        )
        here = rows[group == number] - start[number]
        parts.append(table if len(here) == len(table) else table.take(pa.array(here)))
    return pa.concat_tables(parts)


def _extents(fragment: "ds.ParquetFileFragment") -> tuple[Rows, Rows]:
    """First row and count of rows of each row group."""
    size = np.array([group.num_rows for group in fragment.row_groups], dtype=np.int64)
    return np.cumsum(size) - size, size


def _require_collections(files: Sequence[Place], names: Sequence[str]) -> None:
    known: set[Any] = set()
    for place in files:
        with place.open() as fragment:
            if "collection" in fragment.physical_schema.names:
                column = fragment.to_table(columns=["collection"]).column(0)
                known |= set(column.unique().to_pylist()) - {None}
    for name in names:
        choose("collections", name, known)
