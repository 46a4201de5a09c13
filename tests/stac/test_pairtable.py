"""The lazy table against a double loop, and its draws against what it lists."""

import tracemalloc
from itertools import combinations

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely

from rscontrast.errors import EmptySearchError, InputError
from rscontrast.stac import pair_items, read_pairs, write_pairs
from rscontrast.stac.pairing.rule import YEAR
from tests.stac.catalogs import archive

EVENT = pd.Timestamp("2020-01-01")
AREA = (-31.0, -1.0, -26.0, 2.0)


def oracle(items, **rules):
    """Every pair of rows, asked every rule in plain words."""
    rows = list(items.sort_values("datetime").itertuples(index=False))
    names = list(items.columns)
    get = lambda row, name: row[names.index(name)]  # noqa: E731
    area = rules.get("area")
    found = set()
    for pre, post in combinations(rows, 2):
        gap = (get(post, "datetime") - get(pre, "datetime")) / pd.Timedelta(days=1)
        days = min(gap % YEAR, YEAR - gap % YEAR)
        common = pre.geometry & post.geometry
        share = common.area / min(pre.geometry.area, post.geometry.area)
        times = [get(row, "datetime").tz_localize(None) for row in (pre, post)]
        here = area is None or common.intersects(shapely.box(*area))
        straddles = times[0] < EVENT <= times[1] and here
        relation = {
            "any": True,
            "before": times[1] < EVENT and here,
            "after": times[0] >= EVENT and here,
            "straddle": straddles,
        }[rules.get("relation", "any")]
        keep = [
            rules.get("min_gap", 1) <= gap <= rules.get("max_gap", 1e9),
            days <= rules.get("same_season", 1e9),
            days > rules.get("different_season", -1),
            max(get(row, "eo:cloud_cover") for row in (pre, post)) <= rules.get("max_cloud", 100),
            min(usable(get, row) for row in (pre, post)) >= rules.get("min_valid", 0),
            not rules.get("same_orbit")
            or get(pre, "sat:relative_orbit") == get(post, "sat:relative_orbit"),
            not rules.get("same_platform") or pre.platform == post.platform,
            share > 0 and share >= rules.get("min_overlap", 0.5),
            relation,
        ]
        if all(keep):
            found.add((pre.id, post.id, straddles))
    return found


def usable(get, row):
    missing, cloud = get(row, "s2:nodata_pixel_percentage"), get(row, "eo:cloud_cover")
    return (1 - missing / 100) * (1 - cloud / 100)


def as_set(pairs):
    assert all(len(ids) == 1 for ids in [*pairs["pre_ids"], *pairs["post_ids"]])
    columns = (pairs["pre_ids"].str[0], pairs["post_ids"].str[0], pairs["straddles_event"])
    return set(zip(*columns, strict=True))


RULES = [
    {},
    {"min_gap": 100, "max_gap": 500},
    {"same_season": 30},
    {"different_season": 120},
    {"same_season": 100, "different_season": 20},
    {"max_cloud": 40, "min_valid": 0.6},
    {"same_orbit": True, "same_platform": True},
    {"min_overlap": 0.97},
    {"min_overlap": 0},
    {"relation": "straddle", "max_gap": 300},
    {"relation": "before", "same_orbit": True},
    {"relation": "after", "max_cloud": 60},
    {"relation": "straddle", "area": AREA},
    {"relation": "before", "area": AREA, "min_overlap": 0.9},
    {"relation": "any", "area": AREA},
]


@pytest.mark.parametrize("spacing", [3.0, 0.4])
@pytest.mark.parametrize("rules", RULES)
def test_equals_the_double_loop(spacing, rules):
    """With a spacing of 0.4 degrees scenes of several places overlap by more than half."""
    items = archive(5, 14, seed=3, spacing=spacing, jitter=0.02)
    event = (EVENT, rules["area"]) if "area" in rules else EVENT
    given = {name: value for name, value in rules.items() if name != "area"}
    pairs = pair_items(items, event=event, tolerance="0s", **given)
    expected = oracle(items, **rules)
    frame = pairs.frame()
    assert as_set(frame) == expected
    assert len(pairs) == len(frame) == len(expected)
    assert pairs.bound >= len(pairs)


def test_columns_are_what_the_items_say():
    items = archive(3, 8)
    named = items.set_index("id")
    for row in pair_items(items).frame().itertuples():
        pre, post = named.loc[row.pre_ids[0]], named.loc[row.post_ids[0]]
        assert (row.pre_cloud, row.post_cloud) == pytest.approx(
            (pre["eo:cloud_cover"], post["eo:cloud_cover"])
        )
        assert row.orbit_difference == post["sat:relative_orbit"] - pre["sat:relative_orbit"]
        assert row.sun_difference == pytest.approx(_angle(pre, post), abs=1e-5)
        assert row.season_days == pytest.approx(abs((row.gap_days + YEAR / 2) % YEAR - YEAR / 2))
        assert row.geometry.equals(pre.geometry & post.geometry)


