import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from torchgeo.datasets import GeoDataset
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

from rscontrast.errors import InputError
from rscontrast.samplers import GriddedPlaceSampler, RandomPlaceSampler


class Footprints(GeoDataset):
    """A dataset that is only an index."""

    def __init__(self, shapes, res=10.0, times=None):
        times = pd.to_datetime(times or ["2020-01-01"] * len(shapes))
        spans = pd.IntervalIndex.from_arrays(times, times, closed="both", name="datetime")
        self.index = gpd.GeoDataFrame(geometry=list(shapes), index=spans, crs="EPSG:32632")
        self._res = (res, res)

    def __getitem__(self, index):
        return {}


def boxes(sampler):
    return shapely.box(*np.array([(x.start, y.start, x.stop, y.stop) for x, y in sampler]).T)


SHAPE = shapely.Polygon([(5, 5), (2005, 5), (2005, 1005), (1005, 1005), (1005, 2005), (5, 2005)])


def test_random_has_torchgeos_distribution():
    data = Footprints([SHAPE])
    arguments = {"size": 16, "length": 4000}
    ours, theirs = (
        shapely.get_coordinates(shapely.centroid(boxes(kind(data, generator=seed, **arguments))))
        for seed, kind in enumerate((RandomPlaceSampler, RandomPatchSampler))
    )
    edges = [np.linspace(0, 2010, 5)] * 2
    a, b = (np.histogramdd(points, edges)[0] for points in (ours, theirs))
    seen = a + b > 0
    statistic = ((a - b)[seen] ** 2 / (a + b)[seen]).sum()
    assert statistic < seen.sum() + 4 * np.sqrt(2 * seen.sum())
    assert (seen == (a > 0)).all()


def test_random_patches_lie_inside_on_the_pixel_grid():
    sampler = RandomPlaceSampler(Footprints([SHAPE]), size=(8, 16), length=500, generator=0)
    patches = boxes(sampler)
    assert len(patches) == len(sampler) == 500
    assert shapely.covers(SHAPE, patches).all()
    xmin, ymin, xmax, ymax = shapely.bounds(patches).T
    assert np.allclose([xmax - xmin, ymax - ymin], [[160], [80]])
    assert np.allclose((xmin - 5) / 10, np.round((xmin - 5) / 10))
    assert np.allclose((ymin - 5) / 10, np.round((ymin - 5) / 10))


@pytest.mark.parametrize("size", [np.int64(8), [np.int64(8), np.int64(8)]])
def test_sizes_of_numpy(size):
    one, two = (
        RandomPlaceSampler(Footprints([SHAPE]), size=side, length=5, generator=0)
        for side in (8, size)
    )
    assert list(one) == list(two)


def test_random_lands_in_proportion_to_area():
    far = [shapely.box(0, 0, 1000, 1000), shapely.box(9e6, 0, 9e6 + 3000, 1000)]
    sampler = RandomPlaceSampler(Footprints(far), size=10, length=6000, generator=0)
    patches = boxes(sampler)
    counts = np.array([shapely.covers(place, patches).sum() for place in far])
    assert counts.sum() == 6000
    margin = np.sqrt(2) * 50  # what the sampler keeps clear of the edge: half a diagonal
    area = np.array([shapely.area(shapely.buffer(place, -margin)) for place in far])
    share = area / area.sum()
    assert np.abs(counts / 6000 - share).max() < 4 * np.sqrt(share.prod() / 6000)


def test_random_is_its_seeds_and_each_epoch_is_new():
    data = Footprints([SHAPE])
    one, two = (RandomPlaceSampler(data, size=8, length=20, generator=3) for _ in range(2))
    first = list(one)
    assert first == list(two)
    assert first != list(one)


def test_random_in_a_roi():
    roi = shapely.box(0, 0, 600, 600)
    sampler = RandomPlaceSampler(Footprints([SHAPE]), size=8, length=50, roi=roi, generator=0)
    assert shapely.covers(roi, boxes(sampler)).all()


def test_random_where_nothing_fits():
    with pytest.raises(InputError, match="size"):
        list(RandomPlaceSampler(Footprints([shapely.box(0, 0, 90, 90)]), size=16, length=3))


def test_gridded_is_torchgeos_on_one_place():
    data = Footprints([SHAPE])
    for stride in (16, 12):
        arguments = {"size": 16, "stride": stride}
        ours = GriddedPlaceSampler(data, **arguments)
        assert list(ours) == list(GriddedPatchSampler(data, **arguments))
        assert len(ours) == len(list(ours))


def test_gridded_covers_every_place_and_nothing_between():
    far = [shapely.box(0, 0, 1000, 700), shapely.box(9e6, 5, 9e6 + 505, 605)]
    sampler = GriddedPlaceSampler(Footprints(far), size=16)
    united = shapely.union_all(boxes(sampler))
    assert shapely.covers(united, far).all()
    assert len(sampler) < 60
    assert all(shapely.intersects(p, far).any() for p in boxes(sampler))
