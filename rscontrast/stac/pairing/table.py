"""The lazy table of pairs: counted, drawn, streamed, or made whole where it fits."""

from collections.abc import Iterator
from functools import cached_property

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from rscontrast.errors import EmptySearchError, InputError, choose, whole
from rscontrast.stac.pairing.acquisitions import codes
from rscontrast.stac.pairing.candidates import Candidates, find_candidates, lay_out
from rscontrast.stac.pairing.draw import draw
from rscontrast.stac.pairing.places import Labels
from rscontrast.stac.pairing.rows import Pairs, pair_rows
from rscontrast.stac.pairing.selection import Selection, common_ground

MOST = 5_000_000
"""Pairs that :meth:`PairTable.frame` makes at once, at most."""

PART = 200_000
"""Pairs that are checked at once, about."""


class PairTable:
    """Temporal pairs under rules, made when they are asked for.

    The columns of the frames that it gives: ids of the items of both dates (lists), the dates
    (UTC without a zone), ``gap_days``, ``season_days`` (0-182.6), clouds (percent) and usable
    shares (0-1) of both, ``overlap`` (share of the smaller footprint), ``orbit_difference``
    (relative orbit of post minus pre), ``sun_difference`` (angle between the two directions of
    the sun, degrees), ``straddles_event``, ``place``, ``collection`` and the common ground
    (EPSG:4326). NaN is what the items do not say.
    """

    def __init__(
        self, acquired: gpd.GeoDataFrame, selection: Selection, *, named: bool = False
    ) -> None:
        """Index the pairs.

        Args:
            acquired: of :func:`rscontrast.stac.pairing.acquisitions.acquisitions`.
            selection: the rules.
            named: whether the acquisitions' ``name`` is their place.

        Raises:
            InputError: a rule on what the acquisitions do not say.
            EmptySearchError: no pair is left.
        """
        self.selection, self.named = selection, named
        series = codes(*(acquired[name].to_numpy(object) for name in ("collection", "name")))
        layout = lay_out(acquired, series, selection.min_overlap or 0, named=named)
        layout = layout.keep(selection.usable(acquired)[layout.order])
        usable = len(layout.order)
        if selection.calendar is not None:
            layout = layout.keep(
                selection.calendar.choose(layout.times, layout.place, selection.seed)
            )
        self.acquired = acquired.iloc[layout.order].reset_index(drop=True)
        """The acquisitions that may be in a pair, by place."""
        self._layout, self._shapes = layout, self.acquired.geometry.to_numpy()
        self._pools: dict[int, Pairs] = {}
        self.candidates = self._find(selection.rule.relation)
        """Ranges of pairs that the dates allow."""
        if not self._any():
            raise EmptySearchError(self._nothing(len(acquired), usable))

    @cached_property
    def straddling(self) -> Candidates:
        """Ranges of the pairs that straddle the event."""
        return self._find("straddle")

    def _find(self, relation: str) -> Candidates:
        same = self.selection.same_image
        return find_candidates(self._layout, self.selection.rule, relation, same_image=same)

    def check(self, pre: Labels, post: Labels) -> tuple[Pairs, Labels]:
        """Keep the pairs that all rules allow.

        Args:
            pre: rows of :attr:`acquired`, [n].
            post: rows, [n].

        Returns:
            the pairs kept, [m], and which they are, [m].
        """
        rows = np.flatnonzero(self.selection.pairs(self.acquired, pre, post))
        pre, post = pre[rows], post[rows]
        common, share = common_ground(self._shapes[pre], self._shapes[post])
        times = self.acquired["datetime"].to_numpy()
        rule = self.selection.rule
        near = np.ones(len(pre), dtype=bool)
        if rule.event_area is not None:
            near = shapely.intersects(common, rule.event_area)
        pairs = Pairs(pre, post, common, share, near & rule.straddles(times[pre], times[post]))
        keep = self.selection.enough(share) & (near | (rule.relation == "any"))
        return pairs.take(keep), rows[keep]

    def listed(self, place: int | None = None, at_most: int = PART) -> Iterator[Pairs]:
        """All pairs of a place (a position among those with any) or of all, by place and time."""
        for pre, post in self.candidates.expand(at_most, place):
            yield self._in_order(self.check(pre, post)[0])

    def _in_order(self, pairs: Pairs) -> Pairs:
        times = self.acquired["datetime"].to_numpy()
        keys = (pairs.post, times[pairs.post], pairs.pre, times[pairs.pre])
        return pairs.take(np.lexsort((*keys, self._layout.place[pairs.pre])))

    def kept(self, at_most: int = PART) -> Iterator[Pairs]:
        """The pairs that ``noisy_share`` and ``max_per_place`` leave, in parts."""
        if self.selection.noisy_share is None and self.selection.max_per_place is None:
            yield from self.listed(at_most=at_most)
            return
        for place in range(len(self.candidates.places)):
            yield self._share(place)

    def _share(self, place: int) -> Pairs:
        """Of as many pairs of either kind, those that make the share."""
        pairs = self._pool(place)
        if self.selection.noisy_share is not None:
            count = len(pairs.pre) // 2
            # The odd pair of a place is noisy by chance, so that the share holds over all places.
            many = int(count * self.selection.noisy_share + self._rng(place, 1).random())
            pairs = pairs.take(np.r_[:many, count + many : 2 * count])
        return self._in_order(pairs)

    def _pool(self, place: int) -> Pairs:
        """Some pairs of a place in a random order; for noise, first those that straddle."""
        if place in self._pools:
            return self._pools[place]
        most = self.selection.max_per_place
        pool = self._some(place, np.inf if most is None else most)
        if most is not None:
            self._pools[place] = pool
        return pool

    def _some(self, place: int, most: float) -> Pairs:
        """Check pairs of a place in a random order until there are enough of each kind."""
        pre, post = map(np.concatenate, zip(*self.candidates.expand(PART, place), strict=True))
        order, size = self._rng(place, 0).permutation(len(pre)), 256
        found = self.check(pre[:0], post[:0])[0]
        rows = self._kinds(found)
        while len(order) and min(map(len, rows)) < most:
            now, order, size = order[:size], order[size:], 4 * size
            found = Pairs.join([found, self.check(pre[now], post[now])[0]])
            rows = self._kinds(found)
        least = int(min(most, *map(len, rows)))
        return found.take(np.concatenate([row[:least] for row in rows]))

    def _kinds(self, pairs: Pairs) -> list[Labels]:
        """Which pairs are noisy and which are clean; all of one kind where noise is no matter."""
        if self.selection.noisy_share is None:
            return [np.arange(len(pairs.pre))]
        return [np.flatnonzero(pairs.straddles), np.flatnonzero(~pairs.straddles)]

    def _rng(self, place: int, stream: int) -> np.random.Generator:
        number = int(self.candidates.places[place])
        return np.random.default_rng([self.selection.seed, number, stream])

    def at(self, place: int, straddling: bool | None = None) -> Pairs:
        """What may be drawn at a place, by its number; of one kind, or of any (None)."""
        position = int(np.searchsorted(self.candidates.places, place))
        if self.selection.max_per_place is not None:
            return self._share(position)
        pairs = Pairs.join(list(self.listed(position)))
        return pairs if straddling is None else pairs.take(pairs.straddles == straddling)

    def all(self) -> Pairs:
        """Every pair of every place."""
        return Pairs.join(list(self.kept()))

    def batches(self, size: int = 50_000) -> Iterator[gpd.GeoDataFrame]:
        """Make all pairs, place after place, by the dates within a place.

        Args:
            size: rows of a batch, about.
        """
        parts: list[Pairs] = []
        for pairs in self.kept(whole("size", size)):
            parts.append(pairs)
            if sum(len(part.pre) for part in parts) >= size:
                yield self.rows(Pairs.join(parts))
                parts = []
        if parts:
            yield self.rows(Pairs.join(parts))

    def frame(self, most: int = MOST) -> gpd.GeoDataFrame:
        """Make all pairs at once.

        Args:
            most: refuse more than so many.

        Raises:
            InputError: they are more.
        """
        batches, count = [], 0
        for batch in self.batches():
            batches.append(batch)
            count += len(batch)
            if count > most:
                allowed = f"at most {most:,} at once: use sample(n), batches() or max_per_place"
                raise InputError("pairs", f"{count:,} and more", allowed)
        return pd.concat(batches, ignore_index=True)

    def sample(self, n: int, *, seed: int | None = None, by: str = "place") -> gpd.GeoDataFrame:
        """Draw pairs, with replacement.

        With ``max_per_place`` they are drawn from the pairs that :meth:`frame` makes. With
        ``noisy_share`` alone they are drawn from all pairs of either kind, of which ``frame``
        keeps as many of each; the share of the draws is exact, and the places drawn are the same
        whatever the share.

        Args:
            n: how many.
            seed: of the draw; default: that of the table.
            by: "place": every place weighs the same, whatever its number of dates; "pair":
                every pair does.

        Raises:
            InputError: ``n`` below 1, an unknown ``by``, or "pair" with ``noisy_share``.
        """
        if choose("by", by, ("place", "pair")) == "pair" and self.selection.noisy_share is not None:
            raise InputError("by", by, "'place' with noisy_share, which mixes pairs place by place")
        seed = whole("seed", self.selection.seed if seed is None else seed, least=0)
        return self.rows(draw(self, whole("n", n), np.random.default_rng(seed), by=by))

    def __len__(self) -> int:
        """Number of pairs; each is checked, so that it takes as long as making them."""
        return self._count

    @cached_property
    def _count(self) -> int:
        return sum(len(pairs.pre) for pairs in self.kept())

    @property
    def bound(self) -> int:
        """Most pairs that there can be: those that the dates allow. Costs nothing."""
        return int(self.candidates.totals.sum())

    def rows(self, pairs: Pairs) -> gpd.GeoDataFrame:
        """Make the columns of some pairs."""
        names, numbers = self.acquired["name"].to_numpy(), self._layout.place
        return pair_rows(self.acquired, pairs, (names if self.named else numbers)[pairs.pre])

    def _any(self) -> bool:
        """Whether there is a pair; with ``noisy_share``, of both kinds at one place."""
        if self.selection.noisy_share is None:
            return any(len(pairs.pre) for pairs in self.listed(at_most=4096))
        return any(len(self._some(place, 1).pre) for place in range(len(self.candidates.places)))

    def _nothing(self, acquisitions: int, usable: int) -> str:
        """Say what each rule left."""
        rules = self.selection
        counts = [f"{usable} of {acquisitions} acquisitions are clear enough"]
        if rules.calendar is not None:
            counts.append(f"{len(self.acquired)} of these lie near the dates of the calendar")
        counts.append(f"{self.bound} pairs of these keep the gap and the relation to the event")
        kept = sum(
            int(rules.pairs(self.acquired, pre, post).sum())
            for pre, post in self.candidates.expand(PART)
        )
        counts.append(f"{kept} of these the season, orbit and platform")
        if rules.noisy_share is not None:
            counts.append("no place has both pairs that straddle the event and pairs that do not")
        elif rules.rule.relation != "any" and rules.rule.event_area is not None:
            counts.append("none of these shares enough ground and touches the event's area")
        elif rules.min_overlap is not None:
            counts.append(f"none of these overlaps by {rules.min_overlap:g}")
        return f"no pair: {', '.join(counts)}"
