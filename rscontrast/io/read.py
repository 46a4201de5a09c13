"""Bands of items onto one grid: windows are read on the source's grid and warped only if needed.

Nothing is read twice and no file is warped as a whole: the window under the grid is found, read,
made reflectance, and, where the grids differ, reprojected.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.types import Shape2d
from pyproj import CRS, Transformer
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import reproject
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import AssetError, GridError
from rscontrast.io.handles import handle
from rscontrast.stac.provider import BandSource
from rscontrast.types import IGNORE

type Points = tuple[NDArray[np.float64], NDArray[np.float64]]
"""x and y."""

MARGIN = 3
"""Source pixels around the window, so that an interpolation at its edge has neighbours."""


@dataclass(frozen=True)
class Scene:
    """What to read of one item."""

    bands: tuple[BandSource, ...]
    """The bands, in channel order."""
    masks: tuple[BandSource, ...] = ()
    """Rasters whose values other than 0 mark unusable pixels."""


def read_mosaic(
    scenes: Sequence[Scene], geobox: GeoBox
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read the scenes of one acquisition; where they overlap, the first usable pixel stays.

    Args:
        scenes: at least one, each with the same bands.
        geobox: the grid to read onto.

    Returns:
        reflectance [C, H, W], 0 where there is no data, and ``valid`` [H, W]: data in every band
        and no mask set.

    Raises:
        AssetError: names item, asset and window of what cannot be read.
    """
    image, valid = _read_scene(scenes[0], geobox)
    for scene in scenes[1:]:
        if valid.all():
            break
        other, usable = _read_scene(scene, geobox)
        # A cloudy pixel is better than none: it is seen, though not valid.
        take = (usable & ~valid) | (np.isnan(image).any(axis=0) & ~np.isnan(other).any(axis=0))
        image = np.where(take, other, image)
        valid |= usable
    return np.nan_to_num(image, copy=False), valid


