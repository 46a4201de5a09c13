"""JSON over HTTP that outlives a bad moment: what fails for a time is asked for again.

The body is read and parsed inside the retry loop: a page that was cut off, or was a gateway's
error text under status 200, is fetched again like one that never came.
"""

import io
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rscontrast.errors import CatalogError, InputError, positive, whole

if TYPE_CHECKING:  # importing it takes a third of a second, which a local search need not wait
    import requests

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses that may be another one in a moment."""
CHUNK = 1 << 16


@dataclass(frozen=True)
class Policy:
    """How long to wait for a server, and how often to come back. Times are in seconds."""

    tries: int = 6
    """Requests for one document, the first included."""
    connect: float = 10.0
    """Longest wait for a connection."""
    read: float = 60.0
    """Longest silence of the server."""
    deadline: float = 300.0
    """Longest time for one response: bytes that trickle in never break ``read``."""
    backoff: float = 0.5
    """A try waits a random time up to this, doubled with each failure: clients spread out."""
    longest_backoff: float = 30.0
    """The doubling ends here."""
    longest_wait: float = 120.0
    """Longest Retry-After that is waited out; a server that asks for more ends the request."""

    def __post_init__(self) -> None:
        """Refuse what would never ask, or never end."""
        whole("tries", self.tries)
        for name in ("connect", "read", "deadline", "backoff", "longest_backoff", "longest_wait"):
            positive(name, getattr(self, name))

    def pause(self, failures: int) -> float:
        """Time to wait after so many failures, by chance."""
        doubled = self.backoff * 2.0 ** min(failures - 1, 60)  # more would overflow
        return random.uniform(0, min(self.longest_backoff, doubled))


class Http:
    """Client of a catalog's servers. Threads may share it: each has a connection of its own.

    Proxies and certificates are those of the environment, as ``requests`` reads it.
    """

    def __init__(
        self, policy: Policy | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            policy: waits and tries.
            headers: sent with every request: an API key, say.
        """
        self.policy = policy or Policy()
        self._headers = dict(headers or {})
        self._local = threading.local()

    def json(
        self,
        url: str,
        *,
        method: str = "GET",
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask for a JSON document.

        Args:
            url: http or https.
            method: GET or POST; either is repeated, as a search changes nothing.
            params: the URL's query.
            body: sent as JSON, where there is one.
            headers: of this request, over those of the client.

        Raises:
            InputError: ``url`` is none of http or https.
            CatalogError: the document cannot be had: names request, tries, first and last cause.
        """
        import requests

        _check(url)
        request = {"method": method, "url": url, "params": params, "json": body, "headers": headers}
        failures: list[Exception] = []
        while True:
            try:
                return self._once(request)
            except requests.RequestException as error:
                failures.append(error)
                asked = _retry_after(error)
                if asked > self.policy.longest_wait:
                    most = self.policy.longest_wait
                    note = f"the server asks to wait {asked:.0f} s, more than {most:g} s: try later"
                    raise _failed(method, url, failures, note) from error
                if not _passing(error) or len(failures) == self.policy.tries:
                    raise _failed(method, url, failures) from error
            time.sleep(asked + self.policy.pause(len(failures)))

    def _once(self, request: dict[str, Any]) -> Any:
        import requests

        end = time.monotonic() + self.policy.deadline
        waits = (self.policy.connect, self.policy.read)
        with self._session().request(**request, stream=True, timeout=waits) as response:
            data = self._body(response, end)
        if not response.ok:
            text = f"{response.status_code} {response.reason}: {_message(data)}"
            raise requests.HTTPError(text, response=response)
        try:
            return json.loads(data)
        except ValueError as error:
            text = f"no JSON but {_shorten(data)!r} ({error})"
            raise requests.exceptions.ContentDecodingError(text) from error

    def _body(self, response: "requests.Response", end: float) -> bytes:
        import requests
        import urllib3

        chunks = []
        coding = {"Content-Encoding": response.headers.get("Content-Encoding", "identity")}
        try:
            # Not decoded yet: the decoder would wait for its next block past the end.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                chunks.append(chunk)
                if time.monotonic() > end:
                    raise requests.Timeout(f"not whole after {self.policy.deadline:g} s")
            return urllib3.HTTPResponse(io.BytesIO(b"".join(chunks)), headers=coding).data
        except urllib3.exceptions.HTTPError as error:  # cut off, silent, or wrongly packed
            raise requests.ConnectionError(error) from error

    def _session(self) -> "requests.Session":
        if not hasattr(self._local, "session"):
            import requests

            self._local.session = requests.Session()
            self._local.session.headers.update(self._headers)
        session: requests.Session = self._local.session
        return session


def status_of(error: CatalogError) -> int | None:
    """Status that the server answered with in the end; None: it gave none."""
    response = getattr(error.__cause__, "response", None)
    return None if response is None else int(response.status_code)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        known = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:  # brackets of IPv6 that do not match
        known = False
    if not known:
        raise InputError("url", url, "an address that begins with http:// or https:// and a host")


def _passing(error: "requests.RequestException") -> bool:
    """Whether the same request may be answered in a moment."""
    import requests

    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in RETRIED
    network = (requests.ConnectionError, requests.Timeout)
    return isinstance(error, (*network, requests.exceptions.ContentDecodingError))


def _retry_after(error: "requests.RequestException") -> float:
    """Seconds that the server asks for; 0 where it does not, or not in a way to be read."""
    response = error.response
    text = response.headers.get("Retry-After", "").strip() if response is not None else ""
    if text.isdecimal():
        return float(text)
    date = _date(text)
    if response is None or date is None:
        return 0.0
    # by the server's own clock, which need not be ours
    now = _date(response.headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (date - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _failed(method: str, url: str, failures: list[Exception], note: str = "") -> CatalogError:
    tries = f"{len(failures)} tries" if len(failures) > 1 else "1 try"
    last, first = _line(failures[-1]), _line(failures[0])
    begun = f"at first: {first}" if first != last else ""
    causes = "; ".join(text for text in (last, begun, note) if text)
    return CatalogError(f"{method} {url} failed after {tries}: {causes}")


def _line(error: Exception) -> str:
    """One line; around a connection's own error are names of pools that tell a user nothing."""
    inner = getattr(error.args[0] if error.args else None, "reason", None)
    return " ".join(str(inner or error).split()).rstrip(": ") or type(error).__name__


def _message(data: bytes) -> str:
    """What an error page says: the field that servers put it into, or its beginning."""
    try:
        page = json.loads(data)
    except ValueError:
        return _shorten(data)
    for name in ("description", "detail", "message", "error", "errors"):
        if isinstance(page, dict) and page.get(name):
            return _shorten(str(page[name]).encode())
    return _shorten(data)


def _shorten(data: bytes, most: int = 300) -> str:
    text = " ".join(data[:most].decode("utf-8", "replace").split())
    return f"{text}..." if len(data) > most else text
