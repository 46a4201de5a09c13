"""Bands of items onto one grid: windows are read on the source's grid and warped only if needed.

Nothing is read twice and no file is warped as a whole: the window under the grid is found, read,
made reflectance, and, where the grids differ, reprojected.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import reproject
from rasterio.windows import Window

from rscontrast.errors import AssetError, GridError
from rscontrast.io.grid import (
    apply_affine,
    crs_wkt,
    lattice_offset,
    outline,
    same_crs,
    span,
    transformer,
)
from rscontrast.io.handles import Handle, handle
from rscontrast.stac.provider import BandSource, MaskSource, Provider
from rscontrast.types import IGNORE

MARGIN = 3
"""Source pixels around the window, so that an interpolation at its edge has neighbours."""


@dataclass(frozen=True)
class ItemSource:
    """What to read of one item."""

    bands: tuple[BandSource, ...]
    """The bands, in channel order."""
    masks: tuple[MaskSource, ...] = ()
    """Rasters that mark unusable pixels."""


def item_source(
    row: Mapping[str, Any], bands: Sequence[str], provider: Provider, *, masks: bool = True
) -> ItemSource:
    """Find the bands, and the masks if they count, among the assets of an item.

    Args:
        row: of the items' frame.
        bands: asset keys, band names or common names; the channel order.
        provider: where bands lie in the assets.
        masks: whether cloud masks make pixels unusable.

    Raises:
        BandError: the item lacks a band.
    """
    sources = tuple(provider.band(row, band) for band in bands)
    return ItemSource(sources, provider.masks(row) if masks else ())


def read_mosaic(
    items: Sequence[ItemSource], geobox: GeoBox
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read the items of one acquisition; where they overlap, the first usable pixel stays.

    Args:
        items: at least one, each with the same bands.
        geobox: the grid to read onto.

    Returns:
        reflectance [C, H, W], 0 where there is no data, and ``valid`` [H, W]: data in every band
        and no mask set.

    Raises:
        AssetError: names item, asset and window of what cannot be read.
    """
    image, valid = _read_item(items[0], geobox)
    for item in items[1:]:
        if valid.all():
            break
        other, usable = _read_item(item, geobox)
        # A cloudy pixel is better than none: it is seen, though not valid.
        take = (usable & ~valid) | (np.isnan(image).any(axis=0) & ~np.isnan(other).any(axis=0))
        image = np.where(take, other, image)
        valid |= usable
    return np.nan_to_num(image, copy=False), valid


