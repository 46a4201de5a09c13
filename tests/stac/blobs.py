"""A server of files that opens them only to who bears a good signature or token.

A process of its own: in some requests GDAL holds Python's lock, so a thread could never answer.
"""

import json
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class Blobs:
    """The client's side: files to serve, settings, and what the server was asked."""

    def __init__(self, folder, port):
        self.folder, self.port = folder, port

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}/token"

    @property
    def domain(self):
        return f".localhost:{self.port}"

    def href(self, name):
        """Unsigned link, of account "acc" and container "box"; curl resolves *.localhost."""
        return f"http://acc{self.domain}/box/{name}"

    def set(self, **settings):
        """What the server does from now on.

        ``life`` of a token in seconds; whether it ``accepts`` tokens; ``accepts_after``: none made
        before; ``bearer``: the header that opens /bearer; ``answer`` in the place of a token.
        """
        new = self.folder / "settings.new"
        new.write_text(json.dumps(settings))
        new.replace(self.folder / "settings.json")

    def asked(self, prefix, status=None):
        """How many requests under a path were answered (with a status)."""
        lines = [line.split() for line in (self.folder / "log").read_text().splitlines()]
        return sum(p.startswith(prefix) and status in (None, int(s)) for p, s in lines)


@contextmanager
def serve(folder):
    """Serve a folder until the block ends."""
    folder.mkdir(exist_ok=True)
    (folder / "log").touch()
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            blobs = Blobs(folder, int(process.stdout.readline()))
            blobs.set()
            yield blobs
        finally:
            process.kill()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = Path()
    expiry, born = {}, {}  # of each token that was given out, Unix time

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=()):
        with (self.folder / "log").open("a") as log:
            log.write(f"{urlsplit(self.path).path} {status}\n")
        self.send_response(status)
        for key, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def token(self, life):
        token, expiry = secrets.token_hex(8), time.time() + life
        self.expiry[token], self.born[token] = expiry, time.time()
        stamp = datetime.fromtimestamp(expiry, UTC).isoformat().replace("+00:00", "Z")
        return {"token": f"sv=2024&sig={token}", "msft:expiry": stamp}

    def opens(self, url, settings):
        if url.path.startswith("/bearer/"):
            return self.headers.get("Authorization") == settings.get("bearer", "")
        token = url.query.partition("sig=")[2]
        expiry = self.expiry.get(token, 0.0)
        if not settings.get("accepts", True) or expiry <= time.time():
            return False
        return self.born[token] > settings.get("accepts_after", 0.0)

    def do_GET(self):
        url = urlsplit(self.path)
        settings = json.loads((self.folder / "settings.json").read_text())
        if url.path == "/token/acc/box":
            answer = settings.get("answer") or self.token(settings.get("life", 60.0))
            return self.answer(200, json.dumps(answer).encode())
        file = self.folder / Path(url.path).name
        if not self.opens(url, settings):
            return self.answer(403)
        if not file.is_file():
            return self.answer(404)
        data, span = file.read_bytes(), self.headers.get("Range")
        if not span:
            return self.answer(200, data, [("Accept-Ranges", "bytes")])
        first, last = span.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1 if last else None]
        where = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return self.answer(206, part, [("Content-Range", where)])

    do_HEAD = do_GET  # noqa: N815


if __name__ == "__main__":
    Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
