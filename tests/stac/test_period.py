from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from rscontrast.errors import InputError
from rscontrast.stac.conditions.period import FIRST, LAST, read_toi

NS = pd.Timedelta(1, "ns")


def utc(text):
    return pd.Timestamp(text, tz="UTC")


@pytest.mark.parametrize(
    ("toi", "start", "stop"),
    [
        ("2022", "2022-01-01", "2023-01-01"),
        ("2024-02", "2024-02-01", "2024-03-01"),
        ("2022-12-31", "2022-12-31", "2023-01-01"),
        (" 2022-08 / 2022-09 ", "2022-08-01", "2022-10-01"),
        (("2022-08", "2022-09-03"), "2022-08-01", "2022-09-04"),
        (["2022-08-01", None], "2022-08-01", None),
        (("..", date(2022, 8, 1)), None, "2022-08-02"),
        ("2022-08/", "2022-08-01", None),
        ("/2022-08", None, "2022-09-01"),
        (date(2022, 8, 1), "2022-08-01", "2022-08-02"),
        (pd.Period("2022Q3"), "2022-07-01", "2022-10-01"),
        ((pd.Period("2022-08-01 10:00", freq="h"), ".."), "2022-08-01T10:00", None),
        ((None, None), None, None),
    ],
)
def test_dates_stand_for_the_whole_of_their_period(toi, start, stop):
    first, last = read_toi(toi)
    assert first == (utc(start) if start else FIRST)
    assert last == (utc(stop) - NS if stop else LAST)


@pytest.mark.parametrize(
    ("toi", "start", "end"),
    [
        ("2022-08-01T12:00:00+02:00", "2022-08-01T10:00", "2022-08-01T10:00"),
        ("2022-08-01T10:00Z/2022-08-01T10:00:00.123456789Z", "2022-08-01T10:00", None),
        (datetime(2022, 8, 1, 10), "2022-08-01T10:00", "2022-08-01T10:00"),
        (np.datetime64("2022-08-01T10:00"), "2022-08-01T10:00", "2022-08-01T10:00"),
        (
            (
                "2022-08-01T00:00:00+05:00",
                datetime(2022, 8, 1, tzinfo=timezone(timedelta(hours=-3))),
            ),
            "2022-07-31T19:00",
            "2022-08-01T03:00",
        ),
    ],
)
def test_instants_become_utc(toi, start, end):
    end = utc(end) if end else utc("2022-08-01T10:00:00.123456789")
    assert read_toi(toi) == (utc(start), end)
    assert {time.tzinfo for time in read_toi(toi)} == {UTC}


@pytest.mark.parametrize("closed", ["left", "right", "both", "neither"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_an_interval_holds_what_pandas_says(closed, zone):
    left, right = (pd.Timestamp(text, tz=zone) for text in ("2022-08-01", "2022-08-02"))
    interval = pd.Interval(left, right, closed)
    start, end = read_toi(interval)
    for time in (left - NS, left, left + NS, right - NS, right, right + NS):
        inside = start <= (time.tz_localize("UTC") if zone is None else time) <= end
        assert inside == (time in interval)


def test_years_beyond_nanoseconds_are_open_sides():
    assert read_toi("0001/9998-06") == (FIRST, LAST - NS)
    assert read_toi((datetime(1, 1, 1), datetime(9999, 12, 31))) == (FIRST, LAST)


@pytest.mark.parametrize(
    "toi",
    [
        "2022/2021",
        "2022-08-24/2022-08-07",
        "2022-08-24T10:00:00Z/2022-08-24T09:00:00Z",
        ("2022-08-24T10:00:00+00:00", "2022-08-24T11:00:00+02:00"),
        pd.Interval(pd.Timestamp("2022"), pd.Timestamp("2022"), "neither"),
    ],
)
def test_reversed_says_to_swap(toi):
    with pytest.raises(InputError, match=r"toi: .* swap"):
        read_toi(toi)


@pytest.mark.parametrize(
    "toi",
    [
        "last summer",
        "2022-13",
        "2022-02-30",
        "2022-1-1",
        "10:00",
        "",
        "..",
        "2022/2023/2024",
        "2022-01-01/nonsense",
        pd.NaT,
        (pd.NaT, "2022"),
        (),
        5,
        2022.0,
        pd.Interval(0, 1),
        ("2022",) * 3,
    ],
)
def test_unreadable(toi):
    with pytest.raises(InputError, match="toi"):
        read_toi(toi)
