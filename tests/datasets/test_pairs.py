import pickle
import threading

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import GeoDataset, IntersectionDataset, stack_samples

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import InputError
from rscontrast.stac import search

X, Y = slice(730200, 730280, 2.5), slice(5098200, 5098280, 2.5)


@pytest.fixture(scope="module")
def images(sample_items):
    return STACDataset(sample_items, bands=["red", "nir"])


def day(items, date):
    """Both scenes of a day, as one time slice."""
    times = items.loc[items["id"].str.contains(f"west_{date}"), "datetime"].dt.tz_localize(None)
    return slice(times.min(), times.max())


@pytest.fixture(scope="module")
def pair(sample_items):
    return X, Y, (day(sample_items, "20210315"), day(sample_items, "20220824"))


def test_both_dates_in_order(images, pair):
    sample = TemporalPairDataset(images)[pair]
    assert sample["image"].shape == (2, 2, 32, 32)
    assert sample["valid"].shape == (2, 32, 32)
    for position, time in enumerate(pair[2]):
        alone = images[X, Y, time]
        assert torch.equal(sample["image"][position], alone["image"])
        assert torch.equal(sample["valid"][position], alone["valid"][0])
    dates = [pd.Timestamp(s, unit="s") for s in sample["dates"].tolist()]
    assert dates == [time.start for time in pair[2]]
    assert sample["dates"].dtype == torch.float64


def test_swapped_slices_swap_the_image(images, pair):
    dataset = TemporalPairDataset(images)
    x, y, (pre, post) = pair
    assert torch.equal(dataset[pair]["image"].flip(0), dataset[x, y, (post, pre)]["image"])


class TestSeveralAtOnce:
    def test_they_are_those_read_one_by_one(self, images, pair):
        dataset = TemporalPairDataset(images)
        x, y, (pre, post) = pair
        keys = [pair, (x, y, (post, pre)), pair]
        for one, key in zip(dataset.__getitems__(keys), keys, strict=True):
            assert all(torch.equal(one[name], value) for name, value in dataset[key].items())

    def test_they_are_read_side_by_side(self, images, pair):
        together = threading.Barrier(3, timeout=10)

        def meet(sample):
            together.wait()
            return sample

        assert len(TemporalPairDataset(images, transforms=meet).__getitems__([pair] * 3)) == 3

    def test_in_this_thread_where_the_dataset_is_not_for_many(self, images, pair):
        class Alone(STACDataset):
            thread_safe = False

        seen = []

        def note(sample):
            seen.append(threading.current_thread())
            return sample

        dataset = TemporalPairDataset(Alone(images.items, bands=images.bands), transforms=note)
        assert len(dataset.__getitems__([pair, pair])) == 2
        assert set(seen) == {threading.current_thread()}

    def test_the_first_that_cannot_be_read_is_raised(self, images, pair):
        x, _, times = pair
        with pytest.raises(IndexError):
            TemporalPairDataset(images).__getitems__([pair, (x, slice(0, 80, 2.5), times)])

    def test_workers_ask_so(self, images, pair):
        dataset = TemporalPairDataset(images)
        loader = DataLoader(
            dataset,
            batch_size=2,
            sampler=[pair] * 4,
            num_workers=1,
            collate_fn=stack_samples,
            multiprocessing_context="fork",
        )
        for batch in loader:
            assert torch.equal(batch["image"][1], dataset[pair]["image"])


def test_layout_of_channels(images, pair):
    flat = TemporalPairDataset(images, layout="channels")[pair]["image"]
    assert torch.equal(flat, TemporalPairDataset(images)[pair]["image"].flatten(0, 1))
    with pytest.raises(InputError, match=r"layout.*channels, time"):
        TemporalPairDataset(images, layout="channel")


def test_contract(images):
    dataset = TemporalPairDataset(images)
    assert isinstance(dataset, GeoDataset)
    assert dataset.crs == images.crs
    assert dataset.res == images.res
    assert dataset.bounds == images.bounds
    assert dataset.index is images.index


def test_one_time_slice_gives_its_first_and_last_date(images, pair, sample_items):
    dataset = TemporalPairDataset(images)
    pre, post = pair[2]
    whole = dataset[X, Y, slice(pre.start, post.stop)]
    assert torch.equal(whole["image"], dataset[pair]["image"])
    assert torch.equal(whole["dates"], dataset[pair]["dates"])
    with pytest.raises(IndexError, match="fewer than two dates"):
        dataset[X, Y, pre]


def test_labels_come_along(images, pair, sample_items):
    labels = images.labels("damage")
    dataset = TemporalPairDataset(images) & labels
    sample, plain = dataset[pair], TemporalPairDataset(images)[pair]
    assert torch.equal(sample["mask"], labels[X, Y, pair[2][1]]["mask"])
    for key in ("image", "valid", "dates", "bounds", "transform"):
        assert torch.equal(sample[key], plain[key])


def test_labels_follow_a_change_of_crs(sample_items):
    images = STACDataset(sample_items, bands=["red"])
    dataset = TemporalPairDataset(images) & images.labels("damage")
    dataset.crs = "EPSG:32633"
    centre = images.index[images.index["id"] == "west_20220824_a"].geometry.iloc[0].centroid
    x, y = (slice(v - 40, v + 40, 2.5) for v in (centre.x, centre.y))
    times = (day(sample_items, "20210315"), day(sample_items, "20220824"))
    sample = dataset[x, y, times]
    assert sample["mask"].shape == sample["image"].shape[-2:]
    assert (sample["mask"] < 5).any()
    assert dataset.crs.to_epsg() == 32633


def test_terrain_joins_both_dates(images, pair, sample_catalog):
    dsm = search(sample_catalog, collections=["dsm"])
    terrain = STACDataset(dsm, bands=["dsm"])
    span = pd.IntervalIndex.from_arrays(
        [pd.Timestamp("2020")] * len(terrain), [pd.Timestamp("2030")] * len(terrain),
        closed="both", name="datetime",
    )  # fmt: skip
    terrain.index = terrain.index.set_axis(span)
    sample = (TemporalPairDataset(images) & terrain)[pair]
    assert sample["image"].shape == (2, 3, 32, 32)
    assert torch.equal(sample["image"][0, 2], sample["image"][1, 2])
    assert sample["image"][0, 2].std() > 0
    assert torch.equal(sample["image"][:, :2], TemporalPairDataset(images)[pair]["image"])


def test_any_geodataset_is_wrapped(images, sample_items, pair):
    both = images & STACDataset(sample_items, bands=["blue"])
    assert isinstance(both, IntersectionDataset)
    sample = TemporalPairDataset(both)[pair]
    assert sample["image"].shape == (2, 3, 32, 32)


def test_refusals(images):
    with pytest.raises(TypeError, match="joins GeoDatasets"):
        TemporalPairDataset(images) & 3


def test_transforms_and_pickle(images, pair):
    dataset = TemporalPairDataset(images) & images.labels("damage")
    again = pickle.loads(pickle.dumps(dataset))
    for key, value in dataset[pair].items():
        assert torch.equal(value, again[pair][key])
    seen = TemporalPairDataset(images, transforms=lambda s: sorted(s))[pair]
    assert seen == ["bounds", "dates", "image", "transform", "valid"]
