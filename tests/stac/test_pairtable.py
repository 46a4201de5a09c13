"""The lazy table against a double loop, and its draws against what it lists."""

import pickle
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
from rscontrast.stac.pairing.file import read_batches
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


@pytest.mark.parametrize("spacing", [3.0, 0.4])
def test_batches_are_the_frame_in_parts(spacing):
    pairs = pair_items(archive(5, 30, spacing=spacing), tolerance="0s")
    frame, batches = pairs.frame(), list(pairs.batches(300))
    assert pd.concat(batches, ignore_index=True).equals(frame)
    assert max(map(len, batches)) < 2 * 300 + 5 * 30
    assert len(batches) > 3
    changes = (frame["place"] != frame["place"].shift()).sum()
    assert changes == frame["place"].nunique()
    for _, place in frame.groupby("place"):
        order = place.sort_values(["pre_datetime", "post_datetime"], kind="stable")
        assert order.index.equals(place.index)


def test_written_as_streamed(tmp_path):
    pairs = pair_items(archive(4, 40), event=EVENT, tolerance="0s")
    write_pairs(pairs, tmp_path / "pairs.parquet", size=500)
    again = read_pairs(tmp_path / "pairs.parquet")
    frame = pairs.frame()
    assert as_set(again) == as_set(frame)
    assert again.crs == frame.crs
    assert again.geometry.geom_equals(frame.geometry).all()
    assert pq.ParquetFile(tmp_path / "pairs.parquet").num_row_groups > 3
    west = gpd.read_parquet(tmp_path / "pairs.parquet", bbox=(-31, -1, -29, 2))
    assert 0 < len(west) < len(frame)
    parts = pd.concat(read_batches(tmp_path / "pairs.parquet", 300), ignore_index=True)
    assert as_set(parts) == as_set(frame)
    assert parts.crs == "EPSG:4326"
    archive(2, 3).to_parquet(tmp_path / "items.parquet")
    with pytest.raises(InputError, match=r"pairs: got .*items.parquet.*gap_days"):
        next(read_batches(tmp_path / "items.parquet"))


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
    assert set(drawn["place"]) == set(frame["place"])
    if most is None:
        assert drawn["straddles_event"].sum() == 400 * share
    else:
        assert as_set(drawn) <= as_set(frame)
        assert drawn["straddles_event"].mean() == pytest.approx(share, abs=0.12)


def test_noise_does_not_choose_by_time():
    """The pairs kept of a kind are any of that kind, not its first or last ones."""
    items = archive(6, 40, seed=5)
    every = pair_items(items, event=EVENT).frame()
    some = pair_items(items, event=EVENT, noisy_share=0.25).frame()
    for noisy in (True, False):
        dates = [f.loc[f["straddles_event"] == noisy, "pre_datetime"] for f in (every, some)]
        assert abs(dates[0].mean() - dates[1].mean()) < pd.Timedelta(days=30)


def test_a_share_holds_for_small_draws_and_the_places_do_not_move_with_it():
    items = archive(6, 30, seed=5)
    late = (items["tile"] == "T001") & (items["datetime"] >= EVENT.tz_localize("UTC"))
    # At T001 no pair that straddles is of one orbit, though there are dates on both sides.
    items.loc[items["tile"] == "T001", "sat:relative_orbit"] = 1
    items.loc[late, "sat:relative_orbit"] = 2
    tables = [
        pair_items(items, event=EVENT, same_orbit=True, noisy_share=share) for share in (0, 0.25, 1)
    ]
    places = [set(table.sample(300)["place"]) for table in tables]
    assert places[0] == places[1] == places[2]
    assert len(places[0]) == 5
    noisy = sum(tables[1].sample(1, seed=k)["straddles_event"].sum() for k in range(100))
    assert 10 < noisy < 42


def test_every_pair_alike_is_not_for_noise():
    pairs = pair_items(archive(3, 20, seed=5), event=EVENT, noisy_share=0.5)
    with pytest.raises(InputError, match=r"by: got 'pair'.*noisy_share"):
        pairs.sample(5, by="pair")


def test_draws_under_max_per_place_are_of_the_frame():
    pairs = pair_items(archive(4, 40, seed=3), max_per_place=5)
    frame = pairs.frame()
    assert len(frame) == 20
    assert as_set(pairs.sample(600)) == as_set(frame) == as_set(pairs.sample(600, by="pair"))


def test_an_empty_table_says_what_took_the_last_pairs():
    items = archive(4, 20, seed=5)
    with pytest.raises(EmptySearchError, match="no place has both pairs that straddle"):
        pair_items(items, event="2030-01-01", noisy_share=0.5)
    with pytest.raises(EmptySearchError, match=r"none of these .* touches the event's area"):
        pair_items(items, event=(EVENT, (100, 10, 101, 11)), relation="straddle")
    with pytest.raises(EmptySearchError, match=r"\b0 of 80 acquisitions are clear"):
        pair_items(items.assign(**{"eo:cloud_cover": 90.0}), preset="seco")


