"""Which items a tile is made of: those before and after, the best first.

The cost of an item at a tile is a weighted sum, in shares of a cloudy sky:

    cost = cloud + 0.5 (1 - valid) + 0.1 |days to the event| / 30 + 0.2 off_nadir / 30 degrees

``valid`` is the share of the tile that the footprint covers, times ``valid_share`` where it was
measured, else what ``s2:nodata_pixel_percentage`` leaves. An item that does not tell its cloud
cover or its angle is taken for the median of those that do (0 where none does); one that tells of
no missing data has none.
"""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import InputError, positive
from rscontrast.stac.conditions.period import TOI, Instant, read_toi
from rscontrast.stac.index import instants
from rscontrast.stac.pairing.properties import CLOUD, number

MONTH = 30.0
"""Days that a gap is counted in."""
TILT = 30.0
"""Degrees that off-nadir angles are counted in."""

type Numbers = NDArray[np.float64]
type Rows = NDArray[np.intp]
type Shapes = NDArray[np.object_]


@dataclass(frozen=True)
class Weights:
    """What an item's faults cost; see the module."""

    cloud: float = 1.0
    """Of a sky that is clouded over."""
    invalid: float = 0.5
    """Of a tile without data."""
    gap: float = 0.1
    """Of thirty days to the event."""
    off_nadir: float = 0.2
    """Of thirty degrees."""

    def __post_init__(self) -> None:
        """Refuse what would make a fault a merit.

        Raises:
            InputError: a weight is below 0.
        """
        for name, value in vars(self).items():
            if not value >= 0:
                raise InputError(f"weights, {name}", value, "a number, 0 or more")


@dataclass(frozen=True)
class Period:
    """When items are before and when after, by instants that belong to it."""

    pre: tuple[pd.Timestamp, pd.Timestamp]
    """First and last instant before."""
    post: tuple[pd.Timestamp, pd.Timestamp]
    """First and last instant after."""
    event: pd.Timestamp | None
    """What the gap is counted from; None: nothing is."""

    def rows(self, items: gpd.GeoDataFrame) -> tuple[Rows, Rows]:
        """Rows of the items before, and after."""
        times = instants(items)
        before, after = (
            np.flatnonzero(times.between(*side).to_numpy()) for side in (self.pre, self.post)
        )
        return before, after


def read_period(
    event: Instant | None, pre: TOI | None, post: TOI | None, max_gap: float | None = None
) -> Period:
    """Make a period of what the user says.

    Args:
        event: a date or an instant; a date is the whole of its day, and what was taken on it is
            neither before nor after.
        pre: times of interest before; with an event, only what of it lies before it.
        post: times of interest after.
        max_gap: days from the event, either way, beyond which items are left out.

    Raises:
        InputError: neither an event nor both times; a time before that does not end before the
            one after begins.
    """
    if event is None and (pre is None or post is None):
        allowed = "a date; or pre and post, two times of interest; or pairs"
        raise InputError("event", event, allowed)
    step = pd.Timedelta(1, "us")
    before, after = read_toi(pre or ("..", "..")), read_toi(post or ("..", ".."))
    middle = None
    if event is not None:
        first, last = read_toi(event)
        before = before[0], min(before[1], first - step)
        after = max(after[0], last + step), after[1]
        middle = first + (last - first) / 2
        if max_gap is not None:
            reach = pd.Timedelta(positive("max_gap", max_gap), "D")
            before, after = (
                (max(before[0], first - reach), before[1]),
                (after[0], min(after[1], last + reach)),
            )
    elif before[1] < after[0]:
        middle = before[1] + (after[0] - before[1]) / 2
    if not before[0] <= before[1] < after[0] <= after[1]:
        raise InputError("pre, post", (str(pre), str(post)), "pre ends before post begins")
    return Period(before, after, middle)


def base_costs(items: gpd.GeoDataFrame, event: pd.Timestamp | None, weights: Weights) -> Numbers:
    """What of the cost of each item is the same at every tile, [N]."""
    cloud = _told(number(items, CLOUD) / 100)
    tilt = _told(np.abs(number(items, "view:off_nadir")) / TILT)
    gap = np.zeros(len(items))
    if event is not None:
        gap = np.abs((instants(items) - event) / pd.Timedelta(1, "D")).to_numpy() / MONTH
    total: Numbers = weights.cloud * cloud + weights.off_nadir * tilt + weights.gap * gap
    return total


def data_share(items: gpd.GeoDataFrame) -> Numbers:
    """Share of each item's footprint that has data, [N]."""
    measured = number(items, "valid_share")
    said = 1 - np.nan_to_num(number(items, "s2:nodata_pixel_percentage")) / 100
    share: Numbers = np.where(np.isnan(measured), said, measured)
    return share


def best(
    rows: Rows, costs: Numbers, covers: Shapes, ground: BaseGeometry, most: int
) -> list[tuple[int, float]]:
    """Order the items at a tile and leave out those that it will hardly need.

    Args:
        rows: of the items that meet the tile.
        costs: of each, there.
        covers: what of the tile each covers.
        ground: what is mapped of the tile.
        most: items that are kept; more only where they cover what those before leave open.

    Returns:
        some of the rows, best first (of equal ones the first of the frame), each with the share
        of the ground that it covers and none before it.
    """
    kept: list[tuple[int, float]] = []
    left, whole = ground, ground.area
    for n in np.argsort(costs, kind="stable"):
        adds = 0.0 if left.is_empty else float(covers[n].intersection(left).area)
        if len(kept) >= most and not adds:
            continue
        kept.append((int(rows[n]), adds / whole))
        if adds:
            left = left.difference(covers[n])
    return kept


def _told(values: Numbers) -> Numbers:
    """With the median where a value is missing."""
    known = values[~np.isnan(values)]
    filled: Numbers = np.where(np.isnan(values), np.median(known) if len(known) else 0.0, values)
    return filled