def _angle(pre, post):
    towards = []
    for row in (pre, post):
        height, turn = np.radians([row["view:sun_elevation"], row["view:sun_azimuth"]])
        flat = np.cos(height)
        towards.append([flat * np.sin(turn), flat * np.cos(turn), np.sin(height)])
    return np.degrees(np.arccos(np.dot(*towards)))


def test_unknown_orbits_platforms_and_suns():
    items = archive(2, 6).drop(columns=["sat:relative_orbit", "platform", "view:sun_azimuth"])
    frame = pair_items(items).frame()
    assert frame["orbit_difference"].isna().all()
    assert frame["sun_difference"].isna().all()
    for rule in ("same_orbit", "same_platform"):
        with pytest.raises(InputError, match=rf"{rule}: got True; allowed: False, since no item"):
            pair_items(items, **{rule: True})


def test_a_named_place_needs_no_footprint():
    items = archive(4, 6, spacing=0.0, jitter=0.3)
    pairs = pair_items(items, place="tile", min_gap=0).frame()
    assert len(pairs) == 4 * 15
    tile = items.set_index("id")["tile"]
    assert (pairs["place"] == [tile[ids[0]] for ids in pairs["pre_ids"]]).all()
    assert (pairs["place"] == [tile[ids[0]] for ids in pairs["post_ids"]]).all()
    with pytest.raises(InputError, match=r"place: got 'tyle'.*did you mean 'tile'"):
        pair_items(items, place="tyle")
    with pytest.raises(InputError, match=r"place: got 'tile'.*item-00.* leave such items out"):
        pair_items(items.assign(tile=items["tile"].where(items["tile"] != "T001")), place="tile")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("tolerance", "pairs", "places"), [("day", 45_725, 7_623), ("1D", 45_725, 7_623),
                                       ("0s", 62_298, 9_160)],
)  # fmt: skip
def test_maxar_events(maxar_items, tolerance, pairs, places):
    table = pair_items(maxar_items, place=["event", "quadkey"], min_gap=0, tolerance=tolerance)
    assert len(table) == table.bound == pairs
    assert sum(batch["place"].nunique() for batch in table.batches(10**6)) == places


def test_batches_are_the_frame_in_parts():
    pairs = pair_items(archive(5, 30))
    frame, batches = pairs.frame(), list(pairs.batches(300))
    assert pd.concat(batches, ignore_index=True).equals(frame)
    assert max(map(len, batches)) <= 300 + 30 * 29 / 2
    assert len(batches) > 3
    changes = (frame["place"] != frame["place"].shift()).sum()
    assert changes == frame["place"].nunique()
    for _, place in frame.groupby("place"):
        order = place.sort_values(["pre_datetime", "post_datetime"], kind="stable")
        assert order.index.equals(place.index)


def test_written_as_streamed(tmp_path, monkeypatch):
    pairs = pair_items(archive(4, 40), event=EVENT, tolerance="0s")
    monkeypatch.setattr(type(pairs).batches, "__defaults__", (500,))
    write_pairs(pairs, tmp_path / "pairs.parquet")
    again = read_pairs(tmp_path / "pairs.parquet")
    frame = pairs.frame()
    assert as_set(again) == as_set(frame)
    assert again.crs == frame.crs
    assert again.geometry.geom_equals(frame.geometry).all()
    assert pq.ParquetFile(tmp_path / "pairs.parquet").num_row_groups > 3
    west = gpd.read_parquet(tmp_path / "pairs.parquet", bbox=(-31, -1, -29, 2))
    assert 0 < len(west) < len(frame)


def test_the_order_of_the_items_does_not_matter():
    items = archive(4, 12)
    one, two = (pair_items(some, max_per_place=5, seed=3) for some in (items, items.sample(frac=1)))
    assert one.frame().equals(two.frame())
    assert one.sample(50).equals(two.sample(50))


def test_draws_are_pairs_of_the_table_each_place_alike():
    items = pd.concat([archive(3, 30, seed=1), _elsewhere(archive(3, 6, seed=2))])
    pairs = pair_items(items, max_gap=500, same_orbit=True)
    frame, drawn = pairs.frame(), pairs.sample(6000)
    assert as_set(drawn) == as_set(frame)
    share = drawn["place"].value_counts(normalize=True)
    assert share.between(1 / 6 - 0.02, 1 / 6 + 0.02).all()
    one = (
        drawn[drawn["place"] == 0]["pre_ids"].str[0] + drawn[drawn["place"] == 0]["post_ids"].str[0]
    )
    within = one.value_counts()
    expected = len(one) / (frame["place"] == 0).sum()
    assert ((within - expected) ** 2 / expected).sum() < 2 * len(within)
    alike = pairs.sample(6000, by="pair")
    chance = (frame["place"].value_counts() / len(frame)).sort_index()
    assert np.abs(alike["place"].value_counts(normalize=True).sort_index() - chance).max() < 0.03


def _elsewhere(items):
    return items.assign(id="x" + items["id"]).set_geometry(items.translate(0, 20))


