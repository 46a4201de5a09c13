"""What to read of an item, found in its metadata before any file is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from rscontrast.io.grid import crs_wkt, same_crs, transformer
from rscontrast.stac.provider import BandSource, MaskSource, Provider

SLACK = 1.5
"""Pixels around a footprint that count to it: catalogs round its corners."""


@dataclass(frozen=True)
class ItemSource:
    """What to read of one item."""

    bands: tuple[BandSource, ...]
    """The bands, in channel order."""
    masks: tuple[MaskSource, ...] = ()
    """Rasters that mark unusable pixels."""
    footprint: BaseGeometry | None = None
    """Outline of its data, EPSG:4326; pixels outside are not valid. None: all may be."""


def item_source(
    row: Mapping[str, Any],
    bands: Sequence[str],
    provider: Provider,
    *,
    masks: bool = True,
    footprint: bool = True,
    raw: bool = False,
) -> ItemSource:
    """Find the bands, and the masks if they count, among the assets of an item.

    Args:
        row: of the items' frame.
        bands: asset keys, band names or common names; the channel order.
        provider: where bands lie in the assets.
        masks: whether cloud masks make pixels unusable.
        footprint: whether pixels outside the item's footprint are unusable.
        raw: read the files' numbers instead of reflectance.

    Raises:
        BandError: the item lacks a band.
    """
    sources = tuple(provider.band(row, band) for band in bands)
    if raw:
        sources = tuple(replace(source, scale=1.0, offset=0.0) for source in sources)
    outline = row.get("geometry") if footprint else None
    if outline is not None and outline.is_empty:
        outline = None
    return ItemSource(sources, provider.masks(row) if masks else (), outline)


def inside(footprint: BaseGeometry, wkt: str, pixel: float, geobox: GeoBox) -> NDArray[np.bool_]:
    """Find the pixels of a grid whose centres a footprint covers, [H, W].

    The corners of a footprint are exact, its edges are straight in the file's CRS: a straight
    edge in degrees would cut off up to 200 m of a scene of 110 km.

    Args:
        footprint: in EPSG:4326.
        wkt: CRS of the item's file.
        pixel: side of its pixels, in units of that CRS.
        geobox: the grid.
    """
    area = _moved(footprint, wkt, pixel)
    there = geobox.extent.geom
    if not same_crs(wkt, crs_wkt(geobox)):
        area = _moved_on(area, wkt, crs_wkt(geobox))
    if area.covers(there):
        return np.ones(geobox.shape, dtype=bool)
    if not area.intersects(there):
        return np.zeros(geobox.shape, dtype=bool)
    # By their centres: what rasterio does to draw shapes is not safe in several threads.
    rows, cols = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
    pixels: NDArray[np.bool_] = shapely.contains_xy(area, *(geobox.transform @ (cols, rows)))
    return pixels


@lru_cache(maxsize=4096)
def _moved(footprint: BaseGeometry, wkt: str, pixel: float) -> BaseGeometry:
    move = transformer("EPSG:4326", wkt).transform
    corners = shapely.transform(
        shapely.force_2d(footprint), lambda xy: np.column_stack(move(xy[:, 0], xy[:, 1]))
    )
    area: BaseGeometry = shapely.buffer(corners, SLACK * pixel, join_style="mitre")
    shapely.prepare(area)
    return area


@lru_cache(maxsize=4096)
def _moved_on(area: BaseGeometry, wkt: str, target: str) -> BaseGeometry:
    move = transformer(wkt, target).transform
    bent: BaseGeometry = shapely.transform(
        shapely.segmentize(area, area.length / 64),
        lambda xy: np.column_stack(move(xy[:, 0], xy[:, 1])),
    )
    shapely.prepare(bent)
    return bent
