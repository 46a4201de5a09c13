"""The pixels of files that lie under a grid, all asked for at once, and their way onto the grid."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import reproject

from rscontrast.errors import AssetError, GridError
from rscontrast.io.bilinear import TOLERANCE, bilinear, thins
from rscontrast.io.cells import Request, request
from rscontrast.io.grid import crs_wkt
from rscontrast.io.handles import Handle, Raster, opening
from rscontrast.io.windows import Finder, Under
from rscontrast.stac.provider import BandSource

# rasterio hands arrays to GDAL as files without a place, and its own way to keep quiet about that
# does not hold where several threads do it at once.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module=r"rasterio\.warp")


@dataclass(frozen=True)
class File:
    """Bands that lie in one file, and are decoded together where they lie side by side."""

    bands: tuple[BandSource, ...]
    """At least one."""
    nearest: bool = False
    """Whether their numbers are names, such as classes, of which there is no mean."""

    @property
    def method(self) -> Resampling:
        """How it is brought onto another grid."""
        return Resampling.nearest if self.nearest else Resampling.bilinear


@dataclass(frozen=True)
class Part:
    """What lies of a file under a grid."""

    values: NDArray[Any]
    """Numbers of its bands, [n, h, w]; not to be written to."""
    empty: NDArray[np.bool_]
    """Where they are no data, [n, h, w]."""
    transform: Affine
    """Of these pixels."""
    wkt: str
    """CRS of the file."""
    corner: tuple[int, int] | None
    """(row, col) of the first pixel in the grid, where the two are one lattice."""

    @property
    def place(self) -> tuple[slice, slice]:
        """Its pixels in the grid, where the two are one lattice."""
        (row, col), (height, width) = self.corner or (0, 0), self.values.shape[1:]
        return slice(row, row + height), slice(col, col + width)

    def covers(self, geobox: GeoBox) -> bool:
        """Whether each pixel of the grid is one of its own."""
        return self.corner == (0, 0) and self.values.shape[1:] == tuple(geobox.shape)

    @property
    def pixel(self) -> float:
        """Longer side of a pixel, in units of the CRS."""
        t = self.transform
        return float(max(np.hypot(t.a, t.d), np.hypot(t.b, t.e)))


def read_parts(files: Sequence[File], geobox: GeoBox) -> list[Part | None]:
    """Read what lies under a grid.

    Args:
        files: what to read.
        geobox: the grid.

    Returns:
        a part for each file; None where it has nothing there.

    Raises:
        AssetError: names item, asset and window of what cannot be read.
        GridError: a file has no CRS, or one that does not reach to the grid.
    """
    grid = Finder(geobox)
    opened = [opening(file.bands[0].href, file.bands[0].signer) for file in files]
    levels = [_at_level(file, one, grid) for file, one in zip(files, opened, strict=True)]
    asked = [_ask(file, one, grid) for file, one in zip(files, levels, strict=True)]
    return [None if one is None else one.part() for one in asked]


def open_file(band: BandSource) -> Handle:
    """Open the file of a band.

    Raises:
        AssetError: it cannot be opened.
        GridError: it has no CRS.
    """
    return _opened(band, opening(band.href, band.signer))


def warp(
    values: NDArray[Any], part: Part, out: NDArray[Any], geobox: GeoBox, method: Resampling
) -> None:
    """Bring values on the pixels of a part onto the grid, where they are not yet.

    Args:
        values: [n, h, w]; floats are NaN where there is none.
        part: where they lie.
        out: [n, H, W], filled with what means that there is nothing.
        geobox: the grid.
        method: how values between pixels are found.
    """
    if part.corner is not None:
        out[:, *part.place] = values
        return
    scale = {} if thins(part.transform, part.wkt, geobox) else {"XSCALE": 1, "YSCALE": 1}
    for bands, gaps in _alike(values):
        found = None
        if method is Resampling.bilinear and not gaps:
            found = bilinear(values[bands], part.transform, part.wkt, geobox)
        if found is not None:
            out[bands] = found
            continue
        warped = out[bands]  # a copy, of several
        reproject(
            values[bands],
            warped,
            src_transform=part.transform,
            src_crs=part.wkt,
            dst_transform=geobox.transform,
            dst_crs=crs_wkt(geobox),
            src_nodata=np.nan if gaps else None,
            dst_nodata=np.nan if gaps else None,
            resampling=method,
            init_dest_nodata=False,
            tolerance=TOLERANCE,
            **scale,
        )
        out[bands] = warped


def _alike(values: NDArray[Any]) -> Iterator[tuple[list[int], bool]]:
    """Bands that are warped together, and whether they have gaps.

    Without gaps GDAL takes a third of the time. With gaps each goes alone: those of one band are
    none in the others.
    """
    gaps = np.isnan(values).any(axis=(1, 2)) if values.dtype.kind == "f" else np.zeros(len(values))
    whole = [band for band, gap in enumerate(gaps) if not gap]
    if whole:
        yield whole, False
    yield from (([band], True) for band, gap in enumerate(gaps) if gap)


def name(band: BandSource) -> str:
    """Say which file it is."""
    return f"item {band.item}, asset {band.asset}"


@dataclass(frozen=True)
class _Asked:
    """A part that is being read."""

    file: File
    raster: Raster
    under: Under
    request: Request

    def part(self) -> Part:
        try:
            pixels = self.request.result()
        except (RasterioError, OSError, ValueError, IndexError, AssetError) as error:
            where = f"window {self.under.window.flatten()}"
            raise _unreadable(self.file.bands[0], where, error) from error
        values, (height, width) = pixels.values, self.request.shape
        if values.dtype.kind not in "iuf":
            raise AssetError(f"{name(self.file.bands[0])}: no real numbers, but {values.dtype}")
        empty = np.zeros(values.shape, dtype=bool)
        for band, source in enumerate(self.file.bands):
            nodata = _nodata(source, self.raster)
            if nodata is not None:
                np.equal(values[band], nodata, out=empty[band])
        if values.dtype.kind == "f":
            empty |= ~np.isfinite(values)
        if pixels.seen is not None:
            empty |= ~pixels.seen
        window = self.under.window
        stretch = Affine.scale(window.width / width, window.height / height)
        transform, wkt = self.under.transform @ stretch, str(self.raster.wkt)
        return Part(values, empty, transform, wkt, self.under.corner)


def _at_level(file: File, opened: "Future[Handle]", grid: Finder) -> "Future[Handle]":
    base = _opened(file.bands[0], opened)
    level = _placed(file, lambda: grid.level(base.raster))
    # An overview may be a mean: of classes there is none.
    if level is None or file.nearest or not _declared(file, base.raster):
        return opened
    return opening(base.href, base.signer, level)


def _ask(file: File, opened: "Future[Handle]", grid: Finder) -> _Asked | None:
    there = _opened(file.bands[0], opened)
    under = _placed(file, lambda: grid.window(there.raster))
    if under is None:
        return None
    step = 1 if file.nearest or not _declared(file, there.raster) else under.step
    indexes = [band.index for band in file.bands]
    asked = request(there, indexes, under.window, step, file.method)
    return _Asked(file, there.raster, under, asked)


def _placed[Found](file: File, find: Callable[[], Found]) -> Found:
    try:
        return find()
    except GridError as error:
        raise GridError(f"{name(file.bands[0])}: {error}") from error


def _opened(band: BandSource, future: "Future[Handle]") -> Handle:
    try:
        opened = future.result()
    except (RasterioError, AssetError) as error:
        raise _unreadable(band, "its header", error) from error
    if opened.raster.wkt is None:
        raise GridError(f"{name(band)}: no CRS, so it has no place on the grid")
    return opened


def _declared(file: File, raster: Raster) -> bool:
    """Whether the file itself says what is no data: else it is mixed into what GDAL thins."""
    return all(
        band.nodata is None or band.nodata == _own_nodata(band, raster) or np.isnan(band.nodata)
        for band in file.bands
    )


def _nodata(band: BandSource, raster: Raster) -> float | None:
    return _own_nodata(band, raster) if band.nodata is None else band.nodata


def _own_nodata(band: BandSource, raster: Raster) -> float | None:
    return raster.nodata[band.index - 1] if band.index <= len(raster.nodata) else None


def _unreadable(band: BandSource, where: str, error: Exception) -> AssetError:
    cause = error if isinstance(error, AssetError) else error.__cause__ or error
    return AssetError(f"{name(band)}: cannot read {where} of {band.href} ({cause})")
