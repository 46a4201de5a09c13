import pickle

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from rasterio.windows import Window, from_bounds
from torch.utils.data import DataLoader
from torchgeo.datasets import GeoDataset, IntersectionDataset, UnionDataset, stack_samples
from torchgeo.samplers import RandomPatchSampler, SequentialTimestampSampler

from rscontrast.datasets import STACDataset
from rscontrast.errors import AssetError, BandError, GridError, InputError
from rscontrast.stac import search
from tests.world import grid, offsets, write_raster

BANDS = ("blue", "green", "red", "nir")


@pytest.fixture(scope="module")
def dataset(sample_items):
    return STACDataset(sample_items, bands=BANDS)


def native(items, name, window, *, bands=BANDS):
    """Reflectance, usable pixels and bounds by plain rasterio and the item's own metadata."""
    assets = items[items["id"] == name].iloc[0]["assets"]
    image, data = [], True
    for band in bands:
        about = assets[band]["bands"][0]
        with rasterio.open(assets[band]["href"]) as raster:
            numbers = raster.read(1, window=window)
            bounds, crs = raster.window_bounds(window), raster.crs
        data = data & (numbers != about["nodata"])
        image.append(numbers * about["raster:scale"] + about["raster:offset"])
    with rasterio.open(assets["cloud"]["href"]) as raster:
        clear = raster.read(1, window=window) == 0
    return np.where(data, image, 0), data & clear, bounds, crs


def slices(bounds, step):
    xmin, ymin, xmax, ymax = bounds
    return slice(xmin, xmax, step), slice(ymin, ymax, step)


def moment(items, name):
    time = items.loc[items["id"] == name, "datetime"].iloc[0].tz_localize(None)
    return slice(time, time)


class TestContract:
    def test_index(self, dataset, sample_items):
        assert isinstance(dataset, GeoDataset)
        assert isinstance(dataset.index.index, pd.IntervalIndex)
        assert dataset.index.index.name == "datetime"
        assert len(dataset) == len(sample_items)
        assert dataset.index.index.is_monotonic_increasing
        assert dataset.index.crs == dataset.crs

    def test_bounds_are_those_of_index_and_times(self, dataset, sample_items):
        x, y, t = dataset.bounds
        assert (x.start, y.start, x.stop, y.stop) == tuple(dataset.index.total_bounds)
        assert (x.step, y.step) == dataset.res == (2.5, 2.5)
        assert t.start == sample_items["datetime"].min().tz_localize(None)
        assert t.stop - sample_items["datetime"].max().tz_localize(None) < pd.Timedelta("1ms")

    def test_sample(self, dataset, sample_items):
        x, y = slices((730200, 5098200, 730280, 5098280), 2.5)
        sample = dataset[x, y, moment(sample_items, "west_20210315_a")]
        assert sample["image"].shape == (4, 32, 32)
        assert sample["image"].dtype == torch.float32
        assert sample["valid"].shape == (1, 32, 32)
        assert sample["valid"].dtype == torch.bool
        assert sample["bounds"][[0, 1, 3, 4]].tolist() == [730200, 730280, 5098200, 5098280]
        assert sample["transform"].tolist()[:6] == [2.5, 0, 730200, 0, -2.5, 5098280]

    def test_nothing_there(self, dataset):
        with pytest.raises(IndexError, match="no item"):
            dataset[0:100, 0:100]
        x, y = slices((730200, 5098200, 730280, 5098280), 2.5)
        with pytest.raises(IndexError, match="no item"):
            dataset[x, y, pd.Timestamp("1999") : pd.Timestamp("2000")]

    def test_transforms(self, sample_items):
        plain = STACDataset(sample_items, bands=["red"])
        doubled = STACDataset(
            sample_items, bands=["red"], transforms=lambda s: s | {"image": s["image"] * 2}
        )
        index = (
            *slices((730200, 5098200, 730280, 5098280), 2.5),
            moment(sample_items, "west_20210315_a"),
        )
        assert torch.equal(doubled[index]["image"], plain[index]["image"] * 2)

    def test_through_torchgeo_sampler_and_workers(self, dataset):
        sampler = RandomPatchSampler(dataset, size=16, length=4, generator=0)
        times = SequentialTimestampSampler(dataset)
        assert times.strategy == "sequential"
        locations = [(x, y, dataset.bounds[2]) for x, y in sampler]
        here = stack_samples([dataset[index] for index in locations])
        loader = DataLoader(
            dataset, sampler=locations, batch_size=4, num_workers=1, collate_fn=stack_samples
        )
        there = next(iter(loader))
        assert torch.equal(here["image"], there["image"])

    def test_pickle(self, dataset, sample_items):
        again = pickle.loads(pickle.dumps(dataset))
        index = (
            *slices((730200, 5098200, 730280, 5098280), 2.5),
            moment(sample_items, "west_20210315_a"),
        )
        for key, value in dataset[index].items():
            assert torch.equal(value, again[index][key])

    def test_joined_by_and_and_or_it_keeps_one_grid(self, dataset, sample_items):
        other = STACDataset(sample_items, bands=["nir"])
        both, either = dataset & other, dataset | other
        assert isinstance(both, IntersectionDataset)
        assert isinstance(either, UnionDataset)
        index = (
            *slices((730200, 5098200, 730280, 5098280), 2.5),
            moment(sample_items, "west_20210315_a"),
        )
        sample = both[index]
        assert sample["image"].shape == (5, 32, 32)
        assert torch.equal(sample["image"][3], sample["image"][4])
        assert dataset.native


