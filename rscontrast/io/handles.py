"""Open raster handles, kept for the next read: one set a thread, bounded, never across a fork."""

import atexit
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from rscontrast.errors import AssetError
from rscontrast.stac.signing import Signed, Signer

LIMIT = 128
"""Handles that a thread keeps open; the one unused the longest is closed first."""

type _Key = tuple[str, Signer | None, int]


@dataclass(frozen=True)
class Handle:
    """A file as it is open in this thread."""

    href: str
    """What was asked for, unsigned."""
    signer: Signer | None
    """Who signs it."""
    signed: Signed
    """What opened it."""
    data: DatasetReader
    """The open file."""
    wkt: str | None
    """Its CRS; kept, since asking for it costs as much as reading a small window."""

    def read(self, index: int, **options: Any) -> NDArray[Any]:
        """Read a band as rasterio does; what was signed is tried once more, signed anew.

        Of a refusal in the midst of a file GDAL says no more than that the read failed.

        Raises:
            RasterioError: GDAL cannot read it.
            AssetError: access is refused.
        """
        try:
            return self._read(index, options)
        except RasterioError:
            if self.signer is None:
                raise
            if self.signer.sign(self.href, refused=self.signed) == self.signed:
                raise
        return handle(self.href, self.signer, refused=self.signed)._read(index, options)

    def _read(self, index: int, options: Mapping[str, Any]) -> NDArray[Any]:
        with _access(self.signed):
            pixels: NDArray[Any] = self.data.read(index, **options)
        return pixels


class _Handles(threading.local):
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.open: OrderedDict[_Key, Handle] = OrderedDict()


_handles = _Handles()
_inherited: list[object] = []


@atexit.register
def _close() -> None:
    """Close this thread's handles while rasterio can still say what goes wrong in doing so."""
    while _handles.pid == os.getpid() and _handles.open:
        _handles.open.popitem()[1].data.close()


def handle(href: str, signer: Signer | None = None, *, refused: Signed | None = None) -> Handle:
    """Open ``href``, or return the handle that this thread has open already.

    A local file that was written anew since is opened anew, and so is one whose signature has
    expired.

    Args:
        href: path or URL, unsigned.
        signer: who signs it, now.
        refused: what opened it before and does so no more.

    Raises:
        rasterio.errors.RasterioIOError: GDAL cannot open it.
        AssetError: no signature is to be had, or the one given is refused.
    """
    if _handles.pid != os.getpid():
        # A parent's handles are not usable in a child, nor may the child close them.
        _inherited.append(_handles.open)
        _handles.pid, _handles.open = os.getpid(), OrderedDict()
    key = (href, signer, _changed(href))
    found = _handles.open.pop(key, None)
    if found is not None and (found.signed == refused or found.signed.until <= time.time()):
        found.data.close()
        found = None
    _handles.open[key] = found = found or _open(href, signer, refused)
    while len(_handles.open) > LIMIT:
        _handles.open.popitem(last=False)[1].data.close()
    return found


def _open(href: str, signer: Signer | None, refused: Signed | None) -> Handle:
    signed = Signed(href) if signer is None else signer.sign(href, refused=refused)
    try:
        with _access(signed), rasterio.Env(**_opening(signed)):
            data = rasterio.open(signed.href)
    except RasterioIOError as error:
        if signer is None or not _refused(error):
            raise
        if refused is not None or signer.sign(href, refused=signed) == signed:
            raise AssetError(f"access is refused ({error}): {signer.remedy}") from error
        return _open(href, signer, signed)
    return Handle(href, signer, signed, data, data.crs.to_wkt() if data.crs else None)


def _opening(signed: Signed) -> dict[str, str]:
    # Without this GDAL lists the folder, which for an object store is a slow request.
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    if signed.options:
        # GDAL remembers that a link was refused, but here the key to it is not in the link.
        options["CPL_VSIL_CURL_NON_CACHED"] = f"/vsicurl/{signed.href}"
    return options


def _access(signed: Signed) -> AbstractContextManager[Any]:
    """GDAL's options for one file: they hold in this thread and this block only."""
    return rasterio.Env(**dict(signed.options)) if signed.options else nullcontext()


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
