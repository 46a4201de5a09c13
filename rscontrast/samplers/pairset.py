"""What a sampler draws from: the pairs of a dataset under rules, a lazy table, or a list."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry
from torchgeo.datasets import GeoDataset

from rscontrast.errors import EmptySearchError, InputError, choose
from rscontrast.samplers.lazy import LazyPairs
from rscontrast.samplers.listed import ListedPairs
from rscontrast.samplers.lot import Lot
from rscontrast.samplers.patches import PairSource
from rscontrast.samplers.sides import Files, Sides, find_sides, grounds
from rscontrast.samplers.weights import Weights, by_season, quarters, read_weights
from rscontrast.stac.pairing.arguments import PairRules, require_rules
from rscontrast.stac.pairing.file import TIMES, SomePairs
from rscontrast.stac.pairing.places import Shapes
from rscontrast.stac.pairing.table import PairTable
from rscontrast.stac.pairing.tolerance import Tolerance
from rscontrast.stac.pairs import pair_items


@dataclass(frozen=True)
class Choice:
    """What is drawn how often, and where."""

    by: str = "place"
    """"place" or "pair"."""
    weights: Weights | None = None
    """See :func:`rscontrast.samplers.weights.read_weights`."""
    roi: BaseGeometry | None = None
    """In the CRS of the dataset."""

    def __post_init__(self) -> None:
        """Refuse an unknown ``by``, and a ``roi`` that is no shape."""
        choose("by", self.by, ("place", "pair"))
        if not (self.roi is None or isinstance(self.roi, BaseGeometry)):
            raise InputError("roi", self.roi, "a shapely geometry in the CRS of the dataset")

    def within_roi(self, grounds: Shapes) -> Shapes:
        """As much of grounds as patches may lie on."""
        if self.roi is None:
            return grounds
        found: Shapes = shapely.intersection(grounds, self.roi)
        return found


class PairSet:
    """Pairs to draw from: :attr:`source` draws them whatever their number."""

    def __init__(
        self,
        dataset: GeoDataset,
        index: gpd.GeoDataFrame,
        pairs: SomePairs | None,
        rules: PairRules,
        choice: Choice,
    ) -> None:
        """Find the acquisitions of the pairs in the dataset.

        Args:
            dataset: any GeoDataset.
            index: its index, or a part of it.
            pairs: a table; None: those of the dataset under the rules.
            rules: of ``pair_items``; with pairs, ``tolerance`` alone.
            choice: how they are drawn.

        Raises:
            InputError: rules with pairs, or what ``pair_items`` refuses.
            EmptySearchError: no pair is left.
        """
        self.choice = choice
        require_rules(rules)
        tolerance = Tolerance.read(rules.get("tolerance", "1h"))
        more = sorted(set(rules) - {"tolerance"})
        if pairs is not None and more:
            allowed = "no rules beside `pairs`, which were made by rules; tolerance alone"
            raise InputError(", ".join(more), [rules.get(name) for name in more], allowed)
        own = pairs is None
        if pairs is None:
            near = np.ones(len(index), bool) if choice.roi is None else index.intersects(choice.roi)
            index = index[np.asarray(near)]
        self.files = files = Files.of(dataset, index)
        if pairs is None:
            pairs = pair_items(files.frame(), **rules)
        if not isinstance(pairs, PairTable | gpd.GeoDataFrame):
            allowed = "a table of pair_items or read_pairs(path)"
            raise InputError("pairs", pairs, allowed)
        if isinstance(pairs, PairTable):
            self._read_table(files, pairs, tolerance, own=own)
        else:
            self._read_frame(files, pairs, tolerance)

    def _read_table(
        self, files: Files, table: PairTable, tolerance: Tolerance, *, own: bool
    ) -> None:
        if self.choice.by == "pair" and table.selection.noisy_share is not None:
            allowed = "'place' with noisy_share, which mixes pairs place by place"
            raise InputError("by", "pair", allowed)
        acquired = table.acquired
        times = acquired["datetime"].to_numpy()
        ids, collections = acquired["ids"].to_list(), acquired["collection"].to_list()
        self.sides, rows = find_sides(files, collections, ids, times, tolerance, own=own)
        shapes = self.choice.within_roi(grounds(acquired.geometry, rows, files.index))
        self._lazy: LazyPairs | None = LazyPairs(table, self.sides, shapes, self.choice.by)

    def _read_frame(self, files: Files, pairs: gpd.GeoDataFrame, tolerance: Tolerance) -> None:
        by_id = files.items is not None and "pre_ids" in pairs
        _require_columns(pairs, [*TIMES, *(("post_ids", "collection") if by_id else ())])
        self._lazy = None
        count = len(pairs)
        times = pd.concat([pairs["pre_datetime"], pairs["post_datetime"]]).to_numpy()
        if by_id:
            ids = [*pairs["pre_ids"], *pairs["post_ids"]]
            named = [*pairs["collection"]] * 2
            self.sides, _ = find_sides(files, named, ids, times, tolerance, own=False)
        else:
            self.sides = Sides.by_times(times, files.index, tolerance)
        self.sides.require(np.arange(2 * count))
        place = pd.factorize(pairs["place"])[0] if "place" in pairs else np.zeros(count, np.intp)
        ground = self.choice.within_roi(pairs.geometry.to_crs(files.index.crs).to_numpy())
        pre = np.arange(count)
        nothing = np.zeros(count, dtype=np.intp)
        lot = Lot(pre, pre + count, ground, place.astype(np.intp), nothing)
        weights = self.choice.weights
        season = quarters(times[:count]) if by_season(weights) else None
        weight = read_weights(weights, pairs)
        codes, distinct = pd.factorize(shapely.to_wkb(lot.ground))
        parts = shapely.from_wkb(distinct), codes, codes
        self.listed = ListedPairs(lot, parts, weight, season, by=self.choice.by)

    @cached_property
    def listed(self) -> ListedPairs:
        """All pairs.

        Raises:
            InputError: they are more than five million.
            EmptySearchError: none is left in roi.
        """
        lazy: Any = self._lazy
        found: ListedPairs = lazy.listed(self.choice.weights)
        return found

    @property
    def source(self) -> PairSource:
        """The list where there is one or weights ask for it, else the lazy table."""
        if self._lazy is None or self.choice.weights is not None:
            return self.listed
        return self._lazy


def _require_columns(pairs: gpd.GeoDataFrame, names: list[str]) -> None:
    missing = [name for name in names if name not in pairs]
    if missing or pairs.crs is None:
        got = f"no {', '.join(missing)}" if missing else "no CRS"
        raise InputError("pairs", got, "the columns and the CRS of a table of pair_items")
    if not len(pairs):
        raise EmptySearchError("no pair in the table: widen its rules")
