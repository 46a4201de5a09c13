"""The lazy table of pairs: counted, drawn, streamed, or made whole where it fits."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from rscontrast.errors import EmptySearchError, InputError, choose, whole
from rscontrast.stac.pairing.acquisitions import Labels, codes
from rscontrast.stac.pairing.candidates import Candidates, find_candidates, lay_out
from rscontrast.stac.pairing.draw import draw
from rscontrast.stac.pairing.rule import season_days
from rscontrast.stac.pairing.selection import Selection

COLUMNS = (
    "pre_ids", "post_ids", "pre_datetime", "post_datetime", "gap_days", "season_days",
    "pre_cloud", "post_cloud", "pre_valid", "post_valid", "overlap", "orbit_difference",
    "sun_difference", "straddles_event", "place", "collection", "geometry",
)  # fmt: skip

MOST = 5_000_000
"""Pairs that :meth:`PairTable.frame` makes at once, at most."""


PART = 200_000
"""Pairs that are checked at once, about."""


@dataclass(frozen=True)
class Pairs:
    """Some pairs as rows of the acquisitions."""

    pre: Labels
    """[n]."""
    post: Labels
    """[n]."""
    common: NDArray[np.object_]
    """Common ground, [n]."""
    overlap: NDArray[np.float64]
    """Its share of the smaller footprint, [n]."""
    straddles: NDArray[np.bool_]
    """Whether the event lies between, [n]."""

    def take(self, rows: NDArray[np.bool_] | Labels) -> "Pairs":
        """Some of them."""
        return Pairs(*(column[rows] for column in vars(self).values()))

    @staticmethod
    def join(parts: "list[Pairs]") -> "Pairs":
        """Put them one behind the other."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Pairs(*(np.concatenate(column) for column in columns))


