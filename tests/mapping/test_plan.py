"""A plan: the best items first, from metadata alone, and the same when it is read again."""

import builtins
import copy

import geopandas as gpd
import pandas as pd
import pytest
import rasterio
import shapely

from rscontrast.errors import BandError, EmptySearchError, InputError
from rscontrast.mapping.choice import Weights, read_period
from rscontrast.mapping.estimate import BLOCKS, PACKED, km2
from rscontrast.mapping.job import Settings
from rscontrast.mapping.ledger import key
from rscontrast.mapping.plan import plan
from rscontrast.mapping.planned import read_plan
from rscontrast.stac.index import items_frame
from tests.mapping.running import small_plan
from tests.sample_world import BANDS, EVENT, event_pairs, scenes

AREA = (9.0, 45.0, 9.02, 45.02)
WIDE = (8.9, 44.9, 9.1, 45.1)


def item(name, date, bounds=WIDE, collection="made", **properties):
    asset = {"href": f"https://example.com/{name}.tif", "gsd": 10.0, "roles": ["data"]}
    asset["bands"] = [{"name": "red", "data_type": "uint16"}]
    asset |= properties.pop("asset", {})
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "collection": collection,
        "geometry": shapely.geometry.mapping(shapely.box(*bounds)), "bbox": list(bounds),
        "properties": {"datetime": f"{date}T10:00:00Z", **properties},
        "links": [], "assets": {properties.pop("key", "data"): asset},
    }  # fmt: skip


def planned(*items, **arguments):
    defaults = {"bands": ["red"], "aoi": AREA, "event": "2022-06-15", "tile_size": 512}
    return plan(items_frame(list(items)), **(defaults | arguments))


def ids(side):
    return [item["id"] for item in side]


POST = item("post", "2022-06-20")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"eo:cloud_cover": 5}, {"eo:cloud_cover": 40}),
        ({"view:off_nadir": 3}, {"view:off_nadir": 28}),
        ({"s2:nodata_pixel_percentage": 0}, {"s2:nodata_pixel_percentage": 60}),
        ({"valid_share": 0.9}, {"valid_share": 0.3}),
        ({"bounds": WIDE}, {"bounds": (8.9, 44.9, 9.01, 45.1)}),
        ({"date": "2022-06-10"}, {"date": "2022-04-10"}),
    ],
)
def test_the_better_item_comes_first(better, worse):
    for swapped in (False, True):
        names = ("b", "a") if swapped else ("a", "b")
        found = planned(
            item(names[0], **({"date": "2022-06-01"} | better)),
            item(names[1], **({"date": "2022-06-01"} | worse)),
            POST,
        )
        assert {names[0]} == {ids(job.pre)[0] for job in found.jobs}


def test_weights_say_what_counts():
    cloudy_near = item("near", "2022-06-14", **{"eo:cloud_cover": 30})
    clear_far = item("far", "2022-01-01", **{"eo:cloud_cover": 0})
    first = [
        ids(planned(cloudy_near, clear_far, POST, weights=w).jobs[0].pre)[0]
        for w in (None, Weights(cloud=5.0), Weights(gap=0.0))
    ]
    assert first == ["near", "far", "far"]
    with pytest.raises(InputError, match="weights, gap"):
        Weights(gap=-1)


def test_an_item_that_does_not_tell_is_taken_for_the_median():
    told = [item(f"c{c}", "2022-06-01", **{"eo:cloud_cover": c}) for c in (10, 30, 80)]
    found = planned(*told, item("silent", "2022-06-01"), POST)
    assert ids(found.jobs[0].pre) == ["c10", "c30", "silent", "c80"]


def test_enough_items_to_cover_a_tile_whatever_the_most():
    west = (8.9, 44.9, 9.005, 45.1)
    near = [item(f"w{n}", f"2022-06-0{n + 1}", west) for n in range(3)]
    found = planned(*near, item("whole", "2021-08-01"), POST, most=2)
    sides = {tuple(ids(job.pre)) for job in found.jobs}
    assert ("w2", "w1", "whole") in sides  # two, and what they leave open


