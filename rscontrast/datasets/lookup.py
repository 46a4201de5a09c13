"""Which rows of a TorchGeo index lie at a place and time, in microseconds instead of milliseconds.

The geopandas way (`overlaps`, then `.cx`) copies the frame at every step; a patch asks three times.
"""

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray


class Lookup:
    """Bounds, footprints and times of an index as arrays."""

    def __init__(self, index: gpd.GeoDataFrame) -> None:
        """Copy what is needed out of ``index`` (an IntervalIndex with geometries)."""
        self._geometry = index.geometry.to_numpy()
        self._bounds = shapely.bounds(self._geometry)
        self._start = index.index.left.to_numpy()
        self._end = index.index.right.to_numpy()
        shapely.prepare(self._geometry)

    def find(self, x: slice, y: slice, t: slice | None = None) -> NDArray[np.intp]:
        """Rows, in index order, whose footprint meets the patch and whose time meets ``t``.

        Args:
            x: start and stop; equal ones ask for a point.
            y: start and stop.
            t: start and stop, both included; None: any time.
        """
        xmin, ymin, xmax, ymax = self._bounds.T
        hit = (xmin <= x.stop) & (xmax >= x.start) & (ymin <= y.stop) & (ymax >= y.start)
        if t is not None:
            start, stop = (pd.Timestamp(time).to_datetime64() for time in (t.start, t.stop))
            hit &= (self._start <= stop) & (self._end >= start)
        rows = np.flatnonzero(hit)
        corners = (x.start, y.start, x.stop, y.stop)
        patch = shapely.Point(corners[:2]) if corners[:2] == corners[2:] else shapely.box(*corners)
        found: NDArray[np.intp] = rows[shapely.intersects(self._geometry[rows], patch)]
        return found
