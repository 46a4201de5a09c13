from itertools import product

import numpy as np
import pandas as pd
import pytest
import shapely

from rscontrast.errors import EmptySearchError, InputError
from rscontrast.stac import pair_items as lazy_pairs
from rscontrast.stac import read_pairs, write_pairs
from rscontrast.stac.pairing.acquisitions import acquisitions
from rscontrast.stac.pairing.file import select_items
from rscontrast.stac.pairing.rule import PairRule
from rscontrast.stac.pairing.tolerance import time_delta

EVENT = pd.Timestamp("2022-08-15T04:00:00")


def pair_items(items, **rules):
    return lazy_pairs(items, **rules).frame()


def passes(items):
    """The same world by its names: {(place, date): rows}, without any geometry."""
    return dict(iter(items.groupby([items["place"], items["id"].str[5:13]])))


def oracle(items, *, min_gap, max_gap=None, max_cloud=None, relation="any"):
    found = set()
    for (a, pre), (b, post) in product(passes(items).items(), repeat=2):
        t1, t2 = (p["datetime"].min().tz_localize(None) for p in (pre, post))
        gap = (t2 - t1) / pd.Timedelta(days=1)
        sides = {
            "any": True,
            "before": t2 < EVENT,
            "after": t1 >= EVENT,
            "straddle": t1 < EVENT <= t2,
        }
        clouds = [mean_cloud(p) for p in (pre, post)]
        keep = a[0] == b[0] and gap > 0 and gap >= min_gap and sides[relation]
        keep = keep and (max_gap is None or gap <= max_gap)
        if keep and (max_cloud is None or max(clouds) <= max_cloud):
            found.add((tuple(sorted(pre["id"])), tuple(sorted(post["id"]))))
    return found


def mean_cloud(rows):
    return np.average(rows["eo:cloud_cover"], weights=shapely.area(rows.geometry.to_numpy()))


def as_set(pairs):
    rows = zip(pairs["pre_ids"], pairs["post_ids"], strict=True)
    return {(tuple(sorted(pre)), tuple(sorted(post))) for pre, post in rows}


@pytest.mark.parametrize("relation", ["any", "before", "after", "straddle"])
@pytest.mark.parametrize(("low", "high"), [(0, None), (1, 100), (17, 17.5), (100, 400)])
@pytest.mark.parametrize("max_cloud", [None, 10, 50])
def test_equals_the_double_loop(sample_items, relation, low, high, max_cloud):
    rules = {"min_gap": low, "max_gap": high, "max_cloud": max_cloud, "relation": relation}
    expected = oracle(sample_items, **rules)
    if not expected:
        with pytest.raises(EmptySearchError, match=r"no pair: \d+ of 16 acquisitions"):
            pair_items(sample_items, event=EVENT, **rules)
        return
    pairs = pair_items(sample_items, event=EVENT, **rules)
    assert as_set(pairs) == expected
    assert len(pairs) == len(expected)
    pre, post = pairs["pre_datetime"], pairs["post_datetime"]
    assert ((pre < EVENT) & (post >= EVENT) == pairs["straddles_event"]).all()
    assert np.allclose(pairs["gap_days"], (post - pre) / pd.Timedelta(days=1))


def test_a_pair_lies_in_one_place_and_its_geometry_is_the_common_ground(sample_items):
    shapes = sample_items.set_index("id").geometry
    pairs = pair_items(sample_items)
    assert pairs["place"].nunique() == 2
    for row in pairs.itertuples():
        names = [*row.pre_ids, *row.post_ids]
        assert len({name[:4] for name in names}) == 1
        both = [shapely.union_all(shapes[ids].to_numpy()) for ids in (row.pre_ids, row.post_ids)]
        assert shapely.area(row.geometry ^ (both[0] & both[1])) < 1e-12
        assert row.overlap == pytest.approx(row.geometry.area / min(g.area for g in both))
        for ids, cloud in ((row.pre_ids, row.pre_cloud), (row.post_ids, row.post_cloud)):
            assert cloud == pytest.approx(mean_cloud(sample_items[sample_items["id"].isin(ids)]))


