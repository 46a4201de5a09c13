"""Which pairs are drawn, and how often."""

import inspect

import numpy as np
import pandas as pd
import pytest
import shapely
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.datasets.slices import PairDraw
from rscontrast.errors import EmptySearchError, InputError, whole
from rscontrast.samplers import EpochSampler, RandomPlaceSampler, TemporalPairSampler
from rscontrast.stac import pair_items
from rscontrast.stac.pairing.arguments import PairRules
from rscontrast.stac.pairing.rule import season_days
from tests.samplers.test_places import Footprints
from tests.stac.catalogs import archive

EVENT = "2020-01-01"


def files_at(images, x, y, t):
    """Items of a STACDataset at a place and time, literally."""
    index = images.index
    hit = (index.index.left <= t.stop) & (index.index.right >= t.start)
    hit &= index.intersects(shapely.box(x.start, y.start, x.stop, y.stop)).to_numpy()
    return index["item"].to_numpy()[hit]


def over(items):
    """A dataset that is only the index of some items."""
    data = Footprints(
        list(items.geometry), times=[f"{t:%Y-%m-%dT%H:%M:%S}" for t in items.datetime]
    )
    data.index = data.index.set_crs("EPSG:4326", allow_override=True)
    data._res = (0.001, 0.001)
    return data


@pytest.fixture(scope="module")
def items():
    return archive(4, 14, years=3)


@pytest.fixture(scope="module")
def data(items):
    return over(items)