WINDOWS = [Window(0, 0, 240, 256), Window(33, 57, 40, 24), Window(200, 200, 40, 56)]


class TestPixels:
    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize(
        "name", ["west_20210315_a", "west_20220824_a", "west_20230114_b", "west_20211110_a"]
    )
    def test_equal_those_of_rasterio(self, dataset, sample_items, name, window):
        image, valid, bounds, _ = native(sample_items, name, window)
        # One scene alone: its neighbour would fill what it hides under a cloud.
        alone = STACDataset(sample_items[sample_items["id"] == name], bands=BANDS)
        sample = alone[(*slices(bounds, 2.5), moment(sample_items, name))]
        assert np.abs(sample["image"].numpy() - image).max() < 1e-6
        assert np.array_equal(sample["valid"][0], valid)

    def test_both_baselines_lie_on_one_scale(self, dataset, sample_items):
        """Without the offset of baseline 04 its reflectance would be 0.1 higher."""
        found = {}
        for name in ("west_20210315_a", "west_20220807_a"):
            _, _, bounds, _ = native(sample_items, name, WINDOWS[0])
            sample = dataset[(*slices(bounds, 2.5), moment(sample_items, name))]
            found[name] = sample["image"][:, sample["valid"][0]].median().item()
            assets = sample_items[sample_items["id"] == name].iloc[0]["assets"]
            offset = assets["red"]["bands"][0]["raster:offset"]
            assert offset == {"west_20210315_a": 0, "west_20220807_a": -0.1}[name]
        assert abs(np.subtract(*found.values())) < 0.08

    @pytest.mark.parametrize("place", ["west", "east"])
    def test_native_grid_keeps_both_zones_unwarped(self, dataset, sample_items, place):
        """Patches are asked for in one zone and come, pixel by pixel, from their own."""
        from pyproj import Transformer

        name = f"{place}_20210315_a"
        rows = sample_items[sample_items["id"] == name]
        alone = STACDataset(sample_items, bands=BANDS)
        with rasterio.open(rows.iloc[0]["assets"]["red"]["href"]) as raster:
            x, y = raster.transform @ (120, 128)
            move = Transformer.from_crs(raster.crs, alone.crs, always_xy=True)
            cx, cy = move.transform(x, y)
        half = 32 * 2.5
        sample = alone[
            (*slices((cx - half, cy - half, cx + half, cy + half), 2.5), moment(sample_items, name))
        ]
        found = sample["transform"].tolist()
        a = raster.transform
        col, row = ((found[2] - a.c) / 2.5, (a.f - found[5]) / 2.5)
        assert (round(col), round(row)) == (88, 96)
        image, valid, _, _ = native(sample_items, name, Window(88, 96, 64, 64))
        assert np.abs(sample["image"].numpy() - image).max() < 1e-6
        assert np.array_equal(sample["valid"][0], valid)
        assert len({str(box.crs) for box in dataset.geoboxes}) == 2

    def test_masks_can_be_left_out(self, sample_items):
        name = "west_20211110_a"
        rows = sample_items[sample_items["id"] == name]
        _, valid, bounds, _ = native(sample_items, name, WINDOWS[0])
        index = (*slices(bounds, 2.5), moment(sample_items, name))
        assert STACDataset(rows, bands=["red"], masks=False)[index]["valid"].all()
        assert valid.mean() < 0.7

    def test_one_fixed_grid_is_exactly_the_one_asked_for(self, sample_items):
        fixed = STACDataset(sample_items, bands=["red"], crs="EPSG:32632", res=5.0)
        x, y = slices((730203, 5098201, 730283, 5098281), 5.0)
        sample = fixed[x, y, moment(sample_items, "west_20210315_a")]
        assert sample["transform"].tolist()[:6] == [5, 0, 730203, 0, -5, 5098281]
        assert sample["image"].shape == (1, 16, 16)


