"""Handles of raster files: one a file, shared by all threads that read, never across a fork.

A handle knows what opens its file and what the file says of itself; GDAL's dataset lives for one
read, on the thread that reads. GDAL's LIBERTIFF driver opens a file in 0.2 ms, where a block of
1024 pixels takes 5 ms to decode, and GDAL keeps the header of a remote file. Datasets that stay
open cost memory: for each thread GDAL keeps the last block of each, in all 3.5 GB for 16 threads.
"""

import re
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from rscontrast.errors import AssetError
from rscontrast.io.inflate import Deflated, find_blocks
from rscontrast.io.pool import Shelf, shelf
from rscontrast.io.ranges import SILENCE, fetch, plain
from rscontrast.stac.signing import Signed, Signer

LIMIT = 10_000
"""Files that a process has handles of; the one unused the longest is let go first."""

FAST = "LIBERTIFF"
"""The driver that reads what it can."""

PASSING = r"(?i)HTTP response code: (429|5\d\d|0\b|206)|curl|time.?out|too slow|reset|connect"
"""What GDAL says of troubles that may pass."""

PAUSES = (0.25, 1.0, 4.0)
"""Seconds before a remote file that could not be read is tried again."""

type _Key = tuple[str, Signer | None, int | None, int]


@dataclass(frozen=True)
class Raster:
    """What a file says of its pixels; asked for once, since rasterio takes long to say it."""

    driver: str
    """GDAL's name of what reads it."""
    shape: tuple[int, int]
    """(H, W)."""
    transform: Affine
    """Pixels to coordinates."""
    wkt: str | None
    """CRS."""
    nodata: tuple[float | None, ...]
    """Of each band."""
    masked: bool
    """Whether it has a mask or an alpha band beside its pixels."""
    block: tuple[int, int]
    """(H, W) of what is decoded at once."""
    dtype: str
    """Of the first band."""
    overviews: tuple[int, ...]
    """Factors of the thinned copies in the file."""
    deflated: Deflated | None = None
    """Where its blocks lie, of a file that is read without GDAL."""

    @cached_property
    def grid(self) -> object:
        """Equal for files of one grid; an Affine takes long to compare."""
        return (self.shape, tuple(self.transform), self.wkt)

    @property
    def tiled(self) -> bool:
        """Whether blocks are narrower than the file: a strip is decoded in its whole width."""
        return self.block[1] < self.shape[1]


@dataclass(frozen=True, eq=False)
class Handle:
    """A file, or one of its overviews, for all threads."""

    href: str
    """What was asked for, unsigned."""
    signer: Signer | None
    """Who signs it."""
    level: int | None
    """Overview; None: the file itself."""
    key: _Key
    """What names its content."""
    raster: Raster = field(repr=False)
    """What it says of itself."""

    @property
    def where(self) -> str:
        """Which threads read it."""
        return "server" if self.remote else "disk"

    @property
    def remote(self) -> bool:
        """Whether a server is asked for each part of it."""
        return _remote(self.href)

    def read(self, indexes: list[int], **options: Any) -> NDArray[Any]:
        """Read bands as rasterio does, [n, h, w], on one of the reading threads.

        What fails at a server is tried again after a while; what was signed is signed anew. Of a
        refusal in the midst of a file GDAL says no more than that the read failed.

        Raises:
            RasterioError: GDAL cannot read it.
            AssetError: access is refused.
        """
        return self._patiently(lambda data: data.read(indexes, **options))

    def read_mask(self, **options: Any) -> NDArray[np.bool_]:
        """Read where the file's mask or alpha band lets pixels be seen, [h, w].

        Raises:
            RasterioError: GDAL cannot read it.
            AssetError: access is refused.
        """
        seen: NDArray[np.bool_] = self._patiently(lambda d: d.read_masks(1, **options)) != 0
        return seen

    def fetch(self, start: int, stop: int) -> bytes:
        """Bytes of the file from one on to before another, or to its end.

        Raises:
            OSError: they are not to be had now.
        """
        return _fetch(_sign(self.key).href, start, stop)

    def _patiently(self, read: Callable[[DatasetReader], NDArray[Any]]) -> NDArray[Any]:
        for pause in PAUSES if self.remote else ():
            signed = _sign(self.key)
            try:
                return self._once(signed, read)
            except RasterioError:
                time.sleep(pause)
                # A look at the file tells a refusal, or that it is gone, from a bad moment.
                _look_again(self.key, signed)
        return self._once(_sign(self.key), read)

    def _once(self, signed: Signed, read: Callable[[DatasetReader], NDArray[Any]]) -> NDArray[Any]:
        with _access(signed), rasterio.Env(**_opening(signed)):
            data = _dataset(signed.href, self.level, self.raster.driver)
            with data:
                return read(data)


def handle(href: str, signer: Signer | None = None, level: int | None = None) -> Handle:
    """Open a file, or return the handle that this process has open already.

    A local file that was written anew since is opened anew.

    Args:
        href: path or URL, unsigned.
        signer: who signs it, now.
        level: overview to open, from 0; None: the file itself.

    Raises:
        rasterio.errors.RasterioIOError: GDAL cannot open it.
        AssetError: no signature is to be had, or the one given is refused.
    """
    return opening(href, signer, level).result()


