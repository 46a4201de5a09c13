import json
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import geopandas as gpd
import pandas as pd
import pystac
import pytest
import shapely

from rscontrast.errors import AssetError, EmptySearchError, InputError
from rscontrast.stac import search
from rscontrast.stac.index import instants
from tests.world import grid

FIRST, LAST = "2021-03-15", "2023-01-14"


@pytest.fixture(scope="module")
def truth(sample_catalog):
    return {i.id: i for i in pystac.Catalog.from_file(sample_catalog).get_items(recursive=True)}


def days(frame):
    return sorted(set(frame["datetime"].dt.strftime("%Y-%m-%d")))


def test_every_item_is_found_once_in_time_order(sample_catalog, truth):
    frame = search(sample_catalog)
    assert sorted(frame["id"]) == sorted(truth)
    assert frame.crs == "EPSG:4326"
    assert str(frame["datetime"].dt.tz) == "UTC"
    keys = list(zip(frame["datetime"], frame["id"], strict=True))
    assert keys == sorted(keys)
    assert search(sample_catalog)["id"].tolist() == frame["id"].tolist()
    for row in frame.itertuples():
        assert row.datetime == pd.Timestamp(truth[row.id].datetime)
        assert row.geometry.equals(shapely.geometry.shape(truth[row.id].geometry))


def test_hrefs_are_absolute_and_there(sample_catalog, monkeypatch):
    monkeypatch.chdir(sample_catalog.parent)
    for assets in search("catalog.json", collections=["dsm"])["assets"]:
        for asset in assets.values():
            assert Path(asset["href"]).is_absolute()
            assert Path(asset["href"]).is_file()


@pytest.mark.parametrize("name", ["scenes", "dsm"])
def test_collections(sample_catalog, truth, name):
    expected = {i.id for i in truth.values() if i.collection_id == name}
    assert set(search(sample_catalog, collections=[name])["id"]) == expected
    child = sample_catalog.parent / name / "collection.json"
    assert set(search(child)["id"]) == expected


def test_single_item_and_item_collection_are_sources(sample_catalog, tmp_path, truth):
    one = sample_catalog.parent / "scenes" / "west_20220824_a" / "west_20220824_a.json"
    assert search(one)["id"].tolist() == ["west_20220824_a"]
    some = list(truth.values())[:3]
    path = tmp_path / "items.json"
    pystac.ItemCollection(some).save_object(str(path))
    assert sorted(search(path)["id"]) == sorted(item.id for item in some)


def test_unknown_collection_suggests_the_nearest(sample_catalog):
    with pytest.raises(InputError, match="did you mean 'scenes'"):
        search(sample_catalog, collections=["scene"])


def test_max_items_keeps_the_first(sample_catalog):
    whole = search(sample_catalog)
    assert search(sample_catalog, max_items=5)["id"].tolist() == whole["id"].tolist()[:5]
    with pytest.raises(InputError, match="max_items"):
        search(sample_catalog, max_items=0)


class TestAOI:
    def expected(self, truth, area):
        shapes = {i.id: shapely.geometry.shape(i.geometry) for i in truth.values()}
        return {name for name, shape in shapes.items() if shape.intersects(area)}

    @pytest.mark.parametrize("form", ["bounds", "geometry", "utm frame", "utm file", "lonlat file"])
    def test_forms_agree_with_shapely(self, sample_catalog, truth, tmp_path, form):
        area = shapely.geometry.shape(truth["east_20210315_b"].geometry).centroid.buffer(1e-4)
        frame = gpd.GeoDataFrame(geometry=[area], crs="EPSG:4326")
        aoi = {"bounds": area.bounds, "geometry": area}.get(form)
        if form == "utm frame":
            aoi = frame.to_crs("EPSG:32633")
        if "file" in form:
            aoi = tmp_path / "aoi.gpkg"
            frame.to_crs("EPSG:32633" if "utm" in form else "EPSG:4326").to_file(aoi)
        found = set(search(sample_catalog, aoi=aoi)["id"])
        assert found == self.expected(truth, area)
        assert 0 < len(found) < len(truth)

    def test_several_features_are_united(self, sample_catalog, truth):
        parts = [
            shapely.geometry.shape(truth[f"{p}_20210315_a"].geometry) for p in ("east", "west")
        ]
        frame = gpd.GeoDataFrame(geometry=parts, crs="EPSG:4326")
        found = set(search(sample_catalog, aoi=frame)["id"])
        assert found == self.expected(truth, shapely.union_all(parts))


