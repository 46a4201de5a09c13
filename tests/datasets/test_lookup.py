import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rscontrast.datasets.lookup import Lookup


@pytest.fixture(scope="module")
def index():
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 100, (200, 2)), rng.uniform(1, 15, (200, 2))
    shapes = shapely.box(*corner.T, *(corner + size).T)
    shapes[::5] = shapely.buffer(shapely.points(corner[::5]), 6)
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 400, 200), "D")
    spans = pd.IntervalIndex.from_arrays(
        start, start + pd.to_timedelta(rng.integers(1, 40, 200), "D"), closed="both"
    )
    return gpd.GeoDataFrame({"n": range(200)}, index=spans, geometry=shapes, crs="EPSG:32632")


def test_equals_the_geopandas_way(index):
    rng, lookup, hits = np.random.default_rng(1), Lookup(index), 0
    for _ in range(200):
        (x, y), (w, h) = rng.uniform(0, 100, 2), rng.uniform(0, 30, 2)
        start = pd.Timestamp("2020-01-01") + pd.Timedelta(days=int(rng.integers(0, 400)))
        t = slice(start, start + pd.Timedelta(days=int(rng.integers(1, 60))))
        frame = index[index.index.overlaps(pd.Interval(t.start, t.stop, closed="both"))]
        expected = frame.cx[x : x + w, y : y + h]["n"].tolist()
        assert lookup.find(slice(x, x + w), slice(y, y + h), t).tolist() == expected
        anytime = index.cx[x : x + w, y : y + h]["n"].tolist()
        assert lookup.find(slice(x, x + w), slice(y, y + h)).tolist() == anytime
        hits += len(expected)
    assert hits > 100


def test_a_point(index):
    lookup = Lookup(index)
    for x, y in np.random.default_rng(2).uniform(0, 100, (100, 2)):
        expected = np.flatnonzero(index.intersects(shapely.Point(x, y)))
        assert lookup.find(slice(x, x), slice(y, y)).tolist() == expected.tolist()


def test_both_ends_of_the_time_belong(index):
    lookup, span = Lookup(index), index.index[3]
    x, y = (slice(v, v) for v in shapely.get_coordinates(index.geometry.iloc[3].centroid)[0])
    day = pd.Timedelta(days=1)
    assert 3 in lookup.find(x, y, slice(span.right, span.right + day))
    assert 3 in lookup.find(x, y, slice(span.left - day, span.left))
    assert 3 not in lookup.find(x, y, slice(span.right + pd.Timedelta("1s"), span.right + day))
