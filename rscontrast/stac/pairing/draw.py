"""Draw pairs from ranges: guess one of a place, keep it if the rules allow it, else guess again."""

from typing import TYPE_CHECKING

import numpy as np

from rscontrast.stac.pairing.places import Labels

if TYPE_CHECKING:
    from rscontrast.stac.pairing.candidates import Candidates
    from rscontrast.stac.pairing.table import Pairs, PairTable

TRIES = 500
"""Guesses before the pairs of a place are listed: rules that keep one of a hundred rarely need
more, and late guesses are cheap, since few draws are left."""


def draw(table: "PairTable", n: int, rng: np.random.Generator, *, by: str = "place") -> "Pairs":
    """Draw pairs, with replacement.

    Args:
        table: to draw from.
        n: how many.
        rng: the source of chance.
        by: "place": a place first, then one of its pairs; "pair": every pair alike.
    """
    return _Draw(table, n, rng, by).run()


class _Draw:
    """``n`` draws, each with a place, a kind (straddling or not, where that matters) and a pair."""

    def __init__(self, table: "PairTable", n: int, rng: np.random.Generator, by: str) -> None:
        self.table, self.rng, self.by = table, rng, by
        share = table.selection.noisy_share
        if share is None:
            self.pools: list[Candidates] = [table.candidates(table.selection.rule.relation)]
            self.kinds: tuple[bool | None, ...] = (None,)
        else:
            self.pools = [table.candidates("any"), table.candidates("straddle")]
            self.kinds = (False, True)
        self.kind = np.zeros(n, dtype=np.intp)
        self.kind[: round(n * (share or 0))] = 1
        rng.shuffle(self.kind)
        # Both kinds are drawn at the same places, so that noise does not change where one looks.
        self.alive = self.pools[0].places
        for pool in self.pools:
            self.alive = np.intersect1d(self.alive, pool.places)
        self.place = self._places(n)
        self.rows: list[Labels] = []
        self.parts: list[Pairs] = []

    def run(self) -> "Pairs":
        """Guess, then list the places where guessing fails, until every draw has its pair."""
        left = np.arange(len(self.place))
        while left.size:
            if self.table.selection.max_per_place is None:
                left = self._guess(left)
            left = self._list(left)
        rows = np.concatenate(self.rows)
        return type(self.parts[0]).join(self.parts).take(np.argsort(rows))

    def _places(self, n: int) -> Labels:
        totals = self.pools[0].totals
        chances = totals / totals.sum() if self.by == "pair" else None
        chosen: Labels = self.rng.choice(self.alive, n, p=chances)
        return chosen

    def _guess(self, left: Labels) -> Labels:
        for _ in range(TRIES):
            missed = []
            for kind, (pool, wanted) in enumerate(zip(self.pools, self.kinds, strict=True)):
                rows = left[self.kind[left] == kind]
                at = np.searchsorted(pool.places, self.place[rows])
                pre, post = pool.pick(at, self.rng.random(len(rows)))
                pairs, hit = self.table.check(pre, post)
                right = np.ones(len(hit), bool) if wanted is None else pairs.straddles == wanted
                self._keep(rows[hit[right]], pairs.take(right))
                missed.append(np.delete(rows, hit[right]))
            left = np.concatenate(missed)
            if not left.size:
                break
            if self.by == "pair":  # a refused pair says nothing of its place
                self.place[left] = self._places(len(left))
        return left

    def _list(self, left: Labels) -> Labels:
        """Draw from the listed pairs of each place that is left; return the draws of no pair."""
        if self.by == "pair" and left.size:
            pairs = self.table.all()
            self._keep(left, pairs.take(self.rng.integers(len(pairs.pre), size=len(left))))
            return left[:0]
        empty: set[int] = set()
        for place in np.unique(self.place[left]):
            rows = left[self.place[left] == place]
            pairs = self.table.at(place)
            for kind, wanted in enumerate(self.kinds):
                mine = rows[self.kind[rows] == kind]
                fit = np.arange(len(pairs.pre))
                fit = fit if wanted is None else np.flatnonzero(pairs.straddles == wanted)
                if not fit.size:
                    empty.add(int(place))
                elif mine.size:
                    self._keep(mine, pairs.take(self.rng.choice(fit, len(mine))))
        return self._bury(empty)

    def _bury(self, empty: set[int]) -> Labels:
        """Draw new places for all draws of places without a pair (of one of the kinds)."""
        if not empty:
            return np.zeros(0, dtype=np.intp)
        self.alive = np.setdiff1d(self.alive, list(empty))
        again = np.flatnonzero(np.isin(self.place, list(empty)))
        for k, rows in enumerate(self.rows):
            stays = ~np.isin(rows, again)
            self.rows[k], self.parts[k] = rows[stays], self.parts[k].take(stays)
        self.place[again] = self._places(len(again))
        return again

    def _keep(self, rows: Labels, pairs: "Pairs") -> None:
        self.rows.append(rows)
        self.parts.append(pairs)
