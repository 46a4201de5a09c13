"""What to map: an area, items and dates become jobs on tiles. Nothing is opened, no torch here."""

import hashlib
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import BandError, EmptySearchError, InputError, whole
from rscontrast.io.grid import is_geographic
from rscontrast.mapping.choice import Weights, best, data_share, read_period
from rscontrast.mapping.estimate import BLOCKS, Estimate, band_bytes, item_res, km2
from rscontrast.mapping.job import Item, Job
from rscontrast.mapping.planned import Plan, Skipped, item_row
from rscontrast.mapping.sides import ByPairs, ByPeriod, Sides, require_near
from rscontrast.mapping.tiles import Lattice, Tile, user_lattice, utm
from rscontrast.stac.conditions.area import AOI, read_aoi
from rscontrast.stac.conditions.period import TOI, Instant
from rscontrast.stac.index import layouts
from rscontrast.stac.pairing.file import SomePairs, as_frame, select_items
from rscontrast.stac.provider import GENERIC, Provider

RES_TOLERANCE = 1.25
"""Largest ratio of the pixel sizes of what is mapped and what was learned from."""

type Picked = tuple[list[tuple[int, float]], list[tuple[int, float]]]


def plan(
    items: gpd.GeoDataFrame,
    *,
    bands: Sequence[str],
    aoi: AOI | None = None,
    event: Instant | None = None,
    pre: TOI | None = None,
    post: TOI | None = None,
    max_gap: float | None = None,
    pairs: SomePairs | None = None,
    crs: str | None = None,
    res: float | None = None,
    learned: float | None = None,
    tile_size: int = 2048,
    anchor: tuple[float, float] = (0.0, 0.0),
    halo: int = 128,
    most: int = 8,
    weights: Weights | None = None,
    provider: Provider = GENERIC,
) -> Plan:
    """List the jobs; the metadata of the items is all that is looked at.

    Args:
        items: of :func:`rscontrast.search`.
        bands: what is read; items that lack one are left out, with a note.
        aoi: area of interest, see :func:`rscontrast.stac.conditions.area.read_aoi`; None: all
            that the items, or the pairs, cover.
        event: see :func:`rscontrast.mapping.choice.read_period`, as ``pre`` and ``post``.
        pre: times of the items before.
        post: times of the items after.
        max_gap: days from the event beyond which items are left out.
        pairs: of :func:`rscontrast.pair_items`, instead of the three: tiles lie where pairs are,
            and are made of their items. Of pairs that contradict each other at a tile, where one
            ends before another begins, those of least cost stay.
        crs: of the tiles; None: each UTM zone's own.
        res: side of a pixel, units of ``crs``; None: the finest that the items tell, or
            ``learned`` where theirs is more than a quarter off it.
        learned: side of the pixels that the model learned from, metres.
        tile_size: side of a tile, pixels.
        anchor: a corner of a tile in ``crs``.
        halo: pixels that are read beyond a tile; half a patch is what patches on an endless
            lattice can reach beyond it, less their overlap.
        most: items of each date that a tile is made of; more only where they cover what those
            before leave open.
        weights: of what makes an item the best; see :mod:`rscontrast.mapping.choice`.
        provider: where bands lie in the assets.

    Raises:
        InputError: an argument out of range; no res where the items tell none.
        BandError: no item has the bands.
        GridError: the area reaches beyond UTM.
        EmptySearchError: nothing to map; says why.
    """
    for name, value, least in (("tile_size", tile_size, 1), ("halo", halo, 0), ("most", most, 1)):
        whole(name, value, least=least)
    area = None if aoi is None else read_aoi(aoi)
    said = (event, pre, post)
    sides, notes = _sides(items, bands, said, max_gap, pairs, weights or Weights(), provider)
    extent = sides.extent()
    if area is not None:
        require_near(sides.items, area)
        extent = area if pairs is None else extent.intersection(area)
    size = res or _res(sides.items, bands, provider, crs, learned)
    makes = _Maker(sides, bands, weights or Weights(), most, halo, provider)
    for lattice in _lattices(extent, crs, size, tile_size, anchor):
        makes.take(lattice, lattice.tiles(extent, area))
    grid = {"crs": crs or "utm", "res": size, "tile_size": tile_size, "anchor": list(anchor)}
    asked: dict[str, Any] = {"event": _said(event), "pre": _said(pre), "post": _said(post)}
    asked |= {"pairs": pairs is not None, "aoi": None if area is None else _digest(area)}
    made = Plan(
        jobs=tuple(makes.jobs), skipped=tuple(makes.skipped), estimates=makes.estimates,
        grounds=makes.grounds, question=asked, grid={**grid, "halo": halo},
        notes=(*notes, *sides.notes()),
    )  # fmt: skip
    if not made.jobs:
        raise EmptySearchError(f"nothing to map: {'; '.join(made.reasons()) or 'no ground'}")
    return made


