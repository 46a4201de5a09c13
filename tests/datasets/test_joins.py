"""What joins the imagery of two zones by `&`: terrain, vector labels, label rasters."""

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from torchgeo.datasets import IntersectionDataset, RasterDataset, VectorDataset

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import GridError, InputError
from rscontrast.stac import search
from tests.world import centres, grid, offsets, write_raster

ZONES = {"a": "EPSG:32632", "b": "EPSG:32633"}
CORNERS = {"a": (600_000.0, 5_100_000.0), "b": (400_000.0, 5_100_000.0)}
SHAPE = (96, 96)


class Terrain(RasterDataset):
    filename_glob = "*.tif"


class Houses(VectorDataset):
    filename_glob = "*.geojson"


class Layers(VectorDataset):
    filename_glob = "*.gpkg"


class DatedLayers(Layers):
    filename_regex = r"on_(?P<date>\d{8})"
    date_format = "%Y%m%d"


class DatedClasses(RasterDataset):
    filename_glob = "*.tif"
    filename_regex = r"on_(?P<date>\d{8})"
    is_image = False


def boxes(margin=0):
    """Grid of each place, with so many pixels around."""
    shape = tuple(n + 2 * margin for n in SHAPE)
    corners = {name: (x - 10 * margin, y + 10 * margin) for name, (x, y) in CORNERS.items()}
    return {name: grid(ZONES[name], corner=corners[name], shape=shape) for name in ZONES}


@pytest.fixture
def images(world):
    """Two places in two zones, two dates each."""
    for name, geobox in boxes().items():
        for day in (1, 2):
            labels = {"label": np.random.default_rng(day).integers(0, 5, SHAPE).astype("uint8")}
            world.item(f"{name}{day}", geobox, when=f"2022-01-0{day}T10:00:00", extra=labels)
    return STACDataset(search(world.catalog()), bands=["x", "y"])


def patch(images, name, side=32):
    """The middle of a place."""
    rows = images.index[images.index["id"] == f"{name}1"]
    middle = rows.geometry.iloc[0].centroid
    x, y = (
        slice(v - side / 2 * r, v + side / 2 * r, r)
        for v, r in zip((middle.x, middle.y), images.res, strict=True)
    )
    return x, y, images.bounds[2]


def terrain(folder, values=lambda x, y: 3 * x + y):
    """One file a place, each in its zone; heights are a plane of the coordinates."""
    for name, wide in boxes(32).items():
        x, y = centres(wide) - np.array(CORNERS[name])[:, None, None]
        write_raster(folder / f"{name}.tif", values(x, y)[None].astype("float32"), wide)
    return Terrain(folder)


@pytest.mark.parametrize("name", ZONES)
def test_terrain_comes_on_the_native_grid_of_each_place(images, tmp_path, name):
    heights = terrain(tmp_path / "dem")
    first = heights.crs
    pairs = TemporalPairDataset(images) & heights
    assert heights.crs == first
    place = patch(images, name)
    sample, plain = pairs[place], TemporalPairDataset(images)[place]
    assert sample["image"].shape == (2, 3, 32, 32)
    assert torch.equal(sample["image"][:, :2], plain["image"])
    assert torch.equal(sample["transform"], plain["transform"])
    box = images.geobox(*place[:2])
    assert str(box.crs) == ZONES[name]
    x, y = centres(box) - np.array(CORNERS[name])[:, None, None]
    # TorchGeo warps the files of the other zone by nearest neighbour, then once more.
    off = np.abs(sample["image"][:, 2].numpy() - (3 * x + y))
    assert off.max() < (0.01 if ZONES[name] == str(heights.crs) else 30)


@pytest.mark.parametrize("kind", [Houses, Layers])
@pytest.mark.parametrize("name", ZONES)
def test_vector_labels_are_burnt_into_the_native_grid(images, tmp_path, kind, name):
    shapes = gpd.GeoSeries([], crs="EPSG:4326")
    for place, geobox in boxes().items():
        x, y = centres(geobox)[:, ::12, ::12].reshape(2, -1)
        houses = gpd.GeoSeries(shapely.buffer(shapely.points(x, y), 31), crs=ZONES[place])
        shapes = pd.concat([shapes, houses.to_crs("EPSG:4326")])
    (tmp_path / "v").mkdir()
    suffix = kind.filename_glob[1:]
    gpd.GeoDataFrame(geometry=shapes).to_file(tmp_path / "v" / f"houses{suffix}")
    pairs = TemporalPairDataset(images) & kind(tmp_path / "v", res=10.0)
    place = patch(images, name)
    mask = pairs[place]["mask"].numpy()
    box = images.geobox(*place[:2])
    burnt = [(shape, 1) for shape in shapes.to_crs(str(box.crs))]
    assert np.array_equal(mask, rasterize(burnt, out_shape=(32, 32), transform=box.transform))
    assert 0.1 < mask.mean() < 0.4


