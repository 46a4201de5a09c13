"""The places most like a given one, from a table of embeddings."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.atomic import atomic_path
from rscontrast.errors import EmptySearchError, InputError, whole
from rscontrast.stac.conditions.area import AOI, read_aoi
from rscontrast.stac.conditions.period import TOI, read_toi
from rscontrast.types import PathOrStr

BATCH = 65_536
"""Rows that are held at a time."""

type Place = tuple[float, float] | list[float] | AOI
type Floats = NDArray[np.float64]


def similar(
    embeddings: PathOrStr,
    out: PathOrStr | None = None,
    *,
    place: Place,
    toi: TOI | None = None,
    count: int = 20,
    every_date: bool = False,
) -> gpd.GeoDataFrame:
    """Find the places whose embeddings point most nearly where those of a given place do.

    The place's embedding q is the mean of the unit embeddings of the rows that meet it; the
    likeness of a row with embedding e is the cosine q.e / (|q| |e|).

    Args:
        embeddings: GeoParquet with ``embedding`` (list of numbers), ``date`` and ``geometry``.
        out: GeoParquet to write; None: nothing is written.
        place: (longitude, latitude), or an area, see
            :func:`rscontrast.stac.conditions.area.read_aoi`.
        toi: times whose embeddings stand for the place; None: all.
        count: places to find.
        every_date: whether one place may be found at several dates; else its likest counts.

    Returns:
        ``rank`` (from 1), ``similarity`` (-1 to 1) and the other columns but the embedding, most
        alike first. The place itself is left out.

    Raises:
        InputError: an argument out of range, or a table that is none of embeddings.
        EmptySearchError: no row meets the place.
        WriteError: the disk does not take the table.
    """
    whole("count", count)
    area, path = _place(place), Path(embeddings)
    query = _query(path, area, toi)
    best = _likest(path, area, query, count, every_date=every_date)
    best.insert(0, "rank", np.arange(1, len(best) + 1))
    if out is not None:
        with atomic_path(Path(out)) as tmp:
            best.to_parquet(tmp, index=False, write_covering_bbox=True)
    return best


def _place(place: Place) -> BaseGeometry:
    """Point or area in degrees.

    Raises:
        InputError: it is neither.
    """
    if not (isinstance(place, list | tuple) and len(place) == 2 and _are_numbers(place)):
        area: Any = place
        return read_aoi(area)
    x, y = map(float, place)
    if not (-180 <= x <= 180 and -90 <= y <= 90):
        raise InputError("place", place, "longitude -180 to 180, latitude -90 to 90")
    return shapely.Point(x, y)


def _are_numbers(place: Sequence[Any]) -> bool:
    return all(isinstance(part, int | float) for part in place)


def _batches(path: Path) -> Iterator[tuple[gpd.GeoDataFrame, Floats]]:
    """Rows, without their embeddings, and the unit embeddings [N, D].

    Raises:
        InputError: no such table.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError("embeddings", str(path), f"a GeoParquet ({error})") from error
    with file:
        missing = {"embedding", "geometry"} - set(file.schema_arrow.names)
        if missing:
            allowed = "a table with the columns embedding, date, geometry"
            raise InputError("embeddings", f"no {', '.join(sorted(missing))}", allowed)
        for batch in file.iter_batches(BATCH):
            table = pa.Table.from_batches([batch], schema=file.schema_arrow)
            vectors = _vectors(table.column("embedding").combine_chunks())
            # Some tables carry a covering of their geometry, which is written anew.
            besides = [name for name in ("embedding", "bbox") if name in table.column_names]
            yield gpd.GeoDataFrame.from_arrow(table.drop_columns(besides)), vectors


def _vectors(column: pa.Array) -> Floats:
    sizes = np.unique(np.diff(column.offsets.to_numpy())) if hasattr(column, "offsets") else [0]
    if column.null_count or len(sizes) > 1:
        raise InputError("embeddings", f"lengths {list(sizes)}", "one length for every row")
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    vectors: Floats = flat.reshape(len(column), -1)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _query(path: Path, area: BaseGeometry, toi: TOI | None) -> Floats:
    """Unit vector of the place.

    Raises:
        EmptySearchError: no row meets it.
    """
    found: list[Floats] = []
    span = None if toi is None else read_toi(toi)
    for rows, vectors in _batches(path):
        here = rows.intersects(area).to_numpy()
        if span is not None:
            here = here & rows["date"].between(*span).to_numpy()
        found.append(vectors[here])
    mean = np.concatenate(found).mean(axis=0) if any(map(len, found)) else np.zeros(0)
    length = float(np.linalg.norm(mean))
    if not length > 0:
        raise EmptySearchError(f"no embedding at {shapely.to_wkt(area)[:80]} at that time")
    return mean / length


def _likest(
    path: Path, area: BaseGeometry, query: Floats, count: int, *, every_date: bool
) -> gpd.GeoDataFrame:
    best: gpd.GeoDataFrame | None = None
    for rows, vectors in _batches(path):
        if vectors.shape[1] != len(query):
            raise InputError("embeddings", vectors.shape[1], f"{len(query)} numbers a row")
        rows.insert(0, "similarity", (vectors @ query).clip(-1, 1))
        new = rows[~rows.intersects(area).to_numpy()]
        best = new if best is None else gpd.GeoDataFrame(pd.concat([best, new]), crs=best.crs)
        # Stable: of two that are alike the earlier row comes first.
        best = best.sort_values("similarity", ascending=False, kind="stable")
        if not every_date:
            best = best[~best.geometry.to_wkb().duplicated()]
        best = best.head(count)
    if best is None:
        raise EmptySearchError(f"{path}: no row")
    return best.reset_index(drop=True)