def _res(
    items: gpd.GeoDataFrame,
    bands: Sequence[str],
    provider: Provider,
    crs: str | None,
    learned: float | None,
) -> float:
    """Smallest pixel of the first band on the ground, as the items tell it, or the model's.

    Raises:
        InputError: neither tells it, or it is asked for in degrees.
    """
    if crs is not None and is_geographic(crs):
        raise InputError("res", None, f"a size in degrees, the unit of {crs}")
    told = [item_res(r, provider.band(r, bands[0])) for r in items.to_dict("records")]
    finest = min((res for res in told if res), default=None)
    if finest is None and learned is None:
        raise InputError("res", None, "metres, since no item tells it (proj:transform, gsd)")
    if learned is not None and (finest is None or not fits(finest, learned)):
        return learned
    return finest or 0.0


def fits(res: float, learned: float) -> bool:
    """Whether pixels are about as large as those that a model learned from."""
    return 1 / RES_TOLERANCE <= res / learned <= RES_TOLERANCE


def _sides(
    items: gpd.GeoDataFrame,
    bands: Sequence[str],
    period: tuple[Instant | None, TOI | None, TOI | None],
    max_gap: float | None,
    pairs: SomePairs | None,
    weights: Weights,
    provider: Provider,
) -> tuple[Sides, list[str]]:
    if pairs is None:
        found, notes = _with_bands(items, bands, provider)
        return ByPeriod(found, read_period(*period, max_gap), weights), notes
    if any(part is not None for part in period):
        raise InputError("pairs", "pairs beside event, pre or post", "the one or the other")
    frame = as_frame(pairs)
    found, notes = _with_bands(select_items(items, frame), bands, provider)
    return ByPairs(found, frame, weights), notes


def _with_bands(
    items: gpd.GeoDataFrame, bands: Sequence[str], provider: Provider
) -> tuple[gpd.GeoDataFrame, list[str]]:
    """Leave out the items that lack a band, and say so.

    Raises:
        BandError: all do.
    """
    if not bands:
        raise InputError("bands", bands, "1 or more names")
    if items.empty:
        raise EmptySearchError("no item given; search for some")
    layout, firsts = layouts(items)
    lacks: dict[int, BandError] = {}
    for number, row in enumerate(items.iloc[firsts].to_dict("records")):
        try:
            for band in bands:
                provider.band(row, band)
        except BandError as error:
            lacks[number] = error
    if len(lacks) == len(firsts):
        raise next(iter(lacks.values()))
    if not lacks:
        return items, []
    left = np.isin(layout, list(lacks))
    note = f"{left.sum()} items left out: {next(iter(lacks.values()))}"
    return items[~left].reset_index(drop=True), [note]


def _lattices(
    extent: BaseGeometry, crs: str | None, res: float, tile_size: int, anchor: tuple[float, float]
) -> list[Lattice]:
    if crs is not None:
        return [user_lattice(crs, res, tile_size, anchor)]
    if tuple(anchor) != (0.0, 0.0):
        raise InputError("anchor", anchor, "(0, 0) in UTM zones; others with a crs")
    return list(utm(extent, res, tile_size))


