import numpy as np
import pandas as pd
import pytest
import shapely
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import EmptySearchError, InputError
from rscontrast.samplers import GriddedPlaceSampler, RandomPlaceSampler, TemporalPairSampler
from rscontrast.stac import pair_items
from tests.samplers.test_places import Footprints
from tests.stac.catalogs import archive

EVENT = "2022-08-15T04:00:00"


@pytest.fixture(scope="module")
def images(sample_items):
    return STACDataset(sample_items, bands=["red"])


def days(index):
    _, _, (pre, post) = index
    return pre.start.strftime("%Y-%m-%d"), post.start.strftime("%Y-%m-%d")


def allowed_days(items, **rules):
    pairs = pair_items(items, **rules).frame()
    form = "%Y-%m-%d"
    return set(
        zip(pairs["pre_datetime"].dt.strftime(form), pairs["post_datetime"].dt.strftime(form),
            strict=True)
    )  # fmt: skip


RULES = [
    {},
    {"min_gap": 100, "max_gap": 400},
    {"event": EVENT, "relation": "straddle"},
    {"event": EVENT, "relation": "before", "max_gap": 200},
    {"event": EVENT, "relation": "after"},
]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("by_table", [False, True])
def test_exactly_the_allowed_pairs_are_drawn(images, sample_items, rules, by_table):
    arguments = {"pairs": pair_items(sample_items, **rules)} if by_table else rules
    times = TemporalPairSampler(images, generator=0, **arguments)
    places = RandomPlaceSampler(images, size=16, length=400, roi=times.roi, generator=0)
    found = {days(index) for index in places @ times}
    assert found == allowed_days(sample_items, **rules)


@pytest.mark.parametrize("spatial", [RandomPatchSampler, RandomPlaceSampler])
def test_drawn_pairs_cover_the_patch(images, spatial):
    times = TemporalPairSampler(images, generator=0)
    whole = 0
    sampler = spatial(images, size=32, length=40, roi=times.roi, generator=1) @ times
    assert len(sampler) == 40
    for x, y, pair in sampler:
        patch = shapely.box(x.start, y.start, x.stop, y.stop)
        for t in pair:
            inside = (images.index.index.left >= t.start) & (images.index.index.left <= t.stop)
            whole += images.index[inside].union_all().buffer(1e-3).covers(patch)
    assert whole == 80


@pytest.mark.parametrize("spatial", [GriddedPatchSampler, GriddedPlaceSampler])
def test_gridded(images, spatial):
    times = TemporalPairSampler(images, max_gap=20, generator=0)
    grid = spatial(images, size=64, roi=times.roi)
    drawn = list(grid @ times)
    assert [index[:2] for index in drawn] == list(grid)
    twice = grid @ TemporalPairSampler(images, max_gap=20, generator=0, length=2)
    assert len(list(twice)) == len(twice) == 2 * len(drawn)
    assert {days(index) for index in drawn} == {("2022-08-07", "2022-08-24")}


def test_the_dataset_reads_what_is_drawn(images):
    times = TemporalPairSampler(images, generator=0)
    dataset = TemporalPairDataset(images)
    for index in RandomPlaceSampler(dataset, size=16, length=6, generator=0) @ times:
        sample = dataset[index]
        assert sample["image"].shape == (2, 1, 16, 16)
        assert sample["dates"][1] - sample["dates"][0] >= 86_400
        assert (sample["image"] != 0).float().mean() > 0.5


def test_deterministic_for_a_seed(images):
    def draw(seed):
        times = TemporalPairSampler(images, generator=seed)
        return list(RandomPlaceSampler(images, size=16, length=20, generator=seed) @ times)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_each_place_weighs_the_same_whatever_its_dates():
    """One place has 2 dates, the other 9: half of the draws fall on each."""
    one, two = shapely.box(0, 0, 1000, 1000), shapely.box(5000, 0, 6000, 1000)
    months = [f"2020-{month:02d}-01" for month in range(1, 12)]
    data = Footprints([one] * 2 + [two] * 9, times=months)
    times = TemporalPairSampler(data, generator=0)
    sampler = RandomPlaceSampler(data, size=10, length=2000, generator=0) @ times
    counts = {True: {}, False: {}}
    for x, _, (pre, post) in sampler:
        of = counts[x.start < 2500]
        of[pre.start, post.start] = of.get((pre.start, post.start), 0) + 1
    assert abs(sum(counts[True].values()) - 1000) < 4 * np.sqrt(2000 / 4)
    assert len(counts[True]) == 1
    assert len(counts[False]) == 36
    expected = 1000 / 36
    assert sum((n - expected) ** 2 / expected for n in counts[False].values()) < 36 + 4 * 8.5


