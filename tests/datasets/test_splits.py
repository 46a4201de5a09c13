"""TorchGeo's splits: by items, cells, regions and times."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from torchgeo.datasets import (
    random_bbox_assignment,
    random_bbox_splitting,
    random_grid_cell_assignment,
    roi_split,
    time_series_split,
)

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.samplers import TemporalPairSampler
from rscontrast.stac import search
from tests.world import grid

HALVES = [shapely.box(730_000, 5_099_360, 730_400, 5_100_000)]
HALVES.append(shapely.box(730_400, 5_099_360, 730_800, 5_100_000))
MIDDLE = pd.Timestamp("2022-01-03T22:00:00")


def by_time(dataset):
    t = dataset.bounds[2]
    return time_series_split(dataset, [pd.Interval(t.start, MIDDLE), pd.Interval(MIDDLE, t.stop)])


SPLITS = {
    "items": lambda dataset: random_bbox_assignment(dataset, [0.5, 0.5]),
    "boxes": lambda dataset: random_bbox_splitting(dataset, [0.5, 0.5]),
    "cells": lambda dataset: random_grid_cell_assignment(dataset, [0.5, 0.5], grid_size=2),
    "regions": lambda dataset: roi_split(dataset, HALVES),
    "times": by_time,
}
KINDS = {
    "imagery": lambda images: images,
    "labels": lambda images: images.labels("label"),
    "pairs": TemporalPairDataset,
    "pairs and labels": lambda images: TemporalPairDataset(images) & images.labels("label"),
}


@pytest.fixture
def images(world):
    for day in range(1, 7):
        labels = {"label": np.full((64, 80), day, "uint8")}
        world.item(f"d{day}", grid(), when=f"2022-01-0{day}T10:00:00", extra=labels)
    return STACDataset(search(world.catalog()), bands=["x"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", SPLITS)
def test_parts_can_be_read_and_the_whole_stays(images, kind, split):
    dataset = KINDS[kind](images)
    parts = SPLITS[split](dataset)
    assert len(dataset) == 6
    assert len(parts) == 2
    for part in parts:
        assert type(part) is type(dataset)
        assert isinstance(part.index, gpd.GeoDataFrame)
        assert part.index["item"].isin(range(6)).all()
        key = "mask" if kind == "labels" else "image"
        x, y, _ = part.bounds
        rows, cols = round((y.stop - y.start) / 10), round((x.stop - x.start) / 10)
        assert part[part.bounds][key].shape[-2:] == (rows, cols)
        if kind.startswith("pairs"):
            assert len(TemporalPairSampler(part, generator=0)) >= 1


def test_parts_hold_their_own_dates_and_places(images):
    early, late = by_time(TemporalPairDataset(images))
    days = [
        pd.to_datetime(part[part.bounds]["dates"].numpy(), unit="s").day for part in (early, late)
    ]
    assert [list(day) for day in days] == [[1, 3], [4, 6]]
    left, right = roi_split(images.labels("label"), HALVES)
    assert (left.bounds[0].stop, right.bounds[0].start) == (730_400, 730_400)
    with pytest.raises(IndexError):
        left[730_500:730_600, :]
    assert images.labels("label")[730_500:730_600, :]["mask"].shape == (64, 10)
