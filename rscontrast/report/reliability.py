"""A reliability plot: how often predictions are right against how sure they were."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rscontrast.atomic import atomic_path
from rscontrast.errors import InputError
from rscontrast.metrics.reliability import Reliability
from rscontrast.metrics.segmentation import share_text
from rscontrast.report.figure import DPI, INK, SOFT_INK

SIDE, GAP, LEFT, RIGHT = 3.0, 0.5, 0.7, 0.25
"""Side of a plot, space between two, and the figure's margins, inches."""
TOP, COUNTS, BOTTOM = 1.0, 0.8, 0.6
"""Heights of the headings, of the histogram and of the axis below it, inches."""
BAR, OVER, UNDER = "#2a9fb0", "#d64a5f", "#e9c239"
"""Accuracy, and the gap where predictions are too sure or not sure enough."""


def reliability_figure(tables: Mapping[str, Reliability], path: Path, *, title: str) -> None:
    """Draw a plot for each table, side by side, and write them as a PNG.

    Bars are the share of right predictions of a bin. Where the bin's confidence is higher, the
    gap above the bar is red; where it is lower, what the bar has above it is yellow. On the
    diagonal the two agree. Below, the share of all predictions in each bin.

    Args:
        tables: reliability tables by the heading of their plot, 1 or more: before and after
            fitting a temperature, say.
        path: PNG to write, whole or not at all.
        title: heading of the figure.

    Raises:
        InputError: no table.
        WriteError: the file cannot be written.
    """
    if not tables:
        raise InputError("tables", tables, "1 table or more")
    width = LEFT + len(tables) * (SIDE + GAP) - GAP + RIGHT
    height = TOP + SIDE + 0.1 + COUNTS + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(
        LEFT / width, 1 - 0.2 / height, title, va="top", size=13, weight="bold", color=INK,
        parse_math=False,
    )  # fmt: skip
    for column, (heading, table) in enumerate(tables.items()):
        x, y = (LEFT + column * (SIDE + GAP)) / width, BOTTOM / height
        sides = SIDE / width, COUNTS / height
        below = figure.add_axes((x, y, *sides))
        above = figure.add_axes((x, y + (COUNTS + 0.1) / height, SIDE / width, SIDE / height))
        _draw_bars(above, table, f"{heading}\nECE {share_text(table.ece)}", first=column == 0)
        _draw_counts(below, table, first=column == 0)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png", dpi=DPI)


def _draw_bars(axes: Axes, table: Reliability, heading: str, *, first: bool) -> None:
    full = table.count > 0
    left, width = table.lower[full], (table.upper - table.lower)[full]
    sure, right = table.confidence[full], table.accuracy[full]
    axes.bar(left, right, width, align="edge", color=BAR, edgecolor="white", linewidth=0.5)
    for sign, colour, label in ((1, OVER, "too sure"), (-1, UNDER, "not sure enough")):
        gap = np.clip(sign * (sure - right), 0, None)
        axes.bar(
            left, gap, width, bottom=np.minimum(sure, right), align="edge", color=colour,
            edgecolor="white", linewidth=0.5, label=label,
        )  # fmt: skip
    axes.plot((0, 1), (0, 1), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_title(heading, loc="left", size=9.5, color=INK, parse_math=False)
    axes.set_ylim(0, 1)
    _style(axes, "share that is right" if first else "")
    axes.tick_params(labelbottom=False)
    if first:
        axes.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=INK)


def _draw_counts(axes: Axes, table: Reliability, *, first: bool) -> None:
    share = table.count / max(1.0, table.count.sum())
    width = table.upper - table.lower
    axes.bar(table.lower, share, width, align="edge", color="#c3c7cf", edgecolor="white")
    axes.set_ylim(0, max(1e-9, 1.1 * float(share.max())))
    axes.set_xlabel("confidence", size=8.5, color=SOFT_INK)
    _style(axes, "share of all" if first else "")


def _style(axes: Axes, label: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylabel(label, size=8.5, color=SOFT_INK)
    axes.tick_params(labelsize=8, colors=SOFT_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color="#c3c7cf")
