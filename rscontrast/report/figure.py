"""A figure that sets the two dates of each place beside its truth and its map."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from rscontrast.atomic import atomic_path
from rscontrast.errors import InputError
from rscontrast.report.palette import DAMAGE_PALETTE, NODATA_COLOUR, Palette, colour_labels, rgb
from rscontrast.types import IGNORE

type Row = dict[str, NDArray[np.uint8] | None]
"""RGB images [H, W, 3] by column name, None for a truth that a place does not have."""

DPI = 200
CELL, GAP, MARGIN = 2.5, 0.08, 0.2
"""Width of an image, space between two, and border of the figure, in inches."""
TITLE, LEGEND_LINE, NAME, HEADING = 0.34, 0.24, 0.42, 0.18
"""Heights of the lines of text, in inches."""
LEGEND_COLUMNS = 6
INK, SOFT_INK = "#1a1d23", "#5b616e"


@dataclass(frozen=True, eq=False)
class Panel:
    """One place: a row of the figure."""

    name: str
    """Shown above the row."""
    pre: NDArray[np.float32]
    """Red, green, blue reflectance [3, H, W] before the event."""
    post: NDArray[np.float32]
    """The same [3, H, W] after it."""
    truth: NDArray[np.uint8] | None
    """Reference classes [H, W], 255 where there is no label; None if the place has none."""
    prediction: NDArray[np.uint8]
    """Predicted classes [H, W], 255 where there is no map."""
    valid: NDArray[np.bool_]
    """Pixels [H, W] that both dates have."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not lie on one grid, and valid pixels without a value."""
        size = self.prediction.shape
        rasters = {"pre": self.pre, "post": self.post, "truth": self.truth, "valid": self.valid}
        for name, raster in rasters.items():
            expected = (3, *size) if name in ("pre", "post") else size
            if raster is not None and raster.shape != expected:
                raise InputError(name, raster.shape, f"{expected}, by the shape of prediction")
        if not all(np.isfinite(image[:, self.valid]).all() for image in (self.pre, self.post)):
            raise InputError("valid", "True where a date is not finite", "False there")


def comparison_figure(
    panels: Sequence[Panel], path: Path, *, title: str, palette: Palette = DAMAGE_PALETTE
) -> None:
    """Draw each place as a row of images (pre, post, truth, map) and write them as a PNG.

    Both dates of a place share one stretch per band, from the 2nd to the 98th percentile of
    its valid pixels, so that a change of brightness between them stays visible. Pixels that are
    not valid or have no label are light grey. The truth column is left out if no place has one.

    Args:
        panels: the places, 1 or more, from top to bottom.
        path: PNG to write, whole or not at all.
        title: heading of the figure.
        palette: name and colour of each class, in label order.

    Raises:
        InputError: no panel, or a class that the palette does not have.
        WriteError: the file cannot be written.
    """
    if not panels:
        raise InputError("panels", panels, "1 panel or more")
    rows = [_images(panel, palette) for panel in panels]
    if all(panel.truth is None for panel in panels):
        rows = [{k: v for k, v in row.items() if k != "truth"} for row in rows]
    entries = [*palette]
    if any(_has_nodata(panel) for panel in panels):
        entries.append(("no data", NODATA_COLOUR))
    figure = _draw(panels, rows, title, entries)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png", dpi=DPI)


def _images(panel: Panel, palette: Palette) -> Row:
    pre, post = _stretch(panel)
    truth = None if panel.truth is None else colour_labels(panel.truth, palette, "truth")
    map_ = colour_labels(panel.prediction, palette, "prediction")
    row: Row = {"pre": pre, "post": post, "truth": truth, "map": map_}
    for image in row.values():
        if image is not None:
            image[~panel.valid] = rgb(NODATA_COLOUR)
    return row


def _stretch(panel: Panel) -> list[NDArray[np.uint8]]:
    """Both dates as RGB [H, W, 3], brought to 0..255 by percentiles that they share."""
    pixels = np.concatenate([panel.pre[:, panel.valid], panel.post[:, panel.valid]], axis=1)
    if not pixels.size:  # nothing to stretch: all of it is painted over as no data
        return [np.zeros((*panel.valid.shape, 3), np.uint8) for _ in range(2)]
    low, high = np.percentile(pixels, (2, 98), axis=1)[..., None, None]
    span = np.maximum(high - low, np.finfo(np.float32).eps)
    dates = (np.where(panel.valid, image, low) for image in (panel.pre, panel.post))
    stretched = (((date - low) / span).clip(0, 1) for date in dates)
    return [np.rint(date.transpose(1, 2, 0) * 255).astype(np.uint8) for date in stretched]


def _has_nodata(panel: Panel) -> bool:
    labels = [panel.prediction] if panel.truth is None else [panel.truth, panel.prediction]
    return not panel.valid.all() or any(bool((raster == IGNORE).any()) for raster in labels)


def _draw(panels: Sequence[Panel], rows: Sequence[Row], title: str, entries: Palette) -> Figure:
    """Lay everything out from the top, in inches, so that no text can meet an image."""
    heights = [CELL * panel.valid.shape[0] / panel.valid.shape[1] for panel in panels]
    top = MARGIN + TITLE + LEGEND_LINE * ceil(len(entries) / LEGEND_COLUMNS)
    width = 2 * MARGIN + len(rows[0]) * (CELL + GAP) - GAP
    height = top + sum(heights) + (NAME + HEADING) * len(rows) + MARGIN
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _write(figure, MARGIN, MARGIN, title, size=13, weight="bold")
    _add_legend(figure, MARGIN + TITLE, entries)
    for panel, row, row_height in zip(panels, rows, heights, strict=True):
        _write(figure, MARGIN, top + NAME - 0.22, panel.name, size=10, weight="bold")
        for column, (heading, image) in enumerate(row.items()):
            x = MARGIN + column * (CELL + GAP)
            _write(figure, x, top + NAME, heading, size=8.5, color=SOFT_INK)
            _show(figure, (x, top + NAME + HEADING, CELL, row_height), image)
        top += NAME + HEADING + row_height
    return figure


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Text with its top left corner at (x, y) inches from that of the figure."""
    width, height = figure.get_size_inches()
    style = {"color": INK, **style}
    figure.text(x / width, 1 - y / height, text, va="top", parse_math=False, **style)


def _add_legend(figure: Figure, y: float, entries: Palette) -> None:
    width, height = figure.get_size_inches()
    figure.legend(
        handles=[
            Patch(facecolor=colour, edgecolor=SOFT_INK, linewidth=0.4, label=name)
            for name, colour in entries
        ],
        loc="upper left",
        bbox_to_anchor=(MARGIN / width, 1 - y / height),
        ncols=LEGEND_COLUMNS,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.2,
        handleheight=1.0,
        columnspacing=1.4,
    )


def _show(
    figure: Figure, box: tuple[float, float, float, float], image: NDArray[np.uint8] | None
) -> None:
    """An image in a box (x, y of its top left corner, width, height), in inches."""
    x, y, box_width, box_height = box
    width, height = figure.get_size_inches()
    place = (x / width, 1 - (y + box_height) / height, box_width / width, box_height / height)
    axes = figure.add_axes(place, xticks=[], yticks=[], facecolor="#f4f5f7")
    axes.spines[:].set(color="#c3c7cf", linewidth=0.5)
    if image is None:
        axes.text(0.5, 0.5, "no reference", color=SOFT_INK, size=9, ha="center", va="center")
    else:  # "nearest" keeps the colours of the classes exact
        axes.imshow(image, interpolation="nearest", aspect="auto")
