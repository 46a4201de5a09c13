"""Which footprints lie at one place.

Footprints of nearly the same position and size form a *class*; all geometry between acquisitions
starts from the classes, which are few, since a million acquisitions of two thousand places hold
a quarter of a billion pairs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

type Labels = NDArray[np.intp]
type Shapes = NDArray[np.object_]

SHARE = 0.5
"""Footprints are at one place if they share at least this much of the smaller one."""


@dataclass(frozen=True)
class Classes:
    """Footprints by position and size."""

    label: Labels
    """Class of each footprint, [N], in order of where the classes lie."""
    bounds: NDArray[np.float64]
    """Common bounds of the footprints of each class, degrees, [K, 4]."""
    area: NDArray[np.float64]
    """Area of the smallest footprint of each class, square degrees, [K]."""
    scale: NDArray[np.float64]
    """Width and height of each class, rounded down to powers of 2, degrees, [K, 2]."""
    lead: Labels
    """The largest footprint of each class, [K]."""
    series: Labels
    """Series of each class, [K]: footprints of two series are never of one class."""


def classify(shapes: Shapes, series: Labels) -> Classes:
    """Sort footprints into classes.

    Args:
        shapes: footprints, longitude and latitude, [N].
        series: what must not be mixed (a collection, a named place), [N].
    """
    bounds, main = shapely.bounds(shapes), _main_bounds(shapes)
    size = np.maximum(main[:, 2:] - main[:, :2], 1e-9)
    scale = np.exp2(np.floor(np.log2(size)))
    # Members of a class lie within a quarter of their size, so that they share half and more.
    cell = np.floor((main[:, :2] + main[:, 2:]) / 2 / (scale / 4))
    label = np.zeros(len(shapes), dtype=np.intp)
    for column in (series, *scale.T, *cell.T):
        own, values = pd.factorize(column, sort=True)
        label = pd.factorize(label * len(values) + own, sort=True)[0]
    area = shapely.area(shapes)
    order = np.lexsort([*bounds.T, -area, label])
    first = np.flatnonzero(np.diff(label[order], prepend=-1))
    common = [
        reduce.reduceat(bounds[order, side], first)
        for side, reduce in enumerate((np.minimum, np.minimum, np.maximum, np.maximum))
    ]
    lead = order[first]
    smallest = np.minimum.reduceat(area[order], first)
    return Classes(label, np.column_stack(common), smallest, scale[lead], lead, series[lead])


def _main_bounds(shapes: Shapes) -> NDArray[np.float64]:
    """Bounds of each footprint, of its larger part where it crosses the antimeridian, [N, 4]."""
    bounds: NDArray[np.float64] = shapely.bounds(shapes)
    for wide in np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180):
        parts = shapely.get_parts(shapes[wide])
        bounds[wide] = shapely.bounds(parts[np.argmax(shapely.area(parts))])
    return bounds


def neighbours(classes: Classes, share: float) -> tuple[Labels, Labels]:
    """Pairs of classes (both ways, and each with itself) whose members may overlap enough.

    Args:
        classes: of :func:`classify`.
        share: of the smaller footprint that two members must have in common, 0-1.

    Returns:
        (a, b), sorted. None is missing: bounds of the classes bound what members share.
    """
    boxes = shapely.box(*classes.bounds.T)
    a, b = shapely.STRtree(boxes).query(boxes)
    one, two = classes.bounds[a], classes.bounds[b]
    sides = np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2])
    least = np.minimum(classes.area[a], classes.area[b])
    may = (classes.series[a] == classes.series[b]) & (sides.prod(axis=1) >= share * least * 0.999)
    may |= a == b
    a, b = a[may], b[may]
    order = np.lexsort([b, a])
    return a[order], b[order]


def group(classes: Classes, shapes: Shapes, near: tuple[Labels, Labels]) -> Labels:
    """Join classes at one place: those that share half of the smaller footprint with a leader.

    The class with the most footprints leads first, so that places do not grow along chains of
    scenes that overlap.

    Args:
        classes: of :func:`classify`.
        shapes: the footprints that were classified.
        near: of :func:`neighbours`, for a share of at most :data:`SHARE`.

    Returns:
        place of each class, [K], numbered in the order of the classes.
    """
    a, b = near
    lead = shapes[classes.lead]
    area = shapely.area(lead)
    starts = np.searchsorted(a, np.arange(len(lead) + 1))
    place = np.full(len(lead), -1, dtype=np.intp)
    members = np.bincount(classes.label, minlength=len(lead))
    for leader in np.argsort(-members, kind="stable"):
        if place[leader] < 0:
            free = b[starts[leader] : starts[leader + 1]]
            free = free[place[free] < 0]
            common = shapely.area(shapely.intersection(lead[leader], lead[free]))
            place[free[common >= SHARE * np.minimum(area[leader], area[free])]] = leader
            place[leader] = leader
    return np.unique(place, return_inverse=True)[1].astype(np.intp)
