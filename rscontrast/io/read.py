"""Bands of items onto one grid: windows are read on the source's grid and warped only if needed.

Nothing is read twice and no file is warped as a whole: the windows under the grid are found, all
asked for at once, read by the reading threads, made reflectance, and, where the grids differ,
reprojected.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from rscontrast.errors import AssetError, InputError, choose
from rscontrast.io.parts import File, Part, name, open_file, read_parts, warp
from rscontrast.io.sources import ItemSource as ItemSource
from rscontrast.io.sources import inside
from rscontrast.io.sources import item_source as item_source
from rscontrast.stac.provider import BandSource, MaskSource
from rscontrast.types import IGNORE

MOSAICS = ("first", "last", "mean")
"""Which pixel of overlapping items stays: the first usable by time, the last, or their mean."""

type Image = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Reflectance [C, H, W] and ``valid`` [H, W]."""


def read_mosaic(items: Sequence[ItemSource], geobox: GeoBox, *, mosaic: str = "first") -> Image:
    """Read the items of one acquisition onto a grid.

    Args:
        items: at least one, each with the same bands, by time.
        geobox: the grid to read onto.
        mosaic: which pixel stays where items overlap: the "first" usable one, the "last", or the
            "mean" of all that are usable. Where none is usable, those that are merely seen.

    Returns:
        reflectance [C, H, W], 0 where there is no data, and ``valid`` [H, W]: data in every band,
        let be seen by the file's own mask, within the footprint, and no cloud mask set.

    Raises:
        InputError: an unknown ``mosaic``, or no item.
        AssetError: names item, asset and window of what cannot be read.
        GridError: a file has no place on the earth.
    """
    return read_dates([items], geobox, mosaic=mosaic)[0]


def read_dates(
    dates: Sequence[Sequence[ItemSource]], geobox: GeoBox, *, mosaic: str = "first"
) -> list[Image]:
    """Read several acquisitions onto a grid, all their windows at once.

    Args:
        dates: the items of each, as in :func:`read_mosaic`.
        geobox: the grid to read onto.
        mosaic: as in :func:`read_mosaic`.

    Returns:
        as :func:`read_mosaic`, for each.

    Raises:
        InputError, AssetError, GridError: as :func:`read_mosaic`.
    """
    if not all(dates):
        raise InputError("items", "none", "1 or more items of each date")
    if choose("mosaic", mosaic, MOSAICS) == "mean":
        every = iter(_read_items([item for items in dates for item in items], geobox))
        return [_mean([next(every) for _ in items]) for items in dates]
    queues = [list(items if mosaic == "last" else reversed(items)) for items in dates]
    images = _read_items([queue.pop() for queue in queues], geobox)
    # The next item of a date is read only where those before leave a gap.
    while gaps := [n for n, queue in enumerate(queues) if queue and not images[n][1].all()]:
        for n, other in zip(
            gaps, _read_items([queues[n].pop() for n in gaps], geobox), strict=True
        ):
            images[n] = _fill(images[n], other)
    return [_filled(*image) for image in images]


