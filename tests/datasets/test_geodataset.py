"""What TorchGeo's own tests ask of a GeoDataset, asked of all of ours."""

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from pyproj import CRS
from torchgeo.datasets import GeoDataset, IntersectionDataset, UnionDataset

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import GridError, InputError
from rscontrast.stac import search
from tests.world import grid

KINDS = {
    "imagery": lambda images: images,
    "labels": lambda images: images.labels("label"),
    "pairs": TemporalPairDataset,
    "pairs and labels": lambda images: TemporalPairDataset(images) & images.labels("label"),
}


@pytest.fixture
def images(world):
    for day in (1, 2, 3):
        labels = {"label": np.full((64, 80), day, "uint8")}
        world.item(f"d{day}", grid(), when=f"2022-01-0{day}T10:00:00", extra=labels)
    return STACDataset(search(world.catalog()), bands=["x", "y"])


@pytest.fixture(params=KINDS)
def dataset(request, images):
    return KINDS[request.param](images)


def pixels(sample):
    return next(sample[key] for key in ("image", "mask") if key in sample)


def test_index(dataset):
    assert isinstance(dataset, GeoDataset)
    assert isinstance(dataset.index, gpd.GeoDataFrame)
    assert isinstance(dataset.index.index, pd.IntervalIndex)
    assert dataset.index.index.name == "datetime"
    assert len(dataset) == 3
    assert isinstance(dataset.crs, CRS)
    assert dataset.res == (10, 10)
    assert "size: 3" in str(dataset)


def test_bounds(dataset):
    x, y, t = dataset.bounds
    assert (x.start, x.stop, x.step) == (730_000, 730_800, 10)
    assert (y.start, y.stop, y.step) == (5_099_360, 5_100_000, 10)
    assert t.start == pd.Timestamp("2022-01-01T10:00:00")
    assert t.stop - pd.Timestamp("2022-01-03T10:00:00") <= pd.Timedelta("1us")
    assert dataset.bounds is dataset.bounds  # asked for at each patch


def test_slices(dataset):
    x, y, t = dataset.bounds
    part, low = slice(730_100, 730_260), slice(5_099_400, 5_099_480)
    assert pixels(dataset[x, y, t]).shape[-2:] == (64, 80)
    assert pixels(dataset[part]).shape[-2:] == (64, 16)
    assert pixels(dataset[part, low]).shape[-2:] == (8, 16)
    assert pixels(dataset[part, low, t]).shape[-2:] == (8, 16)
    assert pixels(dataset[730_100:730_260:20, ::20.0]).shape[-2:] == (32, 8)
    assert torch.equal(pixels(dataset[:, :]), pixels(dataset[x, y, t]))


def test_time_slices(images):
    day = slice(pd.Timestamp("2022-01-02"), pd.Timestamp("2022-01-03"))
    x, y, _ = images.bounds
    assert images.labels("label")[x, y, day]["mask"].unique().tolist() == [2]
    pairs = TemporalPairDataset(images)[x, y, day.start :]
    starts = [pd.Timestamp(seconds, unit="s").day for seconds in pairs["dates"].tolist()]
    assert starts == [2, 3]


@pytest.mark.parametrize(
    "place",
    [
        (slice(0, 100, 10), slice(0, 100, 10)),
        (slice(None), slice(None), slice(pd.Timestamp("1999"), pd.Timestamp("2000"))),
        (slice(None), slice(None), slice(pd.Timestamp("2030"), pd.Timestamp("2031"))),
    ],
)
def test_nothing_there(dataset, place):
    with pytest.raises(IndexError):
        dataset[place]


def test_res_setter(dataset):
    dataset.res = 20
    assert dataset.res == (20, 20)
    assert pixels(dataset[dataset.bounds]).shape[-2:] == (32, 40)
    dataset.res = (20, 40)
    assert dataset.bounds[1].step == 40
    assert pixels(dataset[dataset.bounds]).shape[-2:] == (16, 40)


@pytest.mark.parametrize("res", [0, -10, (10, 0), float("nan")])
def test_a_res_that_is_none(images, res):
    with pytest.raises(InputError, match="res: got"):
        images.res = res
    with pytest.raises(InputError, match="res: got"):
        STACDataset(images.items, bands=["x"], res=res)


def test_crs_setter(dataset):
    dataset.crs = CRS.from_epsg(32633)
    assert dataset.crs == dataset.index.crs == CRS.from_epsg(32633)
    x, y, t = dataset.bounds
    assert x.start < 300_000
    middle = ((s.start + s.stop) / 2 for s in (x, y))
    sample = dataset[(*(slice(m - 80, m + 80, 10) for m in middle), t)]
    assert pixels(sample).shape[-2:] == (16, 16)


def test_a_crs_that_does_not_reach(world):
    world.item("a", grid(corner=(500_000.0, 4_000.0)))
    dataset = STACDataset(search(world.catalog()), bands=["x"])
    with pytest.raises(GridError, match=r"item a: has no place in EPSG:32647"):
        dataset.crs = "EPSG:32647"
    assert dataset.crs.to_epsg() == 32632
    with pytest.raises(GridError, match="item a"):
        STACDataset(dataset.items, bands=["x"], crs="EPSG:32647")


def test_and(images):
    both = images & images
    assert isinstance(both, IntersectionDataset)
    assert both[both.bounds]["image"].shape == (4, 64, 80)
    with pytest.raises((TypeError, ValueError)):
        images & 3
    pairs = TemporalPairDataset(images)
    joined = pairs & images.labels("label")
    assert isinstance(joined, TemporalPairDataset)
    assert joined[joined.bounds]["mask"].unique().tolist() == [3]
    with pytest.raises(TypeError, match="& joins GeoDatasets, not int"):
        pairs & 3


def test_or(images):
    first = STACDataset(images.items[:1], bands=["x", "y"])
    either = first | STACDataset(images.items[1:], bands=["x", "y"])
    assert isinstance(either, UnionDataset)
    assert len(either) == 3
    whole = images[images.bounds]["image"]
    assert torch.equal(either[either.bounds]["image"], whole)
    with pytest.raises(TypeError):
        images | 3
    two = TemporalPairDataset(either)[images.bounds]["image"]
    assert torch.equal(two, torch.stack([whole, whole]))


def test_add_is_ambiguous(dataset):
    with pytest.raises(TypeError):
        dataset + dataset


def test_pickle(dataset):
    again = pickle.loads(pickle.dumps(dataset))
    assert again.bounds == dataset.bounds
    assert again.crs == dataset.crs
    pd.testing.assert_frame_equal(
        pd.DataFrame(again.index.drop(columns="geometry")),
        pd.DataFrame(dataset.index.drop(columns="geometry")),
    )
    ours, theirs = dataset[dataset.bounds], again[again.bounds]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_an_index_of_ones_own(images):
    """Times that the items do not have, such as terrain that holds for ever."""
    spans = pd.IntervalIndex.from_arrays(
        [pd.Timestamp("2000")] * 3, [pd.Timestamp("2040")] * 3, closed="both", name="datetime"
    )
    images.index = images.index.set_axis(spans)
    x, y, t = images.bounds
    assert t.start == pd.Timestamp("2000")
    day = slice(pd.Timestamp("2010"), pd.Timestamp("2011"))
    assert images[x, y, day]["image"].shape == (2, 64, 80)