@pytest.mark.parametrize("name", ZONES)
def test_label_rasters_of_the_items(images, name):
    pairs = TemporalPairDataset(images) & images.labels("label")
    place = patch(images, name)
    sample = pairs[place]
    row = images.items[images.items["id"] == f"{name}2"].iloc[0]
    with rasterio.open(row["assets"]["label"]["href"]) as raster:
        shift = ~raster.transform @ Affine(*sample["transform"].tolist()[:6])
        col, top = round(shift.c), round(shift.f)
        expected = raster.read(1)[top : top + 32, col : col + 32]
    assert np.array_equal(sample["mask"], expected)


def test_items_of_another_catalog_come_on_the_grid_of_the_first(images):
    other = STACDataset(images.items, bands=["x"], crs="EPSG:3857", res=20.0)
    pairs = TemporalPairDataset(images) & other
    for name in ZONES:
        place = patch(images, name)
        sample = pairs[place]
        assert torch.equal(sample["image"][:, 0], sample["image"][:, 2])
        assert torch.equal(sample["valid"], TemporalPairDataset(images)[place]["valid"])


def test_ground_without_terrain_is_not_valid(images, world):
    for name, geobox in boxes().items():
        half = offsets(geobox)[0]
        half[:, :48] = np.nan
        world.item(f"h{name}", geobox, bands={"h": half}, nodata=-1, when="2022-01-01T12:00:00")
    items = search(world.catalog())
    heights = STACDataset(items[items["id"].str.startswith("h")], bands=["h"])
    sample = (TemporalPairDataset(images) & heights)[patch(images, "b")]
    assert sample["valid"].float().mean() == 0.5
    assert torch.equal(sample["valid"][0], sample["image"][0, 2] != 0)


@pytest.mark.parametrize("turn", ["south-up", "mirrored"])
def test_terrain_on_a_native_grid_that_runs_the_other_way(world, tmp_path, turn):
    step = {"south-up": (10, 10), "mirrored": (-10, -10)}[turn]
    corner = {"south-up": (600_000, 5_099_040), "mirrored": (600_960, 5_100_000)}[turn]
    geobox = GeoBox(SHAPE, Affine.translation(*corner) @ Affine.scale(*step), "EPSG:32632")
    for day in (1, 2):
        world.item(f"a{day}", geobox, when=f"2022-01-0{day}T10:00:00")
    images = STACDataset(search(world.catalog()), bands=["x"])
    pairs = TemporalPairDataset(images) & terrain(tmp_path / "dem")
    place = patch(images, "a")
    x, y = centres(images.geobox(*place[:2])) - np.array(CORNERS["a"])[:, None, None]
    sample = pairs[place]
    assert np.abs(sample["image"][:, 1].numpy() - (3 * x + y)).max() < 0.01
    assert tuple(sample["transform"].tolist())[4] == step[1]


def test_a_rotated_native_grid_says_what_to_do(world, tmp_path):
    turned = Affine.translation(600_400, 5_099_900) @ Affine.rotation(20) @ Affine.scale(10, -10)
    for day in (1, 2):
        world.item(f"a{day}", GeoBox(SHAPE, turned, "EPSG:32632"), when=f"2022-01-0{day}T10:00:00")
    heights = terrain(tmp_path / "dem")
    items = search(world.catalog())
    images = STACDataset(items, bands=["x"])
    with pytest.raises(GridError, match=r"rotated.*give crs= or res="):
        (TemporalPairDataset(images) & heights)[patch(images, "a")]
    images = STACDataset(items, bands=["x"], crs="EPSG:32632")
    assert (TemporalPairDataset(images) & heights)[patch(images, "a")]["image"].shape[1] == 2


