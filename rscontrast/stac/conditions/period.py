"""A time of interest in any form becomes its first and last instant."""

import re
from datetime import date, datetime

import numpy as np
import pandas as pd

from rscontrast.errors import InputError

type Instant = str | datetime | date | np.datetime64 | pd.Period
type TOI = Instant | pd.Interval | tuple[Instant | None, Instant | None]

FIRST = pd.Timestamp.min.tz_localize("UTC")
LAST = pd.Timestamp.max.tz_localize("UTC")

_OPEN = (None, "", "..")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
_STEP = pd.Timedelta(1, "ns")
_ALLOWED = "an ISO date or instant, start/end with '..' for an open side, or a pair of them"


def read_toi(toi: TOI) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Bring a time of interest to its first and last instant, UTC.

    Args:
        toi: "2022", "2022-08", "2022-08-01" or an instant; "start/end" or a pair of those, with
            ".." or None for an open side; also as dates, datetimes, pandas Periods or a pandas
            Interval, whose open sides are left out. A date stands for the whole of its day,
            month or year; a time without a zone is UTC.

    Returns:
        both ends belong to it; an open side is the first or last instant that pandas knows.

    Raises:
        InputError: it cannot be read, or ends before it starts.
    """
    if isinstance(toi, pd.Interval):
        start, end = _interval(toi)
    else:
        sides = _sides(toi)
        start, end = _instant(sides[0], toi, last=False), _instant(sides[-1], toi, last=True)
    if start > end:
        raise InputError("toi", str(toi), "a start before the end; swap them")
    return start, end


def _sides(toi: object) -> tuple[object, ...]:
    sides = tuple(toi.split("/")) if isinstance(toi, str) else toi
    if isinstance(sides, pd.DatetimeIndex | np.ndarray):
        sides = list(sides)
    if isinstance(sides, list | tuple):
        if len(sides) == 2 or (len(sides) == 1 and sides[0] not in _OPEN):
            return tuple(sides)
        raise InputError("toi", toi, _ALLOWED)
    return (sides,)


def _instant(side: object, toi: object, *, last: bool) -> pd.Timestamp:
    side = side.strip() if isinstance(side, str) else side
    if side in _OPEN:
        return LAST if last else FIRST
    try:
        period = _period(side)
        if period is None:
            return _utc(_time(side))
        # not end_time, which is a microsecond before the next day where pandas counts in those
        return _utc((period + 1).start_time) - _STEP if last else _utc(period.start_time)
    except (ValueError, OverflowError) as error:
        raise InputError("toi", str(toi), f"{_ALLOWED} ({error})") from error


def _period(side: object) -> pd.Period | None:
    """Day, month or year, where it is not an instant."""
    if isinstance(side, str):
        return pd.Period(side) if _DATE.fullmatch(side) else None
    if isinstance(side, np.datetime64) and np.datetime_data(side)[0] in ("D", "M", "Y"):
        return pd.Period(str(side))
    if isinstance(side, date) and not isinstance(side, datetime):
        return pd.Period(side, freq="D")
    return side if isinstance(side, pd.Period) else None


def _time(side: object) -> pd.Timestamp:
    if isinstance(side, str):
        datetime.fromisoformat(side)  # pandas reads more than ISO: "10:00" is today
        if side.isdigit():
            raise ValueError(f"a date has dashes: {side[:4]}-{side[4:6]}-{side[6:]}")
    elif not isinstance(side, datetime | np.datetime64):  # a pandas Timestamp is a datetime
        raise ValueError(f"{side!r} is no time")
    time = pd.Timestamp(side)
    if time is pd.NaT:
        raise ValueError("NaT is no time")
    return time


def _interval(toi: pd.Interval) -> tuple[pd.Timestamp, pd.Timestamp]:
    if not isinstance(toi.left, pd.Timestamp):
        raise InputError("toi", str(toi), "an interval of times")
    return _utc(toi.left) + _STEP * int(toi.open_left), _utc(toi.right) - _STEP * int(
        toi.open_right
    )


def _utc(time: pd.Timestamp) -> pd.Timestamp:
    """The instant in UTC; one that nanoseconds cannot hold (1677 to 2262) ends where they do."""
    time = time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
    return min(max(time, FIRST), LAST).as_unit("ns")
