"""Native grids as columns: those of the items, and no file opened that need not be."""

import pickle
import re
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from rscontrast.errors import AssetError, BandError, GridError
from rscontrast.stac import read_items, search, write_items
from rscontrast.stac.index import (
    Grids,
    complete_grids,
    grids,
    index_items,
    layouts,
    native_geobox,
)
from tests.world import grid, write_raster

BOXES = {
    "a": grid(shape=(20, 30)),
    "b": grid("EPSG:32631", res=20.0, shape=(40, 50)),
    "c": grid(shape=(20, 30)),
    "d": grid("EPSG:3035", corner=(4_000_000.0, 2_500_000.0)),
}


class Counting(SimpleHTTPRequestHandler):
    """Serves files, by ranges as GDAL asks for them, and counts who is asked for."""

    def do_GET(self):
        self.server.asked[self.path] += 1
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    handler = partial(Counting, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = Counter()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def at(items, url, folder):
    """The same items, their files behind HTTP."""
    moved = items.copy()
    moved["assets"] = [
        {k: dict(a) | {"href": a["href"].replace(str(folder), url)} for k, a in assets.items()}
        for assets in items["assets"]
    ]
    return moved


@pytest.fixture(params=["item", "asset", "epsg", "wkt", "bbox", "file", "mixed"])
def items(request, world, tmp_path):
    """Items that say where they lie in one of the ways there are, and as Parquet too."""
    for number, (name, box) in enumerate(BOXES.items()):
        kind = request.param
        if kind == "mixed":
            kind = ("item", "asset", "epsg", "file")[number]
        item = world.item(name, box, with_grid=kind != "file")
        fields = item.properties
        if kind == "asset":
            for key in ("proj:code", "proj:shape", "proj:transform"):
                item.assets["x"].extra_fields[key] = fields.pop(key)
        if kind == "epsg":
            fields["proj:epsg"] = int(fields.pop("proj:code").split(":")[1])
        if kind == "wkt":
            fields["proj:wkt2"] = box.crs.to_wkt()
            fields["proj:code"] = None
        if kind == "bbox":
            fields.pop("proj:transform")
            fields["proj:bbox"] = list(box.boundingbox.bbox)
    return search(world.catalog())


def test_equal_those_of_the_files(items, tmp_path):
    write_items(items, tmp_path / "i.parquet")
    for frame in (items, read_items(tmp_path / "i.parquet")):
        found = grids(frame, "x")
        assert len(found) == len(BOXES)
        for name, box, row in zip(frame["id"], found, frame.to_dict("records"), strict=True):
            assert box == BOXES[name]
            assert native_geobox(row, "x") == box
            with rasterio.open(row["assets"]["x"]["href"]) as raster:
                assert box.shape == raster.shape
                assert box.transform.almost_equals(raster.transform)


def test_no_file_is_opened_of_items_that_tell_their_grid(world, site):
    for name, box in BOXES.items():
        world.item(name, box)
    items = at(search(world.catalog()), site.url, world.folder)
    found = grids(items, "x")
    assert len(index_items(items, found)) == 4
    assert not [path for path in site.asked if path.endswith(".tif")]


def test_a_header_is_read_once_and_written_down(world, site, tmp_path):
    for name, box in BOXES.items():
        world.item(name, box, with_grid=name == "a")
    items = at(search(world.catalog()), site.url, world.folder)
    first = grids(items, "x")
    seen = Counter(site.asked)
    assert {path for path in seen if path.endswith(".tif")} == {f"/{n}/x.tif" for n in "bcd"}
    assert list(grids(items, "x")) == list(first) == list(BOXES.values())
    full = complete_grids(items, "x")
    assert site.asked == seen
    write_items(full, tmp_path / "full.parquet")
    again = at(read_items(tmp_path / "full.parquet"), "http://127.0.0.1:9", "nowhere")
    assert list(grids(again, "x")) == list(first)
    assert "proj:shape" not in items["assets"][1]["x"]
    assert "proj:shape" not in full["assets"][1]["y"]


def test_a_file_written_anew_is_opened_anew(world):
    world.item("a", grid(), with_grid=False)
    items = search(world.catalog())
    assert grids(items, "x")[0] == grid()
    other = grid(res=5.0)
    write_raster(world.folder / "a" / "x.tif", np.zeros((1, *other.shape), "uint8"), other)
    assert grids(items, "x")[0] == other


def test_outlines_are_those_of_geoboxes_one_by_one(items):
    found = grids(items, "x")
    for crs in ("EPSG:32632", "EPSG:3035", "EPSG:4326"):
        for box, outline in zip(found, found.outlines(crs), strict=True):
            move = Transformer.from_crs(str(box.crs), crs, always_xy=True)
            dense = shapely.segmentize(box.extent.geom, box.extent.geom.length / 32)
            expected = shapely.transform(
                dense, lambda xy, m=move: np.column_stack(m.transform(*xy.T))
            )
            scale = np.ptp(shapely.get_coordinates(expected), axis=0).max()
            assert outline.hausdorff_distance(expected) < 1e-6 * scale


def test_index_is_one_that_torchgeo_takes(items):
    index = index_items(items, grids(items, "x"))
    assert index.crs == "EPSG:32632"
    assert isinstance(index.index, pd.IntervalIndex)
    assert index.index.name == "datetime"
    assert index["id"].tolist() == items["id"].iloc[index["item"]].tolist()
    own = index[index["id"] == "a"].geometry.iloc[0]
    assert own.equals(BOXES["a"].extent.geom)


class TestColumns:
    def test_a_sequence_of_geoboxes(self):
        boxes = list(BOXES.values())
        columns = Grids.of(boxes)
        assert list(columns) == boxes
        assert columns[1:3] == boxes[1:3]
        assert columns[-1] == boxes[-1]
        assert list(pickle.loads(pickle.dumps(columns))) == boxes
        few, which = columns.distinct()
        assert len(few) == 3
        assert [few[n] for n in which] == boxes
        assert list(Grids.join([columns, few])) == boxes + list(few)
        assert columns.most() == "EPSG:32632"

    def test_rotated_grids_and_wkt(self):
        turned = GeoBox(
            (5, 7), BOXES["a"].transform @ BOXES["a"].transform.rotation(30), "EPSG:32632"
        )
        columns = Grids.of([turned, BOXES["b"]])
        assert columns[0] == turned
        assert columns.outlines("EPSG:32632")[0].equals(turned.extent.geom)


def test_layouts(world):
    for name in "abc":
        extra = {"labels": np.ones(grid().shape, "uint8")} if name == "b" else None
        world.item(name, grid(), extra=extra)
    items = search(world.catalog())
    write_items(items, world.folder / "i.parquet")
    for frame in (items, read_items(world.folder / "i.parquet")):
        which, firsts = layouts(frame)
        assert which.tolist() == [0, 1, 0]
        assert firsts.tolist() == [0, 1]


class TestRefusals:
    def test_missing_file_is_named(self, world):
        world.item("a", grid(), with_grid=False)
        items = search(world.catalog())
        (world.folder / "a" / "x.tif").unlink()
        with pytest.raises(AssetError, match=r"item a, asset x: cannot open"):
            grids(items, "x")

    def test_file_without_crs(self, world):
        world.item("a", grid(), with_grid=False)
        write_raster(world.folder / "a" / "x.tif", np.zeros((1, 4, 4), "uint8"), grid(), crs=False)
        with pytest.raises(GridError, match="item a, asset x: no CRS"):
            grids(search(world.catalog()), "x")

    def test_unknown_crs(self, world):
        item = world.item("a", grid())
        item.properties["proj:code"] = "EPSG:99999999"
        with pytest.raises(
            GridError, match=re.escape("item a, asset x: no CRS is 'EPSG:99999999'")
        ):
            grids(search(world.catalog()), "x")

    def test_missing_band(self, sample_items):
        with pytest.raises(BandError, match="swir"):
            grids(sample_items, "swir")
