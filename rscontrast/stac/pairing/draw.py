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
    found = _Found()
    todo, place = np.arange(n), rng.choice(alive, n)
    while todo.size:
        missed, empty = _fill(table, place, kind, todo, found, rng)
        alive = np.setdiff1d(alive, empty)
        todo = missed
        place[todo] = rng.choice(alive, len(todo))
    return found.in_order()


class _Found:
    """Pairs of some draws."""

    def __init__(self) -> None:
        self.draws: list[Labels] = []
        self.parts: list[Pairs] = []

    def add(self, draws: Labels, pairs: Pairs) -> None:
        self.draws.append(draws)
        self.parts.append(pairs)

    def in_order(self) -> Pairs:
        return Pairs.join(self.parts).take(np.argsort(np.concatenate(self.draws)))


def _with_both(table: "PairTable", rng: np.random.Generator) -> Labels:
    """Places with pairs of both kinds: noise must not change where one looks."""
    alive = np.intersect1d(table.candidates.places, table.straddling.places)
    place, kind = np.repeat(alive, 2), np.tile([CLEAN, NOISY], len(alive))
    _, empty = _fill(table, place, kind, np.arange(len(place)), _Found(), rng)
    return np.setdiff1d(alive, empty)


def _fill(
    table: "PairTable",
    place: Labels,
    kind: Labels,
    todo: Labels,
    found: _Found,
    rng: np.random.Generator,
) -> tuple[Labels, list[int]]:
    """Find pairs for draws; return those without one, and their places, which have none."""
    if table.selection.max_per_place is None:
        for _ in range(TRIES):
            if not todo.size:
                break
            todo = _guess(table, place, kind, todo, found, rng)
    missed, empty = [todo[:0]], []
    for at, what in np.unique(np.column_stack([place[todo], kind[todo]]), axis=0):
        mine = todo[(place[todo] == at) & (kind[todo] == what)]
        pairs = table.at(at, None if what == ANY else bool(what == NOISY))
        if len(pairs.pre):
            found.add(mine, pairs.take(rng.integers(len(pairs.pre), size=len(mine))))
        else:
            missed.append(mine)
            empty.append(int(at))
    return np.concatenate(missed), empty


def _guess(
    table: "PairTable",
    place: Labels,
    kind: Labels,
    todo: Labels,
    found: _Found,
    rng: np.random.Generator,
) -> Labels:
    """Guess a pair for each draw; return the draws whose pair is refused."""
    missed = []
    for what in np.unique(kind[todo]):
        mine = todo[kind[todo] == what]
        ranges: Candidates = table.straddling if what == NOISY else table.candidates
        at = np.searchsorted(ranges.places, place[mine])
        pairs, hit = table.check(*ranges.pick(at, rng.random(len(mine))))
        if what == CLEAN:
            pairs, hit = pairs.take(~pairs.straddles), hit[~pairs.straddles]
        elif what == NOISY:
            pairs, hit = pairs.take(pairs.straddles), hit[pairs.straddles]
        found.add(mine[hit], pairs)
        missed.append(np.delete(mine, hit))
    return np.concatenate(missed)


def _by_pair(table: "PairTable", n: int, rng: np.random.Generator) -> Pairs:
    """A refused pair says nothing of its place: the next guess is of another one."""
    found, todo, kind = _Found(), np.arange(n), np.full(n, ANY)
    totals = table.candidates.totals
    chance, place = totals / totals.sum(), np.empty(n, dtype=np.intp)
    if table.selection.max_per_place is None:
        for _ in range(TRIES):
            if not todo.size:
                break
            place[todo] = rng.choice(table.candidates.places, len(todo), p=chance)
            todo = _guess(table, place, kind, todo, found, rng)
    if todo.size:
        pairs = table.all()
        found.add(todo, pairs.take(rng.integers(len(pairs.pre), size=len(todo))))
    return found.in_order()
