"""The sample data is what sample_data/README.md says it is."""

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.view import ViewExtension
from pystac.validation import validate_dict
from rasterio.features import rasterize

ROOT = Path(__file__).parents[1] / "sample_data"
SCENES = sorted(p.name for p in (ROOT / "scenes").iterdir() if p.is_dir())
BANDS = ("blue", "green", "red", "nir")


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("sample_data_make", ROOT / "make.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def west(make):
    return make.make_world("west")


@cache
def catalog():
    return pystac.Catalog.from_file(ROOT / "catalog.json")


@cache
def items():
    return {item.id: item for item in catalog().get_items(recursive=True)}


def read(name, key):
    with rasterio.open(items()[name].assets[key].get_absolute_href()) as source:
        return source.read(1)


def reflectance(name, key, with_offset=True):
    """Apply the item's own scale and offset; nodata becomes NaN."""
    band = items()[name].assets[key].extra_fields["bands"][0]
    dn = read(name, key)
    offset = band["raster:offset"] if with_offset else 0
    return np.where(dn == band["nodata"], np.nan, dn * band["raster:scale"] + offset)


def cover_share(fine, cols=slice(None)):
    """Share of each pixel in these columns that a fine mask covers."""
    return fine.reshape(256, 2, 448, 2).mean((1, 3))[:, cols]


def test_catalog_is_valid_core_stac_1_1_with_relative_links():
    objects = [catalog(), *catalog().get_children(), *items().values()]
    for each in objects:
        document = json.loads(Path(each.get_self_href()).read_text())
        assert document["stac_version"] == "1.1.0"
        # the extensions' schemas are not bundled with pystac; their fields are read back below
        validate_dict(document, extensions=[])
        assert all(link["href"].startswith(".") for link in document["links"])
        hrefs = [asset["href"] for asset in document.get("assets", {}).values()]
        assert all(href.startswith("./") for href in hrefs)
    assert {c.id for c in catalog().get_children()} == {"scenes", "dsm"}
    assert catalog().extra_fields["event"]["datetime"] == "2022-08-15T04:00:00Z"


def test_size_is_small():
    kept = [p for p in ROOT.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in kept) < 12e6


def test_two_zones_and_eight_dates_around_the_event():
    scenes = [items()[name] for name in SCENES]
    assert {i.properties["proj:code"] for i in scenes} == {"EPSG:32632", "EPSG:32633"}
    assert len({i.datetime.date() for i in scenes}) >= 6
    event = pystac.utils.str_to_datetime(catalog().extra_fields["event"]["datetime"])
    sides = {i.datetime > event for i in scenes}
    assert sides == {False, True}
    pairs = {(i.properties["place"], i.properties["split"]) for i in scenes}
    assert pairs == {("west", "train"), ("east", "val")}
    west = [i.bbox for i in scenes if i.properties["place"] == "west"]
    east = [i.bbox for i in scenes if i.properties["place"] == "east"]
    assert max(b[2] for b in west) < 12.0 < min(b[0] for b in east)


@pytest.mark.parametrize("name", SCENES)
def test_item_describes_its_files(name):
    item = items()[name]
    projection = ProjectionExtension.ext(item)
    assert ViewExtension.ext(item).sun_elevation > 15
    for key, asset in item.assets.items():
        with rasterio.open(asset.get_absolute_href()) as source:
            assert source.crs.to_epsg() == int(projection.code.removeprefix("EPSG:"))
            assert list(source.shape) == projection.shape
            assert list(source.transform)[:6] == projection.transform
            band = asset.extra_fields["bands"][0]
            assert source.dtypes[0] == band["data_type"]
            assert source.nodata == band.get("nodata")
            assert source.scales == (1.0,)
            assert source.offsets == (0.0,)
        if key in ("cloud", "damage"):
            listed = {c.value for c in ClassificationExtension.ext(asset).classes}
            assert set(np.unique(read(name, key))) <= listed | {band.get("nodata")}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.tif")), ids=lambda p: "/".join(p.parts[-2:]))
def test_every_tif_is_a_tiled_cog(path):
    with rasterio.open(path) as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.block_shapes == [(128, 128)]
        assert source.overviews(1)


@pytest.mark.parametrize("name", SCENES)
def test_cloud_cover_is_that_of_the_mask(name):
    valid = read(name, "blue") > 0
    cover = 100 * (read(name, "cloud")[valid] == 1).mean()
    assert items()[name].properties["eo:cloud_cover"] == pytest.approx(cover, abs=1e-3)


def test_clear_around_the_event_and_one_date_is_overcast():
    cover = {name: items()[name].properties["eo:cloud_cover"] for name in SCENES}
    assert all(c < 3 for name, c in cover.items() if "202208" in name)
    assert all(c > 60 for name, c in cover.items() if "20211110" in name)
    assert sum(c > 10 for name, c in cover.items() if name.startswith("west")) >= 3


@pytest.mark.parametrize("scene", "ab")
def test_offset_matters_across_the_baseline_change(make, west, scene):
    cols = slice(*make.SCENES[scene])
    road = cover_share(west.masks["road"] & (west.house == 0), cols) == 1
    before, after = f"west_20210613_{scene}", f"west_20220807_{scene}"
    assert items()[before].properties["processing:version"] == "03"
    assert items()[after].properties["processing:version"] == "04"
    clear = road & (read(before, "cloud") == 0) & (read(after, "cloud") == 0)
    for band in BANDS:
        ours = [np.nanmedian(reflectance(n, band)[clear]) for n in (before, after)]
        naive = [np.nanmedian(reflectance(n, band, False)[clear]) for n in (before, after)]
        assert ours[0] == pytest.approx(ours[1], abs=0.02)
        assert naive[1] - naive[0] == pytest.approx(0.1, abs=0.02)


def test_reflectances_are_those_of_their_covers(make, west):
    name, cols = "west_20220807_a", slice(*make.SCENES["a"])
    forest = cover_share(west.masks["forest"], cols) == 1
    red, nir = (reflectance(name, key)[forest & (read(name, "cloud") == 0)] for key in BANDS[2:])
    assert 0.25 < np.median(nir) < 0.5
    assert np.median((nir - red) / (nir + red)) > 0.7
    water = cover_share(west.masks["water"], slice(*make.SCENES["b"])) == 1
    clear = water & (read("west_20220807_b", "cloud") == 0)
    assert np.median(reflectance("west_20220807_b", "nir")[clear]) < 0.04


@pytest.mark.parametrize("stem", sorted({name[:-2] for name in SCENES}))
def test_adjacent_scenes_agree_where_they_overlap(stem):
    left, right = (items()[f"{stem}_{scene}"] for scene in "ab")
    seconds = (right.datetime - left.datetime).total_seconds()
    assert 0 < seconds < 10
    step = right.properties["proj:transform"][2] - left.properties["proj:transform"][2]
    width = left.properties["proj:shape"][1] - int(step / 2.5)
    assert width == 32
    for key in (*BANDS, "cloud"):
        a, b = read(left.id, key)[:, -width:], read(right.id, key)[:, :width]
        both = (read(left.id, "blue")[:, -width:] > 0) & (read(right.id, "blue")[:, :width] > 0)
        assert both.mean() > 0.5
        np.testing.assert_array_equal(a[both], b[both])


def test_some_scenes_end_at_a_swath_edge():
    empty = {name: (read(name, "blue") == 0).mean() for name in SCENES}
    cut = [name for name, share in empty.items() if share > 0]
    assert len(cut) >= 3
    assert all(share < 0.4 for share in empty.values())
    for name in cut:  # the footprint is that of the data, not of the file
        shape = gpd.GeoDataFrame.from_features([items()[name].to_dict()], crs=4326)
        area = shape.to_crs(items()[name].properties["proj:code"]).area[0]
        assert area == pytest.approx((1 - empty[name]) * 256 * 240 * 2.5**2, rel=0.01)


@pytest.mark.parametrize("name", [n for n in SCENES if "damage" in items()[n].assets])
def test_damage_is_the_footprints_rasterised(name):
    houses = gpd.read_file(ROOT / "buildings.geojson").to_crs(items()[name].properties["proj:code"])
    damage, no_data = read(name, "damage"), read(name, "blue") == 0
    with rasterio.open(items()[name].assets["damage"].get_absolute_href()) as source:
        pairs = zip(houses.geometry, houses["class"], strict=True)
        expected = rasterize(pairs, source.shape, transform=source.transform, dtype="uint8")
    np.testing.assert_array_equal(damage == 255, no_data)
    # a pixel's centre may lie on a footprint's edge, where nine decimals of a degree decide
    assert (damage == expected)[~no_data].mean() > 0.9995
    assert set(np.unique(damage)) - {255} == {0, 1, 2, 3, 4}


def test_labels_lie_on_the_first_date_after_the_event():
    assert {n for n in SCENES if "damage" in items()[n].assets} == {
        f"{place}_20220824_{scene}" for place in ("west", "east") for scene in "ab"
    }


@pytest.mark.parametrize("place", ["west", "east"])
def test_buildings_and_their_damage(place):
    houses = gpd.read_file(ROOT / "buildings.geojson").query("place == @place")
    assert 120 <= len(houses) <= 160
    assert 0.35 <= (houses["class"] > 1).mean() <= 0.45
    names = ("", "no-damage", "minor-damage", "major-damage", "destroyed")
    assert [names[c] for c in houses["class"]] == houses["damage"].tolist()
    assert houses["height_m"].between(4, 12).all()
    assert houses["building_id"].is_unique


@pytest.mark.parametrize("place", ["west", "east"])
def test_change_grows_with_damage(place):
    change = {grade: [] for grade in (1, 2, 3, 4)}
    for scene in "ab":
        pre, post = f"{place}_20220807_{scene}", f"{place}_20220824_{scene}"
        label = read(post, "damage")
        clear = (read(pre, "cloud") == 0) & (read(post, "cloud") == 0) & (read(pre, "blue") > 0)
        moved = np.mean([abs(reflectance(post, b) - reflectance(pre, b)) for b in BANDS], axis=0)
        for grade in change:
            change[grade].append(moved[clear & (label == grade)])
    means = [np.concatenate(change[grade]).mean() for grade in (1, 2, 3, 4)]
    assert means == sorted(means)
    assert means[3] > 3 * means[0]


def test_dsm_is_in_metres_and_holds_the_buildings(make, west):
    dsm = read("dsm_west", "dsm")
    assert (dsm == make.surface_model(west)).mean() > 0.999
    ground = cover_share(west.terrain)
    roof = cover_share(west.house > 0) == 1
    assert 4 < np.median((dsm - ground)[roof]) < 12


def test_same_seed_same_arrays(make, west):
    date = make.POST
    rendered, again = make.render(west, date), make.render(make.make_world("west"), date)
    for scene in make.SCENES:
        arrays = make.scene_arrays(west, date, scene, rendered)
        assert set(arrays) == {*BANDS, "cloud", "damage"}
        for key, array in make.scene_arrays(west, date, scene, again).items():
            np.testing.assert_array_equal(array, arrays[key])
            # other processors round the last bit elsewhere, so the files may differ in a few pixels
            assert (array == read(f"west_{date}_{scene}", key)).mean() > 0.999


def test_another_seed_is_another_world(make, west):
    other = make.make_world("west", seed=1)
    assert (other.house != west.house).mean() > 0.01
