import numpy as np
import pytest

from rscontrast.stac import pair_items
from rscontrast.stac.pairing.presets import LONG_AGO, PRESETS, Calendar
from tests.stac.catalogs import archive

DAY = np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def items():
    """A date every two days or so for six years, half of them under clouds."""
    items = archive(3, 1100, seed=8, years=6)
    items["eo:cloud_cover"] *= np.where(np.arange(len(items)) % 2, 0.05, 1)
    return items


def drawn(items, preset, **rules):
    return pair_items(items, preset=preset, tolerance="0s", **rules).frame()


def dates(frame):
    return {
        place: np.unique(group[["pre_datetime", "post_datetime"]].to_numpy())
        for place, group in frame.groupby("place")
    }


@pytest.mark.parametrize(
    ("preset", "count", "step", "cloud"), [("seco", 5, 84, 10), ("ssl4eo", 4, 91.5, 20)]
)
def test_seasons_a_place(items, preset, count, step, cloud):
    """Some dates a year, a step apart; two of them drawn with replacement."""
    frame = drawn(items, preset)
    window = PRESETS[preset].calendar.window
    found = dates(frame)
    assert len(found) == 3
    for times in found.values():
        assert len(times) == count
        assert np.allclose(np.diff(times) / DAY, step, atol=2 * window + 3)
    assert frame[["pre_cloud", "post_cloud"]].to_numpy().max() < cloud
    assert len(frame) == 3 * count * (count + 1) / 2
    last = [times[-1] for times in found.values()]
    assert np.ptp(np.array(last)) / DAY > 20, "each place has its own shift"


def test_the_shift_follows_the_seed(items):
    one, same, other = (drawn(items, "seco", seed=seed) for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)


def test_caco_pairs_dates_of_one_group(items):
    near, far = drawn(items, "caco"), drawn(items, "caco-long")
    assert near["gap_days"].max() < 364
    assert len(near) == 3 * 2 * 10
    assert far["gap_days"].min() > LONG_AGO - 364
    assert len(far) == 3 * 25
    assert (near["pre_ids"] != near["post_ids"]).all()


def test_moco_tp_takes_any_two_images_of_a_place():
    items = archive(4, 9)
    assert len(drawn(items, "moco-tp")) == 4 * 36


def test_arguments_go_before_the_preset(items):
    frame = drawn(items, "ssl4eo", same_image=False, max_cloud=4)
    assert frame[["pre_cloud", "post_cloud"]].to_numpy().max() < 4
    assert len(frame) <= 3 * 6


def test_a_calendar_takes_the_latest_of_each_window():
    times = np.datetime64("2022-01-01") - np.array([0, 5, 9, 11, 30, 100]) * DAY
    chosen = Calendar((0, 10, 60), window=2).choose(times, np.zeros(6, dtype=int), seed=0)
    assert not chosen.any(), "no acquisition near day 60: the place is left out"
    chosen = Calendar((0, 10, 99), window=2).choose(times, np.zeros(6, dtype=int), seed=0)
    assert chosen.tolist() == [True, False, True, False, False, True]
    assert Calendar((0,), window=2).choose(times[:0], np.zeros(0, dtype=int), seed=0).size == 0


def test_every_preset_says_where_it_is_from():
    assert all(preset.source for preset in PRESETS.values())
    with pytest.raises(TypeError):
        PRESETS["seco"].rules["max_cloud"] = 50
