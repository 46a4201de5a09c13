"""Tables with geometry that are written while they are made, some thousand rows at a time."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rscontrast.atomic import atomic_path
from rscontrast.errors import EmptySearchError
from rscontrast.types import PathOrStr

ROWS = 4096
"""Of a row group: what is held in memory."""


class FrameWriter:
    """A GeoParquet file that frames of the same columns are added to.

    It is there when it is closed; it is not atomic by itself, see :func:`write_frames`.
    """

    def __init__(self, path: PathOrStr) -> None:
        """Write to ``path``, which is made with the first rows."""
        self.path = Path(path)
        self._held: list[gpd.GeoDataFrame] = []
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what is held, unless something went wrong, and close."""
        if error is not None:
            self._held.clear()
        self.close()

    def add(self, frame: gpd.GeoDataFrame) -> None:
        """Add rows; they are written when there are enough for a group."""
        self._held.append(frame)
        if sum(map(len, self._held)) >= ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is held."""
        try:
            self._flush()
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _flush(self) -> None:
        if not self._held:
            return
        frames, self._held = self._held, []
        table = _table(gpd.GeoDataFrame(pd.concat(frames, ignore_index=True)))
        if self._file is None:
            self._file = pq.ParquetWriter(self.path, _schema(table), compression="zstd")
        self._file.write_table(table.cast(self._file.schema))


def write_frames(path: PathOrStr, frames: Iterable[gpd.GeoDataFrame]) -> int:
    """Write frames as one GeoParquet, whole or not at all.

    Args:
        path: of the file.
        frames: of the same columns and CRS; asked for one by one.

    Returns:
        number of rows.

    Raises:
        EmptySearchError: there are none.
        WriteError: the folder or the disk does not take it.
    """
    rows = 0
    with atomic_path(Path(path)) as tmp:
        with FrameWriter(tmp) as file:
            for frame in frames:
                file.add(frame)
                rows += len(frame)
        _require_some(rows)
    return rows


def join_files(path: PathOrStr, parts: Sequence[Path]) -> None:
    """Join files of :class:`FrameWriter` as one GeoParquet, whole or not at all.

    Args:
        path: of the file.
        parts: files of the same columns.

    Raises:
        EmptySearchError: there are none.
        WriteError: the folder or the disk does not take it.
    """
    _require_some(len(parts))
    with atomic_path(Path(path)) as tmp:
        with pq.ParquetFile(parts[0]) as first:
            schema = first.schema_arrow
        with pq.ParquetWriter(tmp, schema, compression="zstd") as file:
            for part in parts:
                with pq.ParquetFile(part) as source:
                    for batch in source.iter_batches(ROWS):
                        file.write_batch(batch.cast(schema))


def _require_some(count: int) -> None:
    if not count:
        raise EmptySearchError("no row to write: there is no patch at any date of the pairs")


def _table(frame: gpd.GeoDataFrame) -> pa.Table:
    """Rows as GeoPandas writes them."""
    sink = pa.BufferOutputStream()
    frame.to_parquet(sink, index=False, write_covering_bbox=True)
    return pq.read_table(pa.BufferReader(sink.getvalue()))


def _schema(table: pa.Table) -> pa.Schema:
    """What is said of all rows, and not of the first ones alone."""
    geo = json.loads(table.schema.metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    column.pop("bbox", None)
    column["geometry_types"] = []  # any type
    return table.schema.with_metadata({"geo": json.dumps(geo)})
