"""A contact sheet of views: what a network sees, and where on the patch it lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rscontrast.atomic import atomic_path
from rscontrast.errors import InputError
from rscontrast.report.figure import INK, SOFT_INK
from rscontrast.report.palette import NODATA_COLOUR, rgb

type Images = NDArray[np.float32]
type Masks = NDArray[np.bool_]

DPI = 160
CELL, GAP, MARGIN = 2.2, 0.14, 0.25
"""Width of an image, space between two, and border of the figure, in inches."""
TITLE, NOTE, HEADING = 0.36, 0.3, 0.24
"""Heights of the lines of text, in inches."""
COLOURS = ("#e69f00", "#56b4e9", "#f0e442", "#cc79a7")
"""Of the views by turns; light ones, which stand out from vegetation and water alike."""
FIRST, EDGE = 4.0, 1.4
"""Width of the first edge of a view and of its others, points."""
LEGEND = (
    "Thick: the view's upper edge, from its first pixel (dot). Dashed: a view of another date. "
    "Per cent: of the patch's area."
)


@dataclass(frozen=True, eq=False)
class PatchViews:
    """One patch and its views: a row of the sheet. K = 1 to 3 bands are shown."""

    dates: Images
    """Reflectance [D, K, H, W]."""
    dates_valid: Masks
    """[D, H, W]."""
    views: Images
    """Reflectance [V, K, h, w]; view v is of date v % D."""
    views_valid: Masks
    """[V, h, w]."""
    matrix: NDArray[np.float64]
    """[V, 3, 3]: (column, row, 1) of a view to the patch's, pixel centres at whole numbers."""
    names: tuple[str, ...]
    """What stands above each date, [D]."""

    def __post_init__(self) -> None:
        """Refuse more than three bands, and numbers of dates or views that differ."""
        if not 1 <= self.dates.shape[1] == self.views.shape[1] <= 3:
            got = (self.dates.shape[1], self.views.shape[1])
            raise InputError("dates and views", got, "1, 2 or 3 bands, the same ones")
        if not len(self.dates) == len(self.dates_valid) == len(self.names):
            raise InputError("names", self.names, f"one for each of {len(self.dates)} dates")
        if not len(self.views) == len(self.views_valid) == len(self.matrix):
            raise InputError(
                "matrix", self.matrix.shape, f"one for each of {len(self.views)} views"
            )

    def footprint(self, view: int) -> NDArray[np.float64]:
        """Corners of a view in pixels of the patch, [4, 2] as (column, row), its first one first.

        The first edge, from corner 0 to corner 1, is the view's upper one.
        """
        h, w = self.views.shape[-2:]
        corners = np.array([(0, 0, 1), (w, 0, 1), (w, h, 1), (0, h, 1)]) - (0.5, 0.5, 0)
        found: NDArray[np.float64] = (corners @ self.matrix[view].T)[:, :2]
        return found

    def share(self, view: int) -> float:
        """Area of a view by that of the patch."""
        h, w = self.views.shape[-2:]
        area = abs(np.linalg.det(self.matrix[view][:2, :2])) * h * w
        return float(area / np.prod(self.dates.shape[-2:]))


def contact_sheet(patches: Sequence[PatchViews], path: Path, *, title: str, note: str = "") -> None:
    """Draw a row for each patch: its dates with the footprints of the views, then the views.

    Dates and views of a patch share one stretch per band, from the 2nd to the 98th percentile of
    the dates' valid pixels, so that changes of brightness are seen. Three bands are red, green and
    blue; of two, the second is green and blue; one is grey. Pixels that are not valid are light
    grey.

    Args:
        patches: 1 or more.
        path: PNG to write, whole or not at all.
        title: heading of the figure.
        note: a line below it.

    Raises:
        InputError: no patch.
        WriteError: the file cannot be written.
    """
    if not patches:
        raise InputError("patches", patches, "1 patch or more")
    figure = _draw(patches, title, note)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png", dpi=DPI)


def _draw(patches: Sequence[PatchViews], title: str, note: str) -> Figure:
    heights = [CELL * max(_ratio(patch.dates), _ratio(patch.views)) for patch in patches]
    columns = max(len(patch.dates) + len(patch.views) for patch in patches)
    top = MARGIN + TITLE + 2 * NOTE
    size = (
        2 * MARGIN + columns * (CELL + GAP) - GAP,
        top + sum(heights) + (HEADING + GAP) * len(patches) + MARGIN - GAP,
    )
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _write(figure, MARGIN, MARGIN, title, size=13, weight="bold", color=INK)
    _write(figure, MARGIN, MARGIN + TITLE, note, size=9, color=SOFT_INK)
    _write(figure, MARGIN, MARGIN + TITLE + 0.22, LEGEND, size=9, color=SOFT_INK)
    for patch, height in zip(patches, heights, strict=True):
        _draw_row(figure, patch, top)
        top += HEADING + height + GAP
    return figure