@pytest.mark.parametrize(
    "when",
    [
        {"event": "2022-06-15"},
        {"event": None, "pre": "2022-05/2022-06-14", "post": "2022-06-16/2022-08"},
        {"event": "2022-06-15", "pre": "2022"},
    ],
)
def test_before_and_after(when):
    found = planned(
        item("pre", "2022-06-10"), item("same", "2022-06-15"), POST,
        item("old", "2020-06-10"), max_gap=365, **when,
    )  # fmt: skip
    if when["event"]:
        assert ids(found.jobs[0].pre) == ["pre"]
    else:
        assert {"pre"} == set(ids(found.jobs[0].pre))
    assert ids(found.jobs[0].post) == ["post"]


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ({}, "event: got None"),
        ({"pre": "2022-05"}, "event: got None"),
        ({"pre": "2022-07", "post": "2022-06"}, "pre ends before post begins"),
        ({"event": "2022-06-15", "post": "2022-05"}, "pre ends before post begins"),
        ({"event": "yesterday"}, "ISO date"),
    ],
)
def test_times_that_say_nothing_are_refused(when, text):
    with pytest.raises(InputError, match=text):
        read_period(when.get("event"), when.get("pre"), when.get("post"))


def test_tiles_without_a_date_are_listed_with_the_reason():
    found = planned(
        item("pre", "2022-06-01", (8.9, 44.9, 9.01, 45.1)),
        item("post", "2022-06-20", (8.99, 44.9, 9.05, 45.1)),
        aoi=WIDE, tile_size=128, halo=0,
    )  # fmt: skip
    reasons = {s.reason for s in found.skipped}
    assert reasons == {"no item before", "no item after", "no item before and no item after"}
    assert found.jobs
    assert "skipped: " in str(found)
    for skipped in found.skipped:
        middle = skipped.ground.centroid.x
        if skipped.reason == "no item after":
            assert middle < 9.0
        elif skipped.reason == "no item before":
            assert 9.0 < middle < 9.06
        else:
            assert middle > 9.04


def test_dates_that_share_no_ground_make_no_job():
    with pytest.raises(EmptySearchError, match="both an item before and one after"):
        planned(
            item("pre", "2022-06-01", (8.9, 44.9, 9.001, 45.1)),
            item("post", "2022-06-20", (9.012, 44.9, 9.1, 45.1)),
            tile_size=4096,
        )


@pytest.mark.parametrize(
    ("items", "arguments", "error", "text"),
    [
        ([POST], {}, EmptySearchError, "no item before: of 1 given"),
        ([item("pre", "2022-06-01")], {}, EmptySearchError, "no item after"),
        ([item("pre", "2022-06-01"), POST], {"aoi": (50, 10, 51, 11)}, EmptySearchError,
         r"no item meets the aoi \(50\.0000"),
        ([item("pre", "2022-06-01"), POST], {"bands": ["nir"]}, BandError, "nir.*one of data, red"),
        ([item("pre", "2022-06-01"), POST], {"bands": []}, InputError, "bands"),
        ([item("pre", "2022-06-01"), POST], {"tile_size": 0}, InputError, "tile_size"),
        ([item("pre", "2022-06-01"), POST], {"anchor": (5.0, 5.0)}, InputError, "anchor"),
        ([item("pre", "2022-06-01"), POST], {"crs": "EPSG:4326"}, InputError, "res.*degrees"),
    ],
)  # fmt: skip
def test_bad_input_says_what_is_wrong(items, arguments, error, text):
    with pytest.raises(error, match=text):
        planned(*items, **arguments)


def test_items_of_other_bands_are_left_out_with_a_note():
    other = item("radar", "2022-06-02", asset={"bands": [{"name": "vv"}]}, key="vv")
    found = planned(item("pre", "2022-06-01"), other, POST)
    assert ids(found.jobs[0].pre) == ["pre"]
    (note,) = found.notes
    assert "1 items left out" in note
    assert "radar" in note


@pytest.mark.parametrize(
    ("told", "learned", "expected"),
    [
        ({"gsd": 10.0}, None, 10.0),
        ({"gsd": 10.0}, 9.0, 10.0),
        ({"gsd": 10.0}, 30.0, 30.0),
        ({"gsd": 30.0, "proj:transform": [2.5, 0, 0, 0, -2.5, 0], "proj:code": "EPSG:32632"},
         None, 2.5),
        ({"gsd": None}, 7.0, 7.0),
    ],
)  # fmt: skip
def test_the_pixel_is_that_of_the_items_or_the_models(told, learned, expected):
    pre, post = item("pre", "2022-06-01", asset=told), item("post", "2022-06-20", asset=told)
    found = planned(pre, post, learned=learned)
    assert found.grid["res"] == expected
    assert abs(found.jobs[0].geobox.resolution.x) == expected