def spread(counts, expected):
    """How far counts lie from what is expected, in standard deviations of chi-square."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    assert np.isclose(counts.sum(), expected.sum())
    statistic = ((counts - expected) ** 2 / expected).sum()
    return (statistic - (len(counts) - 1)) / np.sqrt(2 * (len(counts) - 1))


def literal(index, patch, **rules):
    """Times of the pairs at a patch, by a double loop over the index."""
    rows = list(zip(index.index.left, index.geometry, strict=True))
    found, most = {}, 0.0
    for before, one in rows:
        for after, two in rows:
            gap = (after - before) / pd.Timedelta("1D")
            season = season_days(np.array([gap]))[0]
            common = one.intersection(two)
            if (
                gap >= max(rules.get("min_gap", 1), 1e-9)
                and gap <= rules.get("max_gap", np.inf)
                and season <= rules.get("same_season", 200)
                and common.area >= rules.get("min_overlap", 0.5) * min(one.area, two.area)
                and common.intersection(patch).area > 0
                and (not rules.get("straddle") or before < pd.Timestamp(EVENT) <= after)
            ):
                found[before, after] = common.intersection(patch).area
                most = max(most, found[before, after])
    return {pair for pair, area in found.items() if area >= 0.999 * most}


RULES = [
    {},
    {"min_gap": 30, "max_gap": 300},
    {"same_season": 30},
    {"min_overlap": 0.9},
    {"straddle": True, "min_overlap": 0.0},
]


@pytest.mark.parametrize("rules", RULES)
def test_every_place_draws_what_a_double_loop_finds(data, rules):
    given = {k: v for k, v in rules.items() if k != "straddle"}
    given |= {"event": EVENT, "relation": "straddle"} if "straddle" in rules else {}
    sampler = TemporalPairSampler(data, generator=0, **given)
    inside = RandomPlaceSampler(data, size=40, length=12, roi=sampler.roi, generator=0)
    edge = [(slice(-30.3, -29.8), slice(-0.2, 0.3)), (slice(-29.4, -28.9), slice(0.7, 1.2))]
    for x, y in [*inside, *edge]:
        drawn = [(p.start, q.start) for _, _, (p, q) in sampler._iter_subset((x, y))]
        assert len(drawn) == len(set(drawn))
        inner = 0.1 * 0.001  # what a patch may stick out
        patch = shapely.box(x.start + inner, y.start + inner, x.stop - inner, y.stop - inner)
        assert set(drawn) == literal(data.index, patch, **rules)


def test_slices_hold_the_files_of_their_date_and_no_others(sample_items):
    """Each half of a place comes 4 seconds after the other; a second pass follows in 30 minutes."""
    again = sample_items.copy()
    again["id"] = again["id"] + "_again"
    again["datetime"] = again["datetime"] + pd.Timedelta("30min")
    images = STACDataset(pd.concat([sample_items, again], ignore_index=True), bands=["red"])
    table = pair_items(images.items, tolerance="10min", min_gap=0)
    for given in ({"pairs": table}, {"pairs": table.frame()}, {"tolerance": "10min", "min_gap": 0}):
        sampler = TemporalPairSampler(images, generator=0, length=200, **given)
        for x, y, times in sampler:
            for t in times:
                ids = set(images.items["id"].iloc[files_at(images, x, y, t)])
                assert len({(name[:13], name.endswith("again")) for name in ids}) == 1
                assert t.stop - t.start <= pd.Timedelta("5s")


def test_rules_are_those_of_pair_items():
    known = inspect.signature(pair_items).parameters
    rules = inspect.get_annotations(PairRules)
    assert set(rules) == set(known) - {"items", "min_valid"}
    assert all(rules[name] == known[name].annotation for name in rules)


def test_pairs_were_made_by_rules(data, items):
    for given in (pair_items(items), pair_items(items).frame()):
        with pytest.raises(InputError, match="max_gap, min_gap"):
            TemporalPairSampler(data, pairs=given, min_gap=2, max_gap=3)
        TemporalPairSampler(data, pairs=given, tolerance="day")
    with pytest.raises(InputError, match="cloud cover"):
        TemporalPairSampler(data, max_cloud=20)
    with pytest.raises(InputError, match="relation"):
        TemporalPairSampler(data, relation="during")


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("alone", [False, True])
def test_noisy_share(data, share, alone):
    rules = {"event": EVENT, "noisy_share": share}
    times = TemporalPairSampler(data, generator=3, size=40, length=2000, **rules)
    spatial = RandomPlaceSampler(data, size=40, length=2000, roi=times.roi, generator=3)
    drawn = list(times if alone else EpochSampler(spatial @ times))
    noisy = [p.start < pd.Timestamp(EVENT) <= q.start for _, _, (p, q) in drawn]
    assert abs(sum(noisy) - 2000 * share) <= 4 * np.sqrt(2000 * share * (1 - share))
    where = np.array([(x.start, y.start) for x, y, _ in drawn])
    counts = np.bincount(np.floor((where[:, 0] + 30.5) / 3).astype(int))
    assert len(counts) == 4
    assert not alone or spread(counts, [500] * 4) < 4


def test_places_do_not_depend_on_the_noise(data):
    def places(share):
        rules = {"event": EVENT, "noisy_share": share}
        times = TemporalPairSampler(data, generator=0, **rules)
        spatial = RandomPlaceSampler(data, size=40, length=50, roi=times.roi, generator=0)
        return [index[:2] for index in EpochSampler(spatial @ times)], times.roi

    (low, roi), (high, same) = places(0.1), places(0.9)
    assert low == high
    assert roi.equals(same)


def test_roi_with_noise_is_where_both_kinds_are():
    one, two, three = (shapely.box(x, 0, x + 100, 100) for x in (0, 500, 1000))
    before, after = ["2019-01-01", "2019-06-01"], ["2020-06-01", "2020-09-01"]
    data = Footprints([one] * 4 + [two] * 2 + [three] * 2,
                      times=[*before, *after, *before, before[0], after[0]])  # fmt: skip
    times = TemporalPairSampler(data, event=EVENT, noisy_share=0.5, generator=0)
    assert times.roi.symmetric_difference(one).area < 1e-3
    with pytest.raises(InputError, match="roi"):
        next(times._iter_subset((slice(510, 590), slice(10, 90))))


def frame_of(data, items, **columns):
    table = pair_items(items).frame()
    return table.assign(**{name: make(len(table)) for name, make in columns.items()})


def keys_of(frame):
    names = ["pre_datetime", "post_datetime"]
    return [tuple(row) for row in frame[names].itertuples(index=False, name=None)]


def count(drawn, keys):
    of = dict.fromkeys(keys, 0)
    for _, _, (p, q) in drawn:
        of[p.start, q.start] += 1
    return np.array([of[key] for key in keys])


@pytest.mark.parametrize("by", ["place", "pair"])
def test_weights_alone(data, items, by):
    frame = frame_of(data, items, good=lambda n: np.arange(n) % 3)
    sampler = TemporalPairSampler(
        data, pairs=frame, size=8, length=8000, by=by, weights="good", generator=1
    )
    weight = frame["good"].astype(float)
    if by == "place":
        weight /= frame.groupby("place")["good"].transform("sum")
    expected = 8000 * (weight / weight.sum()).to_numpy()
    drawn = list(sampler)
    counts = count(drawn, keys_of(frame))
    assert (counts[expected == 0] == 0).all()
    assert spread(counts[expected > 0], expected[expected > 0]) < 4
    numbers = TemporalPairSampler(
        data, pairs=frame, size=8, length=8000, by=by, weights=frame["good"].tolist(), generator=1
    )
    assert list(numbers) == drawn


def test_weights_at_a_patch(data, items):
    frame = frame_of(data, items, good=lambda n: 1 + np.arange(n) % 4)
    sampler = TemporalPairSampler(data, pairs=frame, weights="good", generator=2)
    x, y = slice(-29.7, -29.6), slice(0.4, 0.5)
    at = frame[frame.covers(shapely.box(x.start, y.start, x.stop, y.stop))]
    drawn = [next(sampler._iter_subset((x, y))) for _ in range(6000)]
    weight = at["good"].to_numpy()
    assert spread(count(drawn, keys_of(at)), 6000 * weight / weight.sum()) < 4


@pytest.mark.parametrize("alone", [False, True])
def test_seasons_weigh_the_same(alone):
    """Two dates in January for one in April; the last one in a year is no first date."""
    days = ["2019-01-05", "2019-01-10", "2019-04-05", "2019-09-01"]
    data = Footprints([shapely.box(0, 0, 1000, 1000)] * 4, times=days)
    times = TemporalPairSampler(data, weights="season", size=10, length=3000, generator=0)
    spatial = RandomPlaceSampler(data, size=10, length=3000, generator=0)
    quarters = [
        (p.start.quarter, q.start) for _, _, (p, q) in (times if alone else spatial @ times)
    ]
    first = np.array([quarter for quarter, _ in quarters])
    assert abs((first == 1).sum() - 1500) < 4 * np.sqrt(750)
    assert len(set(quarters)) == 4


def test_the_columns_of_a_lazy_table_are_weights(data, items):
    table = pair_items(items)
    lazy, made = (
        list(TemporalPairSampler(data, pairs=p, size=8, length=50, weights="gap_days", generator=0))
        for p in (table, table.frame())
    )
    assert [index[2][0].start for index in lazy] == [index[2][0].start for index in made]


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ("chnge", "did you mean 'change'"),
        ("collection", "weights"),
        ("change", r"1 of .* pairs have none; leave these pairs out"),
        ([1.0], "one a pair"),
        ("low", "clip"),
        ("none", "above 0"),
    ],
)
def test_what_is_no_weight(data, items, weights, match):
    frame = frame_of(
        data, items, change=lambda n: np.where(np.arange(n) == 3, np.nan, 1.0),
        low=lambda n: np.arange(n) - 1, none=np.zeros,
    )  # fmt: skip
    with pytest.raises(InputError, match=match):
        TemporalPairSampler(data, pairs=frame, weights=weights)


def test_numbers_go_with_a_list(data, items):
    with pytest.raises(InputError, match=r"table\.frame"):
        TemporalPairSampler(data, pairs=pair_items(items), weights=[1.0], length=3).roi  # noqa: B018


@pytest.mark.parametrize("noise", [{}, {"event": EVENT, "noisy_share": 0.5}])
@pytest.mark.parametrize("spatial", [RandomPatchSampler, GriddedPatchSampler])
def test_spares_at_a_patch(data, spatial, noise):
    times = TemporalPairSampler(data, min_valid=0.7, tries=4, generator=0, **noise)
    length = {"length": 20} if spatial is RandomPatchSampler else {}
    for draw in spatial(data, size=300, roi=times.roi, **length) @ times:
        assert isinstance(draw, PairDraw)
        assert draw.min_valid == 0.7
        assert len(draw.spares) <= 3
        assert len({draw, *draw.spares}) == 1 + len(draw.spares)
        straddles = set()
        for x, y, (p, q) in (draw, *draw.spares):
            assert (x, y) == draw[:2]
            straddles.add(p.start < pd.Timestamp(EVENT) <= q.start)
        assert not noise or len(straddles) == 1


@pytest.mark.parametrize("by_list", [False, True])
def test_spares_alone_are_of_the_same_place(data, items, by_list):
    table = pair_items(items)
    pairs = table.frame() if by_list else table
    times = TemporalPairSampler(
        data, pairs=pairs, size=30, length=60, min_valid=0.5, tries=4, generator=0
    )
    drawn = list(times)
    assert len(drawn) == 60
    assert np.mean([len(draw.spares) for draw in drawn]) > 2.9
    for draw in drawn:
        places = {np.floor((x.start + 30.5) / 3) for x, _, _ in (draw, *draw.spares)}
        assert len(places) == 1


def test_min_valid_is_a_share(data):
    with pytest.raises(InputError, match="min_valid"):
        TemporalPairSampler(data, min_valid=70)
    with pytest.raises(InputError, match="tries"):
        TemporalPairSampler(data, min_valid=0.7, tries=0)


def grounds_of(frame):
    return dict(zip(keys_of(frame), frame.geometry, strict=True))


@pytest.mark.parametrize("how", ["rules", "lazy", "list"])
def test_alone_a_patch_lies_on_the_common_ground(data, items, how):
    given = {"rules": {}, "lazy": {"pairs": pair_items(items)}}
    given = given.get(how) or ({} if how == "rules" else {"pairs": pair_items(items).frame()})
    sampler = TemporalPairSampler(data, size=(30, 60), length=500, generator=0, **given)
    grounds = grounds_of(pair_items(items).frame())
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 500
    origin = data.index.total_bounds
    for x, y, (p, q) in drawn:
        assert (
            grounds[p.start, q.start]
            .buffer(1.1e-4)
            .contains(shapely.box(x.start, y.start, x.stop, y.stop))
        )
        steps = np.array([x.stop - x.start, y.stop - y.start, x.start - origin[0]]) / 0.001
        assert np.allclose(steps[:2], [60, 30])
        assert np.isclose(steps[2], round(steps[2]), atol=1e-6)


def test_alone_without_a_size_it_is_the_ground(data, items):
    grounds = grounds_of(pair_items(items).frame())
    for x, y, (p, q) in TemporalPairSampler(data, length=50, generator=0):
        bounds = np.array(grounds[p.start, q.start].bounds)
        assert np.abs(bounds - (x.start, y.start, x.stop, y.stop)).max() <= 0.00101


def test_alone_places_weigh_the_same(items):
    few = items[(items["tile"] != "T000") | (items.index % 3 == 0)]
    drawn = list(TemporalPairSampler(over(few), size=8, length=2000, generator=5))
    counts = np.bincount([int((x.start + 30.5) // 3) for x, _, _ in drawn])
    assert spread(counts, [500] * 4) < 4
    assert len({q.start for _, _, (_, q) in drawn}) > 20


def test_roi_alone(data):
    roi = shapely.box(-29.8, 0.2, -29.5, 0.5)
    sampler = TemporalPairSampler(data, roi=roi, size=20, length=100, generator=0)
    for x, y, _ in sampler:
        assert roi.buffer(2e-4).covers(shapely.box(x.start, y.start, x.stop, y.stop))
    assert roi.buffer(1e-9).covers(sampler.roi)
    with pytest.raises(EmptySearchError):
        TemporalPairSampler(data, roi=shapely.box(50, 50, 51, 51), length=1)
    frame = pair_items(archive(4, 14, years=3)).frame()
    with pytest.raises(EmptySearchError, match="roi"):
        TemporalPairSampler(data, pairs=frame, roi=shapely.box(50, 50, 51, 51), length=1)


def test_a_patch_that_fits_nowhere(data):
    with pytest.raises(InputError, match="size"):
        next(iter(TemporalPairSampler(data, size=2000, length=4, generator=0)))


def test_alone_a_table_is_not_listed():
    """Ten million pairs: listing them would be refused."""
    items = archive(20, 1050, jitter=0.001, years=12)
    table = pair_items(items)
    assert table.bound > 5_000_000
    sampler = TemporalPairSampler(over(items), pairs=table, size=16, length=100, generator=0)
    assert len(set(sampler)) == 100


def test_the_dataset_reads_what_is_drawn_alone(sample_items):
    pairs = TemporalPairDataset(STACDataset(sample_items, bands=["red"]))
    times = TemporalPairSampler(pairs, size=(16, 32), length=6, max_gap=60, generator=0)
    for draw in times:
        sample = pairs[draw]
        assert sample["image"].shape == (2, 1, 16, 32)
        assert sample["valid"].float().mean() > 0.5
        assert 86_400 <= sample["dates"][1] - sample["dates"][0] <= 60 * 86_400


@pytest.mark.parametrize(
    "given",
    [
        {"generator": -1}, {"generator": "a"}, {"size": 32.0}, {"size": (1, 2, 3)}, {"size": 0},
        {"size": (8, 2.5)}, {"toi": "2022"}, {"toi": pd.Interval(0, 1)}, {"roi": "x"},
        {"pairs": "pairs.parquet"}, {"pairs": pd.DataFrame()}, {"length": 2.5}, {"by": "area"},
    ],
)  # fmt: skip
def test_an_argument_that_is_none_is_named(data, given):
    (name,) = given
    with pytest.raises(InputError, match=f"^{name}: got "):
        TemporalPairSampler(data, **given)


def test_what_is_no_rule(data, items):
    for pairs in (None, pair_items(items)):
        with pytest.raises(InputError, match=r"rule: got 'max_gapp'.*mean 'max_gap'"):
            TemporalPairSampler(data, pairs=pairs, max_gapp=3)


def test_whole_numbers_of_any_kind(data):
    one, two = (
        list(TemporalPairSampler(data, size=size, length=np.int64(5), generator=np.int64(3)))
        for size in (np.int64(32), [32, 32])
    )
    assert one == two


@pytest.mark.parametrize("missing", ["collection", "pre_datetime", "post_ids", "crs"])
def test_a_table_without_what_it_needs_is_refused(sample_items, missing):
    images, pairs = STACDataset(sample_items, bands=["red"]), pair_items(sample_items).frame()
    less = (
        pairs.set_crs(None, allow_override=True)
        if missing == "crs"
        else pairs.drop(columns=missing)
    )
    with pytest.raises(InputError, match=f"(?i)^pairs: got 'no {missing}'"):
        TemporalPairSampler(images, pairs=less)


def test_least_of_whole_numbers():
    for least, multiple, word in ((0, 1, "0"), (1, 1, "1"), (1, 32, "32"), (0, 32, "0")):
        with pytest.raises(InputError, match=f", {word} or more"):
            whole("n", -1, least=least, multiple=multiple)
