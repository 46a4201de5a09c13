"""Which two times make a pair: one rule, shared by the pairs table and the sampler."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rscontrast.errors import InputError, choose

RELATIONS = ("any", "before", "after", "straddle")

type Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class PairRule:
    """Bounds on the gap between two dates and their relation to an event."""

    min_gap: float = 1.0
    """Least gap in days, included."""
    max_gap: float | None = None
    """Largest gap in days, included; None: no bound."""
    event: str | pd.Timestamp | None = None
    """When something happened: an ISO date or instant, UTC unless it says otherwise."""
    relation: str = "any"
    """"before" / "after": both dates on that side of the event; "straddle": one on each."""

    def __post_init__(self) -> None:
        """Refuse a negative or reversed gap, an unknown relation, a relation to no event."""
        if not self.min_gap >= 0:
            raise InputError("min_gap", self.min_gap, "days, 0 or more")
        if self.max_gap is not None and not self.max_gap >= self.min_gap:
            raise InputError("max_gap", self.max_gap, f"days, at least min_gap ({self.min_gap})")
        if choose("relation", self.relation, RELATIONS) != "any" and self.event is None:
            raise InputError("event", None, f"a date, since relation is {self.relation!r}")
        _ = self.event_time

    @property
    def event_time(self) -> np.datetime64 | None:
        """The event as a UTC instant without a zone, or None."""
        if self.event is None:
            return None
        try:
            time = pd.Timestamp(self.event)
        except ValueError as error:
            raise InputError("event", self.event, "an ISO date or instant") from error
        naive = time if time.tzinfo is None else time.tz_convert("UTC").tz_localize(None)
        event: np.datetime64 = naive.to_datetime64()
        return event

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
        event = self.event_time
        if event is None or self.relation == "any":
            return allowed
        if self.relation == "before":
            return allowed & (post < event)
        if self.relation == "after":
            return allowed & (pre >= event)
        return allowed & self.straddles(pre, post)


def time_delta(argument: str, value: str | pd.Timedelta) -> pd.Timedelta:
    """Read a length of time.

    Args:
        argument: what it is for, for the message.
        value: a pandas time delta, or one as text.

    Raises:
        InputError: it is no time, or below zero.
    """
    allowed = "a time such as '1h' or '1D'"
    try:
        delta = pd.Timedelta(value)
    except (ValueError, TypeError) as error:
        raise InputError(argument, value, allowed) from error
    if not delta >= pd.Timedelta(0):  # NaT included
        raise InputError(argument, value, allowed)
    return delta
