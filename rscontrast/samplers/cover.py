"""Which pairs cover a patch, told by their acquisitions, which are far fewer than the pairs."""

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.stac.pairing.places import Labels, Shapes

ALIKE = 0.999
"""Pairs that cover this part of what the best one covers are as good."""


class Cover:
    """Pairs as two grounds each, of which a patch must be in both."""

    def __init__(self, parts: Shapes, left: Labels, right: Labels) -> None:
        """Index the grounds.

        Args:
            parts: grounds, [A].
            left: one of each pair, [n].
            right: the other one, [n]; maybe the same.
        """
        self._parts, self._left, self._right = parts, left, right
        shapely.prepare(parts)
        self._tree = shapely.STRtree(parts)
        self._rows = np.argsort(left, kind="stable")
        self._starts = np.searchsorted(left[self._rows], np.arange(len(parts) + 1))

    def covers(self, row: int, patch: BaseGeometry) -> bool:
        """Whether one pair covers a patch."""
        left, right = self._left[row], self._right[row]
        covered = shapely.covers(self._parts[left], patch)
        return bool(covered and (left == right or shapely.covers(self._parts[right], patch)))

    def whole(self, patch: BaseGeometry) -> Labels:
        """All pairs that cover a patch."""
        near = self._tree.query(patch)
        found = near[shapely.covers(self._parts[near], patch)]
        rows = self._pairs_of(found)
        return rows[np.isin(self._right[rows], found)]

    def best(self, patch: BaseGeometry, usable: NDArray[np.bool_]) -> Labels:
        """Those of some pairs that cover most of a patch; none if no pair touches it.

        Args:
            patch: the patch.
            usable: which count, [n].
        """
        near = np.sort(self._tree.query(patch))
        clipped = shapely.intersection(self._parts[near], patch)
        area = np.zeros(len(self._parts))
        area[near] = shapely.area(clipped)
        rows = self._pairs_of(near)
        rows = rows[usable[rows]]
        # No pair covers more than either of its parts: those that cannot be best are not measured.
        most = np.minimum(area[self._left[rows]], area[self._right[rows]])
        rows, most = rows[most > 0], most[most > 0]
        if not rows.size:
            return rows
        one = self._common(rows[[np.argmax(most)]], near, clipped)[0]
        rows = rows[most >= ALIKE * one]
        covered = self._common(rows, near, clipped)
        best: Labels = rows[(covered >= ALIKE * covered.max()) & (covered > 0)]
        return best

    def _common(self, rows: Labels, near: Labels, clipped: Shapes) -> NDArray[np.float64]:
        """What pairs cover of a patch; equal parts are laid over each other only once."""
        code = pd.factorize(shapely.to_wkb(clipped))[0]
        left, right = (np.searchsorted(near, side[rows]) for side in (self._left, self._right))
        _, first, of = np.unique(
            code[left] * len(near) + code[right], return_index=True, return_inverse=True
        )
        area = shapely.area(shapely.intersection(clipped[left[first]], clipped[right[first]]))
        found: NDArray[np.float64] = area[of]
        return found

    def _pairs_of(self, parts: Labels) -> Labels:
        """Pairs whose left ground is among some."""
        count = self._starts[parts + 1] - self._starts[parts]
        shift = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        rows: Labels = self._rows[np.repeat(self._starts[parts], count) + shift]
        return rows
