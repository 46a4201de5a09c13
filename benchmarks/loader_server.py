"""A folder over HTTP/1.1 with ranges, each request answered late: an object store far away.

    python benchmarks/loader_server.py FOLDER --latency 0.05

The port comes on standard output. It ends with the standard input.
"""

import argparse
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Whole files and single ranges."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path
    latency: float

    def do_HEAD(self) -> None:
        """Answer without the bytes."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """Answer."""
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """Wait, then send a file or a range of it."""
        time.sleep(self.latency)
        try:
            file = (self.folder / Path(self.path).name).open("rb")
        except OSError:
            self.send_error(404)
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            stop = min(size, int(asked[2]) + 1) if asked and asked[2] else size
            if start >= size:
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(stop - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.end_headers()
            if body:
                self.send(file.fileno(), start, stop)

    def send(self, file: int, start: int, stop: int) -> None:
        """By the kernel: the bytes do not pass through Python, which would cost the readers."""
        self.wfile.flush()
        try:
            while start < stop:
                sent = os.sendfile(self.connection.fileno(), file, start, stop - start)
                start += sent
        except ConnectionError:  # the reader has what it wanted
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """One thread a connection; readers open many at once."""

    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of readers that hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a request")
    options = parser.parse_args()
    Handler.folder, Handler.latency = options.folder, options.latency
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