def _filled(image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Image:
    """0 where there is no data."""
    if not valid.all():
        np.copyto(image, 0, where=np.isnan(image))
    return image, valid


def _fill(one: Image, other: Image) -> Image:
    (image, valid), (more, usable) = one, other
    # A cloudy pixel is better than none: it is seen, though not valid.
    take = (usable & ~valid) | (np.isnan(image).any(axis=0) & ~np.isnan(more).any(axis=0))
    return np.where(take, more, image), valid | usable


def _mean(images: Sequence[Image]) -> Image:
    if len(images) == 1:
        return _filled(*images[0])
    valid = np.logical_or.reduce([usable for _, usable in images])
    total = np.zeros_like(images[0][0])
    count = np.zeros(valid.shape, dtype=np.float32)
    for image, usable in images:
        counts = (usable | ~valid) & ~np.isnan(image).any(axis=0)
        total += np.where(counts, image, 0)
        count += counts
    total /= np.maximum(count, 1)
    return total, valid


def _read_items(items: Sequence[ItemSource], geobox: GeoBox) -> list[Image]:
    """Reflectance, NaN where there is no data, and ``valid`` of each item."""
    bands = [_files(item.bands) for item in items]
    masks = [[File((mask,), nearest=True) for mask in item.masks] for item in items]
    files = [file for both in zip(bands, masks, strict=True) for side in both for file in side]
    parts = iter(read_parts(files, geobox))
    images = []
    for item, of_bands, of_masks in zip(items, bands, masks, strict=True):
        found = [(file, part) for file in of_bands if (part := next(parts)) is not None]
        image = _reflectance(item, found, geobox)
        valid = ~np.isnan(image).any(axis=0)
        if item.footprint is not None and found and valid.any():
            valid &= inside(item.footprint, found[0][1].wkt, found[0][1].pixel, geobox)
        for mask, part in zip(item.masks, [next(parts) for _ in of_masks], strict=True):
            if valid.any():
                valid &= ~_unusable(mask, part, geobox)
        images.append((image, valid))
    return images


def _files(bands: Sequence[BandSource]) -> list[File]:
    """Bring bands of one file together."""
    files: dict[object, list[BandSource]] = {}
    for band in bands:
        files.setdefault((band.href, band.signer), []).append(band)
    return [File(tuple(of_file)) for of_file in files.values()]


def _reflectance(
    item: ItemSource, found: Sequence[tuple[File, Part]], geobox: GeoBox
) -> NDArray[np.float32]:
    """Bands of an item, [C, H, W], NaN where there is no data."""
    # Filled once where it must be: large arrays cost as much as what is done with them.
    whole = all(part.covers(geobox) for _, part in found)
    missing = len(item.bands) > sum(len(file.bands) for file, _ in found)
    image = np.empty((len(item.bands), *geobox.shape), dtype=np.float32)
    if missing or not whole:
        image.fill(np.nan)
    channels: dict[BandSource, list[int]] = {}
    for channel, band in enumerate(item.bands):
        channels.setdefault(band, []).append(channel)
    elsewhere: dict[object, tuple[Part, dict[BandSource, NDArray[np.float32]]]] = {}
    for file, part in found:
        for band, numbers, empty in zip(file.bands, part.values, part.empty, strict=True):
            if part.corner is None:
                # Bands of one grid are brought onto another together: where to is found once.
                alike = (tuple(part.transform), part.wkt, numbers.shape)
                values = np.empty(numbers.shape, dtype=np.float32)
                elsewhere.setdefault(alike, (part, {}))[1][band] = values
                _scale(band, numbers, empty, values)
            else:
                for channel in channels[band]:
                    _scale(band, numbers, empty, image[channel][part.place])
    for part, bands in elsewhere.values():
        out = np.full((len(bands), *geobox.shape), np.nan, dtype=np.float32)
        warp(np.stack(list(bands.values())), part, out, geobox, Resampling.bilinear)
        for band, values in zip(bands, out, strict=True):
            for channel in channels[band]:
                image[channel] = values
    return image


def _scale(
    band: BandSource,
    numbers: NDArray[Any],
    empty: NDArray[np.bool_],
    out: NDArray[np.float32],
) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # of what is no data
        np.multiply(numbers, np.float32(band.scale), out=out, casting="same_kind")
    if band.offset:
        out += np.float32(band.offset)
    if empty.any():
        out[empty] = np.nan
    if numbers.dtype == np.float64:
        out[np.isinf(out)] = np.nan


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
    return _unusable(source, read_parts([File((source,), nearest=True)], geobox)[0], geobox)


def _unusable(source: MaskSource, part: Part | None, geobox: GeoBox) -> NDArray[np.bool_]:
    out = np.ones((1, *geobox.shape), dtype=np.uint8)
    if part is not None:
        try:
            unusable = source.rule.unusable(part.values)
        except ValueError as error:
            raise AssetError(f"{name(source)}: {error}") from error
        unusable |= part.empty & (part.values != 0)
        warp(unusable.astype(np.uint8), part, out, geobox, Resampling.nearest)
    unusable_there: NDArray[np.bool_] = out[0] != 0
    return unusable_there


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
    classes = np.full(geobox.shape, fill, dtype=np.uint8)
    part = read_parts([File((source,), nearest=True)], geobox)[0]
    if part is None:
        return classes
    values = np.where(part.empty, np.int16(fill), part.values)
    bad = values[(values < 0) | (values > IGNORE) | (values != np.floor(values))]
    if bad.size:
        raise AssetError(f"{name(source)}: value {bad[0]} is no class; allowed: 0 to 255")
    warp(values.astype(np.uint8), part, classes[None], geobox, Resampling.nearest)
    return classes


def file_geobox(source: BandSource) -> GeoBox:
    """Grid of the file itself, whatever the item says of it.

    Raises:
        AssetError: it cannot be opened.
        GridError: it has no CRS.
    """
    raster = open_file(source).raster
    return GeoBox(raster.shape, raster.transform, raster.wkt)


def block_shape(source: BandSource) -> tuple[int, int]:
    """(H, W) of the blocks that a file is decoded in, pixels.

    Raises:
        AssetError: it cannot be opened.
        GridError: it has no CRS.
    """
    return open_file(source).raster.block
