"""Tables of pairs on disk, and the items that they name."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq

from rscontrast.atomic import atomic_path
from rscontrast.errors import InputError
from rscontrast.stac.pairing.table import PairTable
from rscontrast.types import PathOrStr

TIMES = ("pre_datetime", "post_datetime")
NEEDED = ("pre_ids", "post_ids", *TIMES, "gap_days", "place", "collection")

type SomePairs = PairTable | gpd.GeoDataFrame
"""A lazy table, or pairs that were made of one."""


def as_frame(pairs: SomePairs | PathOrStr) -> gpd.GeoDataFrame:
    """All pairs of a table, lazy or in a file, at once; a frame is returned as it is.

    Raises:
        InputError: they are more than five million, or the file holds no pairs.
    """
    if isinstance(pairs, PairTable):
        return pairs.frame()
    return pairs if isinstance(pairs, gpd.GeoDataFrame) else read_pairs(pairs)


def write_pairs(pairs: SomePairs, path: PathOrStr, *, size: int = 50_000) -> None:
    """Write pairs as GeoParquet, whole or not at all; a lazy table is written as it is made.

    Args:
        pairs: the table.
        path: of the file.
        size: rows that are held in memory, about.

    Raises:
        WriteError: the folder or the disk does not take it.
    """
    batches = pairs.batches(size) if isinstance(pairs, PairTable) else iter([pairs])
    first = next(batches)
    schema = _schema(first)
    with atomic_path(Path(path)) as tmp, pq.ParquetWriter(tmp, schema, compression="zstd") as file:
        for batch in chain([first], batches):
            file.write_table(_table(batch).cast(schema))


def _schema(frame: gpd.GeoDataFrame) -> pa.Schema:
    """Columns of the file: those that later batches fill may be empty in the first."""
    table = _table(frame)
    ids = pa.list_(pa.string())
    for position, field in enumerate(table.schema):
        kind = ids if field.name in ("pre_ids", "post_ids") else field.type
        kind = pa.string() if pa.types.is_null(kind) or pa.types.is_large_string(kind) else kind
        table = table.set_column(position, field.name, table[field.name].cast(kind))
    geo = json.loads(table.schema.metadata[b"geo"])
    column = geo["columns"]["geometry"]
    column.pop("bbox", None)  # of this batch alone, as are the types; an empty list is any type
    column["geometry_types"] = []
    return table.schema.with_metadata({"geo": json.dumps(geo)})


def _table(frame: gpd.GeoDataFrame) -> pa.Table:
    """A batch as GeoPandas writes it."""
    sink = pa.BufferOutputStream()
    frame = frame if frame.geometry.name == "geometry" else frame.rename_geometry("geometry")
    frame.to_parquet(sink, index=False, write_covering_bbox=True)
    return pq.read_table(pa.BufferReader(sink.getvalue()))


def read_pairs(path: PathOrStr) -> gpd.GeoDataFrame:
    """Read what :func:`write_pairs` wrote.

    Raises:
        InputError: the file is missing, or lacks the columns of a table of pairs.
    """
    allowed = f"a GeoParquet of pairs, with the columns {', '.join(NEEDED)}"
    try:
        pairs = gpd.read_parquet(path)
        named = set(NEEDED) <= set(pairs)
        if not (named and all(pairs[time].dtype.kind == "M" for time in TIMES)):
            raise InputError("pairs", str(path), allowed)
        for column in ("pre_ids", "post_ids"):
            pairs[column] = [list(ids) for ids in pairs[column]]
    except InputError:
        raise
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise InputError("pairs", str(path), f"{allowed} ({error})") from error
    return pairs


def read_batches(path: PathOrStr, size: int = 50_000) -> Iterator[gpd.GeoDataFrame]:
    """Read what :func:`write_pairs` wrote, so many pairs at a time.

    Raises:
        InputError: the file is missing.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError("pairs", str(path), f"a GeoParquet of pairs ({error})") from error
    with file:
        missing = sorted({*NEEDED, "geometry"} - set(file.schema_arrow.names))
        if missing:
            allowed = f"a GeoParquet of pairs, with the columns {', '.join(missing)}"
            raise InputError("pairs", str(path), allowed)
        for batch in file.iter_batches(size):
            table = batch.to_pandas()
            for column in ("pre_ids", "post_ids"):
                table[column] = [list(ids) for ids in table[column]]
            shapes = gpd.GeoSeries.from_wkb(table.pop("geometry"), crs="EPSG:4326")
            yield gpd.GeoDataFrame(table.drop(columns="bbox", errors="ignore"), geometry=shapes)


def select_items(items: gpd.GeoDataFrame, pairs: SomePairs) -> gpd.GeoDataFrame:
    """Rows of the items that the pairs name, in the items' order.

    An id is unique only within its collection, so that both are matched.

    Args:
        items: the search that the pairs were made of.
        pairs: a table of :func:`pair_items`.

    Raises:
        InputError: an item is not there, or the pairs are of more than one collection.
    """
    pairs = as_frame(pairs)
    # Items without a collection are one collection too.
    collections = sorted(set(pairs["collection"].fillna("")))
    if len(collections) > 1:
        raise InputError("pairs", collections, "pairs of one collection")
    named = {name for ids in [*pairs["pre_ids"], *pairs["post_ids"]] for name in ids}
    found = items[items["collection"].fillna("").isin(collections) & items["id"].isin(named)]
    missing = sorted(named - set(found["id"]))
    if missing:
        raise InputError("pairs", missing[0], "pairs of the items given (same search)")
    return found
