"""A draw that names spares, over dates whose clouds are known."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.datasets.slices import PairDraw
from rscontrast.errors import InputError
from rscontrast.stac import search
from tests.world import World, grid

SHAPE = (40, 40)
CLEAR = (0.1, 0.5, 0.9, 0.7)
"""Share of the rows that each date shows, from the top."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("clouds"))
    for n, share in enumerate(CLEAR):
        real = np.full(SHAPE, float(n + 1))
        real[round(share * SHAPE[0]) :] = np.nan
        world.item(f"d{n}", grid(shape=SHAPE), bands={"z": real}, nodata=-1,
                   when=f"2022-01-0{n + 1}T10:00:00")  # fmt: skip
    return STACDataset(search(world.catalog()), bands=["z"])


def pair(images, a, b):
    x, y, _ = images.bounds
    days = [pd.Timestamp(f"2022-01-0{n + 1}") for n in (a, b)]
    return x, y, tuple(slice(day, day + pd.Timedelta("1D")) for day in days)


def draw(images, first, *spares, min_valid=0.6):
    return PairDraw(pair(images, *first), tuple(pair(images, *s) for s in spares), min_valid)


@pytest.mark.parametrize(
    ("pairs", "kept", "tries", "share"),
    [
        ([(2, 3)], 0, 1, 0.7),
        ([(0, 1), (2, 3), (1, 2)], 1, 2, 0.7),
        ([(0, 1), (1, 2), (1, 3)], 1, 3, 0.5),  # none is good enough: the first of the best
        ([(0, 1)], 0, 1, 0.1),
    ],
)
def test_reads_on_until_enough_is_valid(images, pairs, kept, tries, share):
    dataset = TemporalPairDataset(images)
    sample = dataset[draw(images, *pairs)]
    assert sample["tries"].item() == tries
    assert sample["tries"].dtype == torch.int64
    assert sample["valid_share"].item() == pytest.approx(share)
    assert sample["valid_share"].dtype == torch.float32
    alone = dataset[pair(images, *pairs[kept])]
    assert "tries" not in alone
    for key, value in alone.items():
        assert torch.equal(sample[key], value)
    assert sample["valid"].all(dim=0).float().mean().item() == pytest.approx(share)


def test_the_bound_itself_is_enough(images):
    assert TemporalPairDataset(images)[draw(images, (1, 2), (2, 3), min_valid=0.5)]["tries"] == 1


def test_nothing_valid_at_all_is_still_a_sample(images):
    x, y, times = pair(images, 0, 1)
    low = slice(y.start, y.start + 20 * y.step, y.step)
    sample = TemporalPairDataset(images)[PairDraw((x, low, times), (), 0.5)]
    assert sample["valid_share"].item() == 0
    assert not sample["valid"].any()


def test_a_draw_of_a_dataset_that_knows_no_valid_pixels(images):
    blind = STACDataset(images.items, bands=["z"], transforms=lambda s: {"image": s["image"]})
    with pytest.raises(InputError, match=r"min_valid: got 0.6"):
        TemporalPairDataset(blind)[draw(images, (2, 3))]


def test_same_in_workers(images):
    draws = [draw(images, (0, 1), (2, 3)), draw(images, (1, 3)), draw(images, (2, 3))]
    assert pickle.loads(pickle.dumps(draws)) == draws
    batches = [
        next(iter(DataLoader(TemporalPairDataset(images), sampler=draws, batch_size=3,
                             num_workers=workers, collate_fn=stack_samples)))
        for workers in (0, 1)
    ]  # fmt: skip
    for key, value in batches[0].items():
        assert torch.equal(value, batches[1][key])
    assert batches[0]["tries"].tolist() == [2, 1, 1]
