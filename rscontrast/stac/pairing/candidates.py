"""The pairs of a catalog as ranges, so that they can be counted and drawn without being made.

The acquisitions lie in one order: by place, class of footprint and time. For an acquisition the
later ones within the gap are then one range in each neighbouring class, found by bisection.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rscontrast.stac.pairing.places import SHARE, Labels, classify, group, neighbours
from rscontrast.stac.pairing.rule import PairRule
from rscontrast.stac.pairing.tolerance import Times


@dataclass(frozen=True)
class Layout:
    """Acquisitions in their order, with where they lie."""

    order: Labels
    """Row of each acquisition in the table it came from, [N]."""
    times: Times
    """[N]."""
    place: Labels
    """[N], ascending."""
    key: Labels
    """Class and rank of the time as one number, ascending, [N]."""
    starts: Labels
    """Where the neighbours of each class begin in ``near``, [K + 1]."""
    near: Labels
    """Neighbouring classes, itself among them."""
    kind: Labels
    """Class of each acquisition, [N], ascending."""
    ranks: Times
    """The distinct times, ascending."""

    def keep(self, usable: NDArray[np.bool_]) -> "Layout":
        """Leave acquisitions out, [N]; places and classes stay what they are."""
        own = {
            name: getattr(self, name)[usable] for name in ("order", "times", "place", "key", "kind")
        }
        return replace(self, **own)


def lay_out(acquired: gpd.GeoDataFrame, series: Labels, share: float, *, named: bool) -> Layout:
    """Order acquisitions by place, class and time.

    Args:
        acquired: of :func:`rscontrast.stac.pairing.acquisitions.acquisitions`.
        series: what must not be mixed, [N].
        share: least overlap of a pair, 0-1.
        named: whether the series are the places; else they follow from the footprints.
    """
    shapes = acquired.geometry.to_numpy()
    times = acquired["datetime"].to_numpy()
    if named:
        kind = place = np.unique(series, return_inverse=True)[1].astype(np.intp)
        a = b = np.unique(kind)
    else:
        classes = classify(shapes, series)
        near = neighbours(classes, min(share, SHARE))
        # Places are numbered by their first date.
        place = pd.factorize(group(classes, shapes, near)[classes.label])[0]
        # Classes of one place and size count as one here: fewer ranges hold the same pairs.
        key = np.column_stack([place[classes.lead], classes.scale])
        merged = np.unique(key, axis=0, return_inverse=True)[1].ravel()
        kind = merged[classes.label]
        a, b = np.unique(merged[np.column_stack(near)], axis=0).T
    order = np.lexsort([times, kind])
    ranks, rank_of = np.unique(times, return_inverse=True)
    key = kind[order] * (len(ranks) + 1) + rank_of.ravel()[order]
    starts = np.searchsorted(a, np.arange(kind.max() + 2))
    return Layout(order, times[order], place[order], key, starts, b, kind[order], ranks)


@dataclass(frozen=True)
class Candidates:
    """Ranges of pairs that the gap and the side of the event allow."""

    pre: Labels
    """The earlier acquisition of each range, [E], ordered by place and time."""
    low: Labels
    """First later one, [E]."""
    offset: Labels
    """Pairs before each range, [E + 1]: the last is the number of all."""
    firsts: Labels
    """Where the ranges of each place and first date begin, and the end of all."""
    places: Labels
    """Places that have any, ascending, [P]."""
    bounds: Labels
    """Ranges of place k: bounds[k] to bounds[k + 1], [P + 1]."""

    @property
    def totals(self) -> Labels:
        """Pairs of each place, [P]."""
        return np.diff(self.offset[self.bounds])

    def pick(self, place: Labels, share: NDArray[np.float64]) -> tuple[Labels, Labels]:
        """Take one pair of each place given.

        Args:
            place: positions in ``places``, [n].
            share: which of the place's pairs, from 0 up to but not 1, [n].

        Returns:
            (pre, post), positions of acquisitions, [n].
        """
        number = self.offset[self.bounds[place]] + (share * self.totals[place]).astype(np.intp)
        entry = np.searchsorted(self.offset, number, side="right") - 1
        return self.pre[entry], self.low[entry] + number - self.offset[entry]

    def expand(self, at_most: int, place: int | None = None) -> Iterator[tuple[Labels, Labels]]:
        """Make the pairs, in their order, a bounded number at a time.

        Args:
            at_most: pairs at once, unless a first date alone has more.
            place: position in ``places``; None: all of them.

        Yields:
            (pre, post), positions of acquisitions.
        """
        start, stop = self.bounds[[0, -1] if place is None else [place, place + 1]]
        while start < stop:
            most = self.offset[start] + at_most
            end = int(np.searchsorted(self.offset, most, side="right")) - 1
            # The pairs of one first date stay together, so that parts are in order.
            cut = int(np.searchsorted(self.firsts, min(max(end, start + 1), stop), side="right"))
            end = self.firsts[cut - 1]
            end = int(end if end > start else self.firsts[cut])
            count = np.diff(self.offset[start : end + 1])
            pre = np.repeat(self.pre[start:end], count)
            shift = np.arange(len(pre)) - np.repeat(np.cumsum(count) - count, count)
            yield pre, np.repeat(self.low[start:end], count) + shift
            start = end


def find_candidates(
    layout: Layout, rule: PairRule, relation: str, *, same_image: bool = False
) -> Candidates:
    """Find the ranges of pairs.

    Args:
        layout: of :func:`lay_out`.
        rule: gap and event; what else it says is left to the caller.
        relation: to the event, in place of the rule's own.
        same_image: whether an acquisition is also its own partner.
    """
    low, high = _ranks(layout, rule, relation)
    degree = np.diff(layout.starts)[layout.kind]
    pre = np.repeat(np.arange(len(layout.order)), degree)
    nth = np.arange(len(pre)) - np.repeat(np.cumsum(degree) - degree, degree)
    base = layout.near[layout.starts[layout.kind][pre] + nth] * (len(layout.ranks) + 1)
    start = np.searchsorted(layout.key, base + low[pre])
    stop = np.searchsorted(layout.key, base + high[pre])
    if same_image:
        selves = np.arange(len(layout.order))
        pre, start = np.concatenate([pre, selves]), np.concatenate([start, selves])
        stop = np.concatenate([stop, selves + 1])
    some = np.flatnonzero(stop > start)
    place, times = layout.place[pre[some]], layout.times[pre[some]]
    order = some[np.lexsort([pre[some], times, place])]
    places, bounds = np.unique(layout.place[pre[order]], return_index=True)
    offset = np.concatenate([[0], np.cumsum((stop - start)[order])])
    new = np.diff(layout.place[pre[order]], prepend=-1) != 0
    new |= np.diff(layout.times[pre[order]].astype(np.int64), prepend=0) != 0
    firsts = np.append(np.flatnonzero(new), len(order))
    bounds = np.append(bounds, len(order))
    return Candidates(pre[order], start[order], offset, firsts, places, bounds)


def _ranks(layout: Layout, rule: PairRule, relation: str) -> tuple[Labels, Labels]:
    """First and last (not included) rank of the partner's time, for each acquisition."""
    step = np.timedelta64(1, "us")
    # A microsecond of slack: the rule itself, in days, is asked of every pair again.
    least = _length(rule.min_gap) - step
    low = np.searchsorted(layout.ranks, layout.times + np.maximum(least, step))
    high = np.full(len(low), len(layout.ranks))
    if rule.max_gap is not None:
        most = _length(rule.max_gap) + step
        high = np.searchsorted(layout.ranks, layout.times + most, side="right")
    event = rule.event_time
    if event is None or relation == "any":
        return low, high
    at = np.searchsorted(layout.ranks, event)
    early = layout.times < event
    if relation == "before":
        return low, np.minimum(high, at)
    if relation == "after":
        return low, np.where(early, low, high)
    return np.maximum(low, at), np.where(early, high, low)


def _length(days: float) -> np.timedelta64:
    """Days as microseconds, which hold no more than some 290,000 years."""
    return np.timedelta64(round(min(days, 1e8) * 86_400e6), "us")
