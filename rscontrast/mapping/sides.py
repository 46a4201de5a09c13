"""What is before and what after at a tile: by a period, or as a table of pairs says."""

from collections import defaultdict
from typing import Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import EmptySearchError
from rscontrast.mapping.choice import MONTH, Numbers, Period, Rows, Weights, base_costs
from rscontrast.stac.index import instants
from rscontrast.types import Bounds


class Sides(Protocol):
    """A way to tell the items before from those after."""

    @property
    def items(self) -> gpd.GeoDataFrame:
        """Those that may be of use, numbered from 0."""

    @property
    def costs(self) -> Numbers:
        """What of each one's cost is the same at every tile, [N]."""

    def extent(self) -> BaseGeometry:
        """Where there are items, in degrees."""

    def split(self, rows: Rows, costs: Numbers) -> tuple[Rows, Rows]:
        """Positions in ``rows`` of those before, and of those after, at one tile.

        Args:
            rows: of the items that meet the tile.
            costs: of each, there.
        """

    def notes(self) -> tuple[str, ...]:
        """What was left out, once all tiles are made."""


class ByPeriod:
    """Every item of the times before and after."""

    def __init__(self, items: gpd.GeoDataFrame, period: Period, weights: Weights) -> None:
        """Leave the items of other times.

        Raises:
            EmptySearchError: none is before, or none after.
        """
        before, after = period.rows(items)
        for name, rows in (("before", before), ("after", after)):
            if not len(rows):
                text = f"no item {name}: of {len(items)} given none is of that time"
                raise EmptySearchError(f"{text} ({_span(instants(items))})")
        kept = np.union1d(before, after)
        self.items = items.iloc[kept].reset_index(drop=True)
        self.costs = base_costs(self.items, period.event, weights)
        self._before, self._after = np.isin(kept, before), np.isin(kept, after)

    def extent(self) -> BaseGeometry:
        """See :class:`Sides`."""
        union: BaseGeometry = shapely.union_all(self.items.geometry.to_numpy())
        return union

    def split(self, rows: Rows, costs: Numbers) -> tuple[Rows, Rows]:
        """See :class:`Sides`."""
        return np.flatnonzero(self._before[rows]), np.flatnonzero(self._after[rows])

    def notes(self) -> tuple[str, ...]:
        """See :class:`Sides`."""
        return ()


class ByPairs:
    """The items that pairs name; a pair counts where it has both its dates."""

    def __init__(self, items: gpd.GeoDataFrame, pairs: gpd.GeoDataFrame, weights: Weights) -> None:
        """Look up the items of the pairs."""
        self.items = items.reset_index(drop=True)
        self.costs = base_costs(self.items, None, weights)
        self._where = shapely.union_all(pairs.geometry.to_numpy())
        self._times = instants(self.items).to_numpy("datetime64[us]")
        # What lacks a band is no longer among the items.
        number = {name: row for row, name in enumerate(self.items["id"])}
        self._pairs = [
            tuple(np.array([number[i] for i in ids if i in number], dtype=np.intp) for ids in both)
            for both in zip(pairs["pre_ids"], pairs["post_ids"], strict=True)
        ]
        self._gaps = weights.gap * pairs["gap_days"].to_numpy(np.float64) / MONTH
        self._of_item: dict[int, list[int]] = defaultdict(list)
        for n, (before, _) in enumerate(self._pairs):
            for row in before:
                self._of_item[int(row)].append(n)
        self._contradict: set[int] = set()

    def extent(self) -> BaseGeometry:
        """See :class:`Sides`."""
        return self._where

    def split(self, rows: Rows, costs: Numbers) -> tuple[Rows, Rows]:
        """See :class:`Sides`; pairs that contradict a better one are left out."""
        at = np.full(len(self.items), -1)
        at[rows] = np.arange(len(rows))
        found = []
        for n in sorted({n for row in rows.tolist() for n in self._of_item[row]}):
            before, after = (at[side][at[side] >= 0] for side in self._pairs[n])
            if len(before) and len(after):
                cost = costs[before].min() + costs[after].min() + self._gaps[n]
                found.append((cost, n, before, after))
        sides: tuple[list[int], list[int]] = ([], [])
        for _, n, before, after in sorted(found, key=lambda entry: entry[:2]):
            joined = [*sides[0], *before], [*sides[1], *after]
            last, first = self._times[rows[joined[0]]].max(), self._times[rows[joined[1]]].min()
            if last < first:
                sides = joined
            else:
                self._contradict.add(n)
        return _unique(sides[0]), _unique(sides[1])

    def notes(self) -> tuple[str, ...]:
        """See :class:`Sides`."""
        count = len(self._contradict)
        text = f"{count} pairs contradict better ones where they overlap and are left out there"
        return (text,) if count else ()


def require_near(items: gpd.GeoDataFrame, area: BaseGeometry) -> None:
    """Refuse an area without any item.

    Raises:
        EmptySearchError: says where the items are.
    """
    if not shapely.intersects(area, items.geometry.to_numpy()).any():
        there, here = _degrees(tuple(items.total_bounds)), _degrees(area.bounds)
        raise EmptySearchError(f"no item meets the aoi {here}; the {len(items)} are in {there}")


def _degrees(bounds: Bounds) -> str:
    return "(" + ", ".join(f"{number:.4f}" for number in bounds) + ")"


def _span(times: pd.Series) -> str:
    return f"{times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"


def _unique(rows: list[int]) -> Rows:
    return np.unique(np.array(rows, dtype=np.intp))
