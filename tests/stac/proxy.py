"""A proxy that breaks what it passes on, by a plan. Links of the API lead through it."""

import http.client
import json
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from urllib.parse import urlsplit

from tests.stac.server import Reply, Request

type Fault = Callable[[Reply], Reply]
HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "keep-alive"}


class Proxy:
    """``Server(Proxy(url, plan))``.

    ``plan`` tells what to do to the reply from the number of the distinct request and of the try
    of it, both from 1. Requests that are no search are not counted, and pass.
    """

    def __init__(
        self,
        url: str,
        plan: Callable[[int, int], Fault | None] = lambda number, attempt: None,
        *,
        only_get: bool = False,
    ) -> None:
        self._where = urlsplit(url).netloc
        self._plan = plan
        self._only_get = only_get
        self._tries: dict[tuple[str, str, bytes], int] = {}
        self._numbers: dict[tuple[str, str, bytes], int] = {}
        self._lock = Lock()
        self.broken = 0

    def __call__(self, request: Request) -> Reply:
        fault = self._fault(request)
        # The API writes the host that it is asked for into its links: the header stays ours.
        connection = http.client.HTTPConnection(self._where, timeout=30)
        try:
            plain = request.headers | {"Accept-Encoding": "identity"}
            connection.request(request.method, request.path, request.body, plain)
            answer = connection.getresponse()
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in HOP}
            reply = Reply(answer.read(), answer.status, headers)
        finally:
            connection.close()
        if self._only_get and request.path in ("", "/"):
            reply = _without_post(reply)
        return fault(reply) if fault else reply

    def _fault(self, request: Request) -> Fault | None:
        if not request.path.startswith("/search"):
            return None
        key = (request.method, request.path, request.body)
        with self._lock:
            number = self._numbers.setdefault(key, len(self._numbers) + 1)
            self._tries[key] = self._tries.get(key, 0) + 1
            fault = self._plan(number, self._tries[key])
            self.broken += fault is not None
            return fault


def _without_post(landing: Reply) -> Reply:
    """The landing page of a server that offers no search by POST."""
    document = json.loads(landing.body)
    links = document["links"]
    document["links"] = [link for link in links if link.get("method") != "POST"]
    return replace(landing, body=json.dumps(document).encode())


def passing(*faults: Fault, times: int = 1) -> Callable[[int, int], Fault | None]:
    """Each request fails so often, each with the next fault; then it is passed on."""
    return lambda number, attempt: faults[number % len(faults)] if attempt <= times else None


def lasting(page: int, fault: Fault) -> Callable[[int, int], Fault | None]:
    """The request with this number always fails."""
    return lambda number, attempt: fault if number == page else None
