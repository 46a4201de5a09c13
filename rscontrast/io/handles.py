"""Open raster handles, kept for the next read: one set a thread, bounded, never across a fork."""

import os
import threading
from collections import OrderedDict

import rasterio
from rasterio.io import DatasetReader

LIMIT = 128
"""Handles that a thread keeps open; the one unused the longest is closed first."""


class _Handles(threading.local):
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.open: OrderedDict[tuple[str, int], tuple[DatasetReader, str | None]] = OrderedDict()


_handles = _Handles()


def handle(href: str) -> tuple[DatasetReader, str | None]:
    """Open ``href``, or return the handle that this thread has open already, and its CRS as WKT.

    The text is kept since asking for it costs as much as reading a small window. A local file that was written anew since is opened anew.

    Raises:
        rasterio.errors.RasterioIOError: GDAL cannot open it.
    """
    if _handles.pid != os.getpid():
        # GDAL's state of a parent process is not usable in a child: forget, do not close.
        _handles.__init__()  # type: ignore[misc]  # the documented way to reset a threading.local
    key = (href, os.stat(href).st_mtime_ns if os.path.exists(href) else 0)
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
