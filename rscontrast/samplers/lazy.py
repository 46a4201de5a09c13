"""Pairs drawn from a lazy table, which may hold more of them than can be listed."""

from functools import cached_property

import numpy as np
import shapely

from rscontrast.errors import InputError
from rscontrast.samplers.listed import ListedPairs
from rscontrast.samplers.lot import Lot
from rscontrast.samplers.sides import Sides
from rscontrast.samplers.weights import Weights, by_season, quarters, read_weights
from rscontrast.stac.pairing.draw import draw
from rscontrast.stac.pairing.places import Labels, Shapes
from rscontrast.stac.pairing.rows import Pairs
from rscontrast.stac.pairing.table import MOST, PairTable

ROUNDS = 20
"""Guesses of another pair at a place, before there is taken to be none."""


class LazyPairs:
    """A table of pairs as a sampler draws from it."""

    def __init__(self, table: PairTable, sides: Sides, shapes: Shapes, by: str) -> None:
        """Take a table.

        Args:
            table: the pairs.
            sides: its acquisitions.
            shapes: their ground in the CRS of the dataset, as far as patches may lie on it, [A].
            by: "place" or "pair".
        """
        self.table, self.sides, self.by = table, sides, by
        self._shapes = shapes
        selection = table.selection
        # Pairs that max_per_place keeps have been mixed by the table.
        self.noise = selection.noisy_share if selection.max_per_place is None else None

    @cached_property
    def _place_of(self) -> Labels:
        """Place of each acquisition, as a position among those with pairs."""
        ranges = self.table.candidates
        place = np.full(len(self.table.acquired), -1, dtype=np.intp)
        place[ranges.pre] = np.repeat(np.arange(len(ranges.places)), np.diff(ranges.bounds))
        return place

    def _lot(self, pairs: Pairs) -> Lot:
        self.sides.require(np.concatenate([pairs.pre, pairs.post]))
        ground = shapely.intersection(self._shapes[pairs.pre], self._shapes[pairs.post])
        noisy = np.zeros(len(pairs.pre), np.intp) if self.noise is None else pairs.straddles
        place = self._place_of[pairs.pre]
        return Lot(pairs.pre, pairs.post, ground, place, np.asarray(noisy, dtype=np.intp))

    def choose(self, n: int, rng: np.random.Generator) -> Lot:
        """Draw pairs with replacement, as the table's ``sample`` does."""
        return self._lot(draw(self.table, n, rng, by=self.by))

    def again(self, place: Labels, kind: Labels, rng: np.random.Generator) -> Lot:
        """Draw a pair of each place and kind given, [n]; its ground is None where none is found."""
        nothing = np.zeros(len(place), dtype=np.intp)
        found = Lot(nothing, nothing, np.full(len(place), None, dtype=object), place, kind)
        todo = np.arange(len(place))
        for _ in range(ROUNDS):
            if not todo.size:
                break
            pairs, hit = self._guess(place[todo], kind[todo], rng)
            found = found.put(todo[hit], self._lot(pairs))
            todo = np.delete(todo, hit)
        return found

    def _guess(self, place: Labels, kind: Labels, rng: np.random.Generator) -> tuple[Pairs, Labels]:
        table, share = self.table, rng.random(len(place))
        if table.selection.max_per_place is not None:
            kept = [table.at(int(table.candidates.places[k])) for k in place]
            picked = [
                p.take(np.array([int(u * len(p.pre))])) for p, u in zip(kept, share, strict=True)
            ]
            return Pairs.join(picked), np.arange(len(place))
        pre, post = table.candidates.pick(place, share)
        if self.noise is not None:
            noisy = np.flatnonzero(kind == 1)
            numbers = table.candidates.places[place[noisy]]
            where = np.searchsorted(table.straddling.places, numbers)
            pre[noisy], post[noisy] = table.straddling.pick(where, share[noisy])
        pairs, hit = table.check(pre, post)
        if self.noise is not None:
            right = pairs.straddles == (kind[hit] == 1)
            pairs, hit = pairs.take(right), hit[right]
        return pairs, hit

    def listed(self, weights: Weights | None) -> ListedPairs:
        """All pairs of the table, with their weights.

        Raises:
            InputError: they are more than five million, or weights that are none of the table's.
            EmptySearchError: none is left.
        """
        if weights is not None and not isinstance(weights, str):
            allowed = "the name of a column with a lazy table; numbers go with pairs=table.frame()"
            raise InputError("weights", "numbers", allowed)
        pairs = self._every()
        lot = self._lot(pairs)
        season = quarters(self.sides.start[lot.pre]) if by_season(weights) else None
        alike = weights is None or season is not None
        weight = np.ones(len(lot.pre)) if alike else read_weights(weights, self.table.rows(pairs))
        parts = self._shapes, lot.pre, lot.post
        return ListedPairs(lot, parts, weight, season, noise=self.noise, by=self.by)

    def _every(self) -> Pairs:
        # A table with noise keeps as many pairs of either kind; here all may be drawn.
        parts: list[Pairs] = []
        total = 0
        for part in self.table.kept() if self.noise is None else self.table.listed():
            parts.append(part)
            total += len(part.pre)
            if total > MOST:
                allowed = f"at most {MOST:,} under @, by weights and by column: use max_per_place"
                raise InputError("pairs", f"{total:,} and more", allowed)
        return Pairs.join(parts)
