"""A map of places by their number of pairs: no basemap, any extent, also across 180 degrees."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PolyCollection
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from rscontrast.report.figure import SOFT_INK
from rscontrast.types import Bounds

COLOURS = "cividis_r"
"""Dark is many; made for colour-blind readers."""
EVEN = "#31486f"
"""Colour of the places if all have the same number of pairs."""
SMALLEST = 0.06
"""Width below which a footprint is drawn as a dot, inches."""
CELLS = 20_000
"""More places than this are drawn as the density of their pairs."""
RATIOS = 0.4, 0.75
"""Least and largest height of the map as a share of its width."""

EAST = np.array([360.0, 0.0])
"""Once around the earth."""

type Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlaceMap:
    """Places with their footprints where they are to be drawn."""

    footprints: NDArray[np.object_]
    """Polygons in degrees, [P]; longitudes go on beyond 180 where the map does."""
    counts: NDArray[np.int64]
    """Pairs, [P]."""
    bounds: Bounds
    """What the map shows, degrees."""
    stretch: float
    """How much longer a degree of latitude is drawn than one of longitude."""

    @classmethod
    def lay_out(cls, footprints: NDArray[np.object_], counts: NDArray[np.int64]) -> "PlaceMap":
        """Choose where the map begins, what it shows and in what proportions.

        Args:
            footprints: areas in longitude and latitude, cut at 180 degrees, [P], at least one.
            counts: pairs, [P].
        """
        shapes = _unroll(footprints)
        west, south, east, north = shapely.total_bounds(shapes)
        middle = np.radians(min(abs(south + north) / 2, 75.0))
        stretch = 1.0 if east - west > 180 else 1 / float(np.cos(middle))
        bounds = _frame((west, south, east, north), stretch)
        return cls(shapes, counts, bounds, stretch)

    @property
    def ratio(self) -> float:
        """Height of the map by its width."""
        west, south, east, north = self.bounds
        return (north - south) * self.stretch / (east - west)

    def draw(self, axes: Axes, width: float) -> Collection | None:
        """Draw the places.

        Args:
            axes: of the proportions of :attr:`ratio`.
            width: of the axes, inches.

        Returns:
            what a colour bar is for; None if all places have the same number of pairs.
        """
        west, south, east, north = self.bounds
        axes.set(xlim=(west, east), ylim=(south, north))
        _draw_graticule(axes)
        if len(self.counts) > CELLS:
            return self._draw_density(axes)
        even = self.counts.min() == self.counts.max()
        cmap = ListedColormap([EVEN]) if even else COLOURS
        style = {"norm": scale_of(self.counts), "cmap": cmap, "zorder": 3}
        boxes = shapely.bounds(self.footprints)
        inches = np.median(boxes[:, 2] - boxes[:, 0]) * width / (east - west)
        draw = self._draw_dots if inches < SMALLEST else self._draw_footprints
        drawn = draw(axes, style)
        return None if even else drawn

    def _draw_dots(self, axes: Axes, style: dict[str, Any]) -> Collection:
        order = np.argsort(self.counts, kind="stable")  # the fullest on top
        x, y = shapely.get_coordinates(shapely.centroid(self.footprints[order])).T
        size = float(np.clip(20_000 / len(order), 9, 36))
        return axes.scatter(
            x, y, s=size, c=self.counts[order], linewidths=0.3, edgecolors=SOFT_INK, **style
        )

    def _draw_footprints(self, axes: Axes, style: dict[str, Any]) -> Collection:
        parts, owner = shapely.get_parts(self.footprints, return_index=True)
        order = np.argsort(-shapely.area(parts), kind="stable")  # the smallest on top
        rings = [shapely.get_coordinates(shapely.get_exterior_ring(part)) for part in parts[order]]
        drawn = PolyCollection(rings, edgecolors="white", linewidths=0.4, **style)
        drawn.set_array(self.counts[owner][order])
        axes.add_collection(drawn, autolim=False)
        return drawn

    def _draw_density(self, axes: Axes) -> Collection:
        west, south, east, north = self.bounds
        x, y = shapely.get_coordinates(shapely.centroid(self.footprints)).T
        columns = 180
        edges = (
            np.linspace(west, east, columns + 1),
            np.linspace(south, north, round(columns * self.ratio) + 1),
        )
        pairs = np.histogram2d(x, y, edges, weights=self.counts)[0].T
        filled = np.ma.masked_equal(pairs, 0)
        norm = scale_of(filled.compressed())
        return axes.pcolormesh(*edges, filled, norm=norm, cmap=COLOURS, zorder=3)


def scale_of(counts: NDArray[Any]) -> Normalize:
    """Scale of colours: logarithmic where numbers of pairs differ by ten times or more."""
    low, high = counts.min(), counts.max()
    return LogNorm(low, high) if high >= 10 * low else Normalize(low, max(high, low + 1))


def _unroll(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Let longitudes go on beyond 180 degrees where that makes the map less than half as wide."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    west, _, east, _ = shapely.bounds(parts).T
    order = np.argsort(west)
    reach = np.maximum.accumulate(east[order])
    # The widest stretch of longitude without a footprint; the last one is across 180 degrees.
    gaps = np.append(west[order][1:], west.min() + 360) - reach
    widest = int(np.argmax(gaps))
    width = east.max() - west.min()
    if widest == len(gaps) - 1 or 360 - gaps[widest] > width / 2:
        return shapes
    begin = west[order][widest + 1]
    moved = np.array(
        [
            shapely.transform(part, lambda xy: xy + EAST) if left < begin else part
            for part, left in zip(parts, west, strict=True)
        ],
        dtype=object,
    )
    joined = [shapely.union_all(moved[owner == place]) for place in range(len(shapes))]
    return np.array(joined, dtype=object)


def _frame(bounds: Bounds, stretch: float) -> Bounds:
    """Bounds with a border, in proportions that can be looked at, not beyond the poles."""
    west, south, east, north = bounds
    width = max((east - west) * 1.1, 0.02 * stretch)
    height = max((north - south) * 1.1, 0.02)
    width = max(width, height * stretch / RATIOS[1])
    height = min(180.0, max(height, width * RATIOS[0] / stretch))
    if width >= 300:
        return -180.0, -90.0, 180.0, 90.0
    x, y = (west + east) / 2, (south + north) / 2
    y = min(max(y, -90 + height / 2), 90 - height / 2)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _draw_graticule(axes: Axes) -> None:
    axes.set_facecolor("#f4f5f7")
    axes.grid(color="#c3c7cf", linewidth=0.5, zorder=1)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=SOFT_INK)
    axes.spines[:].set(color="#c3c7cf", linewidth=0.6)
    whole_world = axes.get_xlim()[1] - axes.get_xlim()[0] >= 300
    steps = [1, 3, 6, 9, 10] if whole_world else [1, 2, 5, 10]
    for axis, letters in ((axes.xaxis, "EW"), (axes.yaxis, "NS")):
        axis.set_major_locator(MaxNLocator(7, steps=steps, prune="both"))
        axis.set_major_formatter(FuncFormatter(lambda value, _, ends=letters: degrees(value, ends)))


def degrees(value: float, letters: str) -> str:
    """Write a longitude ("EW") or latitude ("NS") in degrees."""
    if letters == "EW":
        value = (value + 180) % 360 - 180
    number = f"{abs(round(value, 6)):g}"
    return f"{number}°" if number in ("0", "180") else f"{number}° {letters[int(value < 0)]}"
