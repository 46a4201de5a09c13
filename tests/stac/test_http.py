"""Requests against a real server that fails in all the ways of the network."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from rscontrast.errors import CatalogError, InputError
from rscontrast.stac.sources.http import Http, Policy
from rscontrast.stac.sources.replies import RETRIED
from tests.stac.server import Reply, Server, cut, reply

QUICK = Policy(
    tries=4, connect=2, read=0.5, deadline=2, backoff=0.01, longest_backoff=0.05, longest_wait=5
)
GOOD = reply({"answer": list(range(500))})
RESET = Reply(reset=True)
FAULTS = {
    "reset": RESET,
    "cut off": cut(GOOD),
    "cut off, no length": cut(GOOD, length=False),
    "nothing at all": cut(GOOD, keep=0, length=False),
    "a gateway's page": Reply(b"<html>busy</html>"),
    "bytes that are no text": Reply(b"\xff\xfe\x00"),
    "silence": replace(GOOD, drip=1),
    "wrongly packed": replace(GOOD, headers={"Content-Encoding": "gzip"}),
} | {f"status {status}": reply({}, status) for status in sorted(RETRIED)}


def script(*replies):
    """A server that gives these replies in turn, and the last one for ever."""
    rest = list(replies)
    lock = threading.Lock()

    def answer(_):
        with lock:
            return rest.pop(0) if len(rest) > 1 else rest[0]

    return Server(answer)


def failure(server, http=None, path="/page", **more):
    with pytest.raises(CatalogError) as caught:
        (http or Http(QUICK)).json(server.url + path, **more)
    assert "\n" not in str(caught.value)
    assert server.url + path in str(caught.value)
    return str(caught.value)


class TestAnswers:
    def test_what_is_asked_arrives(self):
        with script(GOOD) as server:
            http = Http(QUICK, {"X-Key": "k"})
            for method in ("GET", "POST"):
                page = http.json(
                    server.url + "/a",
                    method=method,
                    params={"limit": 3, "q": "a b"},
                    body={"x": [1]} if method == "POST" else None,
                    headers={"X-More": "m"},
                )
                assert page == json.loads(GOOD.body)
        get, post = server.requests
        assert [get.method, post.method] == ["GET", "POST"]
        assert get.path == post.path == "/a?limit=3&q=a+b"
        assert json.loads(post.body) == {"x": [1]}
        for request in (get, post):
            assert (request.headers["X-Key"], request.headers["X-More"]) == ("k", "m")

    def test_packed_and_unpacked_are_the_same(self):
        packed = Reply(gzip.compress(GOOD.body), headers={"Content-Encoding": "gzip"})
        with script(packed) as server:
            assert Http(QUICK).json(server.url) == json.loads(GOOD.body)

    def test_in_pieces(self):
        body = b"".join(b"%x\r\n%s\r\n" % (1, bytes([b])) for b in GOOD.body) + b"0\r\n\r\n"
        pieces = Reply(body, headers={"Transfer-Encoding": "chunked"}, length=False)
        with script(cut(pieces, length=False), pieces) as server:
            assert Http(QUICK).json(server.url) == json.loads(GOOD.body)
        assert len(server.requests) == 2

    def test_environment_may_name_a_proxy(self):
        code = "from rscontrast.stac.sources.http import Http; print(Http().json('http://example.invalid/a'))"
        with script(reply("through")) as server:
            env = {"http_proxy": server.url, "PATH": ""}
            out = subprocess.run(
                [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
            )
        assert out.stdout.strip() == "through"


class TestPassingFaults:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("fault", FAULTS)
    def test_come_again(self, fault, method):
        with script(FAULTS[fault], FAULTS[fault], GOOD) as server:
            body = {"limit": 1} if method == "POST" else None
            page = Http(QUICK).json(server.url, method=method, body=body)
        assert page == json.loads(GOOD.body)
        assert len(server.requests) == 3
        assert {r.method for r in server.requests} == {method}
        assert len({r.body for r in server.requests}) == 1

    def test_all_kinds_in_one_request(self):
        kinds = [replace(f, drip=0) for f in FAULTS.values() if not f.drip]
        with script(*kinds, GOOD) as server:
            page = Http(replace(QUICK, tries=len(kinds) + 1)).json(server.url)
        assert page == json.loads(GOOD.body)

    def test_threads_do_not_mix_answers(self):
        hits = {}
        lock = threading.Lock()

        def answer(request):
            with lock:
                hits[request.path] = hits.get(request.path, 0) + 1
                first = hits[request.path] == 1
            return (
                [RESET, reply({}, 503), cut(GOOD)][len(request.path) % 3]
                if first
                else reply(request.path)
            )

        with Server(answer) as server, ThreadPoolExecutor(16) as pool:
            http = Http(QUICK)
            paths = [f"/{'x' * (i % 7)}{i}" for i in range(200)]
            assert list(pool.map(lambda p: http.json(server.url + p), paths)) == paths
        assert set(hits.values()) == {2}


class TestLastingFaults:
    @pytest.mark.parametrize("fault", [name for name in FAULTS if name != "silence"])
    def test_end_after_so_many_tries(self, fault):
        with script(FAULTS[fault]) as server:
            text = failure(server)
        assert "4 tries" in text
        assert len(server.requests) == 4
        if fault.startswith("status"):
            assert fault.removeprefix("status ") in text

    def test_first_cause_is_told_with_the_last(self):
        with script(RESET, reply({"detail": "no room"}, 503)) as server:
            text = failure(server, method="POST")
        assert text.startswith("POST ")
        assert "503 Service Unavailable: no room" in text
        assert "at first: " in text
        assert "reset" in text

    def test_refused_connection(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
            with pytest.raises(CatalogError, match=r"4 tries.*refused"):
                Http(QUICK).json(url)

    def test_server_that_accepts_and_says_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
            began = time.monotonic()
            with pytest.raises(CatalogError, match="timed out"):
                Http(replace(QUICK, tries=2)).json(url)
        assert 2 * QUICK.read <= time.monotonic() - began < 10

    @pytest.mark.parametrize("packed", [False, True])
    def test_slow_bytes_do_not_last_for_ever(self, packed):
        body = gzip.compress(GOOD.body) if packed else GOOD.body
        headers = {"Content-Encoding": "gzip"} if packed else {}
        drop = Reply(body, headers=headers, drip=0.02)  # no silence is long enough for `read`
        policy = replace(QUICK, tries=2, deadline=0.3)
        assert len(body) * drop.drip > 20 * policy.deadline
        began = time.monotonic()
        with script(drop) as server:
            text = failure(server, Http(policy))
        assert "not whole after 0.3 s" in text
        assert 0.6 <= time.monotonic() - began < 5

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422, 501])
    def test_what_is_wrong_stays_wrong(self, status):
        errors = [
            {"description": "unknown field x"},
            {"detail": [{"msg": "unknown field x"}]},
            {"code": 1, "message": "unknown field x"},
            ["unknown field x"],
        ]
        for error in errors:
            with script(reply(error, status), GOOD) as server:
                text = failure(server)
            assert len(server.requests) == 1
            assert "1 try" in text
            assert str(status) in text
            assert "unknown field x" in text

    def test_error_page_is_shortened(self):
        with script(Reply(b"<html>\n" + b"x" * 100_000, 404)) as server:
            assert 300 < len(failure(server)) < 500

    def test_endless_redirect(self):
        with script(reply({}, 302, Location="/again")) as server:
            assert "redirects" in failure(server)

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_post_that_was_moved_stays_a_post(self, status):
        moved = reply({}, status, Location="/new")
        with Server(lambda r: GOOD if r.path == "/new" else moved) as server:
            page = Http(QUICK).json(f"{server.url}/old", method="POST", body={"limit": 3})
        assert page == json.loads(GOOD.body)
        sent = [(r.method, r.path, json.loads(r.body)) for r in server.requests]
        assert sent == [("POST", "/old", {"limit": 3}), ("POST", "/new", {"limit": 3})]

    def test_a_post_that_is_moved_for_ever_ends(self):
        with script(reply({}, 302, Location="/again")) as server:
            assert "redirects" in failure(server, method="POST", body={})
            assert len(server.requests) < 50

    def test_a_moved_post_keeps_secrets_from_other_hosts(self):
        with Server(lambda _: GOOD) as other:
            there = other.url.replace("127.0.0.1", "localhost")
            with script(reply({}, 302, Location=f"{there}/new")) as server:
                Http(QUICK, {"Authorization": "Bearer x"}).json(server.url, method="POST", body={})
        assert server.requests[0].headers["Authorization"] == "Bearer x"
        assert "Authorization" not in other.requests[0].headers

    def test_redirect_out_of_http(self):
        with script(reply({}, 302, Location="file:///etc/hostname")) as server:
            assert "1 try" in failure(server)


class TestRetryAfter:
    def waited(self, text, **headers):
        with script(reply({}, 429, Retry_After=text, **headers), GOOD) as server:
            began = time.monotonic()
            assert Http(QUICK).json(server.url) == json.loads(GOOD.body)
        return time.monotonic() - began

    def test_seconds(self):
        assert 1 <= self.waited("1") < 2.5

    def test_date(self):
        assert (
            0.9 < self.waited(format_datetime(datetime.now(UTC) + timedelta(seconds=2), True)) < 3
        )

    def test_date_is_of_the_servers_clock(self):
        there = datetime(2001, 1, 1, tzinfo=UTC)
        later = there + timedelta(seconds=1)
        waited = self.waited(format_datetime(later, True), Date=format_datetime(there, True))
        assert 1 <= waited < 2.5

    @pytest.mark.parametrize("text", ["soon", "-5", "", "Wed, 99 Foo 2001", "1.5.1"])
    def test_what_cannot_be_read_is_no_wait(self, text):
        assert self.waited(text) < 1

    def test_date_that_has_passed(self):
        assert self.waited("Mon, 01 Jan 2001 00:00:00 GMT") < 1

    @pytest.mark.parametrize("status", [429, 503])
    def test_longer_than_allowed_ends_at_once(self, status):
        with script(reply({}, status, Retry_After="3600")) as server:
            began = time.monotonic()
            text = failure(server)
        assert time.monotonic() - began < 2
        assert len(server.requests) == 1
        assert "3600 s" in text
        assert "5 s" in text


class TestArguments:
    @pytest.mark.parametrize(
        "url",
        ["ftp://127.0.0.1/a", "file:///etc/hostname", "catalog.json", "", "http://", "http://[::1"],
    )
    def test_not_http(self, url):
        with pytest.raises(InputError, match="url"):
            Http(QUICK).json(url)

    @pytest.mark.parametrize(
        "bad", [{"tries": 0}, {"read": 0}, {"deadline": -1}, {"backoff": float("nan")}]
    )
    def test_policy(self, bad):
        with pytest.raises(InputError, match=next(iter(bad))):
            Policy(**bad)

    def test_pauses_spread_grow_and_end(self):
        policy = Policy(backoff=1, longest_backoff=8)
        for failures, most in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (5000, 8)]:
            drawn = [policy.pause(failures) for _ in range(300)]
            assert 0 <= min(drawn) < most / 4
            assert most * 3 / 4 < max(drawn) <= most

    def test_importing_and_constructing_is_light(self):
        code = (
            "import sys; from rscontrast.stac.sources.http import Http; Http(); "
            "print('requests' in sys.modules)"
        )
        command = [sys.executable, "-W", "error", "-c", code]
        out = subprocess.run(command, capture_output=True, text=True, check=True)
        assert out.stdout == "False\n"