def _ratio(images: Images) -> float:
    return float(images.shape[-2] / images.shape[-1])


def _draw_row(figure: Figure, patch: PatchViews, top: float) -> None:
    low, high = _bounds(patch)
    dates = _painted(patch.dates, patch.dates_valid, low, high)
    views = _painted(patch.views, patch.views_valid, low, high)
    headings = [*patch.names]
    for number in range(len(views)):
        date = f" of date {number % len(dates) + 1}" if len(dates) > 1 else ""
        headings.append(f"view {number + 1}{date}, {100 * patch.share(number):.0f} %")
    for column, (image, heading) in enumerate(zip([*dates, *views], headings, strict=True)):
        x = MARGIN + column * (CELL + GAP)
        _write(figure, x, top, heading, size=8.5, color=SOFT_INK)
        axes = _show(figure, x, top + HEADING, image)
        if column < len(dates):
            _draw_footprints(axes, patch, column)
        else:
            _frame(axes, image, COLOURS[(column - len(dates)) % len(COLOURS)])


def _bounds(patch: PatchViews) -> tuple[Images, Images]:
    """What is drawn black and what is drawn full, of each band, [K, 1, 1]."""
    pixels = patch.dates.swapaxes(0, 1)[:, patch.dates_valid]
    if not pixels.size:  # nothing to stretch: all of it is painted over as no data
        pixels = np.zeros((len(pixels), 1), np.float32)
    low, high = np.percentile(pixels, (2, 98), axis=1).astype(np.float32)[..., None, None]
    return low, np.maximum(high, low + np.finfo(np.float32).eps)


def _painted(images: Images, valid: Masks, low: Images, high: Images) -> NDArray[np.uint8]:
    """Pictures [N, H, W, 3] of images [N, K, H, W]."""
    shown = np.where(valid[:, None], images, low)
    scaled = np.rint(255 * ((shown - low) / (high - low)).clip(0, 1)).astype(np.uint8)
    # One band is all three colours, the second of two is green and blue.
    bands = np.minimum(np.arange(3), images.shape[1] - 1)
    pictures: NDArray[np.uint8] = np.moveaxis(scaled[:, bands], 1, -1)
    pictures[~valid] = rgb(NODATA_COLOUR)
    return pictures


def _draw_footprints(axes: Axes, patch: PatchViews, date: int) -> None:
    for view in range(len(patch.views)):
        own = view % len(patch.dates) == date
        colour = COLOURS[view % len(COLOURS)]
        corners = patch.footprint(view)
        if own:
            _outline(axes, corners, colour)
        else:
            around = np.vstack([corners, corners[:1]])
            axes.plot(*around.T, color=colour, linewidth=EDGE * 0.7, linestyle=(0, (3, 2)))


def _frame(axes: Axes, image: NDArray[np.uint8], colour: str) -> None:
    h, w = image.shape[:2]
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)]) - 0.5
    _outline(axes, corners, colour)


def _outline(axes: Axes, corners: NDArray[np.float64], colour: str) -> None:
    """A quadrilateral whose first edge and first corner can be told from the others."""
    around = np.vstack([corners, corners[:1]])
    style: dict[str, Any] = {"color": colour, "clip_on": False, "solid_joinstyle": "miter"}
    axes.plot(*around.T, linewidth=EDGE, **style)
    axes.plot(*corners[:2].T, linewidth=FIRST, solid_capstyle="butt", **style)
    axes.plot(*corners[:1].T, "o", markersize=6, color=colour, markeredgecolor=INK, clip_on=False)


def _show(figure: Figure, x: float, y: float, image: NDArray[np.uint8]) -> Axes:
    """An image with its upper left corner at (x, y) inches, a cell wide."""
    width, height = figure.get_size_inches()
    tall = CELL * image.shape[0] / image.shape[1]
    place = (x / width, 1 - (y + tall) / height, CELL / width, tall / height)
    axes = figure.add_axes(place, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.imshow(image, interpolation="nearest", aspect="auto")
    axes.autoscale(False)
    return axes


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Text with its upper left corner at (x, y) inches from that of the figure."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, va="top", parse_math=False, **style)
