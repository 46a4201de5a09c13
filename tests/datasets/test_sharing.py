"""One dataset in many threads and processes."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples

from rscontrast.datasets import STACDataset, TemporalPairDataset


@pytest.fixture
def images(sample_items):
    return STACDataset(sample_items, bands=["red", "nir"])


@pytest.fixture
def places(images):
    """Patches of all of the world, over all times."""
    boxes = [geometry.bounds for geometry in images.index.geometry.drop_duplicates()]
    found, t = [], images.bounds[2]
    for xmin, ymin, xmax, ymax in boxes:
        x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
        found += [
            (slice(x + d, x + d + 80, 2.5), slice(y + d, y + d + 80, 2.5), t) for d in (-90, 0)
        ]
    return found


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_threads_read_what_one_reads(images, places, sample_items):
    dataset = TemporalPairDataset(images) & images.labels("damage")
    expected = [dataset[place] for place in places]
    fresh = STACDataset(sample_items, bands=["red", "nir"])
    fresh = TemporalPairDataset(fresh) & fresh.labels("damage")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fresh.__getitem__, places * 4))
    assert all(map(same, found, expected * 4))


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes_read_what_this_one_reads(images, places, start):
    dataset = TemporalPairDataset(images)
    before = [dataset[place] for place in places]  # handles are open here when workers start
    loader = DataLoader(
        dataset, sampler=places, batch_size=len(places), num_workers=1,
        multiprocessing_context=start, collate_fn=stack_samples,
    )  # fmt: skip
    assert same(next(iter(loader)), stack_samples(before))


def test_pickled_are_the_items_and_not_what_is_made_of_them(images, places):
    size = len(pickle.dumps(images))
    for place in places:
        images[place]
    used = pickle.dumps(images)
    assert len(used) < size * 1.01
    again = pickle.loads(used)
    assert all(same(images[place], again[place]) for place in places)
    assert again.bounds == images.bounds
    assert again.native


def test_a_copy_stands_alone(images, places):
    moved = copy.copy(images)
    moved.crs = "EPSG:32633"
    assert images.crs.to_epsg() == 32632
    assert images.native
    assert images[places[0]]["image"].shape == (2, 32, 32)