def _read_item(item: ItemSource, geobox: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    image = np.stack([_read_reflectance(band, geobox) for band in item.bands])
    valid = ~np.isnan(image).any(axis=0)
    for mask in item.masks:
        if valid.any():
            valid &= ~read_mask(mask, geobox)
    return image, valid


def _read_reflectance(source: BandSource, geobox: GeoBox) -> NDArray[np.float32]:
    """Reflectance [H, W], NaN where there is no data."""
    out = np.full(geobox.shape, np.nan, dtype=np.float32)
    part = _read_window(source, geobox, Resampling.bilinear)
    if part is None:
        return out
    values = part.pixels.astype(np.float32)
    values[part.empty] = np.nan
    values *= np.float32(source.scale)
    values += np.float32(source.offset)
    return part.place(values, out, Resampling.bilinear, np.nan)


def read_mask(source: MaskSource, geobox: GeoBox) -> NDArray[np.bool_]:
    """Find the pixels that a mask makes unusable, by nearest neighbour.

    A pixel that the mask does not cover, or where it holds no number, is unusable. A nodata of 0
    is judged as any other number, since masks say so where nothing is wrong.

    Args:
        source: the raster and the rule.
        geobox: the grid to read onto.

    Returns:
        whether each pixel is unusable, [H, W].

    Raises:
        AssetError: it cannot be read, or holds fractions where the rule asks for bits.
        GridError: it has no place on the earth.
    """
    out = np.ones(geobox.shape, dtype=np.uint8)
    part = _read_window(source, geobox, Resampling.nearest)
    if part is None:
        return out.astype(bool)
    try:
        unusable = source.rule.unusable(part.pixels)
    except ValueError as error:
        raise AssetError(f"{_name(source)}: {error}") from error
    unusable |= part.empty & (part.pixels != 0)
    return part.place(unusable.astype(np.uint8), out, Resampling.nearest, IGNORE).astype(bool)


def read_classes(source: BandSource, geobox: GeoBox, *, fill: int = IGNORE) -> NDArray[np.uint8]:
    """Read a raster of classes by nearest neighbour.

    Args:
        source: where it is.
        geobox: the grid to read onto.
        fill: value of pixels outside the raster or without data.

    Returns:
        classes [H, W].

    Raises:
        AssetError: it cannot be read, or holds values other than 0 to 255.
        GridError: it has no place on the earth.
    """
    out = np.full(geobox.shape, fill, dtype=np.uint8)
    part = _read_window(source, geobox, Resampling.nearest)
    if part is None:
        return out
    values = np.where(part.empty, np.int16(fill), part.pixels)
    bad = values[(values < 0) | (values > IGNORE) | (values != np.floor(values))]
    if bad.size:
        raise AssetError(f"{_name(source)}: value {bad[0]} is no class; allowed: 0 to 255")
    return part.place(values.astype(np.uint8), out, Resampling.nearest, fill)


@dataclass(frozen=True)
class _Part:
    """The source pixels under a grid: [h, w], on a grid of their own."""

    pixels: NDArray[Any]
    empty: NDArray[np.bool_]
    transform: Affine
    crs: Any
    geobox: GeoBox
    corner: tuple[int, int] | None
    """(row, col) of the first pixel in the grid, where the two grids are one lattice."""

    def place(
        self, values: NDArray[Any], out: NDArray[Any], method: Resampling, nodata: float
    ) -> NDArray[Any]:
        if self.corner is not None:
            (row, col), (height, width) = self.corner, values.shape
            out[row : row + height, col : col + width] = values
            return out
        reproject(
            values,
            out,
            src_transform=self.transform,
            src_crs=self.crs,
            dst_transform=self.geobox.transform,
            dst_crs=self.geobox.crs,
            src_nodata=nodata,
            dst_nodata=nodata,
            resampling=method,
        )
        return out


def _read_window(source: BandSource, geobox: GeoBox, method: Resampling) -> _Part | None:
    """Read what lies under the grid, or None where nothing does."""
    opened, wkt = _open(source)
    data = opened.data
    under = _under(data, wkt, geobox)
    if under is None:
        return None
    window, step, corner = under
    nodata = data.nodata if source.nodata is None else source.nodata
    # GDAL thins (from overviews) without mixing in nodata only where the file declares it.
    step = step if nodata == data.nodata else 1
    shape = (math.ceil(window.height / step), math.ceil(window.width / step))
    try:
        pixels = opened.read(source.index, window=window, out_shape=shape, resampling=method)
    except (RasterioError, IndexError, AssetError) as error:
        raise _unreadable(source, f"window {window.flatten()}", error) from error
    empty = np.zeros(shape, dtype=bool) if nodata is None else pixels == nodata
    if pixels.dtype.kind == "f":
        empty |= np.isnan(pixels)
    stretch = Affine.scale(window.width / shape[1], window.height / shape[0])
    transform = data.transform @ Affine.translation(window.col_off, window.row_off) @ stretch
    return _Part(pixels, empty, transform, wkt, geobox, corner)


def file_geobox(source: BandSource) -> GeoBox:
    """Grid of the file itself, whatever the item says of it.

    Raises:
        AssetError: it cannot be opened.
        GridError: it has no CRS.
    """
    opened, wkt = _open(source)
    return GeoBox(opened.data.shape, opened.data.transform, wkt)


def _open(source: BandSource) -> tuple[Handle, str]:
    try:
        opened = handle(source.href, source.signer)
    except (RasterioError, AssetError) as error:
        raise _unreadable(source, "its header", error) from error
    if opened.wkt is None:
        raise GridError(f"{_name(source)}: no CRS, so it has no place on the grid")
    return opened, opened.wkt


def _unreadable(source: BandSource, where: str, error: Exception) -> AssetError:
    cause = error if isinstance(error, AssetError) else error.__cause__ or error
    return AssetError(f"{_name(source)}: cannot read {where} of {source.href} ({cause})")


def _name(source: BandSource) -> str:
    return f"item {source.item}, asset {source.asset}"


def _under(
    data: DatasetReader, wkt: str, geobox: GeoBox
) -> tuple[Window, int, tuple[int, int] | None] | None:
    """Find the file's pixels under the grid.

    Returns:
        their window; how many of them make one pixel of the grid along an axis (at least 1); and
        the (row, col) of the window in the grid if the two are one lattice. None: none lies there.

    Raises:
        GridError: the CRS of the file does not reach to where the grid is.
    """
    target = crs_wkt(geobox)
    same = same_crs(wkt, target)
    offset = lattice_offset(data.transform, geobox) if same else None
    x, y = apply_affine(geobox.transform, *outline(geobox.shape))
    if not same:
        x, y = transformer(target, wkt).transform(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        where = tuple(round(n, 5) for n in geobox.boundingbox.bbox)
        raise GridError(f"grid of bounds {where}: has no place in the CRS of {data.name}")
    cols, rows = apply_affine(~data.transform, np.asarray(x), np.asarray(y))
    ratio = min(np.ptp(cols) / geobox.shape[1], np.ptp(rows) / geobox.shape[0])
    step = max(1, math.floor(ratio + 1e-6))
    margin = 0 if offset else MARGIN * step
    left, right = span(cols, data.width, margin)
    top, bottom = span(rows, data.height, margin)
    if left >= right or top >= bottom:
        return None
    corner = None if offset is None else (top - offset[0], left - offset[1])
    return Window(left, top, right - left, bottom - top), step, corner