def test_no_pixel_size_at_all_is_refused():
    told = {"gsd": None}
    with pytest.raises(InputError, match="res: got None"):
        planned(item("pre", "2022-06-01", asset=told), item("post", "2022-06-20", asset=told))


def test_pairs_make_tiles_where_they_are_of_their_items():
    pairs = event_pairs()
    found = plan(scenes(), bands=BANDS, pairs=pairs, tile_size=128)
    named = {name for ids in [*pairs["pre_ids"], *pairs["post_ids"]] for name in ids}
    assert {i["id"] for job in found.jobs for i in (*job.pre, *job.post)} == named
    for job in found.jobs:
        assert shapely.intersects(pairs.geometry.to_numpy(), found.grounds[job.id]).any()
    with pytest.raises(InputError, match="the one or the other"):
        plan(scenes(), bands=BANDS, pairs=pairs, event=EVENT)


def test_pairs_that_contradict_give_way_to_the_better_one():
    items = items_frame(
        [item(n, d) for n, d in (("a", "2022-01-01"), ("b", "2022-03-01"), ("c", "2022-05-01"))]
    )
    frame = gpd.GeoDataFrame(
        {
            "pre_ids": [["a"], ["b"]], "post_ids": [["b"], ["c"]], "gap_days": [59.0, 61.0],
            "pre_datetime": pd.to_datetime(["2022-01-01", "2022-03-01"], utc=True),
            "post_datetime": pd.to_datetime(["2022-03-01", "2022-05-01"], utc=True),
            "place": ["x", "x"], "collection": ["made", "made"],
        },
        geometry=[shapely.box(*AREA)] * 2, crs="EPSG:4326",
    )  # fmt: skip
    found = plan(items, bands=["red"], pairs=frame)
    assert {(*ids(job.pre), *ids(job.post)) for job in found.jobs} == {("a", "b")}
    assert "1 pairs contradict" in str(found)


def test_the_estimate_is_what_the_metadata_say():
    area = shapely.box(*WIDE)
    told = {"file:size": 50_000_000}
    by_size = planned(item("pre", "2022-06-01", asset=told), item("post", "2022-06-20", asset=told))
    by_type = planned(item("pre", "2022-06-01"), POST)
    for found, density in ((by_size, 50e6 / km2(area)), (by_type, 2 * PACKED / 100 * 1e6)):
        for job in found.jobs:
            cost = found.estimates[job.id]
            reach = ((512 + 256) / 512) ** 2
            assert cost.read_bytes == pytest.approx(
                2 * cost.km2 * density * reach * BLOCKS, rel=1e-3
            )
            assert cost.pixels == pytest.approx(cost.km2 * 1e4, rel=2e-3)
    total = sum(cost.km2 for cost in by_type.estimates.values())
    assert total == pytest.approx(km2(shapely.box(*AREA)), rel=1e-3)
    text = by_type.report(workers=2, speed=1e6)
    assert f"{len(by_type.jobs)} jobs, {total:,.2f} km2" in text
    assert "2 workers (the rate of the run before)" in text
    assert "a guess" in str(by_type)


def test_a_plan_is_read_back_as_it_was(tmp_path):
    made = small_plan(aoi=shapely.union_all(scenes().geometry).envelope.buffer(-0.002))
    assert made.skipped
    assert any(job.aoi is not None for job in made.jobs)
    made.write(tmp_path / "plan.parquet")
    again = read_plan(tmp_path / "plan.parquet")
    assert again == made
    how = Settings("model.pt")
    assert [key(job, how, "x") for job in again.jobs] == [key(job, how, "x") for job in made.jobs]
    frame = gpd.read_parquet(tmp_path / "plan.parquet")
    assert list(frame["id"]) == [job.id for job in made.jobs] + [s.id for s in made.skipped]
    with pytest.raises(InputError, match="plan: got"):
        read_plan(tmp_path / "plan_items.parquet")


def test_planning_opens_nothing(monkeypatch):
    frame = copy.deepcopy(scenes())
    frame["assets"] = [  # not even where a file would be asked for its grid
        {k: {n: v for n, v in a.items() if not n.startswith("proj:")} for k, a in assets.items()}
        for assets in frame["assets"]
    ]
    opened = []

    def refuse(name, *_, **__):
        opened.append(name)
        raise AssertionError(f"opened {name}")

    small_plan()  # what is imported late is read now
    monkeypatch.setattr(rasterio, "open", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    made = plan(frame, bands=BANDS, event=EVENT, res=2.5, tile_size=128)
    assert made.jobs
    assert str(made)
    assert not opened
