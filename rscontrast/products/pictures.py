"""Pictures of a map and of what it was made of, small enough to look at."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.enums import Resampling
from rasterio.features import geometry_mask
from rasterio.vrt import WarpedVRT
from shapely.geometry.base import BaseGeometry

from rscontrast.atomic import atomic_path
from rscontrast.errors import AssetError, BandError, RSContrastError
from rscontrast.io import read_dates
from rscontrast.io.grid import apply_affine, crs_wkt, footprint, transformer
from rscontrast.mapping.job import Item, Job
from rscontrast.mapping.native import Tile, part
from rscontrast.products.done import Done
from rscontrast.report.palette import NODATA_COLOUR, Palette, rgb
from rscontrast.stac.provider import GENERIC, Provider
from rscontrast.stac.source import bands_of
from rscontrast.types import IGNORE

SIDE = 512
"""Longest side of a job's pictures, pixels."""
UNMAPPED = 150
"""How opaque is what veils the ground that is not mapped, of 255."""
COLOURS = ("red", "green", "blue")

type Picture = NDArray[np.uint8]
type Masks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pictures:
    """The same ground before, after and as a map."""

    geobox: GeoBox
    """Their grid."""
    pre: Picture
    """[H, W, 4]: red, green, blue, and 0 where there is nothing to see."""
    post: Picture
    """The same after."""
    classes: Picture
    """[H, W], 255 where nothing is mapped."""

    def painted(self, palette: Palette, background: int | None = None) -> Picture:
        """The map in colours, [H, W, 4].

        Args:
            palette: of the classes.
            background: class that is let be seen through; what is not mapped is then pale.
        """
        table = np.zeros((IGNORE + 1, 4), np.uint8)
        for number, (_, colour) in enumerate(palette):
            table[number] = (*rgb(colour), 255)
        if background is not None:
            table[background] = 0
            table[IGNORE] = (*rgb(NODATA_COLOUR), UNMAPPED)
        return table[self.classes]

    def trimmed(self) -> "Pictures":
        """Without rows and columns at the edge in which there is nothing."""
        seen = (self.pre[..., 3] > 0) | (self.post[..., 3] > 0) | (self.classes != IGNORE)
        rows, cols = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            return self
        top, left, height, width = rows[0], cols[0], np.ptp(rows) + 1, np.ptp(cols) + 1
        at = np.s_[top : top + height, left : left + width]
        box = part(self.geobox, int(top), int(left), int(height), int(width))
        return Pictures(box, self.pre[at], self.post[at], self.classes[at])


