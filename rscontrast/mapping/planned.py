"""A plan: its jobs, what they will cost, what is skipped; and as a file that is read back."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from rscontrast.atomic import atomic_path
from rscontrast.errors import InputError
from rscontrast.mapping.estimate import SPEED, Estimate
from rscontrast.mapping.job import Item, Job
from rscontrast.stac.index import instants, read_items, write_items
from rscontrast.stac.items.cells import plain
from rscontrast.stac.items.frame import missing
from rscontrast.types import PathOrStr

META = b"rscontrast:plan"


@dataclass(frozen=True)
class Skipped:
    """A tile that is not mapped."""

    id: str
    """As of a job."""
    reason: str
    """Why."""
    ground: BaseGeometry
    """In degrees."""


@dataclass(frozen=True)
class Plan:
    """The jobs of a run; ``str`` of it is what ``--dry_run`` prints."""

    jobs: tuple[Job, ...]
    """From west to east by zone, then row by row from the south."""
    skipped: tuple[Skipped, ...]
    """Tiles of the area without an item before or after."""
    estimates: dict[str, Estimate]
    """Of each job, by its id."""
    grounds: dict[str, BaseGeometry]
    """What each job maps, in degrees."""
    question: dict[str, Any]
    """What is asked: event, pre, post, pairs, aoi. Runs into one folder ask the same."""
    grid: dict[str, Any]
    """crs, res, tile_size, anchor, halo."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def __str__(self) -> str:
        """Jobs, km2, bytes to read and time of one worker."""
        return self.report()

    def report(self, workers: int = 1, speed: float | None = None) -> str:
        """Jobs, km2, bytes to read and time.

        Args:
            workers: that map at a time.
            speed: pixels that one maps in a second, as an earlier run tells; None: a guess.
        """
        parts = [self.estimates[job.id] for job in self.jobs]
        zones = Counter(job.id.split("_")[0] for job in self.jobs)
        pixels = sum(part.pixels for part in parts)
        how = "the rate of the run before" if speed else f"a guess: {SPEED / 1e6:g} Mpx/s each"
        plural = "s" if workers > 1 else ""
        lines = [
            f"{len(self.jobs)} jobs, {sum(part.km2 for part in parts):,.2f} km2,"
            f" {pixels / 1e6:,.1f} Mpx",
            "grids: " + ", ".join(f"{zone} ({count})" for zone, count in sorted(zones.items())),
            f"to read: about {as_bytes(sum(part.read_bytes for part in parts))}",
            f"time: about {as_time(pixels / (speed or SPEED) / workers)}, {workers} worker{plural}"
            f" ({how})",
            *(f"skipped: {reason}" for reason in self.reasons()),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    def reasons(self) -> list[str]:
        """How many tiles are skipped for what."""
        counts = Counter(skipped.reason for skipped in self.skipped)
        return [f"{count} tiles, {reason}" for reason, count in sorted(counts.items())]

    def items(self) -> list[Item]:
        """Every item of the jobs, once, by time and id."""
        found = {_key(i): i for job in self.jobs for i in (*job.pre, *job.post)}
        return sorted(found.values(), key=lambda i: (i["datetime"], _key(i)))

    def frame(self) -> gpd.GeoDataFrame:
        """One row a tile: what is done there and why, its grid, its items, its cost."""
        rows = [self._row(job) for job in self.jobs]
        rows += [{"id": s.id, "status": "skipped", "reason": s.reason} for s in self.skipped]
        grounds = [self.grounds[job.id] for job in self.jobs] + [s.ground for s in self.skipped]
        frame = gpd.GeoDataFrame(
            pd.DataFrame(rows, columns=list(COLUMNS)), geometry=grounds, crs="EPSG:4326"
        )
        return frame.astype(COLUMNS)

    def write(self, path: PathOrStr) -> None:
        """Write GeoParquet, whole or not at all; the items lie beside it in ``*_items.parquet``.

        Raises:
            WriteError: the folder or the disk does not take it.
        """
        path = Path(path)
        write_items(_items_frame(self.items()), items_path(path))
        sink = pa.BufferOutputStream()
        self.frame().to_parquet(sink, index=False)
        table = pq.read_table(pa.BufferReader(sink.getvalue()))
        told = {"question": self.question, "grid": self.grid, "notes": self.notes}
        meta = {**table.schema.metadata, META: json.dumps(told).encode()}
        with atomic_path(path) as tmp:
            pq.write_table(table.replace_schema_metadata(meta), tmp, compression="zstd")

    def _row(self, job: Job) -> dict[str, Any]:
        cost = self.estimates[job.id]
        return {
            "id": job.id,
            "status": "job",
            "reason": "",
            "crs": str(job.geobox.crs),
            "shape": list(job.geobox.shape),
            "transform": list(job.geobox.transform)[:6],
            "halo": job.halo,
            "aoi": None if job.aoi is None else shapely.to_wkb(job.aoi),
            "pre": [_key(item) for item in job.pre],
            "post": [_key(item) for item in job.post],
            "km2": cost.km2,
            "pixels": cost.pixels,
            "read_bytes": cost.read_bytes,
        }


COLUMNS = {
    "id": "str", "status": "str", "reason": "str", "crs": "object", "shape": "object",
    "transform": "object", "halo": "Int64", "aoi": "object", "pre": "object", "post": "object",
    "km2": "float64", "pixels": "Int64", "read_bytes": "Int64",
}  # fmt: skip


def items_path(path: PathOrStr) -> Path:
    """Where the items of a plan lie."""
    path = Path(path)
    return path.with_name(f"{path.stem}_items.parquet")


def read_plan(path: PathOrStr) -> Plan:
    """Read what :meth:`Plan.write` wrote.

    Raises:
        InputError: it is missing or no plan.
    """
    try:
        frame = gpd.read_parquet(path)
        told = json.loads(pq.read_schema(path).metadata[META])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError("plan", str(path), f"what Plan.write wrote ({error})") from error
    rows = read_items(items_path(path))
    items = {_key(item): item for item in map(item_row, (r for _, r in rows.iterrows()))}
    planned = frame[frame["status"] == "job"].to_dict("records")
    skipped = frame[frame["status"] != "job"].to_dict("records")
    return Plan(
        tuple(_job(row, items) for row in planned),
        tuple(Skipped(row["id"], row["reason"], row["geometry"]) for row in skipped),
        {r["id"]: Estimate(r["km2"], int(r["pixels"]), int(r["read_bytes"])) for r in planned},
        {row["id"]: row["geometry"] for row in planned},
        told["question"],
        told["grid"],
        tuple(told["notes"]),
    )


def item_row(row: pd.Series) -> Item:
    """A row of an items' frame without the cells that are empty, its nested ones decoded."""
    found = {str(key): _plain(value) for key, value in row.items() if not missing(value)}
    if "datetime" not in found:  # an item of a period is dated where it begins
        found["datetime"] = instants(pd.DataFrame([row])).iloc[0]
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return plain(list(value) if isinstance(value, np.ndarray) else value)


def _items_frame(items: list[Item]) -> gpd.GeoDataFrame:
    frame = pd.DataFrame(items)
    geometry = frame.pop("geometry")
    return gpd.GeoDataFrame(frame, geometry=geometry.to_list(), crs="EPSG:4326")


def _job(row: dict[str, Any], items: dict[str, Item]) -> Job:
    height, width = map(int, row["shape"])
    geobox = GeoBox((height, width), Affine(*row["transform"]), row["crs"])
    aoi = None if row["aoi"] is None else shapely.from_wkb(row["aoi"])
    pre, post = (tuple(items[key] for key in row[side]) for side in ("pre", "post"))
    return Job(row["id"], geobox, pre, post, aoi, int(row["halo"]))


def _key(item: Item) -> str:
    """An id is unique within its collection."""
    return f"{item.get('collection') or ''}/{item['id']}"


def as_bytes(count: float) -> str:
    """A size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def as_time(seconds: float) -> str:
    """A duration for people."""
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 1.5:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 1.5 else f"{hours:.1f} h"
