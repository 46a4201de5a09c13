"""Draw pairs from ranges: guess one of a place, keep it if the rules allow it, else guess again."""

from typing import TYPE_CHECKING

import numpy as np

from rscontrast.stac.pairing.places import Labels
from rscontrast.stac.pairing.rows import Pairs

if TYPE_CHECKING:
    from rscontrast.stac.pairing.candidates import Candidates
    from rscontrast.stac.pairing.table import PairTable

TRIES = 500
"""Guesses before the pairs of a place are listed: rules that keep one of a hundred rarely need
more, and late guesses are cheap, since few draws are left."""

ANY, CLEAN, NOISY = range(3)
"""Kinds of draws: of any pair, of one that does not straddle the event, of one that does."""


def draw(table: "PairTable", n: int, rng: np.random.Generator, *, by: str = "place") -> Pairs:
    """Draw pairs, with replacement.

    Args:
        table: to draw from.
        n: how many.
        rng: the source of chance.
        by: "place": a place first, then one of its pairs; "pair": every pair alike.
    """
    if by == "pair":
        return _by_pair(table, n, rng)
    kind, alive = np.full(n, ANY), table.candidates.places
    if table.selection.noisy_share is not None and table.selection.max_per_place is None:
        kind[:] = CLEAN
        kind[: int(n * table.selection.noisy_share + rng.random())] = NOISY
        rng.shuffle(kind)
        alive = _with_both(table, rng)
    draws = _Draws(table, rng.choice(alive, n), kind, rng)
    todo = np.arange(n)
    while todo.size:
        todo, empty = draws.find(todo)
        alive = np.setdiff1d(alive, empty)
        draws.place[todo] = rng.choice(alive, len(todo))
    return draws.pairs()


def _with_both(table: "PairTable", rng: np.random.Generator) -> Labels:
    """Places with pairs of both kinds: noise must not change where one looks."""
    alive = np.intersect1d(table.candidates.places, table.straddling.places)
    draws = _Draws(table, np.repeat(alive, 2), np.tile([CLEAN, NOISY], len(alive)), rng)
    _, empty = draws.find(np.arange(len(draws.place)))
    return np.setdiff1d(alive, empty)


def _by_pair(table: "PairTable", n: int, rng: np.random.Generator) -> Pairs:
    """A refused pair says nothing of its place: the next guess is of another one."""
    draws = _Draws(table, np.empty(n, dtype=np.intp), np.full(n, ANY), rng)
    totals, todo = table.candidates.totals, np.arange(n)
    if table.selection.max_per_place is None:
        for _ in range(TRIES):
            if not todo.size:
                break
            chosen = rng.choice(table.candidates.places, len(todo), p=totals / totals.sum())
            draws.place[todo] = chosen
            todo = draws.guess(todo)
    if todo.size:
        pairs = table.all()
        draws.add(todo, pairs.take(rng.integers(len(pairs.pre), size=len(todo))))
    return draws.pairs()


class _Draws:
    """Draws with a place and a kind each, and the pairs that were found for them."""

    def __init__(
        self, table: "PairTable", place: Labels, kind: Labels, rng: np.random.Generator
    ) -> None:
        self.table, self.place, self.kind, self.rng = table, place, kind, rng
        self._rows: list[Labels] = []
        self._parts: list[Pairs] = []

    def add(self, rows: Labels, pairs: Pairs) -> None:
        self._rows.append(rows)
        self._parts.append(pairs)

    def pairs(self) -> Pairs:
        """What was found, in the order of the draws."""
        return Pairs.join(self._parts).take(np.argsort(np.concatenate(self._rows)))

    def find(self, todo: Labels) -> tuple[Labels, list[int]]:
        """Find pairs for draws; return those without one, and their places, which have none."""
        if self.table.selection.max_per_place is None:
            for _ in range(TRIES):
                if not todo.size:
                    break
                todo = self.guess(todo)
        missed, empty = [todo[:0]], []
        wanted = np.column_stack([self.place[todo], self.kind[todo]])
        for place, kind in np.unique(wanted, axis=0):
            mine = todo[(wanted == (place, kind)).all(axis=1)]
            pairs = self.table.at(place, None if kind == ANY else bool(kind == NOISY))
            if len(pairs.pre):
                self.add(mine, pairs.take(self.rng.integers(len(pairs.pre), size=len(mine))))
            else:
                missed.append(mine)
                empty.append(int(place))
        return np.concatenate(missed), empty

    def guess(self, todo: Labels) -> Labels:
        """Guess a pair for each draw; return the draws whose pair is refused."""
        missed = []
        for kind in np.unique(self.kind[todo]):
            mine = todo[self.kind[todo] == kind]
            ranges: Candidates = self.table.straddling if kind == NOISY else self.table.candidates
            at = np.searchsorted(ranges.places, self.place[mine])
            pairs, hit = self.table.check(*ranges.pick(at, self.rng.random(len(mine))))
            if kind != ANY:
                right = pairs.straddles == (kind == NOISY)
                pairs, hit = pairs.take(right), hit[right]
            self.add(mine[hit], pairs)
            missed.append(np.delete(mine, hit))
        return np.concatenate(missed)
