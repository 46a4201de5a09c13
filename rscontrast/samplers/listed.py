"""Pairs in a list: where they lie, and how they are drawn at a place."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import EmptySearchError
from rscontrast.samplers.cover import Cover
from rscontrast.samplers.lot import Lot, Stratum
from rscontrast.stac.pairing.places import Labels, Shapes

GUESSES = 16
"""Pairs in a row that do not cover a patch, before all are looked through."""


class ListedPairs:
    """A list of pairs to draw from."""

    def __init__(
        self,
        lot: Lot,
        parts: tuple[Shapes, Labels, Labels],
        weight: NDArray[np.float64],
        season: Labels | None = None,
        *,
        noise: float | None = None,
        by: str = "place",
    ) -> None:
        """Index the pairs.

        Args:
            lot: the pairs.
            parts: see :class:`rscontrast.samplers.cover.Cover`.
            weight: of each, [n]; those of weight 0 are left out.
            season: of each: seasons weigh the same, [n].
            noise: share of the draws that straddle the event.
            by: "place": places weigh the same; "pair": what counts is the pairs' weights alone.

        Raises:
            EmptySearchError: no pair is left, or with noise, no place with both kinds.
        """
        grounds, left, right = parts
        keep = (weight > 0) & (shapely.area(lot.ground) > 0)
        if noise is not None:
            both = np.intersect1d(*(lot.place[keep & (lot.kind == kind)] for kind in (0, 1)))
            keep &= np.isin(lot.place, both)
        if not keep.any():
            raise EmptySearchError(
                "no pair is left: roi and weights leave none"
                + ("" if noise is None else " of both kinds at one place")
            )
        self.lot, self.weight, self.noise, self.by = lot.take(keep), weight[keep], noise, by
        seasons = np.zeros(len(self.weight), dtype=np.intp) if season is None else season[keep]
        noisy = np.zeros(len(self.weight), np.intp) if noise is None else self.lot.kind
        named, self._number = np.unique(2 * seasons + noisy, return_inverse=True)
        self._kinds = named % 2
        self._strata = [
            Stratum(np.flatnonzero(self._number == number), self.lot.place, self.weight)
            for number in range(len(named))
        ]
        self._cover = Cover(grounds, left[keep], right[keep])
        self._places, where = np.unique(self.lot.place, return_inverse=True)
        order = np.argsort(where, kind="stable")
        first = np.searchsorted(where[order], np.arange(len(self._places)))
        bounds = shapely.bounds(self.lot.ground)[order]
        low = np.minimum.reduceat(bounds[:, :2], first)
        high = np.maximum.reduceat(bounds[:, 2:], first)
        self._tree = shapely.STRtree(shapely.box(*low.T, *high.T))

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.weight)

    @cached_property
    def roi(self) -> BaseGeometry:
        """Where there are pairs; with noise, where there are pairs of both kinds."""
        united = [
            shapely.union_all(self.lot.ground[self._kinds[self._number] == kind])
            for kind in np.unique(self._kinds)
        ]
        return shapely.intersection_all(united)

    def kinds(self, rng: np.random.Generator) -> list[int]:
        """The kinds of pairs, the drawn one first."""
        if self.noise is None:
            return [0]
        noisy = int(rng.random() < self.noise)
        return [noisy, 1 - noisy]

    def at(self, patch: BaseGeometry | None, kind: int, rng: np.random.Generator) -> Iterator[int]:
        """Yield the pairs of a kind that cover a patch, each once, in a random order by weight.

        Where none covers it all, those that cover most are yielded; without a patch, all.
        """
        strata = np.flatnonzero(self._kinds == kind)
        strata = rng.permutation(strata) if len(strata) > 1 else strata
        if patch is None:
            for number in strata:
                yield from self._shuffled(self._strata[number].rows, rng)
            return
        near, some = self._places[np.sort(self._tree.query(patch))], False
        for number in strata:
            for row in self._covering(int(number), patch, near, rng):
                some = True
                yield row
        if some:
            return
        best = self._cover.best(patch, np.isin(self._number, strata))
        for number in strata:
            yield from self._shuffled(best[self._number[best] == number], rng)

    def _covering(
        self, number: int, patch: BaseGeometry, near: Labels, rng: np.random.Generator
    ) -> Iterator[int]:
        """Guess while most pairs cover the patch: that costs the same for any number of pairs."""
        stratum, seen, misses = self._strata[number], set[int](), 0
        where, here = stratum.at(near)
        while here.any() and misses < GUESSES:
            row = stratum.pick_among(where[here], rng)
            if row in seen or not self._cover.covers(row, patch):
                misses += 1
                continue
            misses = 0
            seen.add(row)
            yield row
        rest = self._cover.whole(patch)
        rest = rest[self._number[rest] == number]
        yield from self._shuffled(rest[~np.isin(rest, list(seen))] if seen else rest, rng)

    def _shuffled(self, rows: Labels, rng: np.random.Generator) -> Iterator[int]:
        """In the order of draws without replacement: by waiting times, as heavy ones come first."""
        waiting = rng.exponential(size=len(rows)) / self.weight[rows]
        yield from rows[np.argsort(waiting)].tolist()

    def choose(self, n: int, rng: np.random.Generator) -> Lot:
        """Draw pairs, whatever they look on, with replacement."""
        noise = rng.random(n)
        kind = np.zeros(n, np.intp) if self.noise is None else (noise < self.noise).astype(np.intp)
        if self.by == "place":
            return self.again(rng.choice(self._places, n), kind, rng)
        which = rng.integers(len(self._strata), size=n)
        share, rows = rng.random(n), np.empty(n, dtype=np.intp)
        for number, stratum in enumerate(self._strata):
            rows[which == number] = stratum.pick(None, share[which == number])
        return self.lot.take(rows)

    def again(self, place: Labels, kind: Labels, rng: np.random.Generator) -> Lot:
        """Draw a pair of each place and kind given, [n]; seasons of a place weigh the same."""
        found = [stratum.at(place) for stratum in self._strata]
        where, here = (np.stack(column) for column in zip(*found, strict=True))
        here &= self._kinds[:, None] == kind
        which = np.where(here, rng.random(here.shape), -1.0).argmax(axis=0)
        share, rows = rng.random(len(place)), np.empty(len(place), dtype=np.intp)
        for number, stratum in enumerate(self._strata):
            mine = which == number
            rows[mine] = stratum.pick(where[number, mine], share[mine])
        return self.lot.take(rows)
