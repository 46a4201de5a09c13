"""Rasters out: filled window by window, a COG at the end, whole or not at all."""

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from numpy.typing import DTypeLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.shutil import copy as raster_copy
from rasterio.windows import Window

from rscontrast.atomic import atomic_path
from rscontrast.errors import WriteError, choose
from rscontrast.io.grid import crs_wkt
from rscontrast.types import PathOrStr

BLOCK = 256
"""Side of a COG's blocks, pixels."""

RESAMPLING = ("nearest", "average", "mode")

CACHE = 64 * 2**20
"""Bytes of GDAL's own cache while a COG is made: by default it takes a twentieth of the memory."""

type Colour = tuple[int, int, int, int]
"""Red, green, blue, alpha, 0 to 255."""


class CogWriter:
    """Write a raster window by window; leaving the block without an error makes it a COG.

    The windows go into a plain GeoTIFF in a scratch folder beside the final file; only a COG that
    was read back to its last block gets the final name. Equal pixels make equal bytes. Memory does
    not grow with the raster, but where its rows are very long.
    """

    def __init__(
        self,
        path: PathOrStr,
        geobox: GeoBox,
        *,
        dtype: DTypeLike,
        nodata: float,
        bands: Sequence[str],
        scale: float = 1.0,
        tags: dict[str, str] | None = None,
        mask: bool = False,
        colours: Mapping[int, Colour] | None = None,
        statistics: bool = False,
        predictor: bool = False,
        resampling: str = "nearest",
    ) -> None:
        """Describe the raster.

        Args:
            path: final name, ending in ``.tif``.
            geobox: its grid, [H, W].
            dtype: of the pixels.
            nodata: value of pixels that nothing is written to, and of those without data.
            bands: a description of each band.
            scale: real value = pixel * scale.
            tags: metadata of the file.
            mask: keep an internal mask, 255 where pixels are data; those that nothing is written
                to are none.
            colours: of the values of the one band of 8 bits.
            statistics: keep minimum, maximum, mean and standard deviation of each band's data, as
                ``valid`` tells it; each pixel is then to be written once.
            predictor: store differences of neighbours, which makes smooth fields smaller.
            resampling: how overviews are made: "nearest", "average" or "mode".

        Raises:
            InputError: an unknown resampling.
        """
        choose("resampling", resampling, RESAMPLING)
        self.path, self.geobox = Path(path), geobox
        self.bands, self.scale, self.tags = tuple(bands), scale, tags or {}
        self.mask, self.colours = mask, dict(colours or {})
        self.statistics = [_Statistics() for _ in self.bands] if statistics else []
        self.options = {
            "BLOCKSIZE": BLOCK,
            "COMPRESS": "DEFLATE",
            "PREDICTOR": "YES" if predictor else "NO",
            "OVERVIEW_RESAMPLING": resampling.upper(),
            "BIGTIFF": "IF_SAFER",
        }
        self.profile = {
            "driver": "GTiff",
            "dtype": np.dtype(dtype).name,
            "count": len(self.bands),
            "height": geobox.shape[0],
            "width": geobox.shape[1],
            "crs": crs_wkt(geobox),
            "transform": geobox.transform,
            "nodata": nodata,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            # Not compressed: rows that end within a block are written to it again.
            "BIGTIFF": "IF_SAFER",
        }

    def __enter__(self) -> Self:
        """Open the scratch file.

        Raises:
            WriteError: the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(
                tempfile.mkdtemp(prefix=".cog-", suffix=".tmp", dir=self.path.parent)
            )
        except OSError as error:
            raise WriteError(f"{self.path}: cannot be begun ({error})") from error
        try:
            with _env():
                self.raster = rasterio.open(self.folder / "plain.tif", "w", **self.profile)
                if self.colours:
                    self.raster.write_colormap(1, self.colours)
        except BaseException as error:
            # Python calls __exit__ only after an __enter__ that came to its end.
            shutil.rmtree(self.folder, ignore_errors=True)
            if isinstance(error, OSError | RasterioError):
                raise WriteError(f"{self.path}: cannot be begun ({error})") from error
            raise
        return self

    def write(
        self,
        pixels: NDArray[np.generic],
        row: int,
        col: int,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Write [B, h, w] pixels with their first one at (row, col).

        Args:
            pixels: of all bands.
            row: in the raster.
            col: in the raster.
            valid: where they are data, [h, w], for the mask; None: everywhere.

        Raises:
            WriteError: the disk does not take them.
        """
        window = Window(col, row, pixels.shape[2], pixels.shape[1])
        try:
            with _env():
                self.raster.write(pixels, window=window)
                data = pixels.reshape(len(pixels), -1) if valid is None else pixels[:, valid]
                for of_band, values in zip(self.statistics, data, strict=False):
                    of_band.add(values)
                if self.mask:
                    seen = np.ones(pixels.shape[1:], bool) if valid is None else valid
                    self.raster.write_mask(seen, window=window)
        except RasterioError as error:
            raise self._failed(error) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the COG, or clear away what was begun.

        Raises:
            WriteError: the disk does not take it.
        """
        try:
            if error is None:
                self._finish()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _finish(self) -> None:
        plain, cog = self.folder / "plain.tif", self.folder / "cog.tif"
        try:
            with _env():
                self.raster.descriptions = self.bands
                self.raster.scales = [self.scale] * len(self.bands)
                self.raster.update_tags(**self.tags)
                for band, found in enumerate(self.statistics, start=1):
                    # GDAL's own are those of an overview.
                    self.raster.update_tags(band, **found.tags())
                self.raster.close()
                raster_copy(plain, cog, driver="COG", **self.options)
                plain.unlink()
                _require_readable(cog)
        except Exception as error:
            # rasterio.shutil lets GDAL's own errors through, which have no public class.
            raise self._failed(error) from error
        with atomic_path(self.path) as tmp:
            cog.rename(tmp)

    def _failed(self, error: BaseException) -> WriteError:
        cause = error.__cause__ or error
        return WriteError(f"{self.path}: not written, is the disk full? ({cause})")


class _Statistics:
    """Of one band, as its pixels come."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, 0.0, 0.0
        self.least, self.most = math.inf, -math.inf

    def add(self, values: NDArray[Any]) -> None:
        if values.size:
            numbers = values.astype(np.float64)
            self.count += numbers.size
            self.sum += float(numbers.sum())
            self.squares += float(numbers @ numbers)
            self.least = min(self.least, float(values.min()))
            self.most = max(self.most, float(values.max()))

    def tags(self) -> dict[str, str]:
        """As GDAL names them; none of a band without data."""
        if not self.count:
            return {}
        mean = self.sum / self.count
        deviation = math.sqrt(max(0.0, self.squares / self.count - mean**2))
        numbers = {"MINIMUM": self.least, "MAXIMUM": self.most, "MEAN": mean, "STDDEV": deviation}
        return {f"STATISTICS_{name}": f"{value:.12g}" for name, value in numbers.items()}


def _env() -> rasterio.Env:
    return rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_CACHEMAX=CACHE)


def _require_readable(cog: Path) -> None:
    """Read every block: GDAL can lose a failed write at closing.

    Raises:
        RasterioError: one cannot be read.
    """
    with rasterio.open(cog) as written:
        # All bands of a block at once, since they are stored together.
        for row in range(0, written.height, BLOCK):
            height = min(BLOCK, written.height - row)
            written.read(window=Window(0, row, written.width, height))
