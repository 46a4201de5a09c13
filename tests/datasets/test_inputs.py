"""What may not be given is refused by its name."""

import numpy as np
import pandas as pd
import pytest
from torchgeo.datasets import RasterDataset

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import InputError
from rscontrast.stac import search
from tests.world import grid, write_raster


class Terrain(RasterDataset):
    filename_glob = "t*.tif"


@pytest.fixture
def images(world):
    for day in (1, 2):
        world.item(f"d{day}", grid(), when=f"2022-01-0{day}T10:00:00")
    return STACDataset(search(world.catalog()), bands=["x"])


@pytest.fixture
def folder(tmp_path):
    write_raster(tmp_path / "t" / "t.tif", np.ones((1, 64, 80), "float32"), grid())
    return tmp_path / "t"


@pytest.mark.parametrize("res", [20, np.int64(20), np.float32(20), (20.0, 20), np.array([20, 20])])
def test_any_number_is_a_res(images, res):
    found = STACDataset(images.items, bands=["x"], res=res)
    assert found.res == (20, 20)
    assert found[found.bounds]["image"].shape == (1, 32, 40)


@pytest.mark.parametrize("res", ["10", (1, 2, 3), (1,), float("inf"), True, (10, "10"), (10, True)])
def test_what_is_no_res(images, res):
    with pytest.raises(InputError, match="res: got"):
        STACDataset(images.items, bands=["x"], res=res)
    with pytest.raises(InputError, match="res: got"):
        images.res = res


def test_no_items(images):
    with pytest.raises(InputError, match="items: got"):
        STACDataset(images.items.iloc[:0], bands=["x"])


@pytest.mark.parametrize("crs", ["EPSG:1", "nonsense", 1])
def test_no_such_crs(images, crs):
    with pytest.raises(InputError, match="crs: got"):
        STACDataset(images.items, bands=["x"], crs=crs)
    with pytest.raises(InputError, match="crs: got"):
        images.crs = crs


@pytest.mark.parametrize("kind", ["native", "one grid", "pairs", "pairs of theirs"])
@pytest.mark.parametrize("side", [(0, 0), (0, 3), (160, 0)])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_patch_without_a_pixel(images, folder, kind, side, axis):
    times = tuple(
        slice(pd.Timestamp(f"2022-01-0{n}"), pd.Timestamp(f"2022-01-0{n}T23")) for n in (1, 2)
    )
    dataset, t = {
        "native": (images, slice(None)),
        "one grid": (STACDataset(images.items, bands=["x"], res=10), slice(None)),
        "pairs": (TemporalPairDataset(images), times),
        "pairs of theirs": (TemporalPairDataset(images & Terrain(folder)), times),
    }[kind]
    x, y, _ = images.bounds
    place = {"x": slice(x.start, x.start + 160), "y": slice(y.start, y.start + 160)}
    place[axis] = slice(place[axis].start + side[0], place[axis].start + side[1])
    with pytest.raises(InputError, match=f"{axis}: got"):
        dataset[place["x"], place["y"], t]


def test_extras_that_are_none(images):
    for extra in (3, TemporalPairDataset(images)):
        with pytest.raises(InputError, match="extras: got"):
            TemporalPairDataset(images, extras=[extra])
    with pytest.raises(InputError, match="extras: got"):
        TemporalPairDataset(images) & TemporalPairDataset(images)


def test_a_dataset_that_is_none(images):
    with pytest.raises(InputError, match="dataset: got 'GeoDataFrame'"):
        TemporalPairDataset(images.items)


def test_files_without_dates(images, folder):
    with pytest.raises(InputError, match=r"dataset: got 'Terrain'.*dates"):
        TemporalPairDataset(Terrain(folder))
    pairs = TemporalPairDataset(images) & Terrain(folder)
    assert pairs[images.bounds]["image"].shape == (2, 2, 64, 80)


def test_an_extra_that_stacks_dates(images, folder):
    pairs = TemporalPairDataset(images) & Terrain(folder, time_series=True)
    with pytest.raises(InputError, match=r"extras: got .*one date each"):
        pairs[images.bounds]
