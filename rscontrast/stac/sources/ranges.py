"""A file behind HTTP as an open file, of which no more is fetched than what is read."""

import io
import os
import re
from typing import TYPE_CHECKING, Any

from rscontrast.stac.sources.http import Http

if TYPE_CHECKING:
    import requests

WHOLE = (
    "the server sends the whole file where a part of it is asked for (it knows no range requests): "
    "download the file first, and give its path"
)


class RangeFile(io.RawIOBase):
    """Bytes by range requests, each of which is repeated like every other request of ours."""

    def __init__(self, url: str, http: Http) -> None:
        """Find the size.

        Args:
            url: http or https.
            http: sends the requests.

        Raises:
            CatalogError: it cannot be read, or not by ranges.
        """
        self._url, self._http, self._place = url, http, 0
        _, self._size = self._part(0, 1)

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read at any place: always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which is returned."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, origin + offset)
        return self._place

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Fill a buffer from the place on; gives the number of bytes, fewer at the end only."""
        count = min(len(buffer), self._size - self._place)
        if count <= 0:
            return 0
        buffer[:count], _ = self._part(self._place, count)
        self._place += count
        return count

    def _part(self, start: int, count: int) -> tuple[bytes, int]:
        """Bytes, and the size of the file that they are of."""
        asked = f"bytes={start}-{start + count - 1}"
        request = {
            "method": "GET",
            "url": self._url,
            # Of a packed reply, other bytes would be counted.
            "headers": {"Range": asked, "Accept-Encoding": "identity"},
            "hooks": {"response": _require_part},
        }
        part: tuple[bytes, int] = self._http.ask(
            request, lambda data, response: (_exactly(data, count), _size(response))
        )
        return part


def _require_part(response: "requests.Response", **_: Any) -> None:
    """Refuse a whole file before it is read: it may be large."""
    import requests

    if response.status_code == 200:
        response.close()
        raise requests.HTTPError(WHOLE, response=response)


def _exactly(data: bytes, count: int) -> bytes:
    if len(data) != count:
        raise ValueError(f"{len(data)} bytes in place of {count}")
    return data


def _size(response: "requests.Response") -> int:
    text = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes \d+-\d+/(\d+)", text.strip())
    if found is None:
        raise ValueError(f"Content-Range {text!r} does not tell the size of the file")
    return int(found[1])
