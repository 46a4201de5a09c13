"""What a table of pairs holds, counted batch by batch: the table need never be whole."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rscontrast.errors import EmptySearchError
from rscontrast.stac.pairing.rule import SEASON, YEAR
from rscontrast.stac.pairing.table import PairTable

GAP_EDGES = (0.0, 7.0, 30.0, 90.0, 180.0, YEAR, 2 * YEAR, 5 * YEAR, np.inf)
"""Bounds of the bins of gaps, days; a bin has its lower bound."""
GAP_NAMES = (
    "under 7 d", "7-30 d", "30-90 d", "90-180 d", "180-365 d", "1-2 y", "2-5 y", "5 y or more",
)  # fmt: skip
BAR = 32
"""Characters of the longest bar of the printed histogram."""

type Batches = PairTable | gpd.GeoDataFrame | Iterable[gpd.GeoDataFrame]
"""Pairs as a lazy table, as one frame, or as frames one after the other."""


@dataclass(frozen=True)
class PairSummary:
    """Numbers that say what a table of pairs is good for; ``str()`` makes a table of 80 columns."""

    pairs: int
    """Pairs."""
    places: int
    """Places that have a pair."""
    dates: int
    """Acquisitions that are in a pair, each counted once."""
    first: pd.Timestamp
    """Earliest date, UTC without a zone."""
    last: pd.Timestamp
    """Latest date."""
    pairs_per_place: tuple[int, float, int]
    """Least, median and most pairs of a place."""
    gaps: tuple[int, ...]
    """Pairs in each bin of :data:`GAP_EDGES`."""
    straddling: float
    """Share of the pairs that straddle the event, 0-1."""
    same_season: float
    """Share of the pairs whose dates differ by 45 days of the year or less, 0-1."""
    cloud: float
    """Median cloud cover of the acquisitions, percent; NaN where none says it."""

    def __str__(self) -> str:
        """An aligned table, ready for a terminal."""
        least, middle, most = self.pairs_per_place
        cloud = "unknown" if np.isnan(self.cloud) else f"{self.cloud:.1f} %"
        facts = (
            ("pairs", f"{self.pairs:,}"),
            ("places", f"{self.places:,}"),
            ("pairs of a place", f"{least:,} to {most:,}, median {middle:,.10g}"),
            ("dates", f"{self.dates:,}, {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"),
            ("cloud of the dates", cloud if cloud == "unknown" else f"{cloud} (median)"),
            ("same season", f"{_percent(self.same_season)} (within {SEASON:.0f} days)"),
            ("straddle the event", _percent(self.straddling)),
        )
        lines = [f"{name:<20}{value}" for name, value in facts]
        return "\n".join([*lines, "", *self._histogram()])

    def _histogram(self) -> Iterator[str]:
        width = max(len("pairs"), *(len(f"{count:,}") for count in self.gaps))
        yield f"{'gap':<14}{'pairs':>{width}}{'share':>10}"
        for name, count in zip(GAP_NAMES, self.gaps, strict=True):
            # A bin that holds anything shows it.
            bar = "#" * int(np.ceil(BAR * count / max(self.gaps)))
            share = _percent(count / self.pairs)
            yield f"{name:<14}{count:>{width},}{share:>10}  {bar}".rstrip()


class PairCounter:
    """Counts pairs as they come; its memory grows with places and dates, not with pairs."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._places: Counter[Hashable] = Counter()
        self._clouds: dict[Hashable, float] = {}
        self._gaps = np.zeros(len(GAP_NAMES), dtype=np.int64)
        self._straddling = self._same_season = 0
        self._first, self._last = pd.Timestamp.max, pd.Timestamp.min

    def add(self, pairs: gpd.GeoDataFrame) -> None:
        """Count the pairs of a batch.

        Args:
            pairs: with the columns of :func:`rscontrast.stac.pair_items`.
        """
        self._places.update(pairs["place"].value_counts().to_dict())
        self._gaps += np.histogram(pairs["gap_days"], GAP_EDGES)[0]
        self._straddling += int(pairs["straddles_event"].sum())
        self._same_season += int((pairs["season_days"] <= SEASON).sum())
        for side in ("pre", "post"):
            self._clouds.update(_clouds(pairs, side))
            times = pairs[f"{side}_datetime"]
            if len(times):
                self._first = min(self._first, times.min())
                self._last = max(self._last, times.max())

    def summary(self) -> PairSummary:
        """What has been counted so far.

        Raises:
            EmptySearchError: nothing.
        """
        counts = np.array(list(self._places.values()))
        if not counts.size:
            raise EmptySearchError("no pair to sum up: loosen the rules of the pairing")
        pairs = int(counts.sum())
        return PairSummary(
            pairs=pairs,
            places=len(counts),
            dates=len(self._clouds),
            first=self._first,
            last=self._last,
            pairs_per_place=(int(counts.min()), float(np.median(counts)), int(counts.max())),
            gaps=tuple(self._gaps.tolist()),
            straddling=self._straddling / pairs,
            same_season=self._same_season / pairs,
            cloud=_median(np.array(list(self._clouds.values()), dtype=np.float64)),
        )


def summarise(pairs: Batches) -> PairSummary:
    """Sum up a table of pairs, however long.

    Args:
        pairs: of :func:`rscontrast.stac.pair_items`, whole or in batches.

    Raises:
        EmptySearchError: it holds no pair.
    """
    counter = PairCounter()
    for batch in pair_batches(pairs):
        counter.add(batch)
    return counter.summary()


def pair_batches(pairs: Batches) -> Iterator[gpd.GeoDataFrame]:
    """Give pairs as frames one after the other, none of them longer than what came."""
    if isinstance(pairs, PairTable):
        return pairs.batches()
    return iter([pairs] if isinstance(pairs, gpd.GeoDataFrame) else pairs)


def _clouds(pairs: gpd.GeoDataFrame, side: str) -> dict[Hashable, float]:
    """Cloud cover of each acquisition of a side; an item is in one acquisition only."""
    names = pd.DataFrame(
        {
            "collection": pairs["collection"].fillna("").to_numpy(),
            "item": [ids[0] for ids in pairs[f"{side}_ids"]],
            "cloud": pairs[f"{side}_cloud"].to_numpy(),
        }
    ).drop_duplicates(["collection", "item"])
    keys = zip(names["collection"], names["item"], strict=True)
    return dict(zip(keys, names["cloud"], strict=True))


def _median(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
