"""The temporal half of `RandomPatchSampler(...) @ TemporalPairSampler(...)`."""

from collections.abc import Iterator
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from torchgeo.datasets import GeoDataset
from torchgeo.samplers import TemporalSampler

from rscontrast.datasets.dates import join_dates
from rscontrast.datasets.pairs import PairSlice
from rscontrast.errors import EmptySearchError, InputError
from rscontrast.stac.pairing.file import SomePairs, as_frame
from rscontrast.stac.pairing.rule import PairRule
from rscontrast.stac.pairing.tolerance import Tolerance

EVERYWHERE = (slice(None), slice(None))


class TemporalPairSampler(TemporalSampler):
    """Draw two dates for each place.

    At a place the pairs that cover the whole patch are equally likely; where none does, those
    that cover most of it. Since the place comes first, each weighs the same whatever its number
    of dates.
    """

    strategy: Literal["random", "sequential"] = "random"

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        pairs: SomePairs | None = None,
        min_gap: float = 1.0,
        max_gap: float | None = None,
        event: str | None = None,
        relation: str = "any",
        tolerance: str = "1h",
        toi: pd.Interval | None = None,
        generator: int | np.random.Generator | None = None,
    ) -> None:
        """List the pairs that may be drawn.

        Args:
            dataset: any GeoDataset.
            pairs: a table of :func:`rscontrast.stac.pair_items`: only its pairs are drawn, and
                the rules below do not apply. Default: all pairs of the dataset under the rules.
            min_gap: least gap, days.
            max_gap: largest gap, days.
            event: when something happened.
            relation: "any", "before", "after" or "straddle" (the event).
            tolerance: files within this time of each other are one acquisition ("1h"), or those of
                one UTC day ("day").
            toi: time of interest.
            generator: seed or generator of the draw.

        Raises:
            InputError: a rule out of range, or a pair of dates that the dataset does not have.
            EmptySearchError: no pair is left.
        """
        super().__init__(dataset, toi=toi)
        rule = PairRule(min_gap, max_gap, event, relation)
        self.generator = np.random.default_rng(generator)
        limit = Tolerance.read(tolerance)
        if pairs is None:
            pre, post, shapes = _by_rule(join_dates(self.index, limit), rule)
        else:
            pre, post, shapes = _by_table(self.index, as_frame(pairs), limit)
        if len(shapes) == 0:
            text = f"no pair among {len(self.index)} files: widen the gap, the event or toi"
            raise EmptySearchError(text)
        self._pre, self._post, self._shapes = pre, post, shapes
        shapely.prepare(self._shapes)

    @property
    def roi(self) -> BaseGeometry:
        """Where there are pairs, in the CRS of the dataset: the ``roi`` for a spatial sampler."""
        return shapely.union_all(self._shapes)

    def _iter_subset(  # type: ignore[override]  # TorchGeo's yields one time slice; ours yields two
        self, location: tuple[slice, slice] = EVERYWHERE
    ) -> Iterator[PairSlice]:
        """Yield every pair of a place once, shuffled.

        Raises:
            InputError: there is none; says which ``roi`` avoids such places.
        """
        x, y = location
        for pair in self.generator.permutation(self._at(x, y)):
            yield x, y, (self._pre[pair], self._post[pair])

    def _at(self, x: slice, y: slice) -> NDArray[np.intp]:
        if x.start is None:
            return np.arange(len(self._shapes))
        patch = shapely.box(x.start, y.start, x.stop, y.stop)
        whole = np.flatnonzero(shapely.covers(self._shapes, patch))
        if whole.size:
            return whole
        share = shapely.area(shapely.intersection(self._shapes, patch))
        if share.max() == 0:
            raise InputError("roi", patch.bounds, "places with pairs: pass roi=pair_sampler.roi")
        return np.flatnonzero(share >= 0.999 * share.max())


type Slices = list[slice]
type Candidates = tuple[Slices, Slices, NDArray[np.object_]]


def _by_rule(dates: gpd.GeoDataFrame, rule: PairRule) -> Candidates:
    pre, post = dates.sindex.query(dates.geometry, predicate="intersects")
    start = dates["start"].to_numpy()
    allowed = rule.allows(start[pre], start[post])
    order = np.lexsort([post[allowed], pre[allowed]])
    pre, post = pre[allowed][order], post[allowed][order]
    footprints = dates.geometry.to_numpy()
    shapes = shapely.intersection(footprints[pre], footprints[post])
    some = shapely.area(shapes) > 0
    spans = zip(dates["start"], dates["end"], strict=True)
    slices = [slice(first, last) for first, last in spans]
    return _take(slices, pre[some]), _take(slices, post[some]), shapes[some]


def _by_table(index: gpd.GeoDataFrame, pairs: gpd.GeoDataFrame, tolerance: Tolerance) -> Candidates:
    begins = np.sort(index.index.left.to_numpy())

    def spans(times: pd.Series) -> Slices:
        first = times.to_numpy()
        last = tolerance.latest(first)
        known = np.searchsorted(begins, last, side="right") > np.searchsorted(begins, first)
        if not known.all():
            raise InputError("pairs", times[~known].iloc[0], "dates that the dataset has, in toi")
        ends = pd.DatetimeIndex(last)
        return [slice(*span) for span in zip(pd.DatetimeIndex(first), ends, strict=True)]

    shapes = pairs.to_crs(index.crs).geometry.to_numpy()
    return spans(pairs["pre_datetime"]), spans(pairs["post_datetime"]), shapes


def _take(slices: Slices, rows: NDArray[np.intp]) -> Slices:
    return [slices[row] for row in rows]
