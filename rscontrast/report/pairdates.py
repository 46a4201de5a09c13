"""How far the dates of pairs lie apart: gaps by season differences, counted and drawn."""

import geopandas as gpd
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from rscontrast.report.figure import INK, SOFT_INK
from rscontrast.report.pairmap import COLOURS, scale_of
from rscontrast.stac.pairing.rule import YEAR

BARS, STRADDLING = "#8fa3b8", "#d55e00"
"""Colours of the histograms."""
FINE = 0.125
"""Width of a bin of gaps as they are counted, in roots of a day: short gaps get more bins."""
LONGEST = 100 * YEAR
"""Gaps are counted up to so many days; longer ones are in the last bin."""
SEASONS = np.linspace(0, YEAR / 2, 19)
"""Bounds of the bins of season differences: ten days each."""
BINS = 80
"""Bins of gaps as they are drawn, at most."""
YEARS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50)
TICKS = (0, 1, 3, 7, 14, 30, 60, 90, 180, *(YEAR * n for n in YEARS))

type Numbers = NDArray[np.float64]
type Counts = NDArray[np.int64]
"""Pairs [2, G, S]: whether they straddle the event, bin of the gap, bin of the season."""


class DateCounts:
    """A histogram of pairs that is filled as they come."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.edges: Numbers = np.arange(0, np.sqrt(LONGEST) + FINE, FINE)
        """Bounds of the bins of gaps, roots of a day, [G + 1]."""
        self.counts: Counts = np.zeros((2, len(self.edges) - 1, len(SEASONS) - 1), dtype=np.int64)
        """Pairs."""

    def add(self, pairs: gpd.GeoDataFrame) -> None:
        """Count the pairs of a batch."""
        root = np.sqrt(np.minimum(pairs["gap_days"].to_numpy(), LONGEST))
        season = np.minimum(pairs["season_days"].to_numpy(), SEASONS[-1])
        straddles = pairs["straddles_event"].to_numpy(dtype=bool)
        for kind in (0, 1):
            rows = straddles == bool(kind)
            found = np.histogram2d(root[rows], season[rows], (self.edges, SEASONS))[0]
            self.counts[kind] += found.astype(np.int64)

    def draw(self, heat: Axes, above: Axes, side: Axes) -> Collection:
        """Draw the pairs by gap and season difference, and the histogram of either.

        Args:
            heat: for both.
            above: for the gaps; it shares its x axis with ``heat``.
            side: for the season differences; it shares its y axis with ``heat``.

        Returns:
            what a colour bar is for.
        """
        edges, counts = coarsen(self.edges, self.counts)
        drawn = _draw_heat(heat, edges, counts.sum(axis=0))
        _draw_bars(above, edges, counts.sum(axis=2), sideways=False)
        _draw_bars(side, SEASONS, counts.sum(axis=1), sideways=True)
        if counts[1].any():
            _add_legend(above)
        return drawn


def coarsen(edges: Numbers, counts: Counts) -> tuple[Numbers, Counts]:
    """Cut off the empty ends of the gaps, and join neighbouring bins until few are left."""
    filled = np.flatnonzero(counts.sum(axis=(0, 2)))
    step = 1
    while (filled[-1] // step - filled[0] // step) >= BINS:
        step *= 2
    first, last = filled[0] // step * step, (filled[-1] // step + 1) * step
    starts = np.arange(first, min(last, counts.shape[1]), step)
    joined: Counts = np.add.reduceat(counts[:, :last], starts, axis=1)
    return edges[0] + np.append(starts, last) * FINE, joined


def _draw_heat(axes: Axes, edges: Numbers, counts: Counts) -> Collection:
    filled = np.ma.masked_equal(counts.T, 0)
    norm = scale_of(filled.compressed())
    drawn = axes.pcolormesh(edges, SEASONS, filled, norm=norm, cmap=COLOURS)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, SEASONS[-1]))
    axes.set_yticks([0, 30, 60, 90, 120, 150, 180])
    _set_ticks(axes, edges)
    axes.set_xlabel("gap between the dates", color=INK, size=9.5)
    axes.set_ylabel("season difference, days", color=INK, size=9.5)
    return drawn


def _set_ticks(axes: Axes, edges: Numbers) -> None:
    """Name gaps by round numbers of days or years, where there is room for them."""
    room, last = (edges[-1] - edges[0]) / 14, -np.inf
    ticks: list[float] = []
    for days in TICKS:
        if edges[0] <= np.sqrt(days) <= edges[-1] and np.sqrt(days) - last >= room:
            ticks.append(days)
            last = np.sqrt(days)
    names = [f"{days:g} d" if days < YEAR else f"{days / YEAR:.0f} y" for days in ticks]
    if len(ticks) < 2:
        ticks = [float(edges[0] ** 2), float(edges[-1] ** 2)]
        names = [f"{days:.4g} d" for days in ticks]
    axes.set_xticks(np.sqrt(ticks), names)


def _draw_bars(axes: Axes, edges: Numbers, counts: Counts, *, sideways: bool) -> None:
    """Draw a histogram, the pairs that straddle the event in a colour of their own."""
    base = np.zeros(counts.shape[1])
    for values, colour in zip(counts[::-1], (STRADDLING, BARS), strict=True):
        axes.stairs(
            base + values, edges, baseline=base, fill=True, color=colour,
            orientation="horizontal" if sideways else "vertical",
        )  # fmt: skip
        base = base + values
    axes.set(**{"xlim" if sideways else "ylim": (0, base.max() * 1.05)})
    scale = axes.xaxis if sideways else axes.yaxis
    scale.set_major_locator(MaxNLocator(2, integer=True))
    scale.set_major_formatter(FuncFormatter(short))
    axes.tick_params(labelbottom=sideways, labelleft=not sideways)
    axes.spines[["top", "right"]].set_visible(False)


def _add_legend(axes: Axes) -> None:
    names = (("straddle the event", STRADDLING), ("others", BARS))
    axes.legend(
        handles=[Patch(color=colour, label=name) for name, colour in names],
        loc="lower left", bbox_to_anchor=(1.0, 0.0), frameon=False, fontsize=8.5,
        labelcolor=SOFT_INK, handlelength=1.0, handleheight=1.0,
    )  # fmt: skip


def short(value: float, _: object = None) -> str:
    """Write a number of pairs in a few characters: 1200 as 1.2k."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:g}"