def opening(href: str, signer: Signer | None = None, level: int | None = None) -> "Future[Handle]":
    """Have a file opened on one of the reading threads; see :func:`handle`."""
    key = (href, signer, level, _changed(href))
    where = "server" if _remote(href) else "disk"
    return _shelf().get(key, lambda: _open_patiently(key), where)


def _shelf() -> Shelf[_Key, Handle]:
    return shelf("handles", lambda: Shelf(LIMIT, lambda _: 1))


def _open_patiently(key: _Key) -> Handle:
    refused = None
    for pause in PAUSES if _remote(key[0]) else ():
        try:
            return _open(key, refused)
        except RasterioIOError as error:
            if not re.search(PASSING, str(error)):
                raise
            time.sleep(pause)
            refused = _sign(key)
    return _open(key, refused)


def _look_again(key: _Key, signed: Signed) -> None:
    """Raise if a file is refused or gone for good."""
    try:
        _open(key, refused=signed)
    except RasterioIOError as error:
        if not re.search(PASSING, str(error)):
            raise


def _open(key: _Key, refused: Signed | None = None) -> Handle:
    """Look at a file; signed anew, and looked up anew, if what opened it before does so no more."""
    href, signer, level, _ = key
    signed = _sign(key, refused)
    try:
        with _access(signed), rasterio.Env(**_opening(signed), **_anew(signed, refused)):
            return Handle(href, signer, level, key, _look(signed, level))
    except RasterioIOError as error:
        if signer is None or not _refused(error):
            raise
        if refused is not None or signer.sign(href, refused=signed) == signed:
            raise AssetError(f"access is refused ({error}): {signer.remedy}") from error
        return _open(key, signed)


def _sign(key: _Key, refused: Signed | None = None) -> Signed:
    href, signer, *_ = key
    return Signed(href) if signer is None else signer.sign(href, refused=refused)


def _look(signed: Signed, level: int | None) -> Raster:
    """Open a file for what it says of itself, and choose who will read it."""
    href = signed.href
    with ExitStack() as both:
        try:
            # First: it reads the whole header as it opens, where the other holds Python's lock as
            # it asks for more of it.
            fast = both.enter_context(_dataset(href, level, FAST))
        except RasterioIOError as error:
            if re.search(f"{PASSING}|HTTP response|No such file|does not exist", str(error)):
                raise
            fast = None  # another format, or odd numbers of bits
        data = both.enter_context(_dataset(href, level, None))
        raster, local = _describe(data), not _remote(href)
        # The fast driver knows no files beside the one, nor a mask where there is a nodata too;
        # and it asks a server for strips one by one, where the other asks for many at once.
        alone = not local or len(data.files) <= 1
        if fast is None or raster.masked or not alone or not (local or raster.tiled):
            return raster
        ours = raster.tiled and (local or (plain(href) and not signed.options))
        blocks = find_blocks(data, partial(_fetch, href)) if ours else None
        return replace(raster, driver=FAST, deflated=blocks)


def _fetch(href: str, start: int, stop: int) -> bytes:
    if _remote(href):
        return fetch(href, start, stop)
    with open(href, "rb", buffering=0) as file:  # noqa: PTH123  # a name of GDAL's
        file.seek(start)
        return file.read(stop - start)


def _dataset(href: str, level: int | None, driver: str | None) -> DatasetReader:
    options = {} if level is None else {"overview_level": level}
    return rasterio.open(href, driver=driver, **options)


def _describe(data: DatasetReader) -> Raster:
    flags = data.mask_flag_enums[0]
    return Raster(
        driver=data.driver,
        shape=data.shape,
        transform=data.transform,
        wkt=data.crs.to_wkt() if data.crs else None,
        nodata=data.nodatavals,
        masked=MaskFlags.per_dataset in flags,
        block=data.block_shapes[0],
        dtype=data.dtypes[0],
        overviews=tuple(data.overviews(1)),
    )


def _opening(signed: Signed) -> dict[str, str | int]:
    if not _remote(signed.href):
        return {}
    return {
        # Without this GDAL lists the folder, which for an object store is a slow request.
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        # Enough for the header of most files, which so takes one request.
        "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
        # Without these a server that falls silent is waited for without end.
        "GDAL_HTTP_CONNECTTIMEOUT": SILENCE,
        "GDAL_HTTP_LOW_SPEED_TIME": SILENCE,
        "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    }


def _anew(signed: Signed, refused: Signed | None) -> dict[str, str]:
    """Look a file up anew: GDAL remembers that a link was refused, or led to nothing."""
    if refused is None and not signed.options:
        return {}
    return {"CPL_VSIL_CURL_NON_CACHED": f"/vsicurl/{signed.href}"}


def _access(signed: Signed) -> AbstractContextManager[Any]:
    """GDAL's options for one file: they hold in this thread and this block only."""
    return rasterio.Env(**dict(signed.options)) if signed.options else nullcontext()


def _remote(href: str) -> bool:
    return "://" in href or href.startswith("/vsi")


def _refused(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is the server's refusal (401 or 403)."""
    while error is not None:
        if re.search(r"\b40[13]\b", str(error)):
            return True
        error = error.__cause__
    return False


def _changed(href: str) -> int:
    """When a local file was last written, nanoseconds; 0 for a URL or a file that is missing."""
    try:
        return Path(href).stat().st_mtime_ns
    except (OSError, ValueError):  # a signed URL can be too long for a file's name
        return 0
