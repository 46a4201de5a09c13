"""Some pairs as columns, and pairs by place with their weights summed up."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rscontrast.stac.pairing.places import Labels, Shapes


@dataclass(frozen=True)
class Lot:
    """Some pairs, by the numbers of their acquisitions."""

    pre: Labels
    """[n]."""
    post: Labels
    """[n]."""
    ground: Shapes
    """Common ground in the CRS of the dataset, [n]; None: there is no pair."""
    place: Labels
    """[n]."""
    kind: Labels
    """1: it straddles the event, and noise is asked for; else 0, [n]."""

    def take(self, rows: NDArray[np.bool_] | Labels) -> "Lot":
        """Some of them."""
        return Lot(*(column[rows] for column in vars(self).values()))

    def put(self, rows: Labels, other: "Lot") -> "Lot":
        """The same with other pairs in some rows."""
        columns = [column.copy() for column in vars(self).values()]
        for column, new in zip(columns, vars(other).values(), strict=True):
            column[rows] = new
        return Lot(*columns)


class Stratum:
    """Pairs of one kind and season, by place, with their weights summed up."""

    def __init__(self, rows: Labels, place: Labels, weight: NDArray[np.float64]) -> None:
        """Sort the pairs.

        Args:
            rows: which pairs, [m].
            place: of all pairs, [n].
            weight: of all pairs, [n].
        """
        self.rows = rows[np.argsort(place[rows], kind="stable")]
        self.places, starts = np.unique(place[self.rows], return_index=True)
        self.starts = np.append(starts, len(rows))
        self.sums = np.concatenate([[0.0], np.cumsum(weight[self.rows])])

    def at(self, places: Labels) -> tuple[Labels, NDArray[np.bool_]]:
        """Where places stand here, and whether they do."""
        where = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
        return where, self.places[where] == places

    def pick(self, where: Labels | None, share: NDArray[np.float64]) -> Labels:
        """Take one pair of each place by its weight; of all places where these are None.

        Args:
            where: of :meth:`at`, [n].
            share: which part of the weight, from 0 up to but not 1, [n].
        """
        low = 0.0 if where is None else self.sums[self.starts[where]]
        high = self.sums[-1] if where is None else self.sums[self.starts[where + 1]]
        found = np.searchsorted(self.sums, low + share * (high - low), side="right") - 1
        chosen: Labels = self.rows[np.minimum(found, len(self.rows) - 1)]
        return chosen

    def pick_among(self, where: Labels, rng: np.random.Generator) -> int:
        """Take one pair of some places by its weight."""
        low = self.sums[self.starts[where]]
        total = np.cumsum(self.sums[self.starts[where + 1]] - low)
        share = rng.random(1)
        if len(where) > 1:
            place = np.searchsorted(total, share[0] * total[-1], side="right")
            where = where[[min(int(place), len(where) - 1)]]
            share = rng.random(1)
        return int(self.pick(where[:1], share)[0])
