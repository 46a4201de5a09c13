"""Catalogs of files: walked whole, once each, in one order, and by name where one is wrong."""

import dataclasses
import io
import json
import shutil
import socket
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rscontrast.errors import CatalogError, InputError
from rscontrast.stac import search, write_items
from rscontrast.stac.sources.hrefs import absolute, join
from rscontrast.stac.sources.http import Http, Policy
from rscontrast.stac.sources.ranges import RangeFile
from rscontrast.stac.sources.static import walk
from tests.stac.server import Reply, Server, cut

HTTP = Http(Policy(tries=2, backoff=0.01))


class Counting(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.server.broken.pop(self.path, 0):
            self.send_error(503)
            return
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    """A folder behind HTTP that remembers what was asked for."""
    handler = partial(Counting, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.broken = [], {}
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def copy(catalog, folder):
    leave_out = shutil.ignore_patterns("*.tif", "*.py", "*.geojson")
    shutil.copytree(catalog.parent, folder, ignore=leave_out)
    return folder / "catalog.json"


def test_each_file_is_asked_for_once_and_the_order_is_that_of_the_links(
    sample_catalog, site, tmp_path
):
    path = copy(sample_catalog, tmp_path / "c")
    here = [item["id"] for item in walk(str(path), HTTP)]
    there = [[i["id"] for i in walk(f"{site.url}/c/catalog.json", HTTP)] for _ in range(3)]
    assert there == [here] * 3
    assert len(site.asked) == 3 * len(set(site.asked))
    assert len(set(site.asked)) == len(list((tmp_path / "c").rglob("*.json")))


def test_collections_that_are_not_asked_for_are_not_read(sample_catalog, site, tmp_path):
    copy(sample_catalog, tmp_path / "c")
    found = search(f"{site.url}/c/catalog.json", collections=["dsm"])
    assert set(found["collection"]) == {"dsm"}
    assert not [path for path in site.asked if "west_2022" in path]


def test_a_moment_without_service_is_outlived(sample_catalog, site, tmp_path):
    copy(sample_catalog, tmp_path / "c")
    name = "west_20210613_b"
    site.broken = {f"/c/scenes/{name}/{name}.json": 1}
    assert name in set(search(f"{site.url}/c/catalog.json")["id"])


def test_links_in_a_circle_end(sample_catalog, tmp_path):
    path = copy(sample_catalog, tmp_path / "c")
    child = path.parent / "dsm" / "collection.json"
    document = json.loads(child.read_text())
    document["links"] += [
        {"rel": "child", "href": "../catalog.json"},
        {"rel": "child", "href": "../dsm/../dsm/collection.json"},
    ]
    child.write_text(json.dumps(document))
    assert len(search(path)) == len(search(sample_catalog))


def test_an_unreadable_file_is_named_with_the_one_that_links_it(sample_catalog, tmp_path):
    path = copy(sample_catalog, tmp_path / "c")
    name = "west_20210613_b"
    (path.parent / "scenes" / name / f"{name}.json").write_text('{"type": "Feat')
    with pytest.raises(CatalogError, match=rf"{name}\.json, which .*scenes/collection\.json links"):
        search(path)


@pytest.mark.parametrize("document", [{}, {"type": "Topology"}, {"type": "Feature"}])
def test_what_is_no_stac(tmp_path, document):
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"x\.json"):
        search(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("base", "href", "found"),
    [
        ("/a/b/c.json", "./x.tif", "/a/b/x.tif"),
        ("/a/b/c.json", "../x.tif", "/a/x.tif"),
        ("/a/b/c.json", "/x.tif", "/x.tif"),
        ("/a/b/c.json", "s3://bucket/x.tif", "s3://bucket/x.tif"),
        ("/a/b/c.json", "/vsicurl/http://h/x.tif", "/vsicurl/http://h/x.tif"),
        ("/a/b/c.json", "file:///d/x%20%23.tif", "/d/x #.tif"),
        ("http://h/a/b/c.json", "../x.tif", "http://h/a/x.tif"),
        ("http://h/a/b/c.json", "/x.tif", "http://h/x.tif"),
        ("http://h/a/b/c.json", "http://other/x.tif", "http://other/x.tif"),
    ],
)
def test_relative_hrefs(base, href, found):
    assert join(base, href) == found
    item = {"id": "a", "properties": {}, "assets": {"x": {"href": href}}}
    assert absolute(item, base)["assets"]["x"]["href"] == found


class TestLines:
    @pytest.fixture
    def path(self, sample_catalog, tmp_path):
        items = list(walk(str(sample_catalog), HTTP))
        path = tmp_path / "items.ndjson"
        path.write_text("".join(f"{json.dumps(item)}\n" for item in items))
        return path

    def test_here_and_behind_http(self, path, site, sample_catalog):
        expected = search(sample_catalog)["id"].tolist()
        assert search(path)["id"].tolist() == expected
        assert search(f"{site.url}/{path.name}")["id"].tolist() == expected

    def test_collections(self, path):
        assert set(search(path, collections=["dsm"])["collection"]) == {"dsm"}
        with pytest.raises(InputError, match="did you mean 'dsm'"):
            search(path, collections=["dsmm"])

    @pytest.mark.parametrize("line", ["{", "[]", '{"type": "Feature"}', "3"])
    def test_a_bad_line_is_numbered(self, path, line):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:3], line, *lines[3:]]))
        with pytest.raises(InputError, match=r"items\.ndjson, line 4"):
            search(path)

    def test_missing(self, site, tmp_path):
        with pytest.raises(CatalogError, match=r"no\.ndjson"):
            search(f"{site.url}/no.ndjson")
        with pytest.raises(InputError, match=r"no\.ndjson"):
            search(Path(tmp_path) / "no.ndjson")

    def test_a_moment_without_service_is_outlived(self, path, site):
        site.broken = {f"/{path.name}": 1}
        assert search(f"{site.url}/{path.name}")["id"].tolist() == search(path)["id"].tolist()

    def test_what_is_cut_off_is_told_with_its_cause(self, path):
        with Server(lambda _: cut(Reply(path.read_bytes()))) as server:
            with pytest.raises(CatalogError, match=r"i\.ndjson failed after 2 tries.*bytes"):
                list(walk(f"{server.url}/i.ndjson", HTTP))
            assert len(server.requests) == 2