def coarse(geobox: GeoBox, side: int = SIDE) -> GeoBox:
    """The same ground with at most ``side`` pixels on its longest side."""
    factor = max(1, math.ceil(max(geobox.shape) / side))
    height, width = geobox.shape
    shape = (-(-height // factor), -(-width // factor))
    return GeoBox(shape, geobox.transform @ Affine.scale(factor), geobox.crs)


def pictures(
    folder: Path,
    jobs: Sequence[Done],
    box: GeoBox,
    provider: Provider | None = None,
    mosaic: Path | None = None,
) -> Pictures:
    """Draw jobs onto one grid, which may be of another CRS than theirs.

    Scenes that cannot be read any more leave a hole, with a warning: the maps are there.

    Args:
        folder: of the run.
        jobs: what is drawn; where they overlap the first counts.
        box: the grid, see :func:`coarse`.
        provider: whose items they are.
        mosaic: of their classes, where there is one: in it nothing is open between zones.

    Raises:
        AssetError: a map cannot be read.
    """
    seen = np.zeros((2, 3, *box.shape), np.float32)
    valid = np.zeros((2, *box.shape), bool)
    classes = np.full(box.shape, IGNORE, np.uint8)
    for one in jobs:
        tile = _below(box, one.job.geobox)
        if tile is None:
            continue
        small = part(box, tile.row, tile.col, tile.height, tile.width)
        at = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        within = ~geometry_mask([_outline(one, small)], small.shape, small.transform)
        for date, (image, usable) in enumerate(_dates(one.job, small, provider)):
            new = usable & within & ~valid[date][at]
            seen[date][:, *at][:, new] = image[:, new]
            valid[date][at] |= new
        name = one.file("classes.tif")
        if mosaic is None and name is not None:
            said = _classes(folder / name, small)
            new = (classes[at] == IGNORE) & (said != IGNORE)
            classes[at][new] = said[new]
    if mosaic is not None:
        classes = _classes(mosaic, box)
    pre, post = _stretched(seen, valid)
    return Pictures(box, pre, post, classes)


def _outline(one: Done, box: GeoBox) -> BaseGeometry:
    """What is mapped of a tile, with a pixel around it, so that pictures of tiles meet."""
    crs, target = crs_wkt(one.job.geobox), crs_wkt(box)
    if one.job.aoi is None:
        outline = footprint(one.job.geobox, target)
    else:
        dense = shapely.segmentize(one.job.aoi, max(one.job.aoi.length / 64, 1e-9))
        move = transformer(crs, target).transform
        outline = shapely.transform(dense, move, interleaved=False)
    grown: BaseGeometry = outline.buffer(abs(box.transform.a))
    return grown


def _below(box: GeoBox, other: GeoBox) -> Tile | None:
    """Part of a grid that another one lies on; None: it lies beside it."""
    outline = footprint(other, crs_wkt(box))
    xmin, ymin, xmax, ymax = outline.bounds
    x, y = np.array([xmin, xmin, xmax, xmax]), np.array([ymin, ymax, ymin, ymax])
    cols, rows = apply_affine(~box.transform, x, y)
    left, top = max(0, math.floor(cols.min())), max(0, math.floor(rows.min()))
    right = min(box.shape[1], math.ceil(cols.max()))
    bottom = min(box.shape[0], math.ceil(rows.max()))
    return Tile(top, left, bottom - top, right - left) if bottom > top and right > left else None


def _dates(job: Job, box: GeoBox, provider: Provider | None) -> list[tuple[Any, Masks]]:
    """Red, green and blue [3, h, w] of both dates, or what of it there is."""
    publisher = provider or GENERIC
    found: list[tuple[Any, Masks]] = []
    for items in (job.pre, job.post):
        try:
            bands = _shown(items, publisher)
            sides = Job(job.id, job.geobox, items, items).sources(bands, publisher)
            (image, valid) = read_dates(sides[:1], box)[0]
            found.append((image[np.minimum(np.arange(3), len(image) - 1)], valid))
        except RSContrastError as error:
            warnings.warn(f"job {job.id}: no picture of its scenes ({error})", stacklevel=2)
            found.append((np.zeros((3, *box.shape), np.float32), np.zeros(box.shape, bool)))
    return found


def _shown(items: Sequence[Item], provider: Provider) -> tuple[str, ...]:
    """Red, green, blue; else the bands of the first asset that every item has; else one asset."""
    try:
        for item in items:
            for colour in COLOURS:
                provider.band(item, colour)
    except BandError:
        shared = [k for k in items[0]["assets"] if all(k in i["assets"] for i in items)]
        masks = {source.asset for source in provider.masks(items[0])}
        for key in (key for key in shared if key not in masks):
            bands = [str(b["name"]) for b in bands_of(items[0]["assets"][key]) if "name" in b]
            return tuple(bands[:3]) or (key,)
        raise
    return COLOURS


def _classes(path: Path, box: GeoBox) -> Picture:
    """Classes on a grid, 255 where nothing is mapped."""
    options = {"crs": crs_wkt(box), "transform": box.transform, "height": box.shape[0]}
    try:
        with (
            rasterio.open(path) as source,
            WarpedVRT(source, **options, width=box.shape[1], resampling=Resampling.nearest,
                      nodata=IGNORE) as warped,
        ):  # fmt: skip
            said: Picture = warped.read(1)
            said[warped.read_masks(1) == 0] = IGNORE
            return said
    except rasterio.RasterioIOError as error:
        raise AssetError(f"{path}: cannot be read ({error})") from error


def _stretched(seen: NDArray[np.float32], valid: Masks) -> tuple[Picture, Picture]:
    """Both dates with one stretch a band, 2nd to 98th percentile, so that changes are seen."""
    shown = np.zeros((2, *valid.shape[1:], 4), np.uint8)
    if valid.any():
        for band in range(3):
            low, high = np.percentile(seen[:, band][valid], (2, 98))
            scaled = (seen[:, band] - low) / max(high - low, 1e-9)
            shown[..., band] = np.rint(255 * scaled.clip(0, 1))
    shown[..., :3][~valid] = 0
    shown[..., 3] = np.where(valid, 255, 0)
    return shown[0], shown[1]


def png(picture: Picture) -> bytes:
    """A picture [H, W, 4] as a PNG."""
    stream = BytesIO()
    Image.fromarray(picture, "RGBA").save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def write_png(path: Path, picture: Picture) -> None:
    """Write a PNG, whole or not at all.

    Raises:
        WriteError: the disk does not take it.
    """
    with atomic_path(path) as tmp:
        tmp.write_bytes(png(picture))


def on_grey(picture: Picture) -> Picture:
    """A picture whose holes are light grey."""
    out = picture.copy()
    out[out[..., 3] == 0] = (*rgb(NODATA_COLOUR), 255)
    return out