def test_draws_repeat_with_their_seed():
    pairs = pair_items(archive(3, 10), seed=7)
    assert pairs.sample(40).equals(pairs.sample(40, seed=7))
    assert not pairs.sample(40).equals(pairs.sample(40, seed=8))


def test_places_whose_only_pair_is_rare_are_found():
    """One pair in 4,950 of a place: guessing alone hardly meets it; others have none at all."""
    items = archive(3, 100, seed=4)
    first = items[items["tile"] == "T000"].index
    items["platform"] = [f"p{k}" for k in range(len(items))]
    items.loc[first[[10, 80]], "platform"] = "twin"
    pairs = pair_items(items, same_platform=True)
    assert len(pairs) == 1
    drawn = pairs.sample(20)
    assert as_set(drawn) == as_set(pairs.frame())
    assert as_set(pairs.sample(20, by="pair")) == as_set(pairs.frame())


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize("most", [None, 6])
def test_noisy_share(share, most):
    """The share moves; the number of pairs and the places do not."""
    rules = {"event": EVENT, "max_per_place": most, "same_orbit": True}
    items = archive(6, 20, seed=5)
    pairs = pair_items(items, noisy_share=share, **rules)
    frame, clean = pairs.frame(), pair_items(items, noisy_share=0, **rules).frame()
    assert frame["straddles_event"].mean() == pytest.approx(share, abs=0.12)
    assert (
        frame["place"]
        .value_counts()
        .sort_index()
        .equals(clean["place"].value_counts().sort_index())
    )
    drawn = pairs.sample(400)
    assert drawn["straddles_event"].sum() == 400 * share
    assert set(drawn["place"]) == set(frame["place"])


def test_a_place_without_both_kinds_is_not_drawn_for_noise():
    items = archive(4, 14, seed=6)
    late = (items["tile"] == "T002") & (items["datetime"] < EVENT.tz_localize("UTC"))
    pairs = pair_items(items[~late], event=EVENT, noisy_share=0.5)
    assert len(set(pairs.sample(200)["place"])) == 3


def test_noise_needs_an_event_and_no_relation():
    items = archive(2, 6)
    with pytest.raises(InputError, match=r"event: got None.*noisy_share"):
        pair_items(items, noisy_share=0.5)
    with pytest.raises(InputError, match=r"relation: got 'before'.*noisy_share"):
        pair_items(items, noisy_share=0.5, event=EVENT, relation="before")
    with pytest.raises(InputError, match=r"noisy_share: got 1\.5"):
        pair_items(items, noisy_share=1.5, event=EVENT)


def test_the_same_image_twice():
    items = archive(2, 5)
    twice = pair_items(items, min_gap=0, same_image=True).frame()
    assert len(twice) == len(pair_items(items, min_gap=0)) + len(items)
    same = twice["pre_ids"] == twice["post_ids"]
    assert same.sum() == len(items)
    assert (twice.loc[same, "overlap"] == 1).all()


def test_the_full_product_is_never_in_memory():
    """5 million pairs of 20,000 items; one row of a table takes some 500 bytes."""
    items = archive(40, 500, seed=7, years=8)
    tracemalloc.start()
    pairs = pair_items(items, min_gap=5, same_season=True)
    drawn = pairs.sample(2000)
    first = next(pairs.batches(1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pairs.bound > 4_500_000
    assert len(drawn) == 2000
    assert len(first) >= 1000
    assert peak < 100e6
    with pytest.raises(InputError, match="n: got 0"):
        pairs.sample(0)
    with pytest.raises(InputError, match="by: got 'date'"):
        pairs.sample(1, by="date")


def test_a_table_too_large_for_a_frame_says_so(monkeypatch):
    pairs = pair_items(archive(3, 30))
    monkeypatch.setattr("rscontrast.stac.pairing.table.MOST", 1000)
    with pytest.raises(InputError, match=r"at most 1,000 at once: use sample\(n\), batches\(\)"):
        pairs.frame()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("same_season", 200),
        ("different_season", -3),
        ("min_valid", 1.2),
        ("preset", "secco"),
        ("preset", 3),
        ("tolerance", "soon"),
        ("event", ("2020-01-01", (3, 3, 1, 1))),
    ],
)
def test_bad_rules_name_their_argument(argument, value):
    name = "aoi" if argument == "event" else argument
    with pytest.raises(InputError, match=f"{name}: got"):
        pair_items(archive(2, 4), **{argument: value})


def test_one_season_that_is_also_another():
    with pytest.raises(InputError, match=r"same_season, different_season: got \(30, 60\)"):
        pair_items(archive(2, 4), same_season=30, different_season=60)


def test_items_at_one_instant_are_no_pair():
    items = archive(2, 6)
    with pytest.raises(EmptySearchError, match="0 pairs of these keep the gap"):
        pair_items(items.assign(datetime=EVENT.tz_localize("UTC")), min_gap=0, tolerance="0s",
                   place="id")  # fmt: skip
