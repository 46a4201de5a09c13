"""When two scenes are of one pass: within a length of time, or on one UTC day."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rscontrast.errors import InputError

DAY = ("day", "d", "1d", "1 day")
"""Texts, in any case, that mean the calendar day; "24h" is a length of time."""

type Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class Tolerance:
    """How far apart in time the scenes of one acquisition may be."""

    limit: np.timedelta64
    """Largest difference between neighbours in time."""
    by_day: bool = False
    """Scenes of one UTC day belong together, and of two days never."""

    @classmethod
    def read(cls, value: "str | pd.Timedelta | Tolerance") -> "Tolerance":
        """Read a tolerance.

        Args:
            value: "day" (or "1D", "1 day") for the same UTC day; else a length ("1h", "0s").

        Raises:
            InputError: it is neither.
        """
        if isinstance(value, Tolerance):
            return value
        if isinstance(value, str) and value.lower() in DAY:
            return cls(np.timedelta64(1, "D"), by_day=True)
        return cls(time_delta("tolerance", value).to_timedelta64())

    def near(self, a: Times, b: Times) -> NDArray[np.bool_]:
        """Whether scenes of the times ``a`` and ``b`` can be neighbours in a pass, elementwise."""
        days = a.astype("datetime64[D]") == b.astype("datetime64[D]")
        near: NDArray[np.bool_] = days if self.by_day else np.abs(a - b) <= self.limit
        return near

    def latest(self, start: Times) -> Times:
        """Last instant at which a neighbour of each ``start`` may begin."""
        if self.by_day:
            start = start.astype("datetime64[D]")
        # The last microsecond of the day, since the next one begins another.
        limit = self.limit - np.timedelta64(1, "us") if self.by_day else self.limit
        latest: Times = np.add(start, limit)
        return latest

    def runs(self, start: Times, end: Times) -> NDArray[np.intp]:
        """Number the passes of a series: a pass goes on while its neighbours are near.

        Args:
            start: when each scene begins, ascending, [N].
            end: when it ends, [N].

        Returns:
            from 0, ascending, [N].
        """
        before = start if self.by_day else np.maximum.accumulate(end)
        new = ~self.near(before[:-1], start[1:])
        if not self.by_day:
            new &= start[1:] > before[:-1]  # a scene within a longer one is of its pass
        return np.concatenate([[0], np.cumsum(new)]) if len(start) else np.zeros(0, dtype=np.intp)


def time_delta(argument: str, value: str | pd.Timedelta) -> pd.Timedelta:
    """Read a length of time.

    Args:
        argument: what it is for, for the message.
        value: a pandas time delta, or one as text.

    Raises:
        InputError: it is no time, or below zero.
    """
    allowed = "a length of time such as '1h' or '90min'"
    try:
        delta = pd.Timedelta(value)
    except (ValueError, TypeError) as error:
        raise InputError(argument, value, allowed) from error
    if not delta >= pd.Timedelta(0):  # NaT included
        raise InputError(argument, value, allowed)
    return delta
