"""Catalogs of files: walked whole, once each, in one order, and by name where one is wrong."""

import json
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rscontrast.errors import CatalogError, InputError
from rscontrast.stac import search
from rscontrast.stac.sources.http import Http, Policy
from rscontrast.stac.sources.static import absolute, join, walk

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