def _read_scene(scene: Scene, geobox: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    image = np.stack([_read_reflectance(band, geobox) for band in scene.bands])
    valid = ~np.isnan(image).any(axis=0)
    for mask in scene.masks:
        if valid.any():
            valid &= read_classes(mask, geobox, fill=0) == 0
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
    window: Window | None = None
    try:
        data, wkt = handle(source.href)
        if wkt is None:
            raise GridError(f"{_name(source)}: no CRS, so it has no place on the grid")
        under = _under(data, wkt, geobox)
        if under is None:
            return None
        window, step, corner = under
        nodata = data.nodata if source.nodata is None else source.nodata
        # GDAL thins (from overviews) without mixing in nodata only where the file declares it.
        step = step if nodata == data.nodata else 1
        shape = (math.ceil(window.height / step), math.ceil(window.width / step))
        pixels = data.read(source.index, window=window, out_shape=shape, resampling=method)
    except (RasterioError, IndexError) as error:
        where = "its header" if window is None else f"window {window.flatten()}"
        cause = error.__cause__ or error
        text = f"{_name(source)}: cannot read {where} of {source.href} ({cause})"
        raise AssetError(text) from error
    empty = np.zeros(shape, dtype=bool) if nodata is None else pixels == nodata
    if pixels.dtype.kind == "f":
        empty |= np.isnan(pixels)
    stretch = Affine.scale(window.width / shape[1], window.height / shape[0])
    transform = data.transform @ Affine.translation(window.col_off, window.row_off) @ stretch
    return _Part(pixels, empty, transform, wkt, geobox, corner)


def _name(source: BandSource) -> str:
    return f"item {source.item}, asset {source.asset}"


def _under(
    data: DatasetReader, wkt: str, geobox: GeoBox
) -> tuple[Window, int, tuple[int, int] | None] | None:
    """Find the file's pixels under the grid.

    Returns:
        their window; how many of them make one pixel of the grid along an axis (at least 1); and
        the (row, col) of the window in the grid if the two are one lattice. None: none lies there.
    """
    target = crs_wkt(geobox)
    same = _same_crs(wkt, target)
    offset = _lattice_offset(data.transform, geobox) if same else None
    x, y = apply_affine(geobox.transform, *_outline(geobox.shape))
    if not same:
        x, y = transformer(target, wkt).transform(x, y)
    cols, rows = apply_affine(~data.transform, np.asarray(x), np.asarray(y))
    if not (np.isfinite(cols).all() and np.isfinite(rows).all()):
        return None
    ratio = min(np.ptp(cols) / geobox.shape[1], np.ptp(rows) / geobox.shape[0])
    step = max(1, math.floor(ratio + 1e-6))
    margin = 0 if offset else MARGIN * step
    left, right = _span(cols, data.width, margin)
    top, bottom = _span(rows, data.height, margin)
    if left >= right or top >= bottom:
        return None
    corner = None if offset is None else (top - offset[0], left - offset[1])
    return Window(left, top, right - left, bottom - top), step, corner


def _lattice_offset(transform: Affine, geobox: GeoBox) -> tuple[int, int] | None:
    """(row, col) of the grid's corner in the file, if the two are one lattice; else None."""
    shift = ~transform @ geobox.transform
    row, col = round(shift.f), round(shift.c)
    drift = max(geobox.shape) * max(abs(shift.a - 1), abs(shift.e - 1), abs(shift.b), abs(shift.d))
    # Under a hundredth of a pixel the two lattices are one written with other digits.
    aligned = drift < 0.01 and abs(shift.f - row) < 0.01 and abs(shift.c - col) < 0.01
    return (row, col) if aligned else None


def _outline(shape: Shape2d) -> Points:
    """Points (x, y) in pixels along the border of a grid: a straight edge bends in another CRS."""
    along = np.linspace(0, 1, 9)
    low, high = np.zeros_like(along), np.ones_like(along)
    x = np.concatenate([along, along, low, high]) * shape[1]
    y = np.concatenate([low, high, along, along]) * shape[0]
    return x, y


def _span(pixels: NDArray[np.float64], size: int, margin: int) -> tuple[int, int]:
    """First and past-the-last pixel that a range of coordinates touches, within the file."""
    # A lattice written with other digits is off by up to 2 hundredths, see _lattice_offset.
    first, last = math.floor(pixels.min() + 3e-2), math.ceil(pixels.max() - 3e-2)
    return max(0, first - margin), min(size, last + margin)


@lru_cache(maxsize=256)
def _same_crs(a: str, b: str) -> bool:
    crs = CRS.from_user_input(a)
    return a == b or crs.equals(CRS.from_user_input(b), ignore_axis_order=True)


def crs_wkt(geobox: GeoBox) -> str:
    """CRS of a grid as WKT.

    Raises:
        GridError: the grid has none.
    """
    if geobox.crs is None:
        where = tuple(geobox.boundingbox)
        raise GridError(f"grid of bounds {where}: no CRS; georeference the file or its item")
    return geobox.crs.to_wkt()


def footprint(geobox: GeoBox, crs: str) -> BaseGeometry:
    """Outline of a grid in ``crs``, where its edges bend: they get points between the corners."""
    move = transformer(crs_wkt(geobox), crs)
    border = geobox.extent.geom
    if not _same_crs(crs_wkt(geobox), crs):
        border = shapely.segmentize(border, border.length / 32)

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(move.transform(xy[:, 0], xy[:, 1]))

    outline: BaseGeometry = shapely.transform(border, moved)
    return outline


def apply_affine(transform: Affine, x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    """Map arrays of points (x, y)."""
    return transform @ (x, y)  # type: ignore[return-value, operator]  # the stub knows only floats


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> Transformer:
    """Transformer of (x, y) between two CRS, made once: making one costs a millisecond."""
    return Transformer.from_crs(source, target, always_xy=True)
