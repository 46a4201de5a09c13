"""Grids out of the headers of files: opened once in a process, and many at a time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioIOError

from rscontrast.errors import AssetError, GridError
from rscontrast.stac.signing import Signed, Signer

THREADS = 16
"""Files that are opened at a time."""
REMEMBERED = 1 << 17
"""Headers that a process keeps."""


@dataclass(frozen=True)
class Header:
    """A file to look into."""

    item: str
    """Id of the item, for messages."""
    asset: str
    """Key of the asset, for messages."""
    href: str
    """Path or URL, unsigned."""
    signer: Signer | None = None
    """Who signs it."""

    def read(self) -> GeoBox:
        """Read the grid; a file that is unchanged since is not opened again.

        Raises:
            AssetError: it cannot be opened.
            GridError: it has no CRS.
        """
        try:
            signer: Any = self.signer  # hashable, as every signer is
            return _read(self.href, signer, _changed(self.href))
        except AssetError as error:
            raise AssetError(f"item {self.item}, asset {self.asset}: {error}") from error
        except GridError as error:
            raise GridError(f"item {self.item}, asset {self.asset}: {error}") from error


def read_headers(headers: Sequence[Header]) -> list[GeoBox]:
    """Read many, the same file once.

    Raises:
        AssetError: the first one that cannot be opened.
        GridError: the first one without a CRS.
    """
    once = list({(header.href, header.signer): header for header in headers}.values())
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            boxes = list(pool.map(Header.read, once))
        finally:
            pool.shutdown(cancel_futures=True)
    found = {(h.href, h.signer): box for h, box in zip(once, boxes, strict=True)}
    return [found[header.href, header.signer] for header in headers]


@lru_cache(maxsize=REMEMBERED)
def _read(href: str, signer: Any, changed: int) -> GeoBox:  # noqa: ARG001
    signed = Signed(href) if signer is None else signer.sign(href)
    try:
        return _open(signed)
    except RasterioIOError as error:
        again = None if signer is None else signer.sign(href, refused=signed)
        if again is None or again == signed:
            raise AssetError(f"cannot open {href} ({error})") from error
    try:
        return _open(again)
    except RasterioIOError as error:
        raise AssetError(f"cannot open {href} ({error}); {signer.remedy}") from error


def _open(signed: Signed) -> GeoBox:
    # Without the first option GDAL lists the folder, which for an object store is a slow request.
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", **dict(signed.options)}
    with rasterio.Env(**options), rasterio.open(signed.href) as source:
        if source.crs is None:
            raise GridError(f"no CRS in {signed.href} or the metadata")
        return GeoBox(source.shape, source.transform, source.crs)


def _changed(href: str) -> int:
    """When a local file was last written, nanoseconds; 0 for a URL or a file that is missing."""
    try:
        return Path(href).stat().st_mtime_ns
    except (OSError, ValueError):  # a URL can be too long for a file's name
        return 0