def test_where_no_pair_covers_the_patch_the_best_is_drawn():
    half, most = shapely.box(0, 0, 500, 1000), shapely.box(0, 0, 900, 1000)
    days = ["2020-01-01", "2020-02-01", "2020-03-01"]
    data = Footprints([most, most, half], times=days)
    times = TemporalPairSampler(data, generator=0)
    patch = (slice(0, 1000), slice(0, 1000))
    found = {(p.start, q.start) for _, _, (p, q) in times._iter_subset(patch)}
    assert found == {tuple(map(pd.Timestamp, days[:2]))}


def test_every_pair_of_a_place_comes_once(images, sample_items):
    times = TemporalPairSampler(images, generator=0)
    x, y = slice(730_300, 730_340), slice(5_098_300, 5_098_340)
    drawn = [days(index) for index in times._iter_subset((x, y))]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) <= allowed_days(sample_items)


def test_without_a_length_it_is_of_use_under_a_spatial_sampler_only(images):
    times = TemporalPairSampler(images, generator=0)
    assert len(times) == 1
    with pytest.raises(InputError, match=r"length: got None.*spatial sampler before @"):
        next(iter(times))


def test_toi(images, sample_items):
    toi = pd.Interval(pd.Timestamp("2022-01-01"), pd.Timestamp("2022-12-31"))
    found = {days(index) for index in TemporalPairSampler(images, toi=toi)._iter_subset()}
    inside = {(a, b) for a, b in allowed_days(sample_items) if a > "2022" and b < "2023"}
    assert found == inside
    outside = pair_items(sample_items).frame()
    with pytest.raises(InputError, match=r"pairs.*in toi"):
        TemporalPairSampler(images, pairs=outside, toi=toi)
    with pytest.raises(InputError, match=r"pairs.*in toi"):
        list(TemporalPairSampler(images, pairs=pair_items(sample_items), toi=toi, length=64))


def test_a_place_without_pairs_names_the_roi(images):
    times = TemporalPairSampler(images, generator=0)
    with pytest.raises(InputError, match=r"roi=pair_sampler\.roi"):
        next(times._iter_subset((slice(0, 100), slice(0, 100))))


@pytest.mark.parametrize("share", [1e-6, 0.05, 0.5])
def test_a_cell_that_hardly_touches_the_pairs_gets_one(images, share):
    """A grid walks every cell that meets the roi, were it by a sliver."""
    times = TemporalPairSampler(images, generator=0)
    xmin, ymin, _, _ = min(shapely.get_parts(times.roi), key=lambda part: part.bounds).bounds
    side = 16 * images.res[0]
    x = slice(xmin - side * (1 - share), xmin + side * share)
    assert next(times._iter_subset((x, slice(ymin + side, ymin + 2 * side))))


def test_roi_is_where_pairs_are(images):
    times = TemporalPairSampler(images)
    grounds = pair_items(images.items).frame().to_crs(images.crs).union_all()
    assert grounds.symmetric_difference(times.roi).area < 1e-3 * grounds.area
    assert images.index.union_all().buffer(1e-3).covers(times.roi)


def test_no_pair_left(images):
    with pytest.raises(EmptySearchError, match="no pair: 16 of 16 acquisitions"):
        TemporalPairSampler(images, min_gap=5000)
    with pytest.raises(InputError, match="relation"):
        TemporalPairSampler(images, relation="during")


def test_a_table_over_many_places_keeps_its_dates_apart():
    """A scene somewhere every 48 minutes: times alone would make one long date of them all."""
    items = archive(30, 4, spacing=1.5, jitter=0.0)
    start = pd.Timestamp("2021-01-01", tz="UTC")
    order = items.sort_values("id").index
    step = [k % 4 * 30 * 48 + k // 4 * 48 for k in range(120)]
    items.loc[order, "datetime"] = start + pd.to_timedelta(step, unit="min")
    footprints, times = items.geometry.to_numpy(), items["datetime"].dt.strftime("%Y-%m-%dT%H:%M")
    data = Footprints(list(footprints), times=list(times))
    table = pair_items(items, min_gap=0.5)
    assert len(table) == 30 * 6
    for given in ({"pairs": table}, {"min_gap": 0.5}):
        sampler = TemporalPairSampler(data, generator=0, **given)
        drawn = list(sampler._iter_subset())
        assert len(drawn) == 180
        assert all(post.start - pre.start >= pd.Timedelta("23h") for _, _, (pre, post) in drawn)
        assert all(pre.stop - pre.start <= pd.Timedelta("1h") for _, _, (pre, _) in drawn)