class TestGrids:
    """Pixels that hold their own coordinates, through the dataset."""

    @pytest.mark.parametrize("native", [True, False])
    def test_two_dates_on_other_lattices_come_on_one(self, world, native):
        a = world.item("a", grid(shape=(128, 128)))
        shifted = grid(corner=(730_003.0, 5_100_004.0), res=10.2, shape=(128, 128))
        world.item("b", shifted, when="2022-02-01T10:00:00")
        items = search(world.catalog())
        options = {} if native else {"crs": "EPSG:32632", "res": 10.0}
        dataset = STACDataset(items, bands=["x", "y"], **options)
        x, y = slices((730_203, 5_099_204, 730_603, 5_099_604), 10.0)
        samples = [dataset[(x, y, moment(items, name))] for name in (a.id, "b")]
        assert torch.equal(samples[0]["transform"], samples[1]["transform"])
        box = dataset.geobox(x, y)
        for sample in samples:
            assert sample["valid"].all()
            assert np.abs(sample["image"].numpy() - offsets(box)).max() < 0.5
        asked = np.array([x.start, y.stop])
        got = np.array([box.transform.c, box.transform.f])
        assert np.abs(got - asked).max() <= (5.0 if native else 0)

    def test_a_20_m_band_beside_10_m_bands(self, world):
        fine, coarse = grid(shape=(96, 96)), grid(res=20.0, shape=(48, 48))
        item = world.item("a", fine)
        path = write_raster(world.folder / "z.tif", offsets(coarse)[:1].astype("float32"), coarse)
        import pystac

        item.add_asset("z", pystac.Asset(str(path)))
        dataset = STACDataset(search(world.catalog()), bands=["x", "z"])
        sample = dataset[slices((730_100, 5_099_300, 730_700, 5_099_900), 10.0)]
        assert (sample["image"][0] - sample["image"][1]).abs().max() < 0.1

    def test_files_without_metadata_tell_their_grid(self, world):
        world.item("a", grid(), with_grid=False)
        dataset = STACDataset(search(world.catalog()), bands=["x", "y"])
        x, y, t = dataset.bounds
        sample = dataset[x, y, t]
        assert np.abs(sample["image"].numpy() - offsets(grid())).max() < 0.01

    def test_setting_crs_warps_all_patches_to_it(self, world):
        world.item("a", grid(shape=(128, 128)))
        dataset = STACDataset(search(world.catalog()), bands=["x", "y"])
        dataset.crs = "EPSG:32633"
        x, y, t = dataset.bounds
        middle = [(s.start + s.stop) / 2 for s in (x, y)]
        index = [slice(m - 200, m + 200, 10.0) for m in middle]
        box = dataset.geobox(*index)
        image = dataset[(*index, t)]["image"].numpy()
        assert np.abs(image - offsets(box, "EPSG:32632")).max() < 1.25

    def test_a_crs_of_no_item(self, world):
        world.item("a", grid(shape=(128, 128)))
        dataset = STACDataset(search(world.catalog()), bands=["x", "y"], crs="EPSG:32633")
        assert dataset.res == pytest.approx((10, 10), rel=0.05)
        assert not dataset.native

    def test_file_without_crs(self, world):
        item = world.item("a", grid(), with_grid=False)
        write_raster(world.folder / "a" / "x.tif", offsets(grid())[:1], grid(), crs=False)
        assert item.assets["x"].href.endswith("x.tif")
        with pytest.raises(GridError, match="item a, asset x"):
            STACDataset(search(world.catalog()), bands=["x"])


class TestRefusals:
    def test_missing_band_lists_what_exists(self, sample_items):
        with pytest.raises(BandError, match=r"'swir'.*blue, cloud, green, nir, red"):
            STACDataset(sample_items, bands=["red", "swir"])

    @pytest.mark.parametrize("bands", [[], "red"])
    def test_bands_must_be_a_list(self, sample_items, bands):
        with pytest.raises(InputError, match="bands"):
            STACDataset(sample_items, bands=bands)


