"""Open raster handles, kept for the next read: one set a thread, bounded, never across a fork."""

import atexit
import os
import threading
from collections import OrderedDict
from pathlib import Path

import rasterio
from rasterio.io import DatasetReader

LIMIT = 128
"""Handles that a thread keeps open; the one unused the longest is closed first."""


class _Handles(threading.local):
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.open: OrderedDict[tuple[str, int], tuple[DatasetReader, str | None]] = OrderedDict()


_handles = _Handles()
_inherited: list[object] = []


@atexit.register
def _close() -> None:
    """Close this thread's handles while rasterio can still say what goes wrong in doing so."""
    while _handles.pid == os.getpid() and _handles.open:
        _handles.open.popitem()[1][0].close()


def handle(href: str) -> tuple[DatasetReader, str | None]:
    """Open ``href``, or return the handle that this thread has open already, and its CRS as WKT.

    The text is kept, since asking for it costs as much as reading a small window. A local file
    that was written anew since is opened anew.

    Raises:
        rasterio.errors.RasterioIOError: GDAL cannot open it.
    """
    if _handles.pid != os.getpid():
        # A parent's handles are not usable in a child, nor may the child close them.
        _inherited.append(_handles.open)
        _handles.pid, _handles.open = os.getpid(), OrderedDict()
    key = (href, _changed(href))
    found = _handles.open.pop(key, None)
    if found is None:
        # Without this GDAL lists the folder, which for an object store is a slow request.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            data = rasterio.open(href)
        found = data, data.crs.to_wkt() if data.crs else None
    _handles.open[key] = found
    while len(_handles.open) > LIMIT:
        _handles.open.popitem(last=False)[1][0].close()
    return found


def _changed(href: str) -> int:
    """When a local file was last written, nanoseconds; 0 for a URL or a file that is missing."""
    try:
        return Path(href).stat().st_mtime_ns
    except (OSError, ValueError):  # a signed URL can be too long for a file's name
        return 0