class TestTOI:
    @pytest.mark.parametrize(
        ("toi", "start", "stop"),
        [
            ("2022", "2022-01-01", "2023-01-01"),
            ("2022-08", "2022-08-01", "2022-09-01"),
            ("2022-08-24", "2022-08-24", "2022-08-25"),
            ("2022-08-24/..", "2022-08-24", None),
            ("../2022-08-24", None, "2022-08-25"),
            ("2021-06/2022-03", "2021-06-01", "2022-04-01"),
            ("2021-06-13T10:00:00Z/2021-08-22T23:00:00Z", "2021-06-13T10:00", "2021-08-22T23:00"),
            ("2021-06-13T12:00:00+02:00/..", "2021-06-13T10:00", None),
            (
                pd.Interval(pd.Timestamp("2021-06-01"), pd.Timestamp("2021-12-01")),
                "2021-06-01",
                "2021-12-01",
            ),
            (
                pd.Interval(
                    pd.Timestamp("2021-06-01", tz="UTC"), pd.Timestamp("2021-12-01", tz="UTC")
                ),
                "2021-06-01",
                "2021-12-01",
            ),
        ],
    )
    def test_forms_agree_with_plain_comparison(self, sample_catalog, truth, toi, start, stop):
        low = pd.Timestamp(start or "1900", tz="UTC")
        high = pd.Timestamp(stop or "2100", tz="UTC")
        expected = {n for n, i in truth.items() if low <= pd.Timestamp(i.datetime) < high}
        assert set(search(sample_catalog, toi=toi)["id"]) == expected
        assert 0 < len(expected) < len(truth)

    def test_an_instant_finds_its_item(self, sample_catalog, truth):
        time = truth["west_20220824_a"].datetime.isoformat()
        found = search(sample_catalog, toi=f"{time}/{time}")
        assert {"west_20220824_a"} <= set(found["id"])
        assert days(found) == ["2022-08-24"]

    def test_nothing_left_is_an_error_with_the_query(self, sample_catalog):
        with pytest.raises(EmptySearchError, match="1999"):
            search(sample_catalog, toi="1999")


