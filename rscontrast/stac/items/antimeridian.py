"""Footprints that jump over the antimeridian, from 179 to -179, instead of being cut there."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.stac.conditions.sphere import wrap
from rscontrast.stac.items.cells import plain


def unwrap(
    footprints: NDArray[Any], boxes: pd.Series, ids: pd.Series
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Let longitudes run on over 180 where a footprint jumps, with one warning for all.

    Only a bounding box whose west is beyond its east tells such a footprint from a wide one.

    Args:
        footprints: in degrees, [N].
        boxes: bounding box of each, or None.
        ids: names of the items, for the warning.

    Returns:
        the footprints, and the rows of those that jumped: :func:`cut` them.
    """
    rows = np.array([row for row in _wide(footprints) if _middle(boxes.iloc[row])], dtype=np.intp)
    if not rows.size:
        return footprints, rows
    some = ", ".join(map(str, ids.iloc[rows[:5]]))
    text = f"{len(rows)} footprints jump over the antimeridian ({some}); cut there"
    warnings.warn(text, stacklevel=3)
    out = footprints.copy()
    for row in rows:
        middle = _middle(boxes.iloc[row])
        parts = [_run_on(part, *middle) for part in shapely.get_parts(out[row])]
        out[row] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return out, rows


def cut(footprints: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Bring longitudes beyond 180 back, in some rows."""
    if not rows.size:
        return footprints
    out = footprints.copy()
    out[rows] = [wrap(footprint) for footprint in footprints[rows]]
    return out


def _wide(footprints: NDArray[Any]) -> NDArray[np.intp]:
    """Rows with a polygon of more than half the globe; each part of a cut one has less."""
    west, _, east, _ = shapely.bounds(footprints).T
    rows = np.flatnonzero(east - west > 180)
    parts, owner = shapely.get_parts(footprints[rows], return_index=True)
    found: NDArray[np.intp] = np.unique(owner[[_is_wide(part) for part in parts]])
    return np.asarray(rows[found], dtype=np.intp)


def _is_wide(part: BaseGeometry) -> bool:
    west, _, east, _ = part.bounds
    return isinstance(part, shapely.Polygon) and east - west > 180


def _middle(box: Any) -> tuple[float, ...]:
    """Longitude of the middle of what a box over the antimeridian leaves out; else nothing."""
    box = plain(box)
    if not isinstance(box, list) or len(box) not in (4, 6) or not box[0] > box[len(box) // 2]:
        return ()
    return ((box[0] + box[len(box) // 2]) / 2,)


def _run_on(part: BaseGeometry, middle: float) -> BaseGeometry:
    if not _is_wide(part):
        return part
    return shapely.transform(part, lambda xy: np.add(xy, 360 * (xy[:, :1] < middle) * [1, 0]))
