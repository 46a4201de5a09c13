"""Which two times make a pair: one rule, shared by the pairs table and the sampler."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import InputError, choose
from rscontrast.stac.conditions.area import AOI, read_aoi
from rscontrast.stac.pairing.tolerance import Times

RELATIONS = ("any", "before", "after", "straddle")

YEAR = 365.2425
"""Days in a year of the Gregorian calendar."""

SEASON = 45.0
"""Two dates are of one season if their days of the year differ by at most so many days."""

type Instant = str | date | pd.Timestamp
type Event = Instant | tuple[Instant, AOI]


@dataclass(frozen=True)
class PairRule:
    """Bounds on the gap and the season of two dates, and their relation to an event."""

    min_gap: float = 1.0
    """Least gap in days, included."""
    max_gap: float | None = None
    """Largest gap in days, included; None: no bound."""
    event: Event | None = None
    """When something happened: an ISO date or instant, UTC unless it says otherwise; and where."""
    relation: str = "any"
    """"before" / "after": both dates on that side of the event; "straddle": one on each."""
    same_season: bool | float | None = None
    """Largest season difference, days (0-182.6); True: 45."""
    different_season: bool | float | None = None
    """Least season difference, days, not included; True: 45."""

    def __post_init__(self) -> None:
        """Refuse a negative or reversed gap, an unknown relation, a relation to no event."""
        if not self.min_gap >= 0:
            raise InputError("min_gap", self.min_gap, "days, 0 or more")
        if self.max_gap is not None and not self.max_gap >= self.min_gap:
            raise InputError("max_gap", self.max_gap, f"days, at least min_gap ({self.min_gap})")
        if choose("relation", self.relation, RELATIONS) != "any" and self.event is None:
            raise InputError("event", None, f"a date, since relation is {self.relation!r}")
        _ = self.event_time, self.event_area
        if self.least_season >= self.most_season:
            got = (self.same_season, self.different_season)
            raise InputError("same_season, different_season", got, "one of them, or a range")

    @cached_property
    def most_season(self) -> float:
        """Largest season difference, days."""
        return _season("same_season", self.same_season, YEAR / 2)

    @cached_property
    def least_season(self) -> float:
        """Season difference that is to be exceeded, days; -1: none."""
        return _season("different_season", self.different_season, -1.0)

    @cached_property
    def event_time(self) -> np.datetime64 | None:
        """The event as a UTC instant without a zone, or None."""
        if self.event is None:
            return None
        when = self.event[0] if isinstance(self.event, tuple) else self.event
        try:
            # What pandas reads besides, "now" or 10:00, is another time tomorrow.
            time = pd.Timestamp(datetime.fromisoformat(when) if isinstance(when, str) else when)
        except (ValueError, TypeError) as error:
            raise InputError("event", when, "an ISO date or instant") from error
        if isinstance(when, int | float) or pd.isna(time):
            raise InputError("event", when, "an ISO date or instant")
        naive = time if time.tzinfo is None else time.tz_convert("UTC").tz_localize(None)
        event: np.datetime64 = naive.to_datetime64()
        return event

    @cached_property
    def event_area(self) -> BaseGeometry | None:
        """Where it happened, in longitude and latitude; None: everywhere."""
        return read_aoi(self.event[1]) if isinstance(self.event, tuple) else None

    def gap_days(self, pre: Times, post: Times) -> NDArray[np.float64]:
        """Days from ``pre`` to ``post``, elementwise."""
        return (post - pre) / np.timedelta64(1, "D")

    def straddles(self, pre: Times, post: Times) -> NDArray[np.bool_]:
        """Whether the event lies after ``pre`` and not after ``post``, elementwise."""
        event = self.event_time
        if event is None:
            return np.zeros(len(pre), dtype=bool)
        return (pre < event) & (event <= post)

    def allows(self, pre: Times, post: Times) -> NDArray[np.bool_]:
        """Whether each (pre, post) is a pair under the rule.

        Args:
            pre: earlier times, [N], UTC without a zone.
            post: later times, [N].
        """
        gap = self.gap_days(pre, post)
        allowed = (gap >= self.min_gap) & (gap > 0)
        if self.max_gap is not None:
            allowed &= gap <= self.max_gap
        season = season_days(gap)
        allowed &= (season <= self.most_season) & (season > self.least_season)
        return allowed & self.relates(pre, post)

    def relates(self, pre: Times, post: Times) -> NDArray[np.bool_]:
        """Whether each (pre, post) has the relation to the event that is asked for."""
        event = self.event_time
        if event is None or self.relation == "any":
            return np.ones(len(pre), dtype=bool)
        if self.relation == "before":
            return post < event
        return pre >= event if self.relation == "after" else self.straddles(pre, post)


def season_days(gap_days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of two dates on the circle of the year, days, 0 to 182.6.

    Args:
        gap_days: days between the dates; whole years of it do not count.
    """
    rest = np.mod(gap_days, YEAR)
    return np.minimum(rest, YEAR - rest)


def _season(argument: str, value: bool | float | None, unset: float) -> float:
    if value is None or value is False:
        return unset
    days = SEASON if value is True else float(value)
    if not 0 <= days <= YEAR / 2:
        raise InputError(argument, value, "true, or days of the year from 0 to 182")
    return days