def test_acquisitions_join_adjacent_scenes_of_one_pass(sample_items):
    acquired = acquisitions(sample_items)
    assert len(acquired) == 16
    assert {tuple(sorted(i)) for i in acquired["ids"]} == {
        tuple(sorted(rows["id"])) for rows in passes(sample_items).values()
    }
    assert acquired["datetime"].is_monotonic_increasing


def test_tolerance_decides_what_is_one_pass(sample_items):
    late = sample_items.copy()
    late.loc[late["id"].str.endswith("_b"), "datetime"] += pd.Timedelta("30min")
    assert len(acquisitions(late, tolerance="1h")) == 16
    assert len(acquisitions(late, tolerance="10min")) == 32
    with pytest.raises(InputError, match="tolerance"):
        acquisitions(late, tolerance="a while")


@pytest.mark.parametrize("column", ["collection", "platform", "proj:code"])
def test_other_series_are_other_acquisitions(sample_items, column):
    mixed = sample_items.copy()
    mixed.loc[mixed["id"].str.endswith("_b"), column] = "EPSG:32631"
    assert len(acquisitions(mixed)) == 32


@pytest.mark.parametrize("where", ["item", "asset"])
@pytest.mark.parametrize(("other", "count"), [(32631, 32), (32632, 16)])
def test_crs_of_before_stac_1_1_tells_acquisitions_apart(sample_items, where, other, count):
    old = sample_items.drop(columns="proj:code")
    codes = [other if name.endswith("_b") else 32632 for name in old["id"]]
    if where == "item":
        old["proj:epsg"] = codes
    else:
        old["assets"] = [
            {key: asset | {"proj:epsg": code} for key, asset in assets.items()}
            for assets, code in zip(old["assets"], codes, strict=True)
        ]
    assert len(acquisitions(old)) == count


@pytest.mark.parametrize(("step", "count"), [(1, 32), (0, 16)])
def test_a_frame_of_both_versions(sample_items, step, count):
    """NaN is no code: the item then says it the old way, in the same words."""
    mixed, late = sample_items.copy(), sample_items["id"].str.endswith("_b")
    mixed["proj:code"] = mixed["proj:code"].astype(object).where(~late, np.nan)
    number = sample_items["proj:code"].str.removeprefix("EPSG:").astype(int)
    mixed["proj:epsg"] = (number + step).where(late)
    assert len(acquisitions(mixed)) == count


def test_select_items_takes_all_that_the_pairs_name(sample_items):
    whole = select_items(sample_items, pair_items(sample_items))
    assert whole["id"].tolist() == sample_items["id"].tolist()
    some = pair_items(sample_items, max_per_place=1)
    expected = {name for pair in as_set(some) for ids in pair for name in ids}
    assert set(select_items(sample_items, some)["id"]) == expected


@pytest.mark.parametrize("collection", ["other", None])
def test_select_items_tells_collections_with_the_same_ids_apart(sample_items, collection):
    twins = pd.concat([sample_items, sample_items.assign(collection=collection)])
    for items in (sample_items, sample_items.assign(collection=collection)):
        found = select_items(twins, pair_items(items))
        assert found["id"].is_unique
        assert set(found["collection"].fillna("")) == set(items["collection"].fillna(""))


def test_select_items_refuses_what_is_not_there_and_two_collections(sample_items):
    pairs = pair_items(sample_items)
    name = pairs["post_ids"].iloc[0][0]
    with pytest.raises(InputError, match=f"pairs: got '{name}'.*same search"):
        select_items(sample_items[sample_items["id"] != name], pairs)
    both = pd.concat([pairs, pairs.assign(collection="other")])
    with pytest.raises(InputError, match=r"\['other', 'scenes'\].*of one collection"):
        select_items(sample_items, both)


@pytest.mark.parametrize("value", ["a while", "-1h", "NaT", None, [1]])
def test_time_delta_refuses_what_is_no_length_of_time(value):
    with pytest.raises(InputError, match=r"slack: got .*'1h' or '90min'"):
        time_delta("slack", value)


def test_time_delta_reads_text_and_takes_deltas():
    assert time_delta("slack", "90min") == pd.Timedelta(hours=1.5)
    assert time_delta("slack", pd.Timedelta(0)) == pd.Timedelta(0)