class PairTable:
    """Temporal pairs under rules, made when they are asked for.

    The columns are those of :data:`COLUMNS`: ids of the items of both dates (lists), the dates
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
        layout = layout.keep(selection.usable(acquired.iloc[layout.order]))
        self.usable = len(layout.order)
        if selection.calendar is not None:
            chosen = selection.calendar.choose(layout.times, layout.place, selection.seed)
            layout = layout.keep(chosen)
        self.acquired = acquired.iloc[layout.order].reset_index(drop=True)
        """The acquisitions that may be in a pair, by place."""
        self._layout, self._shapes = layout, self.acquired.geometry.to_numpy()
        self._all = self.candidates(selection.rule.relation)
        if not self._any():
            raise EmptySearchError(self._nothing(len(acquired)))

    def candidates(self, relation: str) -> Candidates:
        """Ranges of pairs of a relation to the event: "any", "straddle", ..."""
        rule = replace(self.selection.rule, relation=relation)
        return find_candidates(self._layout, rule, same_image=self.selection.same_image)

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
        common, share = self.selection.ground(self._shapes[pre], self._shapes[post])
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
        times = self.acquired["datetime"].to_numpy()
        for pre, post in self._all.expand(at_most, place):
            pairs, _ = self.check(pre, post)
            keys = (times[pairs.post], times[pairs.pre], self._layout.place[pairs.pre])
            yield pairs.take(np.lexsort(keys))

    def kept(self, at_most: int = PART) -> Iterator[Pairs]:
        """The pairs that ``noisy_share`` and ``max_per_place`` leave, in parts."""
        if self.selection.noisy_share is None and self.selection.max_per_place is None:
            yield from self.listed(at_most=at_most)
            return
        for place in range(len(self._all.places)):
            yield self._share(self.pool(place), place)

    def _share(self, pairs: Pairs, place: int) -> Pairs:
        """Of as many pairs of either kind, those that make the share."""
        if self.selection.noisy_share is None:
            return pairs
        noisy, clean = np.flatnonzero(pairs.straddles), np.flatnonzero(~pairs.straddles)
        # The odd pair of a place is noisy by chance, so that the share holds over all places.
        many = int(len(noisy) * self.selection.noisy_share + self._rng(place, 1).random())
        return pairs.take(np.sort(np.concatenate([noisy[:many], clean[many:]])))

    def pool(self, place: int) -> Pairs:
        """What may be drawn at a place: with ``noisy_share``, as many pairs of either kind."""
        pairs = Pairs.join(list(self.listed(place)))
        most, rng = self.selection.max_per_place or len(pairs.pre), self._rng(place, 0)
        if self.selection.noisy_share is None:
            return pairs.take(_some(rng, np.arange(len(pairs.pre)), most))
        kinds = np.flatnonzero(pairs.straddles), np.flatnonzero(~pairs.straddles)
        most = min(most, *map(len, kinds))
        return pairs.take(np.concatenate([_some(rng, kind, most) for kind in kinds]))

    def _rng(self, place: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.selection.seed, int(self._all.places[place]), stream])

    def at(self, place: int) -> Pairs:
        """What may be drawn at a place, by its number."""
        return self.pool(int(np.searchsorted(self._all.places, place)))

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

    def frame(self) -> gpd.GeoDataFrame:
        """Make all pairs at once.

        Raises:
            InputError: they are more than five million.
        """
        batches, count = [], 0
        for batch in self.batches():
            batches.append(batch)
            count += len(batch)
            if count > MOST:
                allowed = f"at most {MOST:,} at once: use sample(n), batches() or max_per_place"
                raise InputError("pairs", f"{count:,} and more", allowed)
        return pd.concat(batches, ignore_index=True)

    def sample(self, n: int, *, seed: int | None = None, by: str = "place") -> gpd.GeoDataFrame:
        """Draw pairs, with replacement.

        Args:
            n: how many.
            seed: of the draw; default: that of the table.
            by: "place": every place weighs the same, whatever its number of dates; "pair":
                every pair does.

        Raises:
            InputError: ``n`` below 1, or an unknown ``by``.
        """
        choose("by", by, ("place", "pair"))
        rng = np.random.default_rng(self.selection.seed if seed is None else seed)
        return self.rows(draw(self, whole("n", n), rng, by=by))

    def __len__(self) -> int:
        """Number of pairs; each is checked, so that it takes as long as making them."""
        return self._count

    @cached_property
    def _count(self) -> int:
        return sum(len(pairs.pre) for pairs in self.kept())

    @property
    def bound(self) -> int:
        """Most pairs that there can be: those that the dates allow. Costs nothing."""
        return int(self._all.totals.sum())

    def rows(self, pairs: Pairs) -> gpd.GeoDataFrame:
        """Make the columns of some pairs."""
        pre, post = (self.acquired.iloc[rows] for rows in (pairs.pre, pairs.post))
        start, end = (side["datetime"].to_numpy() for side in (pre, post))
        gap = (end - start) / np.timedelta64(1, "D")
        place = pre["name"].to_numpy() if self.named else self._layout.place[pairs.pre]
        return gpd.GeoDataFrame(
            {
                "pre_ids": pre["ids"].to_numpy(),
                "post_ids": post["ids"].to_numpy(),
                "pre_datetime": start,
                "post_datetime": end,
                "gap_days": gap,
                "season_days": season_days(gap),
                "pre_cloud": pre["cloud"].to_numpy(),
                "post_cloud": post["cloud"].to_numpy(),
                "pre_valid": pre["valid"].to_numpy(),
                "post_valid": post["valid"].to_numpy(),
                "overlap": pairs.overlap,
                "orbit_difference": post["orbit"].to_numpy() - pre["orbit"].to_numpy(),
                "sun_difference": _sun_difference(pre, post),
                "straddles_event": pairs.straddles,
                "place": place,
                "collection": pre["collection"].to_numpy(),
            },
            geometry=pairs.common,
            crs=self.acquired.crs,
        )

    def _any(self) -> bool:
        """Whether there is a pair; with ``noisy_share``, of both kinds at one place."""
        if self.selection.noisy_share is None:
            return any(len(pairs.pre) for pairs in self.listed(at_most=4096))
        return any(len(self.pool(place).pre) for place in range(len(self._all.places)))

    def _nothing(self, acquisitions: int) -> str:
        """Say what each rule left."""
        counts = [f"{self.usable} of {acquisitions} acquisitions are clear enough"]
        dated = len(self.acquired)
        if self.selection.calendar is not None:
            counts.append(f"{dated} of these lie near the dates of the calendar")
        counts.append(f"{self.bound} pairs of these keep the gap and the relation to the event")
        kept = sum(
            int(self.selection.pairs(self.acquired, pre, post).sum())
            for pre, post in self._all.expand(PART)
        )
        counts.append(f"{kept} of these the season, orbit and platform")
        if self.selection.min_overlap is not None:
            counts.append(f"none of these overlaps by {self.selection.min_overlap:g}")
        return f"no pair: {', '.join(counts)}"


def _some(rng: np.random.Generator, rows: Labels, most: int) -> Labels:
    """At most so many of the rows, in their order."""
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _sun_difference(pre: gpd.GeoDataFrame, post: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Angle between the directions of the sun, degrees."""
    height = [np.radians(side["sun_elevation"].to_numpy()) for side in (pre, post)]
    turn = np.radians(post["sun_azimuth"].to_numpy() - pre["sun_azimuth"].to_numpy())
    sines = np.sin(height[0]) * np.sin(height[1])
    cosine = sines + np.cos(height[0]) * np.cos(height[1]) * np.cos(turn)
    angle: NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return angle
