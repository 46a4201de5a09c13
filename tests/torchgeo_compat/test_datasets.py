"""STACDataset beside a RasterDataset of TorchGeo: `&`, `|`, its samplers and a DataLoader."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from rasterio.windows import from_bounds
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler, RandomTimestampSampler

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import EmptySearchError, InputError
from rscontrast.samplers import TemporalPairSampler
from tests.sample_world import BANDS, asset, scenes
from tests.torchgeo_compat.conftest import DATES, Files

# 64 x 64 pixels over the seam of west a (left of x 730780) and west b (right of x 730700).
X, Y = slice(730660.0, 730820.0), slice(5098290.0, 5098450.0)


def day(date):
    """Both items of a date are some seconds apart."""
    start = pd.Timestamp(date)
    return slice(start, start + pd.Timedelta("23h"))


def truth(date, x=X, y=Y):
    """DN [C, H, W] of a date, both files, read by rasterio alone."""
    out = np.zeros((len(BANDS), 64, 64), dtype=np.float32)
    for part in "ba":
        for band, key in enumerate(BANDS):
            with rasterio.open(asset(f"west_{date}_{part}", key)[0]) as source:
                window = from_bounds(x.start, y.start, x.stop, y.stop, source.transform)
                found = source.read(1, window=window, boundless=True, fill_value=0)
            out[band] = np.where(found > 0, found, out[band])
    return out


def reflectance(date):
    _, scale, offset = asset(f"west_{date}_a", "blue")
    return np.where(truth(date) > 0, truth(date) * scale + offset, 0)


def close(found, expected):
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def stac():
    return STACDataset(scenes([f"west_{d}_{p}" for d in DATES for p in "ab"]), bands=BANDS)


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_intersection_gives_both_on_one_grid(stac, raster, order):
    both = stac & raster if order == "ours first" else raster & stac
    sample = both[X, Y, day("20220824")]
    parts = [reflectance("20220824"), truth("20220824")]
    assert sample["image"].shape == (8, 64, 64)
    close(sample["image"], np.concatenate(parts if order == "ours first" else parts[::-1]))
    assert both.crs == stac.crs
    assert both.res == stac.res == (2.5, 2.5)


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_union_gives_either_on_one_grid(raster, folder, order):
    """Ours hold the date before, theirs the one after."""
    ours = STACDataset(scenes(["west_20220807_a", "west_20220807_b"]), bands=BANDS)
    theirs = Files(sorted(folder.glob("*20220824*")))
    either = ours | theirs if order == "ours first" else theirs | ours
    pre, post = (either[X, Y, day(date)] for date in DATES)
    close(pre["image"], reflectance("20220807"))
    close(post["image"], truth("20220824"))
    assert len(either) == 4
    with pytest.raises(IndexError):
        either[X, Y, slice(pd.Timestamp("2019-01-01"), pd.Timestamp("2019-01-02"))]


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_another_zone_is_warped_to_the_grid_of_the_first(raster, order):
    """Items of zone 33 beside files of zone 32: the grid is the first one's, whichever it is."""
    east = STACDataset(scenes(["east_20220824_a", "east_20220824_b"]), bands=BANDS)
    theirs = raster
    either = east | theirs if order == "ours first" else theirs | east
    assert either.crs.to_epsg() == (32633 if order == "ours first" else 32632)
    assert east.crs == theirs.crs == either.crs
    xmin, ymin, _, ymax = east.index.total_bounds
    x = slice(xmin + 200.0, xmin + 360.0)
    y = slice((ymin + ymax) / 2, (ymin + ymax) / 2 + 160.0)
    sample = either[x, y, day("20220824")]
    assert sample["image"].shape == (4, 64, 64)
    close(sample["transform"][:6], [2.5, 0, x.start, 0, -2.5, y.stop])
    seen = sample["image"] != 0
    assert seen.float().mean() > 0.95
    assert sample["image"][seen].max() < 1.5  # reflectance, not DN


@pytest.mark.parametrize("sampler", [RandomPatchSampler, GriddedPatchSampler])
def test_torchgeo_samplers_and_loader_take_our_datasets(stac, sampler):
    places = sampler(stac, size=64, **({"length": 5} if sampler is RandomPatchSampler else {}))
    joint = places @ RandomTimestampSampler(stac, generator=0)
    loader = DataLoader(stac, sampler=joint, batch_size=4, collate_fn=stack_samples)
    batches = list(loader)
    count = sum(len(batch["image"]) for batch in batches)
    assert count == len(joint)
    for batch in batches:
        assert batch["image"].shape[1:] == (4, 64, 64)
        assert batch["image"].dtype == torch.float32
        assert batch["valid"].shape[1:] == (1, 64, 64)
        assert torch.isfinite(batch["image"]).all()
    assert any(batch["valid"].any() for batch in batches)


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_torchgeo_samplers_draw_from_an_intersection_with_theirs(stac, raster, order):
    """What the joint index says must be found in both: an instant of ours, a day of theirs."""
    both = stac & raster if order == "ours first" else raster & stac
    joint = RandomPatchSampler(both, size=64, length=4) @ RandomTimestampSampler(both)
    batch = next(iter(DataLoader(both, sampler=joint, batch_size=4, collate_fn=stack_samples)))
    assert batch["image"].shape == (4, 8, 64, 64)


def test_torchgeo_samplers_take_an_intersection_and_labels(stac):
    pairs = stac & stac.labels("damage")
    joint = RandomPatchSampler(pairs, size=64, length=4) @ RandomTimestampSampler(pairs)
    batch = next(iter(DataLoader(pairs, sampler=joint, batch_size=4, collate_fn=stack_samples)))
    assert batch["mask"].shape == (4, 64, 64)
    assert batch["mask"].dtype == torch.int64


def test_our_pairs_on_their_dataset_mosaic_the_files_of_a_date(raster):
    pairs = TemporalPairDataset(raster)
    dates = TemporalPairSampler(raster, generator=0)
    times = tuple(day(date) for date in DATES)
    sample = pairs[X, Y, times]
    close(sample["image"], np.stack([truth(date) for date in DATES]))
    assert (sample["image"] > 0).all()
    joint = RandomPatchSampler(raster, size=64, length=4, roi=dates.roi) @ dates
    batch = next(iter(DataLoader(pairs, sampler=joint, batch_size=4, collate_fn=stack_samples)))
    assert batch["image"].shape == (4, 2, 4, 64, 64)
    assert ((batch["dates"][:, 1] - batch["dates"][:, 0]) / 86400 == 17).all()


def test_their_time_series_stacks_the_files_of_a_date_instead(folder):
    stacked = Files(folder, time_series=True)
    pre = day(DATES[0])
    found = stacked[X, Y, pre]["image"]
    assert found.shape == (2, 4, 64, 64)  # two files, not two dates
    assert (found == 0).any(dim=1).any(dim=(1, 2)).all()  # each with a hole
    with pytest.raises(InputError, match="one date each"):
        TemporalPairDataset(stacked)[X, Y, (pre, pre)]


def test_rules_that_leave_no_pair_of_their_dates_say_so(raster):
    with pytest.raises(EmptySearchError, match="no pair"):
        TemporalPairSampler(raster, min_gap=100)


def test_who_may_be_read_by_threads(stac, raster):
    assert stac.thread_safe
    assert stac.labels("damage").thread_safe
    assert TemporalPairDataset(stac).thread_safe
    assert (TemporalPairDataset(stac) & stac.labels("damage")).thread_safe
    assert not TemporalPairDataset(raster).thread_safe
    assert not (TemporalPairDataset(stac) & raster).thread_safe