def test_min_overlap(sample_items):
    """`a` and `b` share a strip of 32 of 240 pixels: a pair only for a small enough share."""
    apart = sample_items.copy()
    apart = apart[apart["id"].isin(["west_20210315_a", "west_20210613_b"])]
    assert len(pair_items(apart, min_overlap=0.1)) == 1
    with pytest.raises(EmptySearchError, match=r"0 pairs of these|none of these overlaps by 0.5"):
        pair_items(apart)


def test_deterministic_whatever_the_order_of_items(sample_items):
    one = pair_items(sample_items, max_per_place=3, seed=5)
    two = pair_items(sample_items, max_per_place=3, seed=5)
    assert one.equals(two)
    assert as_set(pair_items(sample_items.iloc[::-1])) == as_set(pair_items(sample_items))
    draws = {frozenset(as_set(pair_items(sample_items, max_per_place=3, seed=s))) for s in range(5)}
    assert len(draws) > 1


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_max_per_place(sample_items, count):
    whole = pair_items(sample_items)
    some = pair_items(sample_items, max_per_place=count)
    assert as_set(some) <= as_set(whole)
    expected = whole["place"].value_counts().clip(upper=count)
    assert some["place"].value_counts().sort_index().equals(expected.sort_index())


def test_write_and_read(sample_items, tmp_path):
    pairs = pair_items(sample_items, event=EVENT)
    write_pairs(pairs, tmp_path / "pairs.parquet")
    again = read_pairs(tmp_path / "pairs.parquet")
    assert again["pre_ids"].tolist() == pairs["pre_ids"].tolist()
    assert again["post_ids"].tolist() == pairs["post_ids"].tolist()
    assert again.crs == pairs.crs
    assert again.geometry.geom_equals(pairs.geometry).all()
    rest = [c for c in pairs.columns if c not in ("pre_ids", "post_ids", "geometry")]
    assert again[rest].equals(pairs[rest])


def test_reading_what_is_no_table_of_pairs(sample_items, tmp_path):
    sample_items[["id", "geometry"]].to_parquet(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("text")
    pair_items(sample_items).assign(pre_datetime=0).to_parquet(tmp_path / "times.parquet")
    pair_items(sample_items).assign(pre_ids=0).to_parquet(tmp_path / "ids.parquet")
    names = ("no", "text", "other", "times", "ids")
    for name in (f"{name}.parquet" for name in names):
        with pytest.raises(InputError, match=name):
            read_pairs(tmp_path / name)


def test_max_cloud_needs_cloud_cover(sample_items):
    with pytest.raises(InputError, match=r"max_cloud.*eo:cloud_cover"):
        pair_items(sample_items.drop(columns="eo:cloud_cover"), max_cloud=10)
    assert len(pair_items(sample_items.drop(columns="eo:cloud_cover"))) == 56


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"min_gap": 5000}, r"16 of 16 acquisitions are clear.*, 0 pairs of these keep the gap"),
        ({"max_cloud": 0}, r"no pair: [1-9]\d* of 16 acquisitions are clear"),
        ({"same_season": 1}, r"56 pairs of these keep the gap.*, 0 of these the season"),
        ({"preset": "caco-long"}, r"\d of these lie near the dates of the calendar, 0 pairs"),
    ],
)
def test_an_empty_result_counts_what_each_rule_left(sample_items, rules, text):
    with pytest.raises(EmptySearchError, match=text):
        lazy_pairs(sample_items, **{"min_gap": 1000 if "max_cloud" in rules else 1} | rules)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("min_gap", -1),
        ("min_gap", float("nan")),
        ("max_gap", 0.5),
        ("max_cloud", 101),
        ("max_cloud", -1),
        ("min_overlap", -0.1),
        ("min_overlap", 1.1),
        ("max_per_place", 0),
        ("relation", "befor"),
        ("event", "some day"),
    ],
)
def test_bad_rules_name_their_argument(sample_items, argument, value):
    with pytest.raises(InputError, match=f"{argument}: got"):
        pair_items(sample_items, **{argument: value})


def test_a_relation_needs_an_event():
    with pytest.raises(InputError, match="event"):
        PairRule(relation="before")


@pytest.mark.parametrize("event", ["2022-08-15T06:00:00+02:00", "2022-08-15T04:00:00Z", EVENT])
def test_an_event_is_one_instant_in_any_zone(event):
    assert PairRule(event=event).event_time == EVENT.to_datetime64()
