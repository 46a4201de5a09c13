"""Real radar: 98 files on 85 dates, so that some dates have several; as items and as files."""

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import torch
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping
from torchgeo.datasets import RasterDataset

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.datasets.dates import join_dates
from rscontrast.stac import search
from tests.world import footprint

pytestmark = pytest.mark.realdata

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "sentinel1_srtm"
EMPTY = -32768


class Radar(RasterDataset):
    filename_glob = "S1*.tif"
    filename_regex = r"S1._IW_GRDH_1SDV_(?P<start>\d{8}T\d{6})_(?P<stop>\d{8}T\d{6})_"
    date_format = "%Y%m%dT%H%M%S"
    all_bands = ("VV", "VH")


class Terrain(RasterDataset):
    filename_glob = "DEM*.tif"


@pytest.fixture(scope="module")
def files():
    found = sorted(FOLDER.glob("S1*.tif"), key=lambda path: path.name[17:])
    if not found:
        pytest.skip("the radar images are not beside the checkout (../shared/data/sentinel1_srtm)")
    return found


@pytest.fixture(scope="module")
def items(files, tmp_path_factory):
    with rasterio.open(files[0]) as raster:
        area = footprint(GeoBox(raster.shape, raster.transform, raster.crs.to_string()))
    catalog = pystac.Catalog("radar", "radar")
    for path in files:
        start = datetime.strptime(path.name[17:32] + "Z", "%Y%m%dT%H%M%S%z")
        item = pystac.Item(path.stem, mapping(area), list(area.bounds), start, {})
        bands = {"bands": [{"name": name} for name in Radar.all_bands]}
        item.add_asset("data", pystac.Asset(str(path), extra_fields=bands))
        catalog.add_item(item)
    folder = tmp_path_factory.mktemp("radar")
    catalog.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return search(folder / "catalog.json")


@pytest.fixture(scope="module")
def dates(files):
    """Numbers [2, 120, 120] of each date, by rasterio alone: the first file that has any."""
    found = {}
    for path in files:
        numbers = rasterio.open(path).read()
        before = found.get(path.name[17:25], np.full_like(numbers, EMPTY))
        found[path.name[17:25]] = np.where(before == EMPTY, numbers, before)
    return found


def pairs_of(dataset):
    """Slices of neighbouring dates: all that have several files, and every tenth other one."""
    spans = join_dates(dataset.index)
    times = [slice(*span) for span in zip(spans["start"], spans["end"], strict=True)]
    days = [time.start.strftime("%Y%m%d") for time in times]
    count = {day: len(list(FOLDER.glob(f"S1*_{day}T*_{day}T*.tif"))) for day in days}
    for n in range(len(days) - 1):
        if n % 10 == 0 or count[days[n]] > 1:
            yield days[n : n + 2], tuple(times[n : n + 2])


def test_files_are_joined_to_dates(files, items, dates):
    dataset = STACDataset(items, bands=["VV"])
    assert len(dataset) == len(files) == 98
    assert len(join_dates(dataset.index)) == len(dates) == 85
    assert all(re.match(Radar.filename_regex, path.name) for path in files)


def test_pairs_of_items_hold_what_the_files_hold(items, dates):
    images = STACDataset(items, bands=["VV", "VH"])
    dataset, (x, y, _) = TemporalPairDataset(images), images.bounds
    seen = 0
    for days, times in pairs_of(images):
        sample = dataset[x, y, times]
        expected = np.stack([dates[day] for day in days])
        assert np.array_equal(sample["image"], np.where(expected == EMPTY, 0, expected))
        assert np.array_equal(sample["valid"], (expected != EMPTY).all(axis=1))
        assert [time.start.timestamp() for time in times] == sample["dates"].tolist()
        seen += 1
    assert seen > 15


def test_pairs_of_their_raster_dataset_too(files, dates):
    images = Radar(FOLDER)
    dataset, (x, y, _) = TemporalPairDataset(images), images.bounds
    for days, times in pairs_of(images):
        expected = np.stack([dates[day] for day in days])
        assert np.array_equal(dataset[x, y, times]["image"], expected)


def test_terrain_beside_the_radar(items, files):
    images = STACDataset(items, bands=["VV"])
    pairs = TemporalPairDataset(images) & Terrain(FOLDER)
    (x, y, _), times = images.bounds, next(iter(pairs_of(images)))[1]
    x, y = slice(x.start + 600, x.stop - 900, 30.0), slice(y.start + 300, y.stop - 1200, 30.0)
    sample = pairs[x, y, times]
    with rasterio.open(FOLDER / "DEM_slope_1.tif") as raster:
        expected = raster.read()[:, 40:110, 20:90]
    assert sample["image"].shape == (2, 3, 70, 70)
    assert np.array_equal(sample["image"][0, 1:], expected)
    assert torch.equal(sample["image"][0, 1:], sample["image"][1, 1:])
