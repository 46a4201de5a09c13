"""What to map: one job for each pair, on the native grid of its first date. No torch here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import EmptySearchError
from rscontrast.io.grid import apply_affine, crs_wkt, transformer
from rscontrast.io.read import ItemSource, item_source
from rscontrast.stac.index import instants, native_geobox
from rscontrast.stac.pairing.file import SomePairs, as_frame, select_items
from rscontrast.stac.provider import GENERIC, Provider
from rscontrast.types import Bounds

type Item = dict[str, Any]


@dataclass(frozen=True)
class PairJob:
    """One pair to map."""

    name: str
    """Id of the result."""
    pre: tuple[Item, ...]
    """Items before, rows of the items' frame."""
    post: tuple[Item, ...]
    """Items after."""
    geobox: GeoBox
    """Grid of the result: the ground that both have, within the aoi."""
    aoi: BaseGeometry | None
    """What is mapped on it, in its CRS; None: all that is usable at both dates."""

    def sources(
        self, bands: Sequence[str], provider: Provider = GENERIC
    ) -> tuple[list[ItemSource], list[ItemSource]]:
        """What to read of both dates.

        Raises:
            BandError: an item lacks a band.
        """
        pre, post = ([item_source(i, bands, provider) for i in d] for d in (self.pre, self.post))
        return pre, post


def plan(
    items: gpd.GeoDataFrame,
    pairs: SomePairs,
    band: str,
    aoi: BaseGeometry | None = None,
    provider: Provider = GENERIC,
) -> list[PairJob]:
    """List the jobs.

    Args:
        items: of :func:`rscontrast.stac.search`.
        pairs: of :func:`rscontrast.stac.pair_items`; each becomes one job.
        band: the band whose grid is the result's.
        aoi: in degrees; None: all that a pair's dates have in common.
        provider: where bands lie in the assets.

    Raises:
        InputError: the pairs name an item that is not there, or items of several collections.
        BandError: an item lacks ``band``.
        EmptySearchError: no pair meets the aoi.
    """
    pairs = as_frame(pairs)
    rows = {row["id"]: row for row in item_rows(items, pairs)}
    jobs = []
    for pair in pairs.to_dict("records"):
        job = _job(pair, rows, band, aoi, provider)
        if job is not None:
            jobs.append(job)
    if not jobs:
        raise EmptySearchError(f"no pair of {len(pairs)} meets the aoi {aoi and aoi.bounds}")
    return jobs


def item_rows(items: gpd.GeoDataFrame, pairs: SomePairs) -> list[Item]:
    """Rows of the items that the pairs name; an item of a period is dated where it begins."""
    named = select_items(items, pairs)
    rows: list[Item] = named.assign(datetime=instants(named)).to_dict("records")
    return rows


def _job(
    pair: Item, rows: dict[str, Item], band: str, aoi: BaseGeometry | None, provider: Provider
) -> PairJob | None:
    ground = pair["geometry"] if aoi is None else pair["geometry"].intersection(aoi)
    if ground.area == 0:
        return None
    pre = tuple(rows[name] for name in pair["pre_ids"])
    key = provider.band(pre[0], band).asset
    grid = native_geobox(pre[0], key, provider.signer)
    name = f"{pair['pre_ids'][0]}_{pair['post_ids'][0]}"
    post = tuple(rows[name] for name in pair["post_ids"])
    within = None if aoi is None else _in_crs(aoi, grid)
    return PairJob(name, pre, post, _covering(grid, _in_crs(ground, grid).bounds), within)


def _in_crs(area: BaseGeometry, grid: GeoBox) -> BaseGeometry:
    """An area in degrees in the CRS of a grid, where its straight edges bend."""
    move = transformer("EPSG:4326", crs_wkt(grid)).transform
    moved: BaseGeometry = shapely.transform(
        shapely.segmentize(area, max(area.length / 64, 1e-9)), move, interleaved=False
    )
    return moved


def _covering(grid: GeoBox, bounds: Bounds) -> GeoBox:
    """Part of the endless lattice of ``grid`` that covers ``bounds``."""
    xmin, ymin, xmax, ymax = bounds
    x, y = np.array([xmin, xmin, xmax, xmax]), np.array([ymin, ymax, ymin, ymax])
    cols, rows = apply_affine(~grid.transform, x, y)
    # A footprint written in degrees ends a little off the pixel that it means.
    left, top = np.floor(cols.min() + 0.1), np.floor(rows.min() + 0.1)
    width, height = np.ceil(cols.max() - 0.1) - left, np.ceil(rows.max() - 0.1) - top
    shape = (max(1, int(height)), max(1, int(width)))
    return GeoBox(shape, grid.transform @ Affine.translation(left, top), grid.crs)


def part(geobox: GeoBox, row: int, col: int, height: int, width: int) -> GeoBox:
    """Rectangle of a grid's lattice; it may reach beyond the grid."""
    return GeoBox((height, width), geobox.transform @ Affine.translation(col, row), geobox.crs)


@dataclass(frozen=True)
class Tile:
    """A rectangle of a job's grid, pixels."""

    row: int
    """First row."""
    col: int
    """First column."""
    height: int
    """Rows."""
    width: int
    """Columns."""


def tiles(geobox: GeoBox, side: int) -> Iterator[Tile]:
    """Cut a grid into tiles of at most ``side`` pixels, row by row."""
    height, width = geobox.shape
    for row in range(0, height, side):
        for col in range(0, width, side):
            yield Tile(row, col, min(side, height - row), min(side, width - col))


def inside(job: PairJob, tile: Tile) -> NDArray[np.bool_]:
    """Which pixels of a tile have their centre in the aoi, [h, w]."""
    box = part(job.geobox, tile.row, tile.col, tile.height, tile.width)
    if job.aoi is None:
        return np.ones(box.shape, dtype=bool)
    within: NDArray[np.bool_] = geometry_mask([job.aoi], box.shape, box.transform, invert=True)
    return within