class TestLabels:
    def test_same_grid_as_the_imagery(self, dataset, sample_items):
        labels = dataset.labels("damage")
        name, window = "west_20220824_a", Window(33, 57, 64, 48)
        _, _, bounds, _ = native(sample_items, name, window)
        index = (*slices(bounds, 2.5), moment(sample_items, name))
        sample = labels[index]
        href = sample_items[sample_items["id"] == name].iloc[0]["assets"]["damage"]["href"]
        with rasterio.open(href) as raster:
            expected = raster.read(1, window=window)
            assert from_bounds(*bounds, raster.transform) == window
        assert sample["mask"].dtype == torch.int64
        assert np.array_equal(sample["mask"], expected)
        assert torch.equal(sample["transform"], dataset[index]["transform"])
        assert 0 < (expected > 0).mean() < 1

    def test_only_labelled_items_are_indexed(self, dataset):
        labels = dataset.labels("damage")
        assert set(labels.index["id"].str[5:13]) == {"20220824"}
        assert len(labels) == 4
        x, y = slices((730200, 5098200, 730280, 5098280), 2.5)
        with pytest.raises(IndexError, match="label 'damage'"):
            labels[x, y, pd.Timestamp("2021-01-01") : pd.Timestamp("2021-12-31")]

    def test_follow_the_imagery_to_another_crs(self, sample_items):
        images = STACDataset(sample_items, bands=["red"])
        labels = images.labels("damage")
        images.crs = "EPSG:32633"
        name = "east_20220824_a"
        x, y = (
            float(v)
            for v in images.index[images.index["id"] == name].geometry.iloc[0].centroid.coords[0]
        )
        index = (slice(x - 80, x + 80, 2.5), slice(y - 80, y + 80, 2.5), moment(sample_items, name))
        assert torch.equal(labels[index]["transform"], images[index]["transform"])
        assert (labels[index]["mask"] > 0).any()
        assert labels.crs == images.crs

    def test_pickle(self, dataset, sample_items):
        labels = dataset.labels("damage")
        again = pickle.loads(pickle.dumps(labels))
        _, _, bounds, _ = native(sample_items, "west_20220824_a", WINDOWS[1])
        index = (*slices(bounds, 2.5), moment(sample_items, "west_20220824_a"))
        assert torch.equal(labels[index]["mask"], again[index]["mask"])

    def test_no_item_has_it(self, dataset):
        with pytest.raises(BandError, match=r"'damages'.*damage"):
            dataset.labels("damages")

    def test_off_the_grid(self, world):
        item = world.item("a", grid(), extra={"labels": np.ones(grid().shape, "uint8")})
        far = grid(corner=(800_000, 5_100_000))
        write_raster(world.folder / "a" / "labels.tif", np.ones((1, *far.shape), "uint8"), far)
        for name in ("proj:shape", "proj:transform", "proj:code"):
            item.assets["x"].extra_fields[name] = item.properties.pop(name)
        dataset = STACDataset(search(world.catalog()), bands=["x"])
        labels = dataset.labels("labels")
        with pytest.raises(GridError, match="item a, label labels: off the imagery"):
            labels[dataset.bounds]

    def test_without_crs(self, world):
        item = world.item("a", grid(), extra={"labels": np.ones(grid().shape, "uint8")})
        path = world.folder / "a" / "labels.tif"
        write_raster(path, np.ones((1, *grid().shape), "uint8"), grid(), crs=False)
        for name in ("proj:shape", "proj:transform", "proj:code"):
            item.assets["x"].extra_fields[name] = item.properties.pop(name)
        dataset = STACDataset(search(world.catalog()), bands=["x"])
        labels = dataset.labels("labels")
        with pytest.raises(GridError, match=r"item a.* labels: no CRS"):
            labels[dataset.bounds]

    def test_making_them_opens_none(self, world):
        world.item("a", grid(), extra={"labels": np.ones(grid().shape, "uint8")})
        dataset = STACDataset(search(world.catalog()), bands=["x"])
        (world.folder / "a" / "labels.tif").unlink()
        labels = dataset.labels("labels")
        with pytest.raises(AssetError, match="item a"):
            labels[dataset.bounds]
