"""Counted in batches: the same as pandas on the whole."""

import tracemalloc
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rscontrast.errors import EmptySearchError
from rscontrast.stac import pair_items
from rscontrast.stac.pairing.rule import YEAR, season_days
from rscontrast.stac.pairing.summary import GAP_EDGES, PairCounter, summarise


def table(n=3000, places=40, dates=30, seed=0, *, collections=("a", "b")):
    """Pairs of random dates; an acquisition's cloud depends on its name alone."""
    rng = np.random.default_rng(seed)
    place, collection = rng.integers(places, size=n), rng.choice(collections, n)
    days = np.sort(rng.choice(6000, (places, dates)), axis=1)
    pre, post = np.sort([rng.permutation(dates)[:2] for _ in range(n)], axis=1).T
    start = np.datetime64("2008-01-01", "us")
    times = [start + days[place, which].astype("m8[D]") for which in (pre, post)]
    gap = (times[1] - times[0]) / np.timedelta64(1, "D")
    names = [[f"p{p}-{d}" for p, d in zip(place, which, strict=True)] for which in (pre, post)]
    clouds = [
        [np.nan if hash_(c + name) % 7 == 0 else hash_(c + name) % 1000 / 10
         for c, name in zip(collection, side, strict=True)]
        for side in names
    ]  # fmt: skip
    return gpd.GeoDataFrame(
        {
            "pre_ids": [[name, name + "-south"] for name in names[0]],
            "post_ids": [[name] for name in names[1]],
            "pre_datetime": times[0],
            "post_datetime": times[1],
            "gap_days": gap,
            "season_days": season_days(gap),
            "pre_cloud": clouds[0],
            "post_cloud": clouds[1],
            "straddles_event": rng.random(n) < 0.3,
            "place": place,
            "collection": collection,
        },
        geometry=np.full(n, shapely.box(0, 0, 1, 1)),
        crs="EPSG:4326",
    )


def hash_(text):
    return int(pd.util.hash_array(np.array([text], object))[0])


def long_form(pairs):
    """One row an acquisition and pair."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "collection": pairs["collection"],
                    "id": pairs[f"{side}_ids"].str[0],
                    "time": pairs[f"{side}_datetime"],
                    "cloud": pairs[f"{side}_cloud"],
                }
            )
            for side in ("pre", "post")
        ]
    )


@pytest.mark.parametrize("size", [1, 17, 1000, 3000])
def test_equals_pandas_on_the_whole(size):
    pairs = table()
    batches = (pairs.iloc[start : start + size] for start in range(0, len(pairs), size))
    found = summarise(batches if size < len(pairs) else pairs)
    per_place = pairs["place"].value_counts()
    sides = long_form(pairs)
    dates = sides.drop_duplicates(["collection", "id"])
    assert (found.pairs, found.places, found.dates) == (3000, len(per_place), len(dates))
    assert found.pairs_per_place == (per_place.min(), per_place.median(), per_place.max())
    assert (found.first, found.last) == (sides["time"].min(), sides["time"].max())
    assert found.cloud == dates["cloud"].median()
    assert found.straddling == pytest.approx(pairs["straddles_event"].mean())
    assert found.same_season == pytest.approx((pairs["season_days"] <= 45).mean())
    bins = pd.cut(pairs["gap_days"], GAP_EDGES, right=False).value_counts(sort=False)
    assert found.gaps == tuple(bins)
    assert sum(found.gaps) == found.pairs


def test_a_gap_on_a_bound_is_in_the_upper_bin():
    pairs = table(9)
    pairs["gap_days"] = [0, 7, 30, 90, 180, YEAR, 2 * YEAR, 5 * YEAR, 1e6]
    assert summarise(pairs).gaps == (1, 1, 1, 1, 1, 1, 1, 2)


def test_ids_are_told_apart_by_their_collection():
    one = table(500, collections=("a",))
    other = one.assign(collection="b")
    assert summarise([one, other]).dates == 2 * summarise(one).dates
    assert summarise([one, one]).dates == summarise(one).dates


def test_items_without_collection_or_cloud():
    pairs = table(200).assign(collection=None, pre_cloud=np.nan, post_cloud=np.nan)
    found = summarise(pairs)
    assert np.isnan(found.cloud)
    assert "cloud of the dates  unknown" in str(found)
    assert found.dates == len(set(long_form(pairs)["id"]))


def test_named_places():
    pairs = table(300)
    named = pairs.assign(place=[f"T{place:02}" for place in pairs["place"]])
    assert summarise(named) == summarise(pairs)


def test_the_lazy_table_is_summed_up_as_its_frame(sample_items):
    pairs = pair_items(sample_items, event="2022-08-15")
    assert str(summarise(pairs)) == str(summarise(pairs.frame()))
    assert summarise(pairs).pairs == len(pairs)


def test_no_pair_at_all():
    with pytest.raises(EmptySearchError, match="no pair to sum up"):
        summarise([])
    with pytest.raises(EmptySearchError, match="no pair to sum up"):
        summarise(table(5).iloc[:0])


def test_printed_table():
    pairs = table(1, places=1, dates=2, seed=4)
    pairs = pairs.assign(pre_cloud=12.34, post_cloud=12.34, season_days=45.0, gap_days=31.0)
    pairs["straddles_event"] = True
    pairs["pre_datetime"] = pairs["post_datetime"] = pd.Timestamp("2020-02-03")
    assert str(summarise([pairs] * 1500)).splitlines() == [
        "pairs               1,500",
        "places              1",
        "pairs of a place    1,500 to 1,500, median 1,500",
        "dates               2, 2020-02-03 to 2020-02-03",
        "cloud of the dates  12.3 % (median)",
        "same season         100.0 % (within 45 days)",
        "straddle the event  100.0 %",
        "",
        "gap           pairs     share",
        "under 7 d         0     0.0 %",
        "7-30 d            0     0.0 %",
        "30-90 d       1,500   100.0 %  " + 32 * "#",
        "90-180 d          0     0.0 %",
        "180-365 d         0     0.0 %",
        "1-2 y             0     0.0 %",
        "2-5 y             0     0.0 %",
        "5 y or more       0     0.0 %",
    ]


def test_the_printed_table_fits_a_terminal_and_shows_rare_bins():
    many = 250_000_000
    gaps = (0, many - 1, 0, 0, 0, 0, 0, 1)
    lines = str(replace(summarise(table(200)), pairs=many, gaps=gaps)).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith("0.0 %  #")
    assert lines[-2].endswith("0.0 %")


def test_memory_grows_with_places_and_dates_not_with_pairs():
    pairs = table(5000)
    counter = PairCounter()
    counter.add(pairs)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        counter.add(pairs)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert counter.summary().pairs == 21 * 5000
    assert grown < 200_000