class TestNamesOfFiles:
    @pytest.mark.parametrize("folder", ["a#b", "a?b", "a::b", "a b%20"])
    @pytest.mark.parametrize("url", [False, True])
    def test_any_character(self, sample_catalog, tmp_path, folder, url):
        path = copy(sample_catalog, tmp_path / folder)
        lines = path.with_name("items.ndjson")
        items = list(walk(str(path), HTTP))
        lines.write_text("".join(f"{json.dumps(item)}\n" for item in items))
        for file in (path, lines):
            found = search(file.as_uri() if url else file)
            assert len(found) == len(items)
            for assets in found["assets"]:
                assert all(a["href"].startswith(f"{path.parent}/") for a in assets.values())

    def test_links_may_be_file_urls(self, sample_catalog, tmp_path):
        path = copy(sample_catalog, tmp_path / "a #b")
        child = path.parent / "dsm" / "collection.json"
        document = json.loads(child.read_text())
        for link in document["links"]:
            link["href"] = (child.parent / link["href"]).resolve().as_uri()
        child.write_text(json.dumps(document))
        assert len(search(path)) == len(search(sample_catalog))


def put(path, document):
    path.write_text(json.dumps(document))
    return path


def item(*links, **assets):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "a",
        "geometry": {"type": "Point", "coordinates": [1, 2]},
        "properties": {"datetime": "2020-01-01T00:00:00Z"},
        "links": list(links),
        "assets": assets,
    }


def test_hrefs_refer_to_where_a_file_was_read_and_of_members_to_themselves(tmp_path):
    made = item({"rel": "self", "href": "https://h/a/a.json"}, x={"href": "./x.tif"})
    for name, document, expected in [
        ("a.json", made, f"{tmp_path}/x.tif"),
        ("b.json", {"type": "FeatureCollection", "features": [made]}, "https://h/a/x.tif"),
        ("c.ndjson", made, "https://h/a/x.tif"),
    ]:
        assets = search(put(tmp_path / name, document))["assets"][0]
        assert assets["x"]["href"] == expected


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (item(x={"title": "x"}), "item 'a'.*href for asset 'x'"),
        (item(x={"href": None}), "item 'a'.*href for asset 'x'"),
        (item(x="x.tif"), "item 'a'.*href for asset 'x'"),
        (item() | {"assets": ["x.tif"]}, "item 'a'.*assets by their keys"),
        (item({"rel": "root"}), "item 'a'.*href for link 'root'"),
        (item("a"), "links as a list of objects"),
        (item() | {"links": {"rel": "a"}}, "links as a list of objects"),
        ({"type": "FeatureCollection", "features": {"a": 1}}, "features as a list"),
        ({"type": "FeatureCollection", "features": [item("a")]}, "links as a list of objects"),
        ({"type": "Catalog", "id": "c", "links": ["a"]}, "links as a list of objects"),
        ({"type": "Catalog", "id": "c", "links": [{"rel": "item"}]}, "href for link 'item'"),
    ],
)
def test_malformed_documents_are_named(tmp_path, document, text):
    with pytest.raises(InputError, match=rf"x\.json.*{text}"):
        search(put(tmp_path / "x.json", document))


