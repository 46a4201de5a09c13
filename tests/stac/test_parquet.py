"""stac-geoparquet in and out: lossless, and read no further than a query needs."""

import json
import pickle
import shutil
import subprocess
import sys
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import shapely

from rscontrast.errors import CatalogError, EmptySearchError, InputError
from rscontrast.stac import read_items, search, write_items
from rscontrast.stac.conditions.query import Query
from rscontrast.stac.index import item_dicts, items_frame
from rscontrast.stac.sources.parquet import scan
from tests.conftest import ROOT

REAL = ROOT.parent / "shared" / "data" / "stac"


def box(xmin, ymin, xmax, ymax):
    return shapely.geometry.mapping(shapely.box(xmin, ymin, xmax, ymax))


def item(name="a", geometry=None, *, assets=None, collection="c", **properties):
    geometry = geometry or box(0, 0, 1, 1)
    bounds = shapely.geometry.shape(geometry).bounds
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "geometry": geometry,
        "bbox": list(bounds),
        "properties": {"datetime": "2022-01-01T00:00:00Z"} | properties,
        "links": [],
        "assets": assets or {},
        "collection": collection,
    }


def plain(value):
    """What JSON has: tuples are lists, and null is the same as absent but for datetime."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not None or k == "datetime"}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def as_pystac(made):
    return plain(pystac.Item.from_dict(made).to_dict(transform_hrefs=False))


def round_trip(items, path):
    write_items(items_frame(items), path)
    return {made["id"]: made for made in item_dicts(read_items(path))}


def assert_same(items, path):
    found = round_trip(items, path)
    assert set(found) == {made["id"] for made in items}
    for made in items:
        assert as_pystac(found[made["id"]]) == as_pystac(made)


ODD = {
    "a period": [
        item(
            datetime=None,
            start_datetime="2022-01-01T00:00:00Z",
            end_datetime="2022-02-01T00:00:00.500000Z",
        )
    ],
    "both": [item(start_datetime="2022-01-01T00:00:00Z", end_datetime="2022-02-01T00:00:00Z")],
    "period beside instant": [
        item(
            "a",
            datetime=None,
            start_datetime="2022-01-01T00:00:00Z",
            end_datetime="2022-02-01T00:00:00Z",
        ),
        item("b"),
    ],
    "microseconds": [item(datetime="2022-01-01T00:00:00.123456Z")],
    "other assets": [
        item("a", assets={"x": {"href": "/x.tif", "roles": ["data"], "bands": [{"name": "n"}]}}),
        item("b", assets={"y": {"href": "/y.tif"}, "x": {"href": "/z.tif", "gsd": 1.5}}),
        item("c", collection="other", assets={"thumb": {"href": "/t.png", "title": "T"}}),
    ],
    "nothing in common": [item("a", orbit=3, flag=True), item("b", text="é 漢字 🛰", list=[1, 2])],
    "whole numbers with gaps": [item("a", orbit=3), item("b")],
    "flags with gaps": [item("a", flag=False), item("b"), item("c", flag=True)],
    "nested": [
        item(deep={"a": {"b": [1, 2], "c": [{"d": "e"}]}, "e": []}),
        item("b", deep={"f": 1}),
    ],
    "null": [item(nothing=None, some=1)],
    "empty lists": [item(empty=[])],
    "empty structs": [item("a", deep={"x": {}, "y": 1}), item("b", deep={"x": {"z": 1}})],
    "a property called type": [item(type="scene", links=["x"], id="other")],
    "no collection": [{k: v for k, v in item().items() if k != "collection"}],
    "same id, two collections": [item("a", collection="c")],
    "multipolygon over the antimeridian": [
        item(
            geometry=shapely.geometry.mapping(
                shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)])
            )
        )
        | {"bbox": [179.0, 0.0, -179.0, 1.0]}
    ],
    "point": [item(geometry={"type": "Point", "coordinates": [1.5, 2.5]})],
    "heights": [
        item(
            geometry={
                "type": "Polygon",
                "coordinates": [[[0, 0, 5], [1, 0, 6], [1, 1, 7], [0, 0, 5]]],
            }
        )
        | {"bbox": [0.0, 0.0, 5.0, 1.0, 1.0, 7.0]},
        item("b"),
    ],
    "other extensions": [item() | {"stac_extensions": ["https://x/y.json"]}, item("b")],
    "whole numbers that floats do not hold": [
        item("a", n=9007199254740993, m=2**63 - 1),
        item("b"),
        item("c", n=-9007199254740993, m=1),
    ],
    "properties with a prefix": [
        item(id="x", **{"properties.id": "y", "properties.properties.id": 1, "item.z": 2})
    ],
    "members that STAC does not know": [
        item("a", z=1, **{"item.z": 2}) | {"z": {"deep": [3]}},
        item("b"),
    ],
    "links": [
        item() | {"links": [{"rel": "via", "href": "/x", "title": "t"}, {"rel": "a", "href": "/b"}]}
    ],
}


class TestLossless:
    @pytest.mark.parametrize("kind", ODD)
    def test_odd_items(self, kind, tmp_path):
        assert_same(ODD[kind], tmp_path / "i.parquet")

    def test_the_sample_catalog(self, sample_catalog, tmp_path):
        made = [plain(i) for i in item_dicts(search(sample_catalog))]
        assert len(made) > 30
        assert_same(made, tmp_path / "i.parquet")
        for truth in pystac.Catalog.from_file(sample_catalog).get_items(recursive=True):
            found = next(i for i in made if i["id"] == truth.id)
            truth.make_asset_hrefs_absolute()
            expected = as_pystac(truth.to_dict(transform_hrefs=False))
            assert as_pystac(found) | {"links": 0} == expected | {"links": 0}

    def test_footprints_of_another_crs(self, tmp_path):
        frame = items_frame([item("a", box(10, 40, 11, 41))])
        write_items(frame.to_crs(3857), tmp_path / "i.parquet")
        found = read_items(tmp_path / "i.parquet").geometry.iloc[0]
        assert shapely.equals_exact(found, frame.geometry.iloc[0], 1e-9)

    def test_footprints_without_crs(self, tmp_path):
        frame = items_frame([item("a")]).set_crs(None, allow_override=True)
        with pytest.raises(InputError, match=r"items: .*set_crs"):
            write_items(frame, tmp_path / "i.parquet")

    @pytest.mark.parametrize(
        ("values", "named"),
        [
            ([2**70, 1], "'x'.*more than 64 bits in item a"),
            ([{"y": [2**70]}, None], r"'x\.y'.*more than 64 bits in item a"),
            ([{"y": [{"z": 1}]}, {"y": [{"z": "1"}]}], r"'x\.y\.z'.*in item a.*text in item b"),
            ([[{}, {}], None], "'x'.*empty objects"),
        ],
    )
    def test_what_cannot_be_held_is_named(self, values, named, tmp_path):
        made = [item(n, x=x) for n, x in zip("ab", values, strict=True)]
        with pytest.raises(InputError, match=named):
            write_items(items_frame(made), tmp_path / "i.parquet")
        assert not list(tmp_path.iterdir())

    def test_nodata_as_stac_spells_it(self, tmp_path):
        def assets(*values):
            return {"x": {"href": "/x.tif", "raster:bands": [{"nodata": n} for n in values]}}

        text = item("a", assets=assets("nan", "-inf"), note="nan")
        assert_same([text], tmp_path / "text.parquet")
        both = [text, item("b", assets=assets(0, 1.5), collection="other")]
        found = round_trip(both, tmp_path / "i.parquet")
        nan, low = (band["nodata"] for band in found["a"]["assets"]["x"]["raster:bands"])
        assert np.isnan(nan)
        assert low == -np.inf
        assert found["a"]["properties"]["note"] == "nan"
        assert found["b"]["assets"] == assets(0, 1.5)
        shutil.copy(tmp_path / "i.parquet", tmp_path / "text.parquet")
        with pytest.warns(UserWarning, match="2 items come more than once"):
            assert len(read_items(tmp_path)) == 2
        worse = [text, item("b", assets=assets("none")), item("c", assets=assets(0))]
        with pytest.raises(
            InputError, match=r"'assets\.x\.raster:bands\.nodata'.*number in item a.*text in item b"
        ):
            write_items(items_frame(worse), tmp_path / "w.parquet")

    @pytest.mark.realdata
    def test_the_oscd_cities(self, oscd_catalog, tmp_path):
        assert_same(item_dicts(search(oscd_catalog)), tmp_path / "i.parquet")

    @pytest.mark.realdata
    @pytest.mark.parametrize(
        "name", ["landsat_100_items", "sentinel2_1000_items", "sentinel2_100_items_one_tile"]
    )
    def test_real_files(self, name, tmp_path):
        from stac_geoparquet.arrow import stac_table_to_items

        path = REAL / f"{name}.parquet"
        if not path.is_file():
            pytest.skip("the real stac-geoparquet files are not beside the checkout")
        truth = {i["id"]: i for i in stac_table_to_items(pq.read_table(path))}
        once = {i["id"]: i for i in item_dicts(read_items(path))}
        assert set(once) == set(truth)
        for name_, found in once.items():
            expected = plain(truth[name_])
            for made in (found, expected):  # the same instants, in either way of writing them
                for key in ("datetime", "created"):
                    if key in made["properties"]:
                        made["properties"][key] = pd.Timestamp(made["properties"][key])
            assert plain(found) == expected
        assert_same(item_dicts(read_items(path)), tmp_path / "i.parquet")

    def test_rows_come_by_time_and_lie_by_place(self, tmp_path):
        rng = np.random.default_rng(0)
        xs = rng.uniform(-170, 170, 300)
        days = rng.permutation(300)
        items = [
            item(
                f"{n:03d}",
                box(x, 0, x + 1, 1),
                datetime=str(pd.Timestamp("2020-01-01") + pd.Timedelta(int(d), "D")) + "Z",
            )
            for n, (x, d) in enumerate(zip(xs, days, strict=True))
        ]
        write_items(items_frame(items), tmp_path / "i.parquet")
        assert read_items(tmp_path / "i.parquet")["datetime"].is_monotonic_increasing
        stored = gpd.read_parquet(tmp_path / "i.parquet")
        gaps = np.abs(np.diff(shapely.get_x(shapely.centroid(stored.geometry.to_numpy()))))
        assert np.median(gaps) < 10

    def test_items_of_two_sources_in_one_file(self, sample_catalog, tmp_path):
        write_items(search(sample_catalog, collections=["dsm"]), tmp_path / "a.parquet")
        lazy, eager = read_items(tmp_path / "a.parquet"), search(sample_catalog)
        both = pd.concat([lazy, eager[eager["collection"] == "scenes"]], ignore_index=True)
        write_items(both, tmp_path / "b.parquet")
        assert_equal_frames(read_items(tmp_path / "b.parquet"), eager)


def assert_equal_frames(found, expected):
    assert [plain(i) for i in item_dicts(found)] == [plain(i) for i in item_dicts(expected)]


class TestCells:
    @pytest.fixture
    def frame(self, tmp_path):
        write_items(items_frame(ODD["other assets"]), tmp_path / "i.parquet")
        return read_items(tmp_path / "i.parquet").set_index("id", drop=False)

    def test_an_item_has_its_own_assets_only(self, frame):
        assets = frame["assets"]
        assert [sorted(a) for a in assets] == [["x"], ["x", "y"], ["thumb"]]
        assert assets["b"] == {"y": {"href": "/y.tif"}, "x": {"href": "/z.tif", "gsd": 1.5}}
        assert assets["a"]["x"]["bands"] == [{"name": "n"}]
        assert dict(assets["c"].items()) == {"thumb": {"href": "/t.png", "title": "T"}}
        assert "y" not in assets["a"]
        assert assets["a"].get("y") is None
        assert len(assets["b"]) == 2
        with pytest.raises(KeyError, match="nothing"):
            assets["a"]["nothing"]

    def test_lists_are_lists(self, frame):
        box = frame["bbox"]["a"]
        assert box == [0.0, 0.0, 1.0, 1.0]
        assert list(box) == [0.0, 0.0, 1.0, 1.0]
        assert (len(box), box[2], box[:2]) == (4, 1.0, [0.0, 0.0])
        assert box != [0.0]

    def test_they_travel_without_their_neighbours(self, tmp_path):
        many = [item(f"{n}", assets={"x": {"href": f"/{n:0100d}.tif"}}) for n in range(20_000)]
        write_items(items_frame(many), tmp_path / "i.parquet")
        frame = read_items(tmp_path / "i.parquet")
        one = pickle.dumps(frame.iloc[:1])
        assert len(one) < 1_000_000
        again = pickle.loads(pickle.dumps(frame))
        assert again["assets"].tolist() == frame["assets"].tolist()
        assert pickle.loads(one)["assets"][0] == frame["assets"][0]


class TestAntimeridian:
    """A footprint that jumps from 179 to -179, as its bounding box tells."""

    @pytest.fixture(params=["dicts", "file", "pieces"])
    def source(self, request, tmp_path):
        jumps = [[179, 0], [-179, 0], [-179, 1], [179, 1], [179, 0]]
        items = [
            item("a", {"type": "Polygon", "coordinates": [jumps]}) | {"bbox": [179, 0, -179, 1]},
            item("wide", box(-100, 20, 100, 21)),
            ODD["multipolygon over the antimeridian"][0] | {"id": "cut"},
        ]
        if request.param == "dicts":
            return items
        # As others write it: the footprint is not mended.
        frame = gpd.GeoDataFrame.from_features(items, crs="EPSG:4326")
        frame["id"], frame["datetime"] = (
            [i["id"] for i in items],
            pd.Timestamp("2022-01-01", tz="UTC"),
        )
        sides = ("xmin", "ymin", "xmax", "ymax")
        frame["bbox"] = [dict(zip(sides, map(float, i["bbox"]), strict=True)) for i in items]
        if request.param == "pieces":
            frame["bbox"] = [list(b.values()) for b in frame["bbox"]]
        frame.to_parquet(tmp_path / "i.parquet")
        return tmp_path / "i.parquet"

    def test_found_where_it_lies(self, source):
        with pytest.warns(UserWarning, match=r"1 footprints jump over the antimeridian \(a\)") as w:
            found = search(source)
        assert len(w) == 1
        footprint = found.set_index("id").geometry["a"]
        whole = shapely.union_all([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)])
        assert footprint.equals(whole)
        for x in (179.5, -179.5):
            with pytest.warns(UserWarning, match="jump over"):
                ids = search(source, aoi=(x - 0.1, 0.4, x + 0.1, 0.6))["id"]
            assert set(ids) == {"a", "cut"}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*jump over")
            with pytest.raises(EmptySearchError):
                search(source, aoi=(89, 0.4, 91, 0.6))
            assert list(search(source, aoi=(0, 20.4, 1, 20.6))["id"]) == ["wide"]


@pytest.fixture(scope="module")
def path(sample_catalog, tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "items.parquet"
    write_items(search(sample_catalog), path)
    return path


QUERIES = [
    {},
    {"collections": ["scenes"]},
    {"collections": ["dsm", "scenes"], "max_items": 7},
    {"toi": "2022-08"},
    {"toi": "2021-06-13T10:00:00Z/.."},
    {"filter": "eo:cloud_cover < 20"},
    {"filter": "eo:cloud_cover < 20 AND platform = 'synthetic-1'", "toi": "2021"},
]


class TestSearch:
    @pytest.mark.parametrize("query", QUERIES)
    def test_equals_the_catalogs(self, path, sample_catalog, query):
        assert_equal_frames(search(path, **query), search(sample_catalog, **query))

    def test_area_equals_the_catalogs(self, path, sample_catalog):
        whole = search(sample_catalog)
        for row in range(0, len(whole), 9):
            area = whole.geometry.iloc[row].centroid.buffer(1e-3)
            assert_equal_frames(search(path, aoi=area), search(sample_catalog, aoi=area))

    @pytest.mark.parametrize("query", QUERIES)
    def test_every_source_gives_the_same_frame(self, path, sample_catalog, tmp_path, query):
        whole = search(sample_catalog)
        dicts = item_dicts(whole)
        lines = tmp_path / "items.ndjson"
        lines.write_text("\n".join(map(json.dumps, dicts)) + "\n\n")
        folder = tmp_path / "folder" / "deep"
        write_items(whole.iloc[::2], folder / "a.parquet")
        write_items(whole.iloc[1::2], folder / "b.parquet")
        sources = (whole, dicts, [pystac.Item.from_dict(i) for i in dicts], lines, folder.parent)
        expected = search(path, **query)
        for source in sources:
            found = search(source, **query)
            assert set(found) == set(expected)
            assert found["id"].tolist() == expected["id"].tolist()
            assert found["datetime"].equals(expected["datetime"])
            assert found.geometry.geom_equals(expected.geometry).all()
            assert [plain(a) for a in map(dict, found["assets"])] == [
                dict(a) for a in expected["assets"]
            ]

    def test_unknown_names_suggest_near_ones(self, path):
        with pytest.raises(InputError, match="did you mean 'scenes'"):
            search(path, collections=["scene"])
        with pytest.raises(InputError, match="did you mean 'eo:cloud_cover'"):
            search(path, filter="eo:cloud_covers < 20")

    def test_nothing_left_says_which_condition_took_it(self, path, sample_catalog):
        far = (0, 0, 1, 1)
        for source in (path, sample_catalog):
            with pytest.raises(EmptySearchError, match=r"[1-9]\d* items, .*0 .*touch the aoi"):
                search(source, collections=["scenes"], aoi=far)
            with pytest.raises(EmptySearchError, match=r"0 .*from 1999-01-01"):
                search(source, toi="1999", aoi=far)

    def test_an_empty_file(self, path, tmp_path):
        pq.write_table(pq.read_table(path).slice(0, 0), tmp_path / "i.parquet")
        for read in (search, read_items):
            with pytest.raises(EmptySearchError, match=r"i\.parquet"):
                read(tmp_path / "i.parquet")

    def test_a_folder_without_parquet(self, tmp_path):
        for read in (search, read_items):
            with pytest.raises(InputError, match="a folder with files of"):
                read(tmp_path)


@pytest.fixture(scope="module")
def scattered():
    rng = np.random.default_rng(1)
    made = []
    for n in range(400):
        x, y = rng.uniform(-180, 177), rng.uniform(-85, 80)
        time = pd.Timestamp("2020-01-01", tz="UTC") + pd.Timedelta(int(rng.integers(700)), "D")
        made.append(
            item(
                f"{n:03d}",
                box(x, y, x + 3, y + 3),
                datetime=time.isoformat(),
                cloud=float(n % 100),
            )
        )
    over = shapely.MultiPolygon([shapely.box(178, 0, 180, 2), shapely.box(-180, 0, -178, 2)])
    wide = {
        "type": "Polygon",
        "coordinates": [[[178, 3], [182, 3], [182, 5], [178, 5], [178, 3]]],
    }
    made += [
        item("over", shapely.geometry.mapping(over)) | {"bbox": [178.0, 0.0, -178.0, 2.0]},
        item("past", wide),
        item(
            "period",
            box(10, 10, 11, 11),
            datetime=None,
            start_datetime="2020-03-01T00:00:00Z",
            end_datetime="2020-05-01T00:00:00Z",
        ),
    ]
    return made


AREAS = [
    (-180, -90, 180, 90),
    (10, 10, 12, 12),
    (-179.9, 0, -179, 6),
    (179, 0, 180, 6),
    (-100, -50, -60, 0),
]
TIMES = [None, "2020-04", "2020-04-01/..", "../2020-02"]


class TestPushDown:
    """Whatever the columns look like, no item is lost that the plain comparison finds."""

    def change(self, path, kind):
        table = pq.read_table(path)
        geo = table.schema.metadata
        if kind == "no boxes":
            table = table.drop("bbox")
        if kind == "lists":
            boxes = [list(b.values()) for b in table.column("bbox").to_pylist()]
            table = table.set_column(table.column_names.index("bbox"), "bbox", pa.array(boxes))
        for unit in ("s", "ms", "ns"):
            if kind == unit:
                for name in ("datetime", "start_datetime", "end_datetime"):
                    index = table.column_names.index(name)
                    table = table.set_column(
                        index, name, table.column(name).cast(pa.timestamp(unit, "Europe/Paris"))
                    )
        if kind == "naive":
            for name in ("datetime", "start_datetime", "end_datetime"):
                index = table.column_names.index(name)
                table = table.set_column(index, name, table.column(name).cast(pa.timestamp("us")))
        if kind == "text":
            for name in ("datetime", "start_datetime", "end_datetime"):
                index = table.column_names.index(name)
                texts = [
                    None if t is None else t.isoformat() for t in table.column(name).to_pylist()
                ]
                table = table.set_column(index, name, pa.array(texts, pa.large_string()))
        if kind == "dictionaries":
            index = table.column_names.index("collection")
            table = table.set_column(
                index, "collection", table.column("collection").dictionary_encode()
            )
        pq.write_table(table.replace_schema_metadata(geo), path, row_group_size=20)

    @pytest.mark.parametrize(
        "kind",
        ["as written", "no boxes", "lists", "s", "ms", "ns", "naive", "text", "dictionaries"],
    )
    def test_nothing_is_lost(self, scattered, tmp_path, kind):
        frame = items_frame(scattered)
        path = tmp_path / "i.parquet"
        write_items(frame, path)
        self.change(path, kind)
        for area in AREAS:
            for toi in TIMES:
                for filter_ in (None, "cloud < 10"):
                    query = {"aoi": area, "toi": toi, "filter": filter_, "collections": ["c"]}
                    expected = self.ids(frame, query)
                    assert self.ids(path, query) == expected
        assert {"over", "past"} <= set(self.ids(path, {"aoi": (-179.9, 0, -179, 6)}))

    def ids(self, source, query):
        try:
            return search(source, **query)["id"].tolist()
        except EmptySearchError:
            return []

    def test_little_is_read(self, tmp_path):
        many = [item(f"{n:05d}", box(n % 300 - 150, 0, n % 300 - 149, 1)) for n in range(6000)]
        write_items(items_frame(many), tmp_path / "i.parquet")
        area = shapely.box(10.2, 0.2, 10.4, 0.4)
        found = scan(tmp_path / "i.parquet", Query(area=area))
        assert set(search(many, aoi=area)["id"]) <= set(found["id"])
        assert len(found) < 100


class Ranges(BaseHTTPRequestHandler):
    """Serves one file by ranges, and counts what it serves."""

    def do_HEAD(self):
        self.reply(head=True)

    def do_GET(self):
        self.reply()

    def reply(self, *, head=False):
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        begin, end, status = 0, len(data), 200
        wanted = self.headers.get("Range")
        if wanted and self.server.ranges:
            first, last = wanted.removeprefix("bytes=").split("-")
            begin, end, status = int(first), min(int(last) + 1, len(data)), 206
        self.send_response(status)
        self.send_header("Content-Length", str(end - begin))
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.end_headers()
        if not head:
            self.wfile.write(data[begin:end])
            self.server.served += end - begin

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as server:
        server.files, server.served, server.ranges = {}, 0, True
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class TestRemote:
    @pytest.fixture
    def path(self, tmp_path):
        rng = np.random.default_rng(2)
        made = [
            item(
                f"{n:05d}",
                box(x, y, x + 1, y + 1),
                cloud=float(rng.uniform(0, 100)),
                assets={"x": {"href": f"/{rng.bytes(40).hex()}.tif"}},
            )
            for n, (x, y) in enumerate(
                zip(rng.uniform(-179, 178, 10_000), rng.uniform(-80, 80, 10_000), strict=True)
            )
        ]
        write_items(items_frame(made), tmp_path / "items.parquet")
        return tmp_path / "items.parquet"

    def test_a_small_area_fetches_little(self, server, path):
        server.files["/items.parquet"] = path.read_bytes()
        query = {"aoi": (10, 40, 14, 44), "filter": "cloud < 60"}
        expected = search(path, **query)
        found = search(f"{server.url}/items.parquet", **query)
        assert 0 < len(found) < 50
        assert_equal_frames(found, expected)
        assert 0 < server.served < 0.2 * len(server.files["/items.parquet"])

    def test_what_cannot_be_read_is_named(self, server, path):
        url = f"{server.url}/items.parquet"
        with pytest.raises(CatalogError, match=r"items\.parquet"):
            search(url)
        server.files["/items.parquet"] = b"no parquet at all, but text" * 10
        with pytest.raises(CatalogError, match=r"items\.parquet"):
            search(url)
        server.files["/items.parquet"] = path.read_bytes()[:-5000]
        with pytest.raises(CatalogError, match=r"items\.parquet"):
            search(url)

    def test_a_server_without_ranges(self, server, path):
        server.files["/items.parquet"], server.ranges = path.read_bytes(), False
        with pytest.raises(CatalogError, match=r"items\.parquet.*"):
            search(f"{server.url}/items.parquet", aoi=(10, 40, 14, 44))


class TestPlainGeoParquet:
    """Properties alone: no ids, no collections, no assets."""

    @pytest.fixture
    def table(self):
        times = pd.to_datetime(["2020-01-02", "2020-01-01", "2020-01-03"], utc=True)
        shapes = [shapely.box(n, 0, n + 1, 1) for n in range(3)]
        return gpd.GeoDataFrame(
            {"datetime": times, "event": ["x", "y", None], "proj:epsg": [32633.0, np.nan, 1]},
            geometry=shapes,
            crs="EPSG:4326",
        )

    def test_rows_are_named_by_file_and_number(self, table, tmp_path):
        table.to_parquet(tmp_path / "events.parquet")
        found = search(tmp_path / "events.parquet")
        assert found["id"].tolist() == ["events/1", "events/0", "events/2"]
        assert found["collection"].isna().all()
        assert [dict(a) for a in found["assets"]] == [{}, {}, {}]
        assert found["event"].tolist()[:2] == ["y", "x"]
        part = search(tmp_path / "events.parquet", toi="2020-01-02/..")
        assert part["id"].tolist() == ["events/0", "events/2"]

    @pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:3857", "OGC:CRS84", "EPSG:4258"])
    def test_any_crs(self, table, tmp_path, crs):
        table.to_crs(crs).to_parquet(tmp_path / "e.parquet", write_covering_bbox=True)
        found = search(tmp_path / "e.parquet", aoi=(0.4, 0.4, 0.6, 0.6))
        assert found["id"].tolist() == ["e/0"]
        assert found.crs == "EPSG:4326"
        assert found.geometry.iloc[0].buffer(1e-5).covers(shapely.box(0, 0, 1, 1))

    def test_no_crs_named_is_longitude_and_latitude(self, table, tmp_path):
        table.to_parquet(tmp_path / "e.parquet")
        stored = pq.read_table(tmp_path / "e.parquet")
        geo = json.loads(stored.schema.metadata[b"geo"])
        for crs in ("left out", None):
            geo["columns"]["geometry"].pop("crs", None)
            if crs is None:
                geo["columns"]["geometry"]["crs"] = None
            changed = stored.replace_schema_metadata({"geo": json.dumps(geo)})
            pq.write_table(changed, tmp_path / "e.parquet")
            if crs is None:
                with pytest.raises(InputError, match="a CRS; write the file again"):
                    search(tmp_path / "e.parquet")
            else:
                assert len(search(tmp_path / "e.parquet", aoi=(0.4, 0.4, 0.6, 0.6))) == 1

    def test_without_times_it_is_no_table_of_items(self, table, tmp_path):
        table.drop(columns="datetime").to_parquet(tmp_path / "e.parquet")
        with pytest.raises(InputError, match=r"e\.parquet.*columns event"):
            search(tmp_path / "e.parquet")

    @pytest.mark.realdata
    def test_maxar_events(self, tmp_path):
        path = REAL / "maxar_events.parquet"
        if not path.is_file():
            pytest.skip("the real stac-geoparquet files are not beside the checkout")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="geometry of item .* repaired")
            found = search(path)
            assert len(found) == pq.read_metadata(path).num_rows == 39_985
            some = search(path, toi="2023", filter='"tile:clouds_percent" < 5')
            truth = gpd.read_parquet(path)
            keep = (truth["datetime"].dt.year == 2023) & (truth["tile:clouds_percent"] < 5)
            assert set(some["id"]) == {f"maxar_events/{n}" for n in np.flatnonzero(keep)}
            write_items(some, tmp_path / "some.parquet")
            again = item_dicts(read_items(tmp_path / "some.parquet"))
            # A table of properties has no boxes; a file of items has.
            assert [plain(i | {"bbox": 0}) for i in again] == [
                plain(i | {"bbox": 0}) for i in item_dicts(some)
            ]


def test_a_local_search_starts_without_what_it_does_not_need(sample_items, tmp_path):
    write_items(sample_items, tmp_path / "i.parquet")
    code = (
        "import sys; from rscontrast.stac.search import search; "
        f"print(len(search({str(tmp_path / 'i.parquet')!r}, toi='2022'))); "
        "print([m for m in ('torch', 'lightning', 'pystac', 'pystac_client', 'requests', 'fsspec', "
        "'stac_geoparquet', 'matplotlib', 'aiohttp') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    count, loaded = out.stdout.splitlines()
    assert int(count) > 0
    assert loaded == "[]"


def test_a_damaged_file_is_named(sample_items, tmp_path):
    write_items(sample_items, tmp_path / "i.parquet")
    data = bytearray((tmp_path / "i.parquet").read_bytes())
    data[100:3000] = bytes(2900)
    (tmp_path / "i.parquet").write_bytes(data)
    with pytest.raises(InputError, match=r"i\.parquet"):
        read_items(tmp_path / "i.parquet")


@pytest.mark.parametrize(
    "damage", ["wkb", "crs", "metadata", "no json", "bbox of text", "assets of text"]
)
def test_what_is_no_stac_geoparquet_is_named(sample_items, tmp_path, damage):
    path = tmp_path / "i.parquet"
    write_items(sample_items, path)
    table = pq.read_table(path)
    geo = json.loads(table.schema.metadata[b"geo"])
    columns = {
        "wkb": ("geometry", b"\x01\x02junk"),
        "bbox of text": ("bbox", dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), "far")),
        "assets of text": ("assets", "{}"),
    }
    if damage in columns:
        name, value = columns[damage]
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.array([value] * len(table)))
    if damage == "crs":
        geo["columns"]["geometry"]["crs"] = {"bad": 1}
    text = {"metadata": "[]", "no json": "{"}.get(damage, json.dumps(geo))
    pq.write_table(table.replace_schema_metadata({"geo": text}), path)
    for read in (read_items, search):
        with pytest.raises(InputError, match=r"(source|items): .*i\.parquet"):
            read(path)


def test_copies_are_told_without_decoding_them(tmp_path):
    names = [f"b{n}" for n in range(40)]
    made = [
        item(f"{n}", assets={k: {"href": f"/{n}/{k}", "roles": ["data"]} for k in names})
        for n in range(500)
    ]
    write_items(items_frame(made), tmp_path / "i.parquet")
    lazy, again = read_items(tmp_path / "i.parquet"), read_items(tmp_path / "i.parquet")
    begin = time.process_time()
    item_dicts(lazy)
    decoding = time.process_time() - begin
    for other in (lazy, again):
        begin = time.process_time()
        with pytest.warns(UserWarning, match="500 items come more than once"):
            assert len(search(pd.concat([lazy, other]))) == 500
        assert time.process_time() - begin < decoding / 2
    changed = again.copy()
    changed.at[7, "assets"] = {"b0": {"href": "/other"}}
    with pytest.raises(InputError, match="two items that differ"):
        search(pd.concat([lazy, changed]))


def test_a_copy_of_a_file_in_a_folder_counts_once(sample_items, tmp_path):
    write_items(sample_items, tmp_path / "a.parquet")
    shutil.copy(tmp_path / "a.parquet", tmp_path / "b.parquet")
    with pytest.warns(UserWarning, match="come more than once"):
        found = search(tmp_path)
    assert len(found) == len(sample_items)
    assert Path(tmp_path / "b.parquet").is_file()
