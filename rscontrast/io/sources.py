"""What to read of an item, found in its metadata before any file is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.types import Shape2d
from shapely.geometry.base import BaseGeometry

from rscontrast.io.grid import Points, apply_affine, crs_wkt, same_crs, transformer
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
    edge in degrees would cut off up to 200 m of a scene of 110 km. There, too, one over the
    antimeridian is in one piece.

    Args:
        footprint: in EPSG:4326.
        wkt: CRS of the item's file.
        pixel: side of its pixels, in units of that CRS.
        geobox: the grid.
    """
    area, same = _moved(footprint, wkt, pixel), same_crs(wkt, crs_wkt(geobox))

    def centres(cols: NDArray[np.float64], rows: NDArray[np.float64]) -> Points:
        x, y = apply_affine(geobox.transform, cols, rows)
        return (x, y) if same else transformer(crs_wkt(geobox), wkt).transform(x, y)

    border = shapely.Polygon(np.column_stack(centres(*_around(geobox.shape))))
    if border.is_valid and area.covers(border):
        return np.ones(geobox.shape, dtype=bool)
    rows, cols = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
    # A copy: what is prepared is not safe in several threads.
    mine = shapely.transform(area, lambda xy: xy)
    shapely.prepare(mine)
    pixels: NDArray[np.bool_] = shapely.contains_xy(mine, *centres(cols, rows))
    return pixels


def _around(shape: tuple[int, int] | Shape2d) -> Points:
    """Ring of points along the border of a grid, in its pixels."""
    along = np.linspace(0, 1, 9)[:-1]
    low, high = np.zeros_like(along), np.ones_like(along)
    x = np.concatenate([along, high, 1 - along, low]) * shape[1]
    y = np.concatenate([low, along, high, 1 - along]) * shape[0]
    return x, y


@lru_cache(maxsize=4096)
def _moved(footprint: BaseGeometry, wkt: str, pixel: float) -> BaseGeometry:
    move = transformer("EPSG:4326", wkt).transform
    corners = shapely.transform(
        shapely.force_2d(footprint), lambda xy: np.column_stack(move(xy[:, 0], xy[:, 1]))
    )
    area: BaseGeometry = shapely.buffer(corners, SLACK * pixel, join_style="mitre")
    return area