def test_refused_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/catalog.json"
        with pytest.raises(CatalogError, match=r"catalog\.json failed after 2 tries.*refused"):
            list(walk(url, HTTP))


class TestFolders:
    def test_catalog_in_a_folder_is_suggested(self, sample_catalog, tmp_path):
        path = copy(sample_catalog, tmp_path / "c")
        with pytest.raises(InputError, match=rf"the catalog in it: {path}"):
            search(path.parent)

    @pytest.mark.parametrize("name", ["_x.parquet", ".x.parquet"])
    def test_hidden_files_are_read_when_they_are_named(self, sample_items, tmp_path, name):
        for file in (name, "a.parquet"):
            write_items(sample_items.iloc[:3], tmp_path / file)
        expected = sample_items["id"].tolist()[:3]
        for place in (tmp_path / name, (tmp_path / name).as_uri(), tmp_path):
            assert search(place)["id"].tolist() == expected


class TestRanges:
    DATA = bytes(range(256)) * 4

    def part(self, request):
        first, last = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        where = f"bytes {first}-{last}/{len(self.DATA)}"
        return Reply(self.DATA[first : last + 1], 206, {"Content-Range": where})

    def test_reads_what_a_file_does(self):
        with Server(self.part) as server:
            file = RangeFile(f"{server.url}/x", HTTP)
            for offset, whence, count in [(5, 0, 7), (3, 1, 1), (-9, 2, 4), (-2, 2, 9), (0, 0, -1)]:
                local = io.BytesIO(self.DATA)
                local.seek(file.tell())
                assert file.seek(offset, whence) == local.seek(offset, whence)
                assert file.read(count) == local.read(count)
            asked = len(server.requests)
            assert file.read(3) == b""
            assert len(server.requests) == asked

    @pytest.mark.parametrize("fault", ["status", "reset", "cut off", "too little"])
    def test_a_fault_is_outlived_once_and_told_when_it_lasts(self, fault):
        faults = {
            "status": lambda good: Reply(b"busy", 503),
            "reset": lambda good: Reply(reset=True),
            "cut off": cut,
            "too little": lambda good: dataclasses.replace(good, body=good.body[:-1]),
        }
        broken = []

        def answer(request):
            good = self.part(request)
            wide = len(good.body) > 1
            if wide and len(broken) < most:
                broken.append(request)
                return faults[fault](good)
            return good

        for most in (1, 9):
            broken.clear()
            with Server(answer) as server:
                file = RangeFile(f"{server.url}/x", HTTP)
                if most == 1:
                    assert file.read(100) == self.DATA[:100]
                    continue
                with pytest.raises(CatalogError, match="/x failed after 2 tries") as caught:
                    file.read(100)
                assert ("503" in str(caught.value)) == (fault == "status")

    def test_a_server_without_ranges_is_told_before_the_file_is_fetched(self):
        slow = Reply(self.DATA * 1000, drip=0.01)
        with Server(lambda _: slow) as server:
            with pytest.raises(CatalogError, match=r"no range requests\): download the file first"):
                RangeFile(f"{server.url}/x", HTTP)
            assert len(server.requests) == 1

    def test_parquet_behind_a_moment_without_service(self, sample_items, site, tmp_path):
        write_items(sample_items.iloc[:3], tmp_path / "i.parquet")
        url = f"{site.url}/i.parquet"
        with pytest.raises(CatalogError, match="download the file first"):
            search(url)  # Python's own server knows no ranges
        data = (tmp_path / "i.parquet").read_bytes()
        replies = []

        def answer(request):
            replies.append(request)
            if len(replies) in (1, 4):
                return Reply(b"busy", 429, {"Retry-After": "0"})
            first, last = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
            where = f"bytes {first}-{last}/{len(data)}"
            return Reply(data[first : last + 1], 206, {"Content-Range": where})

        with Server(answer) as server:
            found = search(f"{server.url}/i.parquet")
        assert found["id"].tolist() == sample_items["id"].tolist()[:3]