def test_collections_stay_apart_in_any_crs():
    """Scenes that touch, at the same times, in two collections with the same ids."""
    one = archive(2, 8, spacing=0.9, jitter=0.0)
    one["geometry"] = shapely.box(0, 0, 1, 1)
    both = pd.concat([one, one.assign(collection="other")])
    metres = both.to_crs(3857)
    for items in (both, metres, both.sample(frac=1), both.reset_index(drop=True)):
        frame = pair_items(items, tolerance="0s").frame()
        assert frame["collection"].value_counts().tolist() == [120, 120]
        assert as_set(frame) == as_set(pair_items(one, tolerance="0s").frame())
        assert frame.crs == "EPSG:4326"
        assert frame.total_bounds == pytest.approx((0, 0, 1, 1), abs=1e-6)
    with pytest.raises(InputError, match=r"items: got 'no CRS'.*set_crs"):
        pair_items(one.set_crs(None, allow_override=True))


def test_times_of_any_zone_are_one_time():
    items = archive(2, 10)
    there = items.assign(datetime=items["datetime"].dt.tz_convert("Asia/Tokyo"))
    one, two = (pair_items(some, event=EVENT, tolerance="day").frame() for some in (items, there))
    assert one.equals(two)


def test_periods_stand_where_they_begin():
    items = archive(2, 6)
    periods = items.assign(
        start_datetime=items["datetime"],
        end_datetime=items["datetime"] + pd.Timedelta("1D"),
        datetime=pd.Series(pd.NaT, items.index, dtype=items["datetime"].dtype),
    )
    assert pair_items(items).frame().equals(pair_items(periods).frame())
    with pytest.raises(InputError, match="datetime of 12 items"):
        pair_items(items.assign(datetime=periods["datetime"]))


def test_a_place_is_what_shares_half_of_its_leader():
    """Boxes a tenth of a width apart from their neighbours: no two are one place."""
    items = archive(20, 3, spacing=0.9, jitter=0.0)
    items["geometry"] = [
        shapely.box(0.9 * int(t[1:]), 0, 0.9 * int(t[1:]) + 1, 1) for t in items["tile"]
    ]
    frame = pair_items(items).frame()
    assert frame["place"].nunique() == 20
    tile = items.set_index("id")["tile"]
    assert (
        tile[frame["pre_ids"].str[0]].to_numpy() == tile[frame["post_ids"].str[0]].to_numpy()
    ).all()


def test_footprints_on_both_sides_of_the_antimeridian():
    west, east = shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179.7, 1)
    items = archive(1, 8)
    items["geometry"] = [shapely.MultiPolygon([west, east])] * 4 + [east] * 4
    frame = pair_items(items, tolerance="0s").frame()
    assert len(frame) == 28
    assert (frame["overlap"] > 0.99).all()


def test_whole_footprints_share_all_of_themselves():
    turned = shapely.affinity.rotate(shapely.box(0, 0, 1.1, 0.7), 33.3)
    items = archive(1, 6).set_geometry([turned] * 6, crs="EPSG:4326")
    assert len(pair_items(items, min_overlap=1)) == 15


def test_gaps_without_a_bound():
    items = archive(2, 6)
    assert len(pair_items(items, max_gap=float("inf"))) == len(pair_items(items))
    with pytest.raises(EmptySearchError, match="0 pairs of these"):
        pair_items(items, min_gap=1e12)


def test_places_with_a_slash_in_their_names():
    items = archive(2, 20).assign(row="c", path="a/b")
    items.loc[items["tile"] == "T001", ["path", "row"]] = ["a", "b/c"]
    assert len(pair_items(items, place=["path", "row"], tolerance="0s")) == 2 * 190


def test_the_cloud_of_footprints_without_an_area():
    items = archive(1, 5)
    points = items.set_geometry(shapely.centroid(items.geometry.to_numpy()), crs="EPSG:4326")
    pairs = pair_items(points, place="tile", max_cloud=100).frame()
    assert len(pairs) == 10
    cloud = items.set_index("id")["eo:cloud_cover"]
    assert np.allclose(pairs["pre_cloud"], cloud[pairs["pre_ids"].str[0]])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda items: items.iloc[:0], "no item to pair"),
        (lambda items: items.set_geometry([None] * len(items), crs=4326), "geometry of 8 items"),
        (lambda items: items.assign(**{"eo:cloud_cover": "clear"}), "items, eo:cloud_cover"),
        (lambda items: items.assign(**{"sat:relative_orbit": "A12"}), "items, sat:relative_orbit"),
    ],
)
def test_items_that_no_search_gives(change, text):
    with pytest.raises((InputError, EmptySearchError), match=text):
        pair_items(change(archive(2, 4)))


def test_a_pickled_table_gives_the_same_pairs(tmp_path):
    """Also where the event's area was a file that is gone."""
    area = tmp_path / "area.geojson"
    gpd.GeoSeries([shapely.box(*AREA)], crs="EPSG:4326").to_file(area)
    pairs = pair_items(archive(4, 20, seed=5), event=(EVENT, str(area)), noisy_share=0.5)
    area.unlink()
    again = pickle.loads(pickle.dumps(pairs))
    assert again.frame().equals(pairs.frame())
    assert again.sample(20).equals(pairs.sample(20))


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


def test_a_table_too_large_for_a_frame_says_so():
    pairs = pair_items(archive(3, 30))
    with pytest.raises(InputError, match=r"at most 1,000 at once: use sample\(n\), batches\(\)"):
        pairs.frame(most=1000)


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
        ("event", "10:00"),
        ("event", "now"),
        ("event", 2020),
        ("place", ()),
        ("seed", -1),
        ("max_per_place", 3.0),
        ("cloud", "eo:clod"),
    ],
)
def test_bad_rules_name_their_argument(argument, value):
    name = "aoi" if isinstance(value, tuple) and value and argument == "event" else argument
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
