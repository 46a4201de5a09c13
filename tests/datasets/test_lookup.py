import subprocess
import sys

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


RACE = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import geopandas as gpd, numpy as np, pandas as pd, shapely
from rscontrast.datasets.lookup import Lookup

times = pd.date_range("2020", "2024", 40)
spans = pd.IntervalIndex.from_arrays(times, times + pd.Timedelta("1us"), closed="both")
turn = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
ring = np.stack([5 + 6 * np.cos(turn), 5 + 6 * np.sin(turn)], axis=1)
patch = shapely.Polygon([(9.5, 4), (12.2, 4.1), (12.1, 6), (9.4, 5.9)])  # over their edges
with ThreadPoolExecutor(16) as pool:
    for _ in range(20):
        shapes = [shapely.Polygon(ring + (n * 1e-3, 0)) for n in range(40)]
        lookup = Lookup(gpd.GeoDataFrame(index=spans, geometry=shapes, crs=32632))
        start = threading.Barrier(16)
        def ask(_):
            start.wait()
            return len(lookup.meeting(patch))
        assert set(pool.map(ask, range(16))) == {40}
"""


def test_threads_that_ask_first_at_the_same_time():
    """In a process of its own, since GEOS would take this one down with it."""
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
