"""Bytes of files behind HTTP, asked for directly.

GDAL asks for blocks whole and hands them around in pieces of 16 KB; where a block is inflated
only as far down as its rows are needed, so much of it is asked for, and in one request. What needs
more than a URL (credentials, proxies, options of GDAL's for HTTP) is left to GDAL.
"""

import os
import re
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from rscontrast.io.pool import THREADS, Shelf, shelf

SILENCE = 20
"""Seconds without a byte from a server after which a request has failed."""

PARTIAL = 206
"""Status of an answer that holds a part of a file."""


def plain(url: str) -> bool:
    """Whether the URL alone is enough to read from it."""
    parts = urlsplit(url)
    told = any(key.startswith("GDAL_HTTP_") for key in os.environ)
    if told or parts.scheme not in ("http", "https"):
        return False
    return parts.scheme not in getproxies() or bool(proxy_bypass(parts.hostname or ""))


def fetch(url: str, start: int, stop: int) -> bytes:
    """Ask for a part of a file.

    Args:
        url: as it is requested, signed if need be.
        start: first byte.
        stop: byte after the last; what lies beyond the file's end does not come.

    Raises:
        OSError: no answer, another than that part, or one that was cut off.
    """
    asked = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    try:
        answer = _connections().request("GET", url, headers=asked, preload_content=False)
        try:
            length = _length(answer, start, stop)
            data: bytes = answer.read(length, decode_content=False)
            if len(data) < length:
                raise OSError(f"the answer was cut off after {len(data)} of {length} bytes")
        except BaseException:
            answer.close()  # what was not read to its end cannot serve the next request
            raise
    except urllib3.exceptions.HTTPError as error:
        raise OSError(str(error)) from error
    answer.release_conn()
    return data


def _length(answer: urllib3.BaseHTTPResponse, start: int, stop: int) -> int:
    """Bytes of an answer that is the part asked for."""
    said = answer.headers.get("Content-Range", "")
    part = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", said)
    if answer.status == PARTIAL and part and "Content-Encoding" not in answer.headers:
        first, last, size = map(int, part.groups())
        if first == start and last + 1 == min(stop, size):
            return last + 1 - start
    raise OSError(f"status {answer.status} and range {said!r} for bytes {start} to {stop}")


def _connections() -> urllib3.PoolManager:
    """Connections of this process, for all its threads."""
    pools: Shelf[str, urllib3.PoolManager] = shelf("connections", lambda: Shelf(1, lambda _: 1))
    return pools.have("pool", _connect)


def _connect() -> urllib3.PoolManager:
    return urllib3.PoolManager(
        maxsize=THREADS["server"],
        timeout=SILENCE,
        # Redirects are followed; whoever asks knows what to do of failures.
        retries=urllib3.Retry(connect=0, read=0, redirect=5, status=0, other=0),
        ca_certs=os.environ.get("CURL_CA_BUNDLE") or None,
    )
