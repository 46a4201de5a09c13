"""Documents over HTTP; a request outlives a bad moment: what fails for a time is asked for again.

The body is read and parsed inside the retry loop: a page that was cut off, or was a gateway's
error text under status 200, is fetched again like one that never came.
"""

import io
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rscontrast.errors import InputError, positive, whole
from rscontrast.stac.sources.replies import failed, is_passing, message, retry_after, shorten

if TYPE_CHECKING:  # importing it takes a third of a second, which a local search need not wait
    import requests

CHUNK = 1 << 16

type Read = Callable[[bytes, "requests.Response"], Any]
"""Makes a document of a body; ValueError: it is none."""


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
        request = {"method": method, "url": url, "params": params, "json": body, "headers": headers}
        return self.ask(request, lambda data, _: json.loads(data))

    def text(self, url: str) -> str:
        """Ask for a text in UTF-8; raises what :meth:`json` does."""
        text: str = self.ask({"method": "GET", "url": url}, lambda data, _: data.decode())
        return text

    def ask(self, request: dict[str, Any], read: Read) -> Any:
        """Send a request until an answer comes that can be read.

        Args:
            request: arguments of ``requests.request``; ``method`` and ``url`` among them.
            read: makes of the body, and the response, what is returned.

        Raises:
            InputError: the URL is none of http or https.
            CatalogError: no such answer came: names request, tries, first and last cause.
        """
        import requests

        method, url = request["method"], request["url"]
        _check(url)
        failures: list[Exception] = []
        while True:
            try:
                return self._once(request, read)
            except requests.RequestException as error:
                failures.append(error)
                asked = retry_after(error)
                if asked > self.policy.longest_wait:
                    most = self.policy.longest_wait
                    note = f"the server asks to wait {asked:.0f} s, more than {most:g} s: try later"
                    raise failed(method, url, failures, note) from error
                if not is_passing(error) or len(failures) == self.policy.tries:
                    raise failed(method, url, failures) from error
            time.sleep(asked + self.policy.pause(len(failures)))

    def _once(self, request: dict[str, Any], read: Read) -> Any:
        import requests

        end = time.monotonic() + self.policy.deadline
        waits = (self.policy.connect, self.policy.read)
        with self._session().request(**request, stream=True, timeout=waits) as response:
            data = self._body(response, end)
        if not response.ok:
            text = f"{response.status_code} {response.reason}: {message(data)}"
            raise requests.HTTPError(text, response=response)
        try:
            return read(data, response)
        except ValueError as error:
            text = f"what came cannot be read: {shorten(data)!r} ({error})"
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
            self._local.session.hooks["response"].append(_stay_post)
        session: requests.Session = self._local.session
        return session


def _stay_post(response: "requests.Response", **_: Any) -> None:
    """Follow a POST that was moved as a POST: requests would make a GET without a body of it."""
    if response.is_redirect and response.request.method == "POST":
        same = {301: 308, 302: 307}
        response.status_code = same.get(response.status_code, response.status_code)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        known = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:  # brackets of IPv6 that do not match
        known = False
    if not known:
        raise InputError("url", url, "an address that begins with http:// or https:// and a host")