class TestBadSources:
    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="source"):
            search(tmp_path / "no.json")
        with pytest.raises(InputError, match="source"):
            search(tmp_path)

    @pytest.mark.parametrize("text", ["{}", "[]", "not json", ""])
    def test_no_stac(self, tmp_path, text):
        path = tmp_path / "catalog.json"
        path.write_text(text)
        with pytest.raises((InputError, AssetError, EmptySearchError), match=r"catalog\.json"):
            search(path)

    @pytest.fixture
    def copied(self, sample_catalog, tmp_path):
        """Catalog of the sample world without its rasters."""

        def json_only(folder, names):
            return [n for n in names if n.endswith((".tif", ".py", ".geojson"))]

        shutil.copytree(sample_catalog.parent, tmp_path / "c", ignore=json_only)
        return tmp_path / "c"

    def edit(self, folder, name, change):
        path = folder / "scenes" / name / f"{name}.json"
        item = json.loads(path.read_text())
        change(item)
        path.write_text(json.dumps(item))

    def test_missing_item_file_is_named(self, copied):
        name = "west_20210613_b"
        (copied / "scenes" / name / f"{name}.json").unlink()
        with pytest.raises(AssetError, match=name):
            search(copied / "catalog.json")

    def test_broken_item_file(self, copied):
        name = "west_20210613_b"
        (copied / "scenes" / name / f"{name}.json").write_text("{")
        with pytest.raises(AssetError):
            search(copied / "catalog.json")

    def test_duplicate_ids(self, copied):
        self.edit(copied, "west_20210613_b", lambda item: item.update(id="west_20210613_a"))
        with pytest.raises(InputError, match=r"west_20210613_a.*two items that differ"):
            search(copied / "catalog.json")

    def test_the_same_item_twice_counts_once(self, sample_catalog):
        whole = search(sample_catalog)
        with pytest.warns(UserWarning, match="1 items come more than once"):
            found = search(pd.concat([whole, whole.iloc[3:4]]))
        assert found["id"].tolist() == whole["id"].tolist()

    def test_null_geometry(self, copied):
        def strip(item):
            item["geometry"] = None
            item.pop("bbox")
            item["properties"]["flaw"] = "lost"

        self.edit(copied, "west_20210613_b", strip)
        with pytest.raises(
            InputError, match=r"geometry of item west_20210613_b.*or leave them out"
        ):
            search(copied / "catalog.json")
        # The remedies that the message names:
        left = search(copied / "catalog.json", filter="flaw IS NULL")
        assert "west_20210613_b" not in set(left["id"])
        assert len(left) > 30
        assert len(search(copied / "catalog.json", toi="2022"))
        assert len(search(copied / "catalog.json", collections=["dsm"]))

    def test_no_time_at_all(self, copied):
        self.edit(copied, "west_20210613_b", lambda item: item["properties"].update(datetime=None))
        for options in ({}, {"toi": "2022"}):
            with pytest.raises(InputError, match="datetime of item west_20210613_b"):
                search(copied / "catalog.json", **options)

    def test_mixed_time_zones_become_utc(self, copied):
        self.edit(
            copied,
            "west_20210613_b",
            lambda item: item["properties"].update(datetime="2019-06-13T23:30:00-05:00"),
        )
        found = search(copied / "catalog.json", toi="2019-06-14")
        assert found["datetime"].tolist() == [pd.Timestamp("2019-06-14T04:30:00Z")]

    def test_no_time_but_text(self, copied):
        self.edit(
            copied, "west_20210613_b", lambda item: item["properties"].update(datetime="yesterday")
        )
        with pytest.raises(InputError, match="yesterday"):
            search(copied / "catalog.json")

    def test_unknown_property_suggests_the_nearest(self, sample_catalog):
        with pytest.raises(InputError, match="did you mean 'eo:cloud_cover'"):
            search(sample_catalog, filter="eo:cloud_covr < 10")

    def test_nothing_left_tells_which_condition_took_the_last(self, sample_catalog):
        with pytest.raises(EmptySearchError, match=r"items, of these \d+ of scenes, .* 0 touch"):
            search(sample_catalog, collections=["scenes"], toi="2022", aoi=(0, 0, 1, 1))
        with pytest.raises(EmptySearchError, match="0 meet "):
            search(sample_catalog, filter="eo:cloud_cover < -1")

    def test_a_frame_without_crs_or_times(self, sample_items):
        with pytest.raises(InputError, match="CRS None"):
            search(sample_items.set_crs(None, allow_override=True))
        with pytest.raises(InputError, match="items with id, datetime and a CRS"):
            search(sample_items.drop(columns="datetime"))

    def test_a_name_that_is_no_provider(self):
        with pytest.raises(InputError, match="source"):
            search("no-such-thing")
        with pytest.raises(InputError, match="did you mean 'earth-search'"):
            search("catalog.json", provider="earth-serch")
        with pytest.raises(InputError, match="a provider that has an endpoint"):
            search("generic")

    def test_an_item_of_a_period_meets_what_the_period_touches(self, copied):
        def period(item):
            item["properties"] |= {
                "datetime": None,
                "start_datetime": "2020-01-01T00:00:00Z",
                "end_datetime": "2020-02-01T00:00:00Z",
            }

        self.edit(copied, "west_20210613_b", period)
        for toi in ("2020", "2020-01-15", "../2020-01-01", "2020-02-01/2020-03"):
            found = search(copied / "catalog.json", toi=toi)
            assert found["id"].tolist() == ["west_20210613_b"]
            assert found["datetime"].isna().all()
            assert instants(found).tolist() == [pd.Timestamp("2020-01-01", tz="UTC")]
        with pytest.raises(EmptySearchError):
            search(copied / "catalog.json", toi="2020-03")
        assert search(copied / "catalog.json")["id"][0] == "west_20210613_b"

    def test_feature_collection_of_nothing_or_of_no_items(self, tmp_path):
        path = tmp_path / "items.json"
        path.write_text('{"type": "FeatureCollection", "features": []}')
        with pytest.raises(EmptySearchError, match=r"items\.json: no item"):
            search(path)
        path.write_text('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}')
        with pytest.raises((InputError, AssetError), match=r"items\.json"):
            search(path)

    def test_empty_catalog(self, tmp_path):
        pystac.Catalog("empty", "nothing").normalize_and_save(
            str(tmp_path), pystac.CatalogType.SELF_CONTAINED
        )
        with pytest.raises(EmptySearchError, match=r"catalog\.json: no item"):
            search(tmp_path / "catalog.json")

    def test_malformed_geometry(self, copied):
        name = "west_20210613_b"
        self.edit(copied, name, lambda item: item.update(geometry={"type": "Polygon"}))
        with pytest.raises(InputError, match=f"geometry of item {name}"):
            search(copied / "catalog.json")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    """URL of a folder behind HTTP."""
    handler = partial(Quiet, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestHTTP:
    @pytest.fixture
    def catalog(self, world, site):
        for name in "ab":
            world.item(name, grid())
        path = Path(world.catalog()).relative_to(world.folder)
        return f"{site}/{path.as_posix()}"

    def refused(self, source):
        with pytest.raises(AssetError) as caught:
            search(source)
        assert "\n" not in str(caught.value)
        assert source in str(caught.value)
        return str(caught.value)

    def test_static_catalog(self, catalog):
        frame = search(catalog)
        assert frame["id"].tolist() == ["a", "b"]

    def test_missing_catalog(self, site):
        assert "404" in self.refused(f"{site}/nothing.json")

    def test_missing_linked_item(self, world, catalog):
        (item,) = world.folder.rglob("b.json")
        item.unlink()
        text = self.refused(catalog)
        assert "b.json" in text
        assert "404" in text


@pytest.mark.parametrize("absolute", [True, False])
def test_absolute_and_relative_catalogs_give_the_same(world, absolute):
    world.item("a", grid())
    world.item("b", grid(), when="2023-01-01T00:00:00")
    frame = search(world.catalog(absolute=absolute))
    assert frame["id"].tolist() == ["a", "b"]
    assert Path(frame["assets"][0]["x"]["href"]).resolve() == world.folder / "a" / "x.tif"
