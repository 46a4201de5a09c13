"""The embeddings of a run as one table: a row a cell, read job by job."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import shapely
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rscontrast.atomic import atomic_path
from rscontrast.errors import AssetError
from rscontrast.io.grid import apply_affine, transformer
from rscontrast.products.done import Done

ROWS = 64
"""Rows of cells that are held at a time."""
NAME = "embedding.tif"


def write_embeddings(path: Path, folder: Path, jobs: Sequence[Done]) -> int:
    """Write what :func:`rscontrast.products.similar` searches.

    Args:
        path: GeoParquet: ``job``, ``date`` (of the best scene after), ``embedding`` (numbers as
            the raster holds them: directions count) and the cell in degrees. Cells without data
            are left out.
        folder: of the run.
        jobs: that wrote ``embedding.tif``.

    Returns:
        number of rows.

    Raises:
        AssetError: a raster cannot be read.
        WriteError: the disk does not take it.
    """
    count = 0
    with atomic_path(path) as tmp:
        writer: pq.ParquetWriter | None = None
        try:
            for one in jobs:
                for frame in _frames(folder, one):
                    table = _table(frame)
                    writer = writer or pq.ParquetWriter(tmp, table.schema, compression="zstd")
                    writer.write_table(table)
                    count += len(frame)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            gpd.GeoDataFrame({"embedding": []}, geometry=[], crs="EPSG:4326").to_parquet(tmp)
    return count


def _frames(folder: Path, one: Done) -> Iterator[gpd.GeoDataFrame]:
    name = one.file(NAME)
    if name is None:
        return
    try:
        with rasterio.open(folder / name) as source:
            for row in range(0, source.height, ROWS):
                frame = _frame(source, row, one)
                if len(frame):
                    yield frame
    except RasterioError as error:
        raise AssetError(f"{folder / name}: cannot be read ({error})") from error


def _frame(source: rasterio.DatasetReader, row: int, one: Done) -> gpd.GeoDataFrame:
    window = Window(0, row, source.width, min(ROWS, source.height - row))
    rows, cols = np.nonzero(source.read_masks(1, window=window))
    vectors = source.read(window=window)[:, rows, cols].T
    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0), (0, 0)])
    down = (rows[:, None] + row + corners[:, 0]).ravel().astype(np.float64)
    right = (cols[:, None] + corners[:, 1]).ravel().astype(np.float64)
    x, y = apply_affine(source.transform, right, down)
    moved = np.stack(transformer(source.crs.to_wkt(), "EPSG:4326").transform(x, y), axis=-1)
    cells = shapely.polygons(moved.reshape(-1, 5, 2)) if len(rows) else []
    columns = {"job": one.job.id, "date": one.job.post[0]["datetime"], "embedding": list(vectors)}
    frame = gpd.GeoDataFrame(columns, geometry=cells, crs="EPSG:4326", index=range(len(rows)))
    return frame.astype({"date": "datetime64[ms, UTC]"})


def _table(frame: gpd.GeoDataFrame) -> pa.Table:
    """As GeoParquet, without the extent, which is that of these rows alone."""
    sink = pa.BufferOutputStream()
    frame.to_parquet(sink, index=False)
    table = pq.read_table(pa.BufferReader(sink.getvalue()))
    told = json.loads(table.schema.metadata[b"geo"])
    told["columns"]["geometry"].pop("bbox", None)
    kept = {b"geo": json.dumps(told, sort_keys=True).encode()}
    return table.replace_schema_metadata(kept)
