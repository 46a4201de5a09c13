"""A real HTTP server on loopback whose every reply is told: also one cut off, reset or dripping."""

import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    """The connection is reset in place of an answer."""
    keep: float = 1.0
    """Share of the body that is sent before the connection closes."""
    length: bool = True
    """Say how long the body is; without it the end of the connection ends the body."""
    drip: float = 0.0
    """Seconds between bytes."""


def reply(document: Any, status: int = 200, **headers: str) -> Reply:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(document).encode(), status, names)


class Server:
    """``with Server(answer) as server``: what ``answer`` makes of a request is sent."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.requests: list[Request] = []
        """All that came, in order."""
        lock = Lock()

        class Handler(_Handler):
            def respond(handler, request: Request) -> Reply:  # noqa: N805
                with lock:
                    self.requests.append(request)
                return answer(request)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    respond: Callable[[Request], Reply]
    """Each server's own handler defines it."""

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send(self.respond(Request(self.command, self.path, dict(self.headers), body)))

    do_GET = do_POST = handle_any  # noqa: N815

    def send(self, told: Reply) -> None:
        if told.reset:
            # lingering for no time: close() sends RST in place of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.close_connection = True
            self.connection.close()
            return
        whole = told.keep == 1 and told.length
        headers = {"Content-Type": "application/json", "Date": self.date_time_string()}
        headers |= {"Content-Length": str(len(told.body))} if told.length else {}
        headers |= {} if whole else {"Connection": "close"}
        lines = [f"HTTP/1.1 {told.status} {self.responses.get(told.status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in (headers | told.headers).items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        sent = told.body[: int(len(told.body) * told.keep)]
        self.close_connection = not whole
        if not told.drip:
            self.wfile.write(head + sent)
            return
        self.wfile.write(head)
        try:
            for byte in sent:
                self.wfile.write(bytes([byte]))
                time.sleep(told.drip)
        except ConnectionError:  # the client has had enough
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


def cut(whole: Reply, keep: float = 0.5, *, length: bool = True) -> Reply:
    """The same reply, ending too early."""
    return replace(whole, keep=keep, length=length)