def test_the_index_is_the_common_ground(images, tmp_path):
    only_a = boxes(-16)["a"]
    write_raster(tmp_path / "dem" / "a.tif", np.ones((1, *only_a.shape), "float32"), only_a)
    pairs = TemporalPairDataset(images) & Terrain(tmp_path / "dem")
    assert set(pairs.index["id"]) == {"a1", "a2"}
    assert pairs.index.index.name == "datetime"
    assert pairs.index.crs == images.crs
    x, y, _ = pairs.bounds
    assert (x.start, y.start, x.stop, y.stop) == pytest.approx(tuple(only_a.boundingbox))
    assert pairs.res == images.res
    assert len(images) == 4
    far = tmp_path / "far"
    write_raster(far / "f.tif", np.ones((1, 8, 8), "float32"), grid("EPSG:32654", shape=(8, 8)))
    with pytest.raises(InputError, match=r"extras: got 'Terrain'.*same ground"):
        TemporalPairDataset(images) & Terrain(far)


def test_pickle(images, tmp_path):
    pairs = TemporalPairDataset(images) & terrain(tmp_path / "dem") & images.labels("label")
    places = [patch(images, name) for name in ZONES]
    expected = [pairs[place] for place in places]
    again = pickle.loads(pickle.dumps(pairs))
    for place, sample in zip(places, expected, strict=True):
        assert sample.keys() >= {"image", "mask", "valid", "dates"}
        assert all(torch.equal(sample[key], value) for key, value in again[place].items())


@pytest.mark.parametrize("kind", ["items", "raster", "vector"])
def test_labels_of_another_time_are_no_labels(world, tmp_path, kind):
    """Nobody labelled the first two dates: 255, and no error in the middle of an epoch."""
    geobox = boxes()["a"]
    for day in (1, 2, 4):
        extra = {"label": np.ones(SHAPE, "uint8")} if day == 4 else None
        world.item(f"a{day}", geobox, when=f"2022-01-0{day}T10:00:00", extra=extra)
    images = STACDataset(search(world.catalog()), bands=["x"])
    if kind == "items":
        labels = images.labels("label")
    elif kind == "raster":
        write_raster(tmp_path / "l" / "on_20220104.tif", np.ones((1, *SHAPE), "uint8"), geobox)
        labels = DatedClasses(tmp_path / "l")
    else:
        (tmp_path / "l").mkdir()
        outline = gpd.GeoDataFrame(geometry=[geobox.extent.geom], crs=ZONES["a"])
        outline.to_file(tmp_path / "l" / "on_20220104.gpkg")
        labels = DatedLayers(tmp_path / "l", res=10.0)
    pairs = TemporalPairDataset(images) & labels
    x, y, _ = patch(images, "a")
    days = [
        slice(pd.Timestamp(f"2022-01-0{n}"), pd.Timestamp(f"2022-01-0{n}T23")) for n in (1, 2, 4)
    ]
    sample = pairs[x, y, (days[0], days[1])]
    assert sample["mask"].shape == (32, 32)
    assert sample["mask"].dtype == torch.int64
    assert sample["mask"].unique().tolist() == [255]
    assert pairs[x, y, (days[1], days[2])]["mask"].unique().tolist() == [1]


def test_an_image_of_another_time_is_missing(images, world):
    world.item("late", boxes(8)["a"], when="2023-01-01T10:00:00", bands={"h": np.ones((112, 112))})
    items = search(world.catalog())
    late = STACDataset(items[items["id"] == "late"], bands=["h"])
    with pytest.raises(IndexError, match="no item"):
        (TemporalPairDataset(images) & late)[patch(images, "a")]


def test_terrain_in_whole_numbers_leaves_float32(images, tmp_path):
    class Whole(Terrain):
        dtype = torch.int32

    terrain(tmp_path / "dem")
    sample = (TemporalPairDataset(images) & Whole(tmp_path / "dem"))[patch(images, "a")]
    assert sample["image"].dtype == torch.float32
    assert sample["image"].shape[1] == 3


@pytest.mark.parametrize("join", ["and", "or"])
def test_joining_leaves_ours_as_they_were(images, join):
    other, labels = STACDataset(images.items, bands=["x"], crs="EPSG:32633"), images.labels("label")
    other.native, before = True, other.index.crs
    for right in (other, labels):
        _ = images & right if join == "and" else images | right
    assert other.native
    assert other.crs == before
    assert images.native
    assert labels.images is images


def test_torchgeo_joins_two_datasets_on_the_one_grid_of_the_first(images, tmp_path):
    both = images & terrain(tmp_path / "dem")
    assert isinstance(both, IntersectionDataset)
    for name in ZONES:
        sample = both[patch(images, name)]
        assert sample["image"].shape == (3, 32, 32)
    pairs = TemporalPairDataset(both)[patch(images, "b")]
    assert pairs["image"].shape == (2, 3, 32, 32)
    assert images.native