class _Maker:
    """Make the jobs of one lattice after the other."""

    def __init__(
        self,
        sides: Sides,
        bands: Sequence[str],
        weights: Weights,
        most: int,
        halo: int,
        provider: Provider,
    ) -> None:
        self.sides, self.bands, self.provider = sides, bands, provider
        self.weights, self.most, self.halo = weights, most, halo
        self.data = data_share(sides.items)
        self.jobs: list[Job] = []
        self.skipped: list[Skipped] = []
        self.estimates: dict[str, Estimate] = {}
        self.grounds: dict[str, BaseGeometry] = {}
        self._rows: dict[int, tuple[Item, float]] = {}

    def take(self, lattice: Lattice, tiles: Sequence[Tile]) -> None:
        """Make a job of each tile, or skip it."""
        if not tiles:
            return
        shapes = lattice.footprints(self.sides.items.geometry.to_numpy())
        boxes = np.array([tile.geobox.extent.geom for tile in tiles], dtype=object)
        reach = shapely.buffer(boxes, self.halo * lattice.res, join_style="mitre")
        tile_of, rows = shapely.STRtree(shapes).query(reach, predicate="intersects")
        covered = shapely.covers(shapes[rows], boxes[tile_of])
        ends = np.searchsorted(tile_of, np.arange(len(tiles) + 1))
        for n, tile in enumerate(tiles):
            here = slice(ends[n], ends[n + 1])
            ground = boxes[n] if tile.aoi is None else tile.aoi
            covers = np.full(ends[n + 1] - ends[n], ground, dtype=object)
            partly = ~covered[here]
            covers[partly] = shapely.intersection(shapes[rows[here]][partly], ground)
            self._tile(tile, ground, rows[here], covers)

    def _tile(
        self, tile: Tile, ground: BaseGeometry, rows: NDArray[np.intp], covers: NDArray[np.object_]
    ) -> None:
        share = shapely.area(covers) / ground.area * self.data[rows]
        costs = self.sides.costs[rows] + self.weights.invalid * (1 - share)
        pre, post = (
            best(rows[side], costs[side], covers[side], ground, self.most)
            for side in self.sides.split(rows, costs)
        )
        picked = (pre, post)
        reason = _why_not(picked, rows, covers)
        if reason:
            self.skipped.append(Skipped(tile.id, reason, tile.ground))
            return
        before, after = (tuple(self._item(row)[0] for row, _ in side) for side in picked)
        self.jobs.append(Job(tile.id, tile.geobox, before, after, tile.aoi, self.halo))
        self.grounds[tile.id] = tile.ground
        self.estimates[tile.id] = self._estimate(tile, ground, picked)

    def _estimate(self, tile: Tile, ground: BaseGeometry, picked: Picked) -> Estimate:
        area, size = km2(tile.ground), tile.geobox.shape[0]
        reach = ((size + 2 * self.halo) / size) ** 2
        read = sum(adds * self._item(row)[1] for side in picked for row, adds in side)
        # What one date lacks is not mapped, though it is read of the other.
        both = min(sum(adds for _, adds in side) for side in picked)
        pixels = both * ground.area / abs(tile.geobox.transform.determinant)
        return Estimate(both * area, round(pixels), round(read * area * 1e6 * reach * BLOCKS))

    def _item(self, row: int) -> tuple[Item, float]:
        """The item, and bytes of a square metre of it."""
        if row not in self._rows:
            item = item_row(self.sides.items.iloc[row])
            self._rows[row] = item, band_bytes(item, self.bands, self.provider)
        return self._rows[row]


def _why_not(
    picked: Picked,
    rows: NDArray[np.intp],
    covers: NDArray[np.object_],
) -> str:
    """Why a tile is skipped; "" where it is not."""
    lacks = [
        name
        for name, side in zip(("before", "after"), picked, strict=True)
        if not any(adds for _, adds in side)
    ]
    if lacks:
        return " and ".join(f"no item {name}" for name in lacks)
    place = {int(row): n for n, row in enumerate(rows)}
    pre, post = (shapely.union_all([covers[place[r]] for r, _ in side]) for side in picked)
    apart = shapely.intersection(pre, post).area == 0
    return "no ground that both an item before and one after cover" if apart else ""


def _said(time: Any) -> str | None:
    return None if time is None else str(time)


def _digest(area: BaseGeometry) -> str:
    return hashlib.sha256(area.normalize().wkb).hexdigest()
