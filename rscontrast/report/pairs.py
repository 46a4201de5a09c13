"""A figure of a table of pairs: where they are, and how far their dates lie apart."""

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from rscontrast.atomic import atomic_path
from rscontrast.errors import EmptySearchError
from rscontrast.report.figure import INK, SOFT_INK
from rscontrast.report.pairdates import DateCounts, short
from rscontrast.report.pairmap import PlaceMap
from rscontrast.stac.pairing.summary import Batches, pair_batches
from rscontrast.types import PathOrStr

DPI = 160
WIDTH, MARGIN, LEFT, RIGHT = 10.0, 0.25, 0.75, 1.25
"""Width of the figure, its border, and what is left beside the axes, in inches."""
HEADING, DEGREES, LABELS = 0.78, 0.5, 0.52
"""Heights of the title and of what stands below the two plots, in inches."""
TOP_BARS, SIDE_BARS, HEAT, BETWEEN = 0.95, 1.1, 3.0, 0.08
"""Heights and widths of the histograms and of the space between them, in inches."""
LINE = "#c3c7cf"
"""Colour of what frames a plot."""


class PairFigure:
    """Collects pairs as they come, and draws them; its memory grows with the places alone."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._dates = DateCounts()
        self._places: Counter[Hashable] = Counter()
        self._footprints: dict[Hashable, Any] = {}

    def add(self, pairs: gpd.GeoDataFrame) -> None:
        """Count the pairs of a batch; the first pair of a place says where it is.

        Args:
            pairs: with the columns of :func:`rscontrast.stac.pair_items`.
        """
        self._dates.add(pairs)
        self._places.update(pairs["place"].value_counts().to_dict())
        first = pairs[~pairs["place"].duplicated()]
        for place, footprint in zip(first["place"], first.geometry, strict=True):
            self._footprints.setdefault(place, footprint)

    def draw(self, out: PathOrStr) -> Path:
        """Write the figure as a PNG, whole or not at all.

        Raises:
            EmptySearchError: no pair has been added.
            WriteError: the file cannot be written.
        """
        if not self._places:
            raise EmptySearchError("no pair to draw: loosen the rules of the pairing")
        figure = self._figure()
        with atomic_path(Path(out)) as tmp:
            figure.savefig(tmp, format="png", dpi=DPI)
        return Path(out)

    def _figure(self) -> Figure:
        shapes = shapely.buffer(np.array(list(self._footprints.values()), dtype=object), 0)
        counts = np.array([self._places[place] for place in self._footprints])
        seen = ~shapely.is_empty(shapes)
        places = PlaceMap.lay_out(shapes[seen], counts[seen]) if seen.any() else None
        map_height = 0.0 if places is None else (WIDTH - LEFT - RIGHT) * places.ratio + DEGREES
        height = HEADING + map_height + TOP_BARS + BETWEEN + HEAT + LABELS + MARGIN
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        self._write_heading(figure)
        if places is not None:
            _draw_map(figure, places)
        self._draw_dates(figure, HEADING + map_height)
        return figure

    def _write_heading(self, figure: Figure) -> None:
        others, straddling = self._dates.counts.sum(axis=(1, 2))
        pairs = others + straddling
        title = f"{_count(pairs, 'pair')} at {_count(len(self._places), 'place')}"
        each = set(self._places.values())
        alike = len(each) == 1 < len(self._places)
        notes = [f"{_count(min(each), 'pair')} of each place"] if alike else []
        if straddling:
            notes.append(f"{100 * straddling / pairs:.1f} % straddle the event")
        _write(figure, MARGIN, title, size=14, weight="bold", color=INK)
        _write(figure, MARGIN + 0.26, ", ".join(notes), size=9.5, color=SOFT_INK)

    def _draw_dates(self, figure: Figure, top: float) -> None:
        width = WIDTH - LEFT - RIGHT - SIDE_BARS - BETWEEN
        middle = top + TOP_BARS + BETWEEN
        heat = _add_axes(figure, LEFT, middle, width, HEAT)
        above = _add_axes(figure, LEFT, top, width, TOP_BARS, sharex=heat)
        side = _add_axes(figure, LEFT + width + BETWEEN, middle, SIDE_BARS, HEAT, sharey=heat)
        _add_bar(figure, self._dates.draw(heat, above, side), middle, HEAT)


def draw_pairs(pairs: Batches, out: PathOrStr) -> Path:
    """Draw where pairs are, and their gaps by season difference, as one PNG.

    Args:
        pairs: of :func:`rscontrast.stac.pair_items`, whole or in batches.
        out: PNG to write, whole or not at all.

    Returns:
        ``out``.

    Raises:
        EmptySearchError: there is no pair.
        WriteError: the file cannot be written.
    """
    figure = PairFigure()
    for batch in pair_batches(pairs):
        figure.add(batch)
    return figure.draw(out)


def _draw_map(figure: Figure, places: PlaceMap) -> None:
    width = WIDTH - LEFT - RIGHT
    height = width * places.ratio
    drawn = places.draw(_add_axes(figure, LEFT, HEADING, width, height), width)
    if drawn is not None:
        _add_bar(figure, drawn, HEADING, height)


def _add_axes(
    figure: Figure, left: float, top: float, width: float, height: float, **options: Any
) -> Axes:
    """Axes with their upper left corner at (left, top), in inches."""
    total = figure.get_size_inches()[1]
    box = (left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total)
    axes = figure.add_axes(box, **options)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=SOFT_INK)
    axes.spines[:].set(color=LINE, linewidth=0.6)
    return axes


def _add_bar(figure: Figure, drawn: Collection, top: float, height: float) -> None:
    """Colour bar at the right border."""
    length = min(height, 2.4)
    axes = _add_axes(figure, WIDTH - 0.85, top + (height - length) / 2, 0.12, length)
    bar = figure.colorbar(drawn, cax=axes)
    bar.ax.tick_params(length=0, which="both", labelsize=8.5, labelcolor=SOFT_INK)
    bar.outline.set(edgecolor=LINE, linewidth=0.6)
    log = isinstance(drawn.norm, LogNorm)
    ticks = LogLocator(subs=(1, 2, 5), numticks=20) if log else MaxNLocator(5, integer=True)
    bar.set_ticks(ticks, minor=False)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(short))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.set_title("pairs", size=8.5, color=SOFT_INK, loc="left")


def _write(figure: Figure, y: float, text: str, **style: Any) -> None:
    """Text at the left border, its top ``y`` inches below that of the figure."""
    width, height = figure.get_size_inches()
    figure.text(MARGIN / width, 1 - y / height, text, va="top", parse_math=False, **style)


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"
